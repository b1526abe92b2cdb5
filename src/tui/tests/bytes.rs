//! Tests of the bytes that are written to the terminal: few, and the same on every machine. tmux drops output
//! that comes too fast.

use std::{cell::RefCell, io, rc::Rc};

use super::harness::{World, sketch};
use crate::tui::terminal::Screen;

/// Counts the written bytes.
#[derive(Clone, Default)]
struct Counter(Rc<RefCell<usize>>);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.0.borrow_mut() += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Terminal {
    screen: Screen<Counter>,
    counter: Counter,
}

impl Terminal {
    fn showing(world: &World) -> Self {
        let counter = Counter::default();
        let mut terminal = Self { screen: Screen::new(counter.clone()), counter };
        terminal.frame(world);
        terminal
    }

    /// Draws the next frame, and returns the number of written bytes.
    fn frame(&mut self, world: &World) -> usize {
        *self.counter.0.borrow_mut() = 0;
        let _ = self.screen.draw(&world.model, world.size).unwrap();
        *self.counter.0.borrow()
    }
}

#[test]
fn an_idle_screen_writes_nothing() {
    for size in [(80, 24), (200, 60)] {
        let mut world = World::with_agents(size, 40);
        let mut terminal = Terminal::showing(&world);
        for _ in 0..5 {
            world.pass(1_000);
            assert_eq!(terminal.frame(&world), 0);
        }
        world.agents(vec![super::agent("web-3")]);
        assert_eq!(terminal.frame(&world), 0, "an update without a visible change");
    }
}

#[test]
fn clocks_cost_a_few_cells_a_second() {
    for size in [(80, 24), (200, 60)] {
        let mut world = sketch(size);
        let mut terminal = Terminal::showing(&world);
        world.pass(1_000);
        let bytes = terminal.frame(&world);
        assert!((1..400).contains(&bytes), "{size:?}: {bytes}");
    }
}

#[test]
fn a_key_costs_what_it_changes() {
    for size in [(80, 24), (200, 60)] {
        let mut world = World::with_agents(size, 40);
        world.press("1");
        let mut terminal = Terminal::showing(&world);
        for (key, most) in
            [("j", 1_000), ("space", 1_200), ("j", 1_000), ("k", 1_000), ("i", 2_500), ("x", 400), ("x", 100)]
        {
            world.press(key);
            let bytes = terminal.frame(&world);
            assert!((1..=most).contains(&bytes), "{size:?} {key}: {bytes}");
        }
    }
}

#[test]
fn the_first_frame_fits_into_what_tmux_holds_back() {
    let mut world = sketch((200, 60));
    world.press("2 v");
    world.print(|_| "a line of output as long as many are, with some words in it\n");
    let mut terminal = Terminal::showing(&World::new((200, 60)));
    let bytes = terminal.frame(&world);
    assert!(bytes < 8 * 200 * 60, "{bytes}");
}
