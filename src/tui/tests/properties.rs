//! Properties that hold for any input, checked with generated events: no event causes a panic, no command
//! runs without its Enter, and memory stays bounded.

use proptest::prelude::*;

use super::{
    agent,
    harness::{frame, is_start, job, key, sketch},
};
use crate::{
    domain::{
        agent::{AgentState, AgentView},
        job::Job,
    },
    tui::{
        keymap::BINDINGS,
        model::{
            Focus,
            job::{FollowKey, Followed},
        },
        msg::Msg,
        output::window::{PANE_CAPACITY, Window},
    },
};

/// Generates an event.
fn happening() -> impl Strategy<Value = Msg> {
    let keys: Vec<&str> = BINDINGS.iter().flat_map(|binding| binding.keys).copied().collect();
    let letters = "abcdefghijklmnopqrstuvwxyz0123456789 /:@[]*{}\"'\\漢🦥";
    let signs: Vec<String> = letters.chars().map(String::from).collect();
    prop_oneof![
        6 => proptest::sample::select(keys).prop_map(|name| Msg::Key(key(name))),
        2 => proptest::sample::select(signs).prop_map(|sign| Msg::Key(key(&sign))),
        1 => ".{0,40}".prop_map(Msg::Paste),
        1 => (0u16..200, 0u16..60).prop_map(|(x, y)| Msg::Click(x, y)),
        1 => (0u16..200, 0u16..60, any::<bool>()).prop_map(|(x, y, up)| Msg::Wheel(x, y, up)),
        1 => any::<bool>().prop_map(|_| Msg::Disconnected { reason: "gone".to_owned(), retry_ms: 1_000 }),
        1 => (1u32..30).prop_map(|n| Msg::Agents {
            agents: vec![AgentView { state: AgentState::Late, ..agent(&format!("web-{n}")) }],
            gone: vec![format!("web-{}", n + 1).parse().unwrap()],
            waiting: None,
            is_complete: true,
        }),
        1 => (1u64..40).prop_map(|n| Msg::Jobs {
            begins: n % 7 == 0,
            deleted: vec![job(n + 1, 1, "x").id],
            jobs: vec![Job { tasks: Vec::new(), ..job(n, 3, "true") }],
            is_complete: true,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_event_panics_or_starts_a_command_without_its_enter(
        happenings in proptest::collection::vec((happening(), 0u16..220, 0u16..70, 0u64..2_000), 1..60),
    ) {
        let mut world = sketch((120, 40));
        for (msg, width, height, ms) in happenings {
            let is_enter = matches!(&msg, Msg::Key(pressed) if *pressed == key("Enter"));
            let was_line = world.model.focus == Focus::Command || !world.model.overlays.is_empty();
            world.size = (width, height);
            world.ordered();
            world.put(msg);
            world.elapse(60);
            world.put(Msg::Quiet);
            let ordered = world.ordered();
            if ordered.iter().any(is_start) {
                prop_assert!(is_enter && was_line, "a command was started by accident");
            }
            world.pass(ms);
            if ms % 7 == 0 {
                world.connect();
            }
            if world.model.quits.take().is_some() {
                world.model.overlays.clear();
            }
        }
    }

    #[test]
    fn memory_is_bounded_for_any_output(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2_000), 1..24),
    ) {
        let mut world = sketch((200, 60));
        world.press("2 v");
        let keys: Vec<FollowKey> = world.model.following.iter().copied().collect();
        let mut offset = 0;
        for piece in pieces {
            for key in &keys {
                let Followed::Pane(task) = key.what else { continue };
                let mut frame = frame(offset, "");
                frame.data = piece.clone().into();
                world.put(Msg::Output { key: *key, task, frames: vec![frame] });
            }
            offset += piece.len() as u64;
        }
        let open = world.model.open.as_ref().unwrap();
        let held: usize = open.windows.values().map(Window::size).sum();
        prop_assert!(held <= open.windows.len() * PANE_CAPACITY.bytes);
        prop_assert!(world.screen().chars().all(|sign| !sign.is_control() || sign == '\n'));
    }
}
