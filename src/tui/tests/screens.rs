//! Snapshots of every screen at common terminal sizes. They are stored beside this file.

use super::{
    agent,
    harness::{World, sketch, sketch_with},
};
use crate::{
    domain::{
        agent::AgentView,
        plan::{Gate, GateState},
    },
    tui::{
        msg::Msg,
        settings::{ColorDepth, Settings},
    },
};

/// tmux leaves 80x23 of a terminal of 80x24.
const SIZES: [(u16, u16); 4] = [(80, 23), (80, 24), (120, 40), (200, 60)];

/// Compares a screen at every size with its snapshot.
fn at_every_size(name: &str, show: impl Fn((u16, u16)) -> World) {
    for size in SIZES {
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), show(size).screen());
    }
}

#[test]
fn groups_beside_or_below_the_fleet() {
    at_every_size("groups", |size| {
        let mut world = sketch(size);
        world.press("2 e");
        world
    });
}

#[test]
fn the_fleet_with_picks_and_a_filter() {
    at_every_size("fleet", |size| {
        let mut world = sketch(size);
        world.press("1 g space j space /");
        world.write("state:active");
        world.press("Enter");
        world
    });
}

#[test]
fn the_grid_and_the_stream() {
    at_every_size("grid", |size| {
        let mut world = sketch(size);
        world.press("2 v");
        world.print(super::harness::uname);
        world
    });
    at_every_size("stream", |size| {
        let mut world = sketch(size);
        world.press("2 v v");
        world.print(super::harness::uname);
        world
    });
}

#[test]
fn one_output_in_full() {
    at_every_size("output", |size| {
        let mut world = sketch(size);
        world.press("2 G Enter t");
        world.print(|_| "one \x1b[31mred\x1b[0m\n 10%\r100%\nthree\x1b]0;title\x07\n");
        world
    });
}

#[test]
fn the_difference_to_the_largest_group() {
    at_every_size("difference", |size| {
        let mut world = sketch(size);
        world.press("2 G k d");
        world.print(super::harness::uname);
        world
    });
}

#[test]
fn details_of_an_agent_and_of_a_waiting_key() {
    at_every_size("details", |size| {
        let mut world = sketch(size);
        world.press("1 g j j Enter");
        world.put(Msg::Recent("web-7".to_owned(), Vec::new()));
        world
    });
    at_every_size("waiting", |size| {
        let mut world = sketch(size);
        world.press("1 g Enter");
        world
    });
}

#[test]
fn history_palette_help_and_prompts() {
    for (name, keys) in [("history", "H"), ("palette", ":"), ("help", "?"), ("target", "@")] {
        at_every_size(name, |size| {
            let mut world = sketch(size);
            world.press("1");
            world.press(keys);
            match name {
                "palette" => world.write("can"),
                "target" => world.write("@role:web!web-3"),
                _ => {}
            }
            world
        });
    }
}

#[test]
fn the_command_line_and_the_question_before_it() {
    at_every_size("command", |size| {
        let mut world = sketch(size);
        world.press("1");
        world.press_and_agree("a");
        world.press("i");
        world.write("systemctl --failed --no-legend");
        world.press("^J");
        world.write("uptime");
        world
    });
    at_every_size("question", |size| {
        let mut world = sketch(size);
        world.press("1");
        world.press_and_agree("a");
        world.press("i");
        world.write("uptime");
        world.press("Enter");
        world.pass(500);
        world.write("1");
        world
    });
}

#[test]
fn a_job_that_waits_at_a_gate() {
    at_every_size("gate", |size| {
        let mut world = sketch(size);
        let mut job = world.model.open.as_ref().unwrap().job.clone();
        job.gate = Gate { state: GateState::Held("the canary web-1 is well".into()), ..job.gate };
        let groups = world.model.open.as_ref().unwrap().groups.clone();
        world.digest(&job, groups);
        world.press("2");
        world
    });
}

#[test]
fn no_agent_and_no_master() {
    at_every_size("empty", |size| World::with_agents(size, 0));
    at_every_size("connecting", World::new);
    at_every_size("disconnected", |size| {
        let mut world = sketch(size);
        world.press("1 i");
        world.write("uptime");
        world.put(Msg::Disconnected { reason: "it ends".to_owned(), retry_ms: 5_000 });
        world.pass(1_000);
        world
    });
}

#[test]
fn ten_thousand_agents() {
    at_every_size("ten_thousand", |size| World::with_agents(size, 10_000));
}

#[test]
fn without_colour_and_in_ascii() {
    let settings = Settings { ascii: true, depth: ColorDepth::None, ..Settings::default() };
    at_every_size("ascii", |size| {
        let mut world = sketch_with(size, settings.clone());
        world.press("2");
        world
    });
}

#[test]
fn wide_characters_keep_every_line_straight() {
    at_every_size("wide", |size| {
        let mut world = sketch(size);
        world.press("2 G Enter");
        world.print(|_| "漢字かな交じり文 and ASCII\n🦥🦥 sloths e\u{301}e\u{301}\n\tTab 한글\n");
        world.agents(vec![AgentView { link_reason: "漢".to_owned(), ..agent("web-1") }]);
        world
    });
}

#[test]
fn the_smallest_screens() {
    for size in [(1, 1), (10, 3), (20, 5), (40, 10), (59, 14), (60, 15)] {
        for keys in ["1", "2", "3", "?", "H", ":", "1 Enter"] {
            let mut world = sketch(size);
            world.press(keys);
            let name = format!("small_{}x{}_{}", size.0, size.1, keys.replace(['?', ':', ' '], "_"));
            if keys == "1" || keys == "2" {
                insta::assert_snapshot!(name, world.screen());
            }
        }
    }
}
