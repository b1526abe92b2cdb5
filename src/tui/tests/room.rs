//! Room: at 80 columns nothing is cut that a decision needs, and hints say what their keys do.

use super::{
    agent,
    harness::{World, end, groups, job, sketch, sketch_with},
};
use crate::{
    domain::{
        agent::{AgentState, AgentView},
        control::JobDigest,
        outcome::Ending,
        plan::{Gate, GateState},
    },
    tui::{
        model::Focus,
        msg::{Cmd, Msg},
        settings::Settings,
        view::chrome::hints,
    },
};

/// Asserts that the screen shows a text, on as many rows as it takes.
fn assert_reads(world: &World, text: &str) {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    assert!(plain(&world.screen()).contains(&plain(text)), "{text:?} is not on\n{}", world.screen());
}

const WIDTHS: [u16; 4] = [60, 80, 120, 200];

#[test]
fn the_warning_that_a_key_replaces_another_comes_first_and_whole() {
    for width in WIDTHS {
        let mut world = World::with_agents((width, 24), 1);
        let mut waiting = AgentView { state: AgentState::Pending, key_changed: true, ..agent("web-1") };
        waiting.last_seen = None;
        world.put(Msg::Agents {
            agents: vec![],
            gone: vec![],
            waiting: Some(vec![waiting]),
            is_complete: true,
        });
        world.press("g Enter");
        assert_reads(
            &world,
            "Another key is known under this name. Approving this one REPLACES it: right after a reinstall, wrong for a second machine, which needs its own --name.",
        );
        world.press("A");
        assert_reads(
            &world,
            "This REPLACES the key that is known under this name. Enroll web-1 with the key 4F2A9C0D4F2A9C0D…?",
        );
        assert_reads(&world, "Type web-1 and Enter");
    }
}

#[test]
fn the_line_that_starts_an_agent_is_whole_and_scrolls() {
    let line = format!(
        "  echo {} | sloth-runner agent start --master 192.168.100.200:50053 --token-file - --daemon",
        "T".repeat(96)
    );
    for width in WIDTHS {
        let text = "Enter makes a join token and shows the line that starts an agent on another machine.";
        assert_reads(&World::with_agents((width, 24), 0), text);
    }
    let mut world = World::with_agents((80, 24), 0);
    assert!(world.says("Enter add an agent"), "{}", world.screen());
    world.press("Enter");
    assert!(world.ordered().contains(&Cmd::MakeJoinLine));
    let lines =
        vec!["Run this once on the other machine, within an hour:".to_owned(), String::new(), line.clone()];
    world.put(Msg::JoinLine(lines));
    assert_reads(&world, &line);
    world.size = (60, 15);
    world.put(Msg::Resized);
    world.press("j j j j j k k k k k");
    assert_reads(&world, &line);
}

#[test]
fn the_keys_of_a_gate_are_first_and_shown_where_they_work() {
    let reason = "the canary web-1 is well, and this reason is so long that no terminal of eighty columns has room for it";
    for width in WIDTHS {
        let mut world = sketch((width, 24));
        let open = world.model.open.as_mut().unwrap();
        open.job.gate = Gate { state: GateState::Held(reason.into()), ..Gate::default() };
        world.press("2");
        assert_reads(&world, "P promote S stop");
        if width < 120 {
            assert_reads(&world, reason);
        }
        world.press("i");
        assert!(!world.says("P promote"), "in the line P types a letter: {}", world.screen());
        assert_reads(&world, "go to the job to promote or stop it");
    }
}

#[test]
fn options_that_were_given_are_always_in_the_title() {
    for width in WIDTHS {
        let mut world = sketch((width, 24));
        world.press("1");
        world.press_and_agree("a");
        world.press("i ^O");
        world.write("--canary 1 --batch 10");
        world.press("Enter");
        assert!(world.says("--canary 1 --batch 10"), "{}", world.screen());
        assert!(world.says("Command → 16 agents"), "{}", world.screen());
    }
    let read_options = |_: &str| {
        Err("--batch needs a number of agents or a percentage, as in --batch 10 or --batch 25%".to_owned())
    };
    let mut world = sketch_with((80, 24), Settings { read_options, ..Settings::default() });
    world.press("1 i ^O");
    world.write("--batch x");
    assert_reads(&world, "--batch needs a number of agents or a percentage, as in --batch 10 or --batch 25%");
}

#[test]
fn a_missing_master_is_reported_whole_and_not_dimmed() {
    for width in WIDTHS {
        let mut world = sketch((width, 24));
        let reason =
            "cannot connect to 192.168.100.200:50053: connection refused by the other side".to_owned();
        world.put(Msg::Disconnected { reason: reason.clone(), retry_ms: 5_000 });
        assert_reads(&world, "Your line is kept; nothing was sent.");
        assert_reads(&world, &reason);
        let dimmed = world.styled_rows(|style| style.add_modifier.contains(ratatui::style::Modifier::DIM));
        assert!(!dimmed.iter().any(|row| row.contains("nothing was sent")), "{dimmed:?}");
    }
}

#[test]
fn the_advice_of_an_outcome_is_readable_under_the_last_line() {
    let reason = "the agent was offline for the whole hour; --start-within 2h waits longer, agent list shows when it was seen last";
    for width in WIDTHS {
        let mut world = World::with_agents((width, 24), 3);
        let mut job = job(7, 3, "uptime");
        end(&mut job, 0, Ending::Undeliverable(reason.into()));
        world.put(Msg::Jobs { begins: true, jobs: vec![job.clone()], deleted: vec![], is_complete: true });
        world.press("[");
        let digest = JobDigest {
            job: Some(Box::new(job.clone())),
            groups: groups(&job, |_| ""),
            ..JobDigest::default()
        };
        world.put(Msg::Digest(job.id, Box::new(digest)));
        world.press("2 g");
        assert_eq!(world.model.focus, Focus::Job);
        world.press("z");
        assert_reads(&world, reason);
        world.press("Enter");
        assert_reads(&world, reason);
    }
    let mut world = sketch((80, 24));
    world.press("2 g Enter");
    world.print(super::harness::uname);
    let screen = world.screen();
    let rows: Vec<&str> = screen.lines().collect();
    let last = rows.iter().position(|row| row.contains("command not found")).unwrap();
    assert!(rows[last + 1].contains("exited 127"), "{screen}");
}

#[test]
fn hints_and_messages_say_what_the_keys_do() {
    let hint = |keys: &str, key: &str| {
        let mut world = sketch((120, 40));
        world.press(keys);
        hints(&world.model).into_iter().find(|(known, _)| *known == key).map(|(_, hint)| hint)
    };
    for (keys, expected) in [
        ("1", "quit"),
        ("?", "close"),
        ("1 Enter", "close"),
        ("2 Enter", "close"),
        ("2", "close"),
        ("H", "close"),
    ] {
        assert_eq!(hint(keys, "q"), Some(expected), "{keys}");
    }
    let mut world = sketch((120, 40));
    world.press("1 ^C");
    assert!(world.says("2 goes to job 412, where X cancels it"), "{}", world.screen());
    world.press("2 ^C");
    assert!(world.says("X cancels job 412"), "{}", world.screen());
    for width in WIDTHS {
        for length in 0..70 {
            let mut world = sketch((width, 24));
            let command = crate::domain::command::Command::new(vec![vec![b'x'; length + 1]]).unwrap();
            world.model.open.as_mut().unwrap().job.command = command;
            world.press("2");
            assert!(world.says("groups"), "the title has the name of the view: {}", world.screen());
        }
    }
}

#[test]
fn the_end_of_a_text_is_one_key_away_from_the_line_above() {
    let mut world = sketch((80, 24));
    world.press("? G");
    let end = world.screen();
    world.press("k");
    assert_ne!(world.screen(), end);
    world.press("j");
    assert_eq!(world.screen(), end);
}

#[test]
fn the_stream_acts_on_no_row_that_it_does_not_show() {
    for key in ["!", "Enter", "space", "d", "s", "p", "y", "x"] {
        let mut world = sketch((120, 40));
        world.press("2 v v");
        world.ordered();
        world.press(key);
        assert!(world.says("the stream has no rows"), "{key}: {}", world.screen());
        assert_eq!((world.model.overlays.len(), world.ordered()), (0, vec![]), "{key}");
    }
}

#[test]
fn long_names_that_differ_at_their_end_look_different() {
    let mut world = World::new((80, 24));
    world.connect();
    let long = "frontend-production-eu-central-availability-zone-blue-";
    world.agents((1..=3).map(|n| agent(&format!("{long}{n}"))).collect());
    for n in 1..=3 {
        assert!(world.says(&format!("blue-{n}")), "{}", world.screen());
    }
}

#[test]
fn what_is_urgent_above_the_screen_is_counted_and_sorting_leaves_the_cursor_where_it_is() {
    let mut world = World::with_agents((80, 24), 60);
    let late = |n: u32| AgentView { state: AgentState::Late, ..agent(&format!("web-{n}")) };
    world.agents((1..=3).map(late).collect());
    world.press("G");
    assert!(world.says("3 urgent above"), "{}", world.screen());
    world.press("g j j j j j j j j");
    let (name, row) = (world.model.fleet.cursor.clone(), world.model.layout.point);
    let mut busy = agent("web-60");
    busy.facts.as_mut().unwrap().cpu_percent = 99.0;
    world.press("o o");
    world.agents(vec![busy]);
    assert_eq!((world.model.fleet.cursor.clone(), world.model.layout.point), (name, row));
}

#[test]
fn a_question_leaves_the_panes_as_they_are() {
    let mut world = sketch((200, 60));
    world.press("2 v");
    // Only the focus is shown differently.
    let panes =
        |world: &World| world.screen().replace('━', "─").lines().take(56).collect::<Vec<_>>().join("\n");
    let before = panes(&world);
    world.press("X");
    assert_eq!(panes(&world), before);
    assert!(world.says("Cancel job 412?"));
}
