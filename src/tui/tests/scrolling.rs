//! Scrolling, searching and comparing: every row of an output can be reached, and everything that differs.

use super::harness::{World, frame, sketch};
use crate::{
    domain::{frame::Stream, offset::OutputOffset, outcome::Ending},
    tui::{
        model::job::{FollowKey, Followed},
        msg::{Cmd, Msg},
    },
};

fn key(world: &World, what: Followed) -> FollowKey {
    FollowKey { job: world.model.open.as_ref().unwrap().job.id, what }
}

/// Opens an output in full and prints a text into it.
fn full(size: (u16, u16), text: &str) -> World {
    let mut world = sketch(size);
    world.press("2 g Enter");
    let key = key(&world, Followed::Full(1));
    world.put(Msg::Output { key, task: 1, frames: vec![frame(0, text)] });
    world
}

#[test]
fn the_last_row_of_wrapped_lines_is_reached_and_followed() {
    let text = (1..=60).map(|n| format!("{n:<3}{}end-{n}\n", "x".repeat(180))).collect::<Vec<_>>().concat();
    for keys in ["w", "w t"] {
        let mut world = full((80, 24), &text);
        world.press(keys);
        assert!(world.says("end-60"), "{keys}: {}", world.screen());
        world.press("g");
        assert!(world.says(" 1  xxx") && !world.says("end-60"), "{keys}: {}", world.screen());
        for _ in 0..60 {
            world.press("PgDn");
        }
        assert!(world.says("end-60"), "{keys}: {}", world.screen());
        world.press("g");
        for _ in 0..60 * 4 {
            world.press("j");
        }
        assert!(world.says("end-60"), "{keys}: {}", world.screen());
    }
}

#[test]
fn the_search_finds_what_is_shown_and_marks_it_where_lines_wrap() {
    let mut world = sketch((80, 24));
    world.press("2 g Enter");
    let key = key(&world, Followed::Full(1));
    let mut err = frame(0, "a needle on stderr\n");
    err.stream = Stream::Stderr;
    let next = err.end().0;
    let out = frame(next, &format!("{} NEEDLE on stdout\nlast\n", "y".repeat(100)));
    world.put(Msg::Output { key, task: 1, frames: vec![err, out] });
    world.press(":");
    world.write("show stdout");
    world.press("Enter w /");
    world.write("needle");
    world.press("Enter");
    assert!(world.says("NEEDLE on stdout") && !world.says("on stderr"), "{}", world.screen());
    let found = |world: &World| world.model.open.as_ref().unwrap().output.as_ref().unwrap().found;
    let at = found(&world);
    assert_eq!(at, Some(OutputOffset(next)));
    world.press("N");
    assert_eq!(found(&world), at, "what is not shown is not found");
    // Two rows of the line are marked.
    let marked = |world: &World| world.styled_rows(|style| style.bg == Some(ratatui::style::Color::Yellow));
    assert_eq!(marked(&world), ["NEEDLE"]);
}

#[test]
fn the_difference_scrolls_and_shows_all_that_differs() {
    let mut world = sketch((120, 40));
    world.press("2 G k d");
    assert!(world.says("- web-1 (the largest group, 9)  + web-12"), "{}", world.screen());
    let long = (1..=100).map(|n| format!("only here {n}\n")).collect::<Vec<_>>().concat();
    let (largest, other) = (key(&world, Followed::Pane(0)), key(&world, Followed::Pane(11)));
    world.put(Msg::Output {
        key: other,
        task: 11,
        frames: vec![frame(0, &format!("5.15.0-91-generic\n{long}"))],
    });
    world.put(Msg::Output { key: largest, task: 0, frames: vec![frame(0, "6.1.0-18-amd64\ntail\n")] });
    assert!(world.says("+ only here 1"), "{}", world.screen());
    for _ in 0..12 {
        world.press("PgDn");
    }
    assert!(world.says("+ only here 100"), "{}", world.screen());
    for _ in 0..12 {
        world.press("PgUp");
    }
    assert!(world.says("- 6.1.0-18-amd64"), "{}", world.screen());
}

#[test]
fn two_rows_are_compared_with_each_other() {
    let mut world = sketch((120, 40));
    world.press("2 g d");
    assert!(world.says("(the largest group, 9)  + web-2"), "{}", world.screen());
    world.press("G k d");
    assert!(world.says("- web-2  + web-12"), "{}", world.screen());
    world.press("g");
    assert!(world.says("- web-2  + web-12"), "the cursor does not change the pair: {}", world.screen());
    world.press("d");
    assert!(!world.says("d ends it"), "{}", world.screen());
    world.press("G d");
    assert!(world.says("This is the largest group"), "{}", world.screen());
    world.press("Esc");
    assert!(!world.says("d ends it"), "{}", world.screen());
}

#[test]
fn a_preview_that_begins_where_outputs_part_scrolls_from_there() {
    let mut world = sketch((120, 40));
    world.press("2 G k");
    let key = key(&world, Followed::Pane(11));
    let text = (1..=200).map(|n| format!("row {n}\n")).collect::<Vec<_>>().concat();
    world.put(Msg::Output { key, task: 11, frames: vec![frame(18, &text)] });
    world.press("PgUp");
    let before = world.screen();
    world.press("PgDn");
    assert!(world.says("row 200"), "{before}\n{}", world.screen());
    world.press("PgUp PgUp");
    assert!(!world.says("row 200"), "{}", world.screen());
}

#[test]
fn the_end_that_a_pane_missed_is_read_once_more() {
    let mut world = sketch((120, 40));
    world.press("2 g");
    let key = key(&world, Followed::Pane(1));
    let mut job = world.model.open.as_ref().unwrap().job.clone();
    let end = OutputOffset(60_000_000);
    job.tasks[1].end_offset = end;
    super::harness::end(&mut job, 8, Ending::Exited(0));
    world.model.open.as_mut().unwrap().job = job;
    world.ordered();
    world.put(Msg::Gap { key, task: 1, from: OutputOffset(39), to: end });
    let again = |world: &mut World| {
        world.ordered().into_iter().find_map(|cmd| match cmd {
            Cmd::Follow { key: what, from_offset, .. } if what == key => Some(from_offset),
            _ => None,
        })
    };
    assert!(again(&mut world).is_some_and(|from| from > OutputOffset(59_000_000)));
    world.put(Msg::Gap { key, task: 1, from: OutputOffset(59_999_000), to: end });
    world.put(Msg::TaskEnded(key, Some(1)));
    assert_eq!(again(&mut world), None, "an end that the log lacks is not read for ever");
}
