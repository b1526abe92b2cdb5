//! The terminal: acquired when the screen starts, restored however the program ends, and written to only
//! where cells have changed.

use std::{
    io::{self, BufWriter, Stdout, Write, stdout},
    sync::Once,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture},
    execute, queue,
    terminal::{
        BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
        disable_raw_mode, enable_raw_mode, size,
    },
};
use ratatui::{
    backend::{Backend as _, CrosstermBackend},
    buffer::Buffer,
    layout::Rect,
};

use super::{
    model::{Layout, Model},
    view::view,
};

/// The maximum width and height of the drawn screen. Cells beyond it stay empty.
const MAX_SCREEN_SIZE: u16 = 1_000;

/// Switches the terminal to the screen.
///
/// # Errors
/// If there is no terminal, or it has closed.
pub fn take(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)?;
    if mouse {
        execute!(stdout(), EnableMouseCapture)?;
    }
    Ok(())
}

/// Restores the terminal. Tries every step even if another one fails.
pub fn restore() {
    let _ = execute!(stdout(), DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Restores the terminal on a panic, before the message is printed.
pub fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

/// The contents of the screen, and the terminal that shows them.
#[derive(Debug)]
pub struct Screen<W: Write> {
    backend: CrosstermBackend<W>,
    shown: Buffer,
    cursor: Cursor,
}

/// The position of the terminal's cursor, and whether it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    at: Option<(u16, u16)>,
    is_shown: bool,
}

impl Screen<BufWriter<Stdout>> {
    /// Creates the screen of the terminal.
    #[must_use]
    pub fn from_stdout() -> Self {
        Self::new(BufWriter::with_capacity(64 * 1024, stdout()))
    }

    /// Returns the current size of the terminal. For a terminal that reports 0x0, because it does not know, it is the size in the
    /// environment, or else 80x24.
    #[must_use]
    pub fn size() -> (u16, u16) {
        known_size(size().ok(), |name| std::env::var(name).ok())
    }
}

fn known_size(reported: Option<(u16, u16)>, variable: impl Fn(&str) -> Option<String>) -> (u16, u16) {
    let (columns, rows) = reported.unwrap_or_default();
    let known = |reported: u16, name: &str, default: u16| match reported {
        0 => variable(name).and_then(|text| text.parse().ok()).filter(|count| *count > 0).unwrap_or(default),
        reported => reported,
    };
    (known(columns, "COLUMNS", 80), known(rows, "LINES", 24))
}

impl<W: Write> Screen<W> {
    /// Creates an empty screen.
    #[must_use]
    pub fn new(writer: W) -> Self {
        Self { backend: CrosstermBackend::new(writer), shown: Buffer::default(), cursor: Cursor::default() }
    }

    /// Draws the cells that differ from the shown ones. Writes nothing if no cell differs.
    ///
    /// # Errors
    /// If the terminal has closed.
    pub fn draw(&mut self, model: &Model, size: (u16, u16)) -> io::Result<Layout> {
        let area = Rect::new(0, 0, size.0.min(MAX_SCREEN_SIZE), size.1.min(MAX_SCREEN_SIZE));
        let is_new = *self.shown.area() != area;
        if is_new {
            self.shown = Buffer::empty(area);
        }
        let mut next = Buffer::empty(area);
        let layout = view(model, &mut next);
        let changes = self.shown.diff(&next);
        let cursor = Cursor { at: layout.cursor.or(layout.point), is_shown: layout.cursor.is_some() };
        if is_new || !changes.is_empty() || self.cursor != cursor {
            queue!(self.backend, BeginSynchronizedUpdate)?;
            if is_new {
                self.backend.clear()?;
            }
            if !changes.is_empty() {
                self.backend.draw(changes.into_iter())?;
            }
            if let Some((x, y)) = cursor.at {
                queue!(self.backend, MoveTo(x, y))?;
            }
            if cursor.is_shown != self.cursor.is_shown || is_new {
                if cursor.is_shown { queue!(self.backend, Show)? } else { queue!(self.backend, Hide)? }
            }
            queue!(self.backend, EndSynchronizedUpdate)?;
            io::Write::flush(&mut self.backend)?;
        }
        self.cursor = cursor;
        self.shown = next;
        Ok(layout)
    }

    /// Clears the memory of what is shown, so that the next frame draws everything.
    pub fn forget(&mut self) {
        self.shown = Buffer::default();
        self.cursor = Cursor::default();
    }

    /// Writes bytes that are not part of a frame: a bell, the contents of the clipboard.
    ///
    /// # Errors
    /// If the terminal has closed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.backend.write_all(bytes)?;
        io::Write::flush(&mut self.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::known_size;

    #[test]
    fn a_terminal_without_a_size_has_that_of_its_environment() {
        let variable =
            |columns: &'static str| move |name: &str| (name == "COLUMNS").then(|| columns.to_owned());
        for (reported, columns, size) in [
            (Some((120, 40)), "200", (120, 40)),
            (Some((0, 0)), "200", (200, 24)),
            (Some((0, 0)), "0", (80, 24)),
            (Some((0, 40)), "wide", (80, 40)),
            (None, "99", (99, 24)),
        ] {
            assert_eq!(known_size(reported, variable(columns)), size);
        }
    }
}
