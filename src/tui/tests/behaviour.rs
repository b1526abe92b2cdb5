//! Tests of single keys and updates: every hint works, no command runs by accident, no typed text is lost.

use super::{
    agent,
    harness::{BEGIN_MS, World, end, frame, groups, is_start, job, key, sketch, uname},
};
use crate::{
    domain::{
        agent::{AgentState, AgentView},
        code::KeyMark,
        control::JobDigest,
        job::Job,
        offset::OutputOffset,
        outcome::{Ending, KillProof, Survivor},
        time::UnixMs,
    },
    tui::{
        keymap::{self, BINDINGS},
        model::{
            Confirmation, Connection, Focus, Overlay,
            job::{FollowKey, Followed, View},
        },
        msg::{Cmd, Msg},
        settings::Settings,
        view::chrome::hints,
    },
};

#[test]
fn typing_reboot_and_enter_into_the_fleet_starts_nothing() {
    let mut world = World::with_agents((120, 40), 5);
    world.write("reboot");
    world.press("Enter");
    let ordered = world.ordered();
    assert!(!ordered.iter().any(is_start), "{ordered:?}");
    assert_eq!(world.model.command.value(), "");
}

#[test]
fn a_command_runs_on_the_shown_agents_and_its_job_gets_the_keys() {
    let mut world = World::with_agents((120, 40), 5);
    world.press("space space i");
    assert!(world.says("Command → 2 agents  web-[1-2]"));
    world.write("uname -r");
    world.press("Enter");
    let start = world.ordered().into_iter().find(is_start);
    let Some(Cmd::Start { id, text, recipients: to, .. }) = start else { panic!("nothing is started") };
    assert_eq!((text.as_str(), to.target.as_str(), to.agents.len()), ("uname -r", "web-[1-2]", 2));
    let started = Job { id, ..job(7, 2, "uname -r") };
    world.put(Msg::Started(Box::new(started)));
    assert_eq!((world.model.focus, world.model.room), (Focus::Job, Focus::Job));
    assert_eq!(world.model.command.value(), "");
    assert!(world.says("Job 7"));
    // Who types the next command already is not disturbed.
    world.press("i");
    world.write("uptime");
    world.press("Enter");
    let Some(Cmd::Start { id, .. }) = world.ordered().into_iter().find(is_start) else { panic!() };
    world.write("df");
    world.put(Msg::Started(Box::new(Job { id, ..job(8, 2, "uptime") })));
    assert_eq!((world.model.focus, world.model.command.value().as_str()), (Focus::Command, "df"));
    world.press("^C Enter");
    assert_eq!(world.model.focus, Focus::Job, "Enter on an empty line goes to the job");
}

#[test]
fn without_picks_it_is_the_agent_under_the_cursor_frozen_when_the_line_was_entered() {
    let mut world = World::with_agents((120, 40), 5);
    world.press("j i");
    assert!(world.says("Command → web-2 (cursor)"));
    world.agents(vec![AgentView { state: AgentState::Offline, ..agent("web-1") }]);
    world.write("uptime");
    world.press("Enter");
    let Some(Cmd::Start { recipients, .. }) = world.ordered().into_iter().find(is_start) else { panic!() };
    assert_eq!(recipients.target, "web-2");
}

#[test]
fn more_than_ten_agents_require_a_confirmation_and_ignore_keys_typed_ahead() {
    let mut world = World::with_agents((120, 40), 14);
    world.press_and_agree("a");
    world.press("i");
    world.write("uptime");
    world.press("Enter");
    for early in ["1", "4", "Enter"] {
        world.put(Msg::Key(key(early)));
        world.elapse(100);
    }
    assert!(!world.ordered().iter().any(is_start), "keys typed ahead do not answer the question");
    world.pass(500);
    world.write("14");
    world.press("Enter");
    assert!(world.ordered().iter().any(is_start));
    world.model.starting = None;
    world.write("uptime");
    world.press("Enter");
    world.pass(500);
    world.press("y");
    assert!(!world.ordered().iter().any(is_start));
    assert_eq!(world.model.command.value(), "uptime", "the line is kept");
}

#[test]
fn a_destructive_command_and_old_picks_are_asked_about_at_any_count() {
    let destructive = vec![regex::Regex::new("reboot").unwrap()];
    let mut world = World::with((120, 40), Settings { destructive, ..Settings::default() });
    world.connect();
    world.agents(vec![agent("web-1")]);
    world.press("i");
    world.write("sudo reboot");
    world.press("Enter");
    assert!(
        matches!(world.model.overlays.last(), Some(Overlay::Question(question)) if question.expects == Confirmation::Text("web-1".to_owned()))
    );
    let mut world = World::with_agents((120, 40), 3);
    world.press("space space");
    world.pass(11 * 60 * 1000);
    world.press("i");
    world.write("uptime");
    world.press("Enter");
    assert!(world.says("were picked 11:00 ago"));
}

#[test]
fn enter_while_disconnected_sends_nothing_now_or_later() {
    let mut world = World::with_agents((120, 40), 3);
    world.press("i");
    world.write("uptime");
    world.put(Msg::Disconnected { reason: "it ends".to_owned(), retry_ms: 4_000 });
    world.press("Enter");
    assert!(world.says("Your line is kept; nothing was sent"));
    world.pass(5_000);
    world.connect();
    world.pass(5_000);
    assert!(!world.ordered().iter().any(is_start));
    assert_eq!(world.model.command.value(), "uptime");
}

#[test]
fn an_agent_that_is_gone_starts_nothing_and_enter_runs_on_the_others() {
    let mut world = World::with_agents((120, 40), 4);
    world.press_and_agree("a");
    world.press("i");
    world.write("uptime");
    world.press("Enter");
    let Some(Cmd::Start { id, .. }) = world.ordered().into_iter().find(is_start) else { panic!() };
    world.put(Msg::TargetChanged(id, vec!["web-3".to_owned()]));
    assert!(world.says("web-3 is gone, or has a new key, since this was shown"));
    assert_eq!(world.model.command.value(), "uptime");
    world.press("Enter");
    let Some(Cmd::Start { recipients, .. }) = world.ordered().into_iter().find(is_start) else { panic!() };
    assert_eq!(recipients.agents.len(), 3);
}

#[test]
fn a_start_whose_answer_was_lost_is_looked_for_and_never_sent_twice() {
    for begun in [true, false] {
        let mut world = World::with_agents((120, 40), 1);
        world.press("i");
        world.write("uptime");
        world.press("Enter");
        let Some(Cmd::Start { id, .. }) = world.ordered().into_iter().find(is_start) else { panic!() };
        world.put(Msg::StartUnknown(id));
        world.put(Msg::Disconnected { reason: "it ends".to_owned(), retry_ms: 1_000 });
        world.connect();
        let jobs =
            if begun { vec![Job { id, tasks: Vec::new(), ..job(9, 1, "uptime") }] } else { Vec::new() };
        world.put(Msg::Jobs { begins: true, jobs, deleted: Vec::new(), is_complete: true });
        assert!(!world.ordered().iter().any(is_start));
        assert_eq!(world.model.command.value(), if begun { "" } else { "uptime" });
        assert_eq!(world.model.open.is_some(), begun);
    }
}

#[test]
fn an_enter_inside_of_a_burst_is_a_new_line() {
    let mut world = World::with_agents((120, 40), 1);
    world.press("i");
    world.write("one");
    world.burst(&[key("Enter"), key("t"), key("w"), key("o")], 10);
    world.put(Msg::Paste("three\nfour\n".to_owned()));
    assert!(!world.ordered().iter().any(is_start));
    assert_eq!(world.model.command.value(), "one\ntwothree\nfour");
}

#[test]
fn a_paste_outside_of_text_waits_in_the_command_line() {
    let mut world = World::with_agents((120, 40), 1);
    world.put(Msg::Paste("reboot\n".to_owned()));
    assert!(!world.ordered().iter().any(is_start));
    assert_eq!((world.model.focus, world.model.command.value().as_str()), (Focus::Command, "reboot"));
}

#[test]
fn only_what_is_on_the_screen_is_followed_and_a_disconnect_continues_where_it_stopped() {
    let mut world = sketch((80, 24));
    world.press("2 g");
    let followed: Vec<Followed> = world.model.following.iter().map(|key| key.what).collect();
    assert_eq!(followed, [Followed::Pane(1)], "the task under the cursor");
    world.press("v v");
    assert_eq!(world.model.following.iter().next().map(|key| key.what), Some(Followed::Stream));
    world.press("v Enter");
    let full = FollowKey { job: world.model.open.as_ref().unwrap().job.id, what: Followed::Full(1) };
    assert!(world.model.following.contains(&full));
    world.put(Msg::Output { key: full, task: 1, frames: vec![frame(0, "one\ntwo\n")] });
    world.put(Msg::Disconnected { reason: "it ends".to_owned(), retry_ms: 1 });
    world.ordered();
    world.connect();
    let again = world.ordered().into_iter().find_map(|cmd| match cmd {
        Cmd::Follow { key, from_offset, .. } if key == full => Some(from_offset),
        _ => None,
    });
    assert_eq!(again, Some(OutputOffset(8)));
}

#[test]
fn the_stream_is_searched_and_scrolled_sideways_and_a_new_line_loses_no_match() {
    let mut world = sketch((120, 40));
    world.press("2 v v");
    world.print(|task| match task {
        3 | 5 => "some needle in it\n",
        _ => "an ordinary line\n",
    });
    world.press("/");
    world.write("NEEDLE");
    world.press("Enter");
    let found = |world: &World| {
        let stream = &world.model.open.as_ref().unwrap().stream;
        stream.found_at().map(|at| stream.lines[at].0)
    };
    assert_eq!(found(&world), Some(5), "the search starts at the newest line");
    world.press("N");
    assert_eq!(found(&world), Some(3));
    world.press("N");
    assert!(world.says("no \"NEEDLE\" before here"), "{}", world.screen());
    assert_eq!(found(&world), Some(3));
    world.press("n");
    assert_eq!(found(&world), Some(5));
    assert!(world.says("/NEEDLE"), "{}", world.screen());
    world.press("→");
    assert!(world.says("from column 17"), "{}", world.screen());
    assert!(!world.says("some needle in it"));
}

#[test]
fn the_preview_of_a_row_is_scrolled_sideways_and_stays_there_for_the_next_row() {
    let mut world = sketch((80, 24));
    world.press("2 g");
    let (job, task) =
        world.model.open.as_ref().map(|open| (open.job.id, open.current_task().unwrap())).unwrap();
    let key = FollowKey { job, what: Followed::Pane(task) };
    let offset = world.model.open.as_ref().unwrap().windows[&task].next().0;
    let frames = vec![frame(offset, "0123456789abcdef0123456789 the end\nand more\n")];
    world.put(Msg::Output { key, task, frames });
    assert!(world.says("0123456789abcdef0123"));
    world.press("l");
    assert!(world.says("from column 17") && world.says(" 0123456789 the end"), "{}", world.screen());
    assert!(!world.says("and more"));
    world.press("j h");
    assert!(!world.says("from column"));
}

#[test]
fn a_job_that_was_deleted_is_no_longer_offered_and_stays_readable_where_it_is_open() {
    let mut world = sketch((120, 40));
    let id = world.model.open.as_ref().unwrap().job.id;
    let deleted = vec![id];
    world.put(Msg::Jobs { begins: false, jobs: Vec::new(), deleted, is_complete: true });
    assert!(world.says("job 412 was deleted"), "{}", world.screen());
    assert!(world.model.jobs.is_empty());
    assert!(world.says("5.15.0-91-generic"));
}

#[test]
fn cancelling_says_what_it_did() {
    let mut world = sketch((120, 40));
    world.press("2 g j j x");
    assert!(world.says("Cancel the task of job 412 on web-9?"), "{}", world.screen());
    world.agree();
    let cancelled = world.ordered().into_iter().find_map(|cmd| match cmd {
        Cmd::Cancel(_, tasks) => Some(tasks),
        _ => None,
    });
    assert_eq!(cancelled, Some(vec![8]));
    let mut job = world.model.open.as_ref().unwrap().job.clone();
    let left = vec![Survivor { pid: 4242, state: "disk wait".into() }];
    end(
        &mut job,
        8,
        Ending::Cancelled { proof: Some(KillProof::new(7, left, 0)), by: "ana".into(), seal: None },
    );
    let changed = job.tasks[8].clone();
    let digest = JobDigest {
        tasks: vec![changed],
        groups: groups(&job, uname),
        gate: job.gate.clone(),
        ..JobDigest::default()
    };
    world.put(Msg::Digest(job.id, Box::new(digest)));
    assert!(
        world.says("web-9 cancelled, 7 processes ended, 1 left: web-9: pid 4242 in disk wait"),
        "{}",
        world.screen()
    );
}

#[test]
fn quitting_asks_when_something_would_be_left_and_esc_closes_layer_by_layer() {
    let mut world = World::with_agents((80, 24), 2);
    world.press("q");
    assert!(world.says("Quit?") && world.model.quits.is_none());
    world.agree();
    assert!(world.model.quits.is_some());
    let mut world = World::with_agents((80, 24), 2);
    world.press("space H q q");
    assert!(world.says("1 agent is picked"));
    world.elapse(500);
    world.press("n");
    assert!(world.model.quits.is_none());
    world.press_and_agree("q");
    assert_eq!(world.model.quits, Some(Vec::new()));
}

#[test]
fn what_failed_is_loaded_into_the_line_and_the_old_line_comes_back() {
    let mut world = sketch((120, 40));
    world.press("1 i");
    world.write("precious");
    world.press("Esc 2");
    world.press_and_agree("R");
    assert_eq!(world.model.command.value(), "uname -r");
    assert_eq!(world.model.recipients().target, "web-2");
    assert!(!world.ordered().iter().any(is_start), "loading runs nothing");
    world.press("^_");
    assert_eq!(world.model.command.value(), "precious");
}

#[test]
fn changing_masks_watches_again_even_after_the_end_of_the_job() {
    let mut world = sketch((120, 40));
    let open = world.model.open.as_mut().unwrap();
    (open.is_over, open.job.ended_ms) = (true, Some(UnixMs(1)));
    world.ordered();
    world.press("2 m");
    let watched = world.ordered().into_iter().any(|cmd| matches!(cmd, Cmd::Watch(..)));
    assert!(watched, "{}", world.screen());
}

#[test]
fn a_job_without_known_agents_is_not_loaded() {
    let mut world = sketch((120, 40));
    world.press("1");
    world.press_and_agree("a");
    let picked = world.model.recipients().agents.len();
    let open = world.model.open.as_mut().unwrap();
    for task in &mut open.job.tasks {
        task.agent = format!("gone-{}", task.index).parse().unwrap();
    }
    world.press("2 r");
    assert!(world.says("none of its agents is in the fleet"), "{}", world.screen());
    assert_eq!(world.model.recipients().agents.len(), picked, "the picks stay");
    assert_eq!(world.model.command.value(), "");
}

#[test]
fn a_requested_job_that_arrives_late_does_not_take_the_focus() {
    let mut world = World::with_agents((120, 40), 2);
    world.model.wanted_job = Some(7);
    world.press("i");
    world.write("reb");
    let jobs = vec![job(7, 2, "true")];
    world.put(Msg::Jobs { begins: false, jobs, deleted: Vec::new(), is_complete: false });
    assert_eq!((world.model.focus, world.model.command.value().as_str()), (Focus::Command, "reb"));
    world.model.wanted_job = Some(9);
    world.put(Msg::NoJob(9));
    assert_eq!(world.model.wanted_job, None);
}

#[test]
fn draining_is_in_the_palette_asks_for_a_reason_and_for_more_when_there_are_many() {
    let drained = |world: &mut World| {
        world.ordered().into_iter().find_map(|cmd| match cmd {
            Cmd::DrainAgents(target, reason) => Some((target, reason)),
            _ => None,
        })
    };
    let palette = |world: &mut World, what: &str| {
        world.press(":");
        world.write(what);
        world.press("Enter");
    };
    let mut world = World::with_agents((120, 40), 12);
    world.press("space");
    palette(&mut world, "drain");
    world.write("new kernel");
    world.press("Enter");
    assert_eq!(drained(&mut world), Some(("web-1".to_owned(), Some("new kernel".to_owned()))));
    palette(&mut world, "resume the");
    assert_eq!(drained(&mut world), Some(("web-1".to_owned(), None)));
    world.press_and_agree("a");
    palette(&mut world, "drain");
    world.press("Enter");
    assert_eq!(drained(&mut world), None, "twelve agents require a confirmation");
    world.pass(500);
    world.write("12");
    world.press("Enter");
    assert_eq!(drained(&mut world), Some(("web-[1-12]".to_owned(), Some(String::new()))));
}

#[test]
fn read_only_starts_and_changes_nothing() {
    let mut world = World::with((120, 40), Settings { read_only: true, ..Settings::default() });
    world.connect();
    world.agents(vec![agent("web-1")]);
    world.press("i 3 Tab Tab");
    world.put(Msg::Paste("reboot".to_owned()));
    assert_ne!(world.model.focus, Focus::Command);
    assert!(world.says("read-only") && !world.says("Command →"));
}

#[test]
fn every_hint_works_where_it_is_shown() {
    let places: [&str; 12] = ["1", "2", "2 v", "2 v v", "2 Enter", "3", "1 Enter", "H", "?", ":", "@", "1 /"];
    for place in places {
        let make = || {
            let mut world = sketch((120, 40));
            world.press(place);
            world.ordered();
            world
        };
        for (name, hint) in hints(&make().model) {
            let mut world = make();
            let binding = keymap::find(world.model.context(), key(name)).expect(hint);
            assert!(world.model.may(binding.action).is_ok(), "{place}: {name} {hint}");
            let before = format!("{:?}", world.model);
            world.press(name);
            let is_done = format!("{:?}", world.model) != before || !world.cmds.is_empty();
            assert!(is_done || name == "G", "{place}: {name} ({hint}) does nothing");
        }
    }
}

#[test]
fn keys_are_written_as_they_are_read() {
    for binding in BINDINGS {
        for name in binding.keys {
            assert_eq!(key(name).to_string(), *name);
        }
    }
}

#[test]
fn a_click_moves_the_cursor_and_the_wheel_scrolls() {
    let mut world = sketch((120, 40));
    let fleet = world.model.layout.fleet;
    world.put(Msg::Click(fleet.x + 5, fleet.y + 3));
    assert_eq!((world.model.focus, world.model.fleet.cursor_place()), (Focus::Fleet, Some(3)));
    world.put(Msg::Wheel(fleet.x + 5, fleet.y, false));
    assert_eq!(world.model.fleet.cursor_place(), Some(6));
    let rows = world.model.layout.job;
    world.put(Msg::Click(rows.x + 3, rows.y + 1));
    assert_eq!(world.model.open.as_ref().unwrap().rows.cursor(), 1);
}

#[test]
fn a_disconnect_loses_neither_text_nor_picks_nor_the_open_job() {
    let mut world = sketch((120, 40));
    world.press("1 j j j space k 2 v 3");
    let cursor = world.model.fleet.cursor.clone();
    world.write("half a li");
    world.put(Msg::Disconnected { reason: "it ends".to_owned(), retry_ms: 1_000 });
    assert!(matches!(world.model.connection, Connection::Down { .. }));
    world.write("ne");
    world.connect();
    world.put(Msg::FleetBegins);
    let agents = (1..=14).map(|n| agent(&format!("web-{n}"))).collect();
    world.agents(agents);
    assert_eq!(world.model.command.value(), "half a line");
    assert_eq!(world.model.fleet.picks.agents.len(), 1);
    assert_eq!(world.model.fleet.cursor, cursor);
    assert!(world.model.fleet.agent(&"db-1".parse().unwrap()).is_none(), "an agent not sent again is gone");
    assert_eq!(world.model.open.as_ref().map(|open| (open.job.number, open.view)), Some((412, View::Grid)));
    assert!(world.now.unix_ms >= UnixMs(BEGIN_MS));
}

#[test]
fn a_pending_key_is_approved_with_the_shown_proposal() {
    let mut world = sketch((120, 40));
    world.press("1 g Enter");
    assert!(world.says("proposes") && world.says("role=web"), "{}", world.screen());
    world.press("A");
    world.write("7K2MQX4P9D3AWZ8T");
    world.press("Enter");
    let approved = |cmd: &Cmd| match cmd {
        Cmd::Approve(name, KeyMark::Code(_), (_, proposed)) => Some((name.to_string(), proposed.to_string())),
        _ => None,
    };
    let ordered = world.ordered();
    let approved: Vec<_> = ordered.iter().filter_map(approved).collect();
    assert_eq!(approved, [("web-15".to_owned(), "role=web".to_owned())], "{ordered:?}");
}

#[test]
fn a_proposal_is_accepted_after_a_confirmation() {
    let mut world = sketch((120, 40));
    world.press("1 g j j Enter A");
    assert!(world.says("Accept the proposal of web-7: rack=3?"), "{}", world.screen());
    world.pass(1_000);
    world.write("web-7");
    world.press("Enter");
    let accepted = |cmd: &Cmd| matches!(cmd, Cmd::Accept(name, proposed) if name.as_str() == "web-7" && proposed.to_string() == "rack=3");
    assert!(world.ordered().iter().any(accepted), "the shown proposal is accepted");
    let mut world = sketch((120, 40));
    world.press("1 g j Enter A");
    assert!(world.says("it has no proposal to accept"), "web-3 proposes nothing");
}
