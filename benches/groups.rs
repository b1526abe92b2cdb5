//! The cost of grouping: time for each line, and memory, for 500 tasks of 2,000 lines that are identical, all
//! different, or identical except for the last line. The floor, in the same round, only hashes the same
//! bytes.

use std::{
    hash::{DefaultHasher, Hasher as _},
    hint::black_box,
    time::{Duration, Instant},
};

use sloth_runner::domain::{
    frame::Stream,
    groups::{Grouping, mask::Masker},
    time::UnixMs,
};

const TASKS: u32 = 500;
const LINES: u32 = 2_000;
const ROUNDS: usize = 5;

type Text = fn(task: u32, line: u32) -> String;

fn floor(texts: &[Vec<u8>]) -> Duration {
    let begun = Instant::now();
    for text in texts {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let mut hasher = DefaultHasher::new();
            hasher.write(line);
            black_box(hasher.finish());
        }
    }
    begun.elapsed()
}

fn grouping(texts: &[Vec<u8>]) -> (Duration, usize, Duration, usize) {
    let begun = Instant::now();
    let mut grouping = Grouping::new(vec![Masker::default(); texts.len()]);
    // Tasks take turns, as they do when they run at once.
    for round in 0..40 {
        for (task, text) in (0u32..).zip(texts) {
            let piece = text.len().div_ceil(40);
            let from = (round * piece).min(text.len());
            grouping.feed(task, Stream::Stdout, &text[from..(from + piece).min(text.len())], UnixMs(0));
        }
    }
    let fed = begun.elapsed();
    let begun = Instant::now();
    let groups = black_box(grouping.groups()).len();
    (fed, groups, begun.elapsed(), grouping.memory())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// Groups many running tasks that print different lines, up to `most` each, after one common line if
/// `is_shared`. Returns the time and the number of groups.
fn many(tasks: u32, most: u32, is_shared: bool) -> (Duration, usize) {
    let mut grouping = Grouping::new(vec![Masker::default(); tasks as usize]);
    for task in 0..tasks {
        let shared = if is_shared { "the same for all\n" } else { "" };
        let own = (0..=task % most).map(|line| format!("line {line} of {task}\n"));
        let text = shared.to_owned() + &own.collect::<String>();
        grouping.feed(task, Stream::Stdout, text.as_bytes(), UnixMs(0));
    }
    let begun = Instant::now();
    let groups = black_box(grouping.groups()).len();
    (begun.elapsed(), groups)
}

fn main() {
    let kinds: [(&str, Text); 3] = [
        ("identical", |_, line| format!("line {line} of what every machine says the same way\n")),
        ("last line differs", |task, line| {
            let own = if line == LINES - 1 { task } else { 0 };
            format!("line {line} of what every machine says, {own}\n")
        }),
        ("all different", |task, line| format!("line {line} of what machine {task} says in its own way\n")),
    ];
    println!("{TASKS} tasks of {LINES} lines, {ROUNDS} rounds, medians");
    for (name, text) in kinds {
        let texts: Vec<Vec<u8>> = (0..TASKS)
            .map(|task| (0..LINES).flat_map(|line| text(task, line).into_bytes()).collect())
            .collect();
        let (mut floors, mut feeds, mut digests, mut memory, mut count) = (vec![], vec![], vec![], 0, 0);
        for _ in 0..ROUNDS {
            floors.push(floor(&texts));
            let (fed, groups, digest, bytes) = grouping(&texts);
            feeds.push(fed);
            digests.push(digest);
            (memory, count) = (bytes, groups);
        }
        let (floor, fed) = (median(floors), median(feeds));
        println!(
            "{name:18} {:>5.0} ns a line  {:.2} x hashing alone  {:>7} KiB  {count} groups in {:.1} ms",
            fed.as_secs_f64() * 1e9 / f64::from(TASKS * LINES),
            fed.as_secs_f64() / floor.as_secs_f64(),
            memory / 1024,
            median(digests).as_secs_f64() * 1000.0,
        );
    }
    println!("running tasks of which no two agree, the smallest of {ROUNDS} rounds");
    for (most, is_shared) in [(1, false), (1, true), (200, false)] {
        let of = |tasks: u32| (0..ROUNDS).map(|_| many(tasks, most, is_shared)).min().unwrap_or_default();
        let ((few, _), (all, groups)) = (of(1_000), of(10_000));
        println!(
            "up to {most:3} lines{} {groups} groups in {:>6.1} ms, {:.1} x as long as a tenth of them",
            if is_shared { ", one in common," } else { "                " },
            all.as_secs_f64() * 1000.0,
            all.as_secs_f64() / few.as_secs_f64()
        );
    }
}
