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
    cursor: Option<(u16, u16)>,
}

impl Screen<BufWriter<Stdout>> {
    /// Creates the screen of the terminal.
    #[must_use]
    pub fn from_stdout() -> Self {
        Self::new(BufWriter::with_capacity(64 * 1024, stdout()))
    }

    /// Returns the current size of the terminal; 80x24 if it is unknown.
    #[must_use]
    pub fn size() -> (u16, u16) {
        size().unwrap_or((80, 24))
    }
}

impl<W: Write> Screen<W> {
    /// Creates an empty screen.
    #[must_use]
    pub fn new(writer: W) -> Self {
        Self { backend: CrosstermBackend::new(writer), shown: Buffer::default(), cursor: None }
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
        if is_new || !changes.is_empty() || self.cursor != layout.cursor {
            queue!(self.backend, BeginSynchronizedUpdate)?;
            if is_new {
                self.backend.clear()?;
            }
            if !changes.is_empty() {
                self.backend.draw(changes.into_iter())?;
            }
            match layout.cursor {
                Some((x, y)) => queue!(self.backend, MoveTo(x, y), Show)?,
                None if self.cursor.is_some() || is_new => queue!(self.backend, Hide)?,
                None => {}
            }
            queue!(self.backend, EndSynchronizedUpdate)?;
            io::Write::flush(&mut self.backend)?;
        }
        self.cursor = layout.cursor;
        self.shown = next;
        Ok(layout)
    }

    /// Clears the memory of what is shown, so that the next frame draws everything.
    pub fn forget(&mut self) {
        self.shown = Buffer::default();
        self.cursor = None;
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
