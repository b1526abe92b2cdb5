//! 1 GiB of text from a command to the client's pipe, compared with the floor, whose log is synced every 8
//! MiB, and ssh.

mod floor;

use std::{
    fs::File,
    io::{BufWriter, Read as _, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use floor::{Fleet, Floor, Row, Ssh, median, play_role, print_row, rounds};

/// Number of rounds that are counted.
const ROUNDS: usize = 7;
/// Size of the text, in bytes.
const SIZE: u64 = 1024 * 1024 * 1024;
/// Size of a read from a client's pipe, in bytes.
const PIECE: usize = 256 * 1024;
/// Size of a page of memory, in bytes.
const PAGE: usize = 4096;
/// Pause before each row, so that work that the row before leaves behind, such as writing to the disk, does
/// not count for it.
const SETTLE: Duration = Duration::from_secs(1);

/// Returns the time in which processors were not idle, of all of them, in hundredths of a second.
fn busy_ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = ticks.filter_map(|tick| tick.parse().ok()).collect();
    ticks.iter().take(8).sum::<f64>() - ticks[3] - ticks[4]
}

fn main() {
    if play_role() {
        return;
    }
    let text = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    let mut writer = BufWriter::new(File::create(text.path()).expect("a file"));
    let mut written = 0;
    for line in 0u64.. {
        let line = format!("{line:>12} the quick brown sloth jumps over the lazy machine\n");
        let rest = usize::try_from(SIZE - written).unwrap_or(usize::MAX).min(line.len());
        writer.write_all(&line.as_bytes()[..rest]).expect("room");
        written += rest as u64;
        if written == SIZE {
            break;
        }
    }
    writer.into_inner().expect("room").sync_all().expect("room");

    let (floor, fleet, ssh) = (Floor::start(true), Fleet::start(), Ssh::start());
    let cat = format!("cat {}", text.path().display());
    let direct = text.path().to_owned();
    let (one, two, three) = (cat.clone(), cat.clone(), cat);
    let mut rows: Vec<Row> = vec![
        ("floor: two bare hops, synced log", Box::new(move || floor.client(&one))),
        ("sloth-runner agent run a cat", Box::new(move || fleet.client(&two))),
        (
            "cat into a pipe",
            Box::new(move || {
                let mut command = Command::new("cat");
                command.arg(&direct);
                command
            }),
        ),
    ];
    if let Some(ssh) = ssh {
        rows.push(("ssh, multiplexed, default cipher", Box::new(move || ssh.client(&three))));
    }
    let mut processor: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    // At the beginning of a page, like the bytes of a pipe. A large `Vec` begins 16 bytes after it, and some
    // processors (AMD's Zen 3) copy at an eighth of their speed if the target's offset in its page is 1 to 31
    // bytes above the source's.
    let mut memory = vec![0; PIECE + PAGE];
    let first = memory.as_ptr().align_offset(PAGE);
    let buffer = &mut memory[first..first + PIECE];
    let seconds = rounds(ROUNDS, rows.len(), |row| {
        std::thread::sleep(SETTLE);
        let (begun, ticks) = (Instant::now(), busy_ticks());
        let mut child = rows[row].1().stdout(Stdio::piped()).spawn().expect("a client");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut total = 0;
        loop {
            match stdout.read(buffer).expect("a pipe") {
                0 => break,
                count => total += count as u64,
            }
        }
        child.wait().expect("a client");
        assert_eq!(total, SIZE, "{}", rows[row].0);
        processor[row].push((busy_ticks() - ticks) / 100.0);
        begun.elapsed().as_secs_f64()
    });
    println!("1 GiB of text into a pipe, {ROUNDS} rounds, shuffled; median [lowest..highest]");
    for (((name, _), row), ticks) in rows.iter().zip(&seconds).zip(&processor) {
        print_row(name, "s", row, &seconds[0]);
        #[expect(clippy::cast_precision_loss, reason = "megabytes a second for people")]
        let rate = SIZE as f64 / 1e6 / median(row);
        println!(
            "{:<34} {rate:>9.0} MB/s, {:.2} s of processor on the whole machine",
            "",
            median(&ticks[1..])
        );
    }
}
