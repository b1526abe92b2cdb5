//! Safe hands: what is pasted, or typed by mistake, changes nothing outside the command line, and runs nothing inside it.

use crossterm::event::KeyCode;
use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};

use super::harness::{World, is_start, key, sketch};
use crate::{
    domain::plan::GateState,
    tui::{
        keymap::{self, Action, BINDINGS, Key},
        model::{Focus, Overlay, job::View},
        msg::{Cmd, Msg},
        update::update,
    },
};

/// The number of random texts.
const TEXTS: u32 = 10_000;
/// How to get to each screen, from the fleet.
const PLACES: [&str; 17] = [
    "1",
    "2",
    "2 d",
    "2 v",
    "2 v v",
    "2 Enter",
    "3",
    "1 Enter",
    "1 G Enter",
    "H",
    "?",
    ":",
    "@",
    "1 /",
    "2 Enter /",
    "2 X",
    "1 a",
];

/// Reports whether a command changes something outside this program, or leaves it.
fn has_effect(cmd: &Cmd) -> bool {
    match cmd {
        Cmd::Start { .. }
        | Cmd::Cancel(..)
        | Cmd::Promote(_)
        | Cmd::Stop(_)
        | Cmd::Approve(..)
        | Cmd::Reject(..)
        | Cmd::Label(..)
        | Cmd::Accept(..)
        | Cmd::StopAgents(_)
        | Cmd::DrainAgents(..)
        | Cmd::DeleteAgents(_)
        | Cmd::Shell(_)
        | Cmd::MakeJoinLine
        | Cmd::Save(..)
        | Cmd::Pager(..)
        | Cmd::Edit(_)
        | Cmd::Suspend
        | Cmd::Quit => true,
        Cmd::Watch(..)
        | Cmd::Follow { .. }
        | Cmd::Unfollow(_)
        | Cmd::ReadEarlier { .. }
        | Cmd::Search { .. }
        | Cmd::FindJob(_)
        | Cmd::Recent(_)
        | Cmd::Copy(..)
        | Cmd::CopyOutput(..)
        | Cmd::Remember(_)
        | Cmd::KeepDraft(_)
        | Cmd::Bell
        | Cmd::Redraw
        | Cmd::Retake => false,
    }
}

/// Returns the keys as which a terminal sends a text.
fn keys(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        keys.push(match sign {
            '\r' => key("Enter"),
            '\n' => key("^J"),
            '\t' => key("Tab"),
            '\x7f' => key("Backspace"),
            '\x1b' => match signs.peek() {
                None => key("Esc"),
                Some('[') => {
                    let sequence: String =
                        signs.by_ref().skip(1).take_while(|sign| !sign.is_ascii_alphabetic()).collect();
                    Key {
                        shift: sequence.contains(";2"),
                        ..Key::plain(if sequence.starts_with("13") { KeyCode::Enter } else { KeyCode::Up })
                    }
                }
                Some(next) => {
                    let code = KeyCode::Char(*next);
                    signs.next();
                    Key { alt: true, ..Key::plain(code) }
                }
            },
            '\0'..='\x1a' => {
                Key { ctrl: true, ..Key::plain(KeyCode::Char(char::from(sign as u8 + b'a' - 1))) }
            }
            sign => Key::plain(KeyCode::Char(sign)),
        });
    }
    keys
}

/// Generates what people paste or type by mistake: words, commands, chat, logs, escape sequences, anything.
fn text() -> impl Strategy<Value = String> {
    let words = [
        "reboot",
        "exit",
        "sleep 100",
        "rm -rf /tmp/x",
        "tail -f /var/log/syslog",
        "check web again: id; touch X",
        "ana: can you restart nginx on web-3?",
        "PS",
        "xX",
        "yes",
        "y",
        "X",
        "P",
        "!",
        ":stop",
        "/etc",
        "@web",
        "a i",
        "kill 1",
        "2026-12-01T10:00:00Z ERROR web-1: connection refused",
        "14",
        "web-1",
        "\x1b[201~",
        "\x1b[13;2u",
        "\x1b[A",
        "\x1bx",
        "\x18\x05",
        "\x1a",
        "\x03",
        "\x04",
        "\x12",
        "\x0f",
        "ärger 漢字 🦥",
        "    <<-EOF\t",
        "q",
        "qy",
        "Ay",
    ];
    let part = prop_oneof![
        8 => select(words.to_vec()).prop_map(str::to_owned),
        2 => ".{1,12}",
        1 => proptest::collection::vec(any::<u8>(), 1..12)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    let end = select(&["", " ", "\n", "\r", "\r\n", "\n\n", "\t"][..]);
    proptest::collection::vec((part, end), 1..5)
        .prop_map(|parts| parts.into_iter().map(|(part, end)| part + end).collect::<String>())
}

/// Updates the model without drawing a frame.
fn put(world: &mut World, msg: Msg) {
    world.cmds.extend(update(&mut world.model, msg, world.now));
}

/// Creates a world with something in it that could be lost: a command, a pick, and a job that waits at a gate.
fn precious() -> World {
    let mut world = sketch((120, 40));
    world.model.open.as_mut().unwrap().job.gate.state = GateState::Held("canary web-1 ended with 0".into());
    world
}

/// Goes from wherever a world is to a screen, without drawing frames.
fn go(world: &mut World, place: &str) {
    world.model.overlays.clear();
    world.model.command.replace("uptime");
    focus_fleet(world);
    let open = world.model.open.as_mut().unwrap();
    (open.output, open.comparison, open.view) = (None, None, View::Groups);
    (world.model.fleet.unpicked, world.model.fleet.range_from) = (None, None);
    let first = world.model.fleet.shown().iter().find(|row| row.waiting.is_none()).cloned().unwrap();
    world.model.fleet.pick_only(vec![first.name.clone()], None, world.now.unix_ms);
    world.model.fleet.cursor = Some(first);
    for name in place.split(' ') {
        world.elapse(2_000);
        put(world, Msg::Key(key(name)));
        world.elapse(60);
        put(world, Msg::Quiet);
    }
    world.elapse(2_000);
    world.ordered();
}

fn focus_fleet(world: &mut World) {
    (world.model.focus, world.model.room) = (Focus::Fleet, Focus::Fleet);
    world.model.fleet.filter.clear();
    world.model.fleet.is_stale = true;
    put(world, Msg::Tick);
}

#[test]
fn ten_thousand_pasted_texts_have_no_effect_on_any_screen() {
    let mut runner = TestRunner::deterministic();
    let strategy = (text(), proptest::collection::vec(0u64..50, 1..24), any::<bool>());
    let (mut counted, mut inserted) = (0, 0);
    let mut world = precious();
    for number in 0..TEXTS {
        let place = PLACES[number as usize % PLACES.len()];
        let (text, gaps, is_marked) = strategy.new_tree(&mut runner).unwrap().current();
        // A single key is not a paste.
        if keys(&text).len() < 2 {
            continue;
        }
        go(&mut world, place);
        if is_marked {
            // The terminal marks a paste. A text that contains the mark of the end ends it.
            let (marked, rest) = text.split_once("\x1b[201~").unwrap_or((&text, ""));
            put(&mut world, Msg::Paste(marked.to_owned()));
            send(&mut world, rest, &gaps);
        } else {
            send(&mut world, &text, &gaps);
        }
        world.elapse(60);
        put(&mut world, Msg::Quiet);
        let effects: Vec<Cmd> = world.ordered().into_iter().filter(has_effect).collect();
        assert!(effects.is_empty() && world.model.quits.is_none(), "{place}: {text:?}: {effects:?}");
        counted += 1;
        inserted += u32::from(world.model.command.value() != "uptime");
    }
    assert!(counted > TEXTS * 9 / 10, "only {counted} texts were long enough");
    assert!(inserted > counted / 3, "only {inserted} of {counted} texts reached the command line");
    println!("{counted} texts; {inserted} of them wait in the command line");
}

/// Sends the keys of a text with short gaps.
fn send(world: &mut World, text: &str, gaps: &[u64]) {
    for (key, gap) in keys(text).into_iter().zip(gaps.iter().cycle()) {
        put(world, Msg::Key(key));
        world.elapse(*gap);
        // The runtime wakes up when the model waits for a moment that has come.
        if world.model.burst.due().is_some_and(|due| due <= world.now.monotonic) {
            put(world, Msg::Quiet);
        }
    }
}

/// All keys that people press by mistake: every sign, and the named keys of the keymap.
fn single_keys() -> Vec<Key> {
    let signs = (' '..='~').map(|sign| Key::plain(KeyCode::Char(sign)));
    let named = BINDINGS.iter().flat_map(|binding| binding.keys).map(|name| key(name));
    signs.chain(named).collect()
}

/// Reports whether an action asks before it does anything.
fn asks(action: Action) -> bool {
    use Action as A;
    matches!(
        action,
        A::PickShown
            | A::Invert
            | A::CancelRow
            | A::CancelJob
            | A::Promote
            | A::StopJob
            | A::Shell
            | A::Save
            | A::Pager
            | A::LoadAgain
            | A::LoadFailed
            | A::Reject
    )
}

#[test]
fn no_single_key_outside_of_text_has_an_effect_without_a_question() {
    let mut world = precious();
    for place in PLACES {
        for pressed in single_keys() {
            go(&mut world, place);
            let asked = matches!(world.model.overlays.last(), Some(Overlay::Question(_)));
            if world.model.field().is_some() || asked {
                continue;
            }
            let picked = world.model.fleet.picks.agents.len();
            let action = keymap::find(world.model.context(), pressed).map(|binding| binding.action);
            put(&mut world, Msg::Key(pressed));
            world.elapse(60);
            put(&mut world, Msg::Quiet);
            let effects: Vec<Cmd> = world.ordered().into_iter().filter(has_effect).collect();
            let may = action == Some(Action::Suspend) && effects == [Cmd::Suspend];
            assert!(effects.is_empty() || may, "{place}: {pressed}: {effects:?}");
            assert!(world.model.quits.is_none(), "{place}: {pressed}");
            if action != Some(Action::Pick) {
                assert!(world.model.fleet.picks.agents.len() <= picked, "{place}: {pressed} picks");
            }
            if let Some(action) = action.filter(|action| asks(*action) && world.model.may(*action).is_ok()) {
                let asked = matches!(world.model.overlays.last(), Some(Overlay::Question(_)));
                assert!(asked, "{place}: {pressed} does {action:?} without a question");
            }
        }
    }
}

#[test]
fn words_that_are_typed_in_the_wrong_place_have_no_effect() {
    let words = [
        "tail -f /etc/hostname",
        "exit",
        "sleep 100",
        "apply",
        "PS",
        "reboot",
        "xX",
        "yes please",
        "shutdown -h now",
        "qy",
        "systemctl stop nginx",
        "apt-get -y upgrade",
        "Sy",
        "sy",
        "py",
        "ay",
    ];
    for place in PLACES {
        for word in words {
            for interval_ms in [60, 90, 120, 200] {
                let mut world = precious();
                go(&mut world, place);
                // Text that reaches the command line may run: its title says where.
                let was_in_line = world.model.focus == Focus::Command;
                for pressed in keys(word) {
                    put(&mut world, Msg::Key(pressed));
                    world.elapse(interval_ms);
                    put(&mut world, Msg::Quiet);
                }
                let effects: Vec<Cmd> = world.ordered().into_iter().filter(has_effect).collect();
                assert!(effects.is_empty(), "{place}: {word} at {interval_ms} ms: {effects:?}");
                if !was_in_line && world.model.focus != Focus::Command {
                    assert_eq!(world.model.command.value(), "uptime", "{place}: {word} at {interval_ms} ms");
                }
                assert!(world.model.quits.is_none());
            }
        }
    }
}

#[test]
fn enter_runs_the_line_only_if_it_comes_alone() {
    // Milliseconds between the last letter, Enter and another letter; whether the line runs, and what it contains.
    for (before, after, starts, line) in [
        (100, 50, true, ""),
        (100, 49, false, "uptime\nx"),
        (99, 50, false, "uptime"),
        (99, 49, false, "uptime\nx"),
        (0, 0, false, "uptime\nx"),
        (2_000, 2_000, true, ""),
    ] {
        let mut world = World::with_agents((120, 40), 1);
        world.press("i");
        world.write("uptim");
        world.elapse(200);
        put(&mut world, Msg::Key(key("e")));
        world.elapse(before);
        put(&mut world, Msg::Key(key("Enter")));
        world.elapse(after);
        if after < 50 {
            put(&mut world, Msg::Key(key("x")));
            world.elapse(500);
        }
        put(&mut world, Msg::Quiet);
        assert_eq!(world.ordered().iter().any(is_start), starts, "{before} {after}");
        assert_eq!(world.model.command.value(), line, "{before} {after}");
    }
}

#[test]
fn an_enter_that_came_too_soon_runs_the_line_when_it_is_pressed_again() {
    let mut world = World::with_agents((120, 40), 1);
    world.press("i");
    world.burst(&keys("uptime\r"), 5);
    world.elapse(60);
    world.put(Msg::Quiet);
    assert!(!world.ordered().iter().any(is_start));
    assert!(world.says("press it again"), "{}", world.screen());
    world.press("Enter");
    assert!(world.ordered().iter().any(is_start));
}

#[test]
fn shift_with_enter_is_a_new_line_and_alt_moves_by_words() {
    let mut world = World::with_agents((120, 40), 1);
    world.press("i");
    world.write("echo one");
    world.press("S-Enter");
    world.write("two");
    world.press("Alt-b");
    world.write("+");
    assert_eq!(world.model.command.value(), "echo one\n+two");
    assert!(!world.ordered().iter().any(is_start));
    // In tmux, Escape and a letter that follows soon arrive as Alt with that letter.
    let mut world = sketch((120, 40));
    world.press("2 i Alt-X");
    assert!(world.says("Cancel job 412?"), "{}", world.screen());
}

#[test]
fn what_is_shown_is_what_runs() {
    let mut world = World::with_agents((120, 40), 1);
    world.put(Msg::Paste("cat <<-EOF\n\tone\x1b[2J\n\tEOF".to_owned()));
    assert!(world.says("␉one␛[2J"), "{}", world.screen());
    world.press("Enter");
    let started = world.ordered().into_iter().find_map(|cmd| match cmd {
        Cmd::Start { text, .. } => Some(text),
        _ => None,
    });
    assert_eq!(started.as_deref(), Some("cat <<-EOF\n\tone\x1b[2J\n\tEOF"));
}

#[test]
fn automatic_repetition_is_no_paste() {
    let mut world = World::with_agents((120, 40), 30);
    world.burst(&[key("j"); 10], 30);
    world.burst(&[key("k"); 3], 30);
    world.elapse(100);
    assert_eq!(world.model.fleet.cursor_place(), Some(7));
    world.burst(&[key("space"); 5], 30);
    world.elapse(100);
    world.put(Msg::Quiet);
    assert_eq!(world.model.fleet.picks.agents.len(), 5);
    assert_eq!(world.model.command.value(), "");
}
