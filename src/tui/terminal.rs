//! The terminal: taken when the screen begins, given back whatever ends it, and written to no more than has changed.

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

/// Widest and highest screen that is drawn: what is beyond stays empty.
const LARGEST: u16 = 1_000;

/// Takes the terminal for the screen.
///
/// # Errors
/// When it is none, or is gone.
pub fn take(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)?;
    if mouse {
        execute!(stdout(), EnableMouseCapture)?;
    }
    Ok(())
}

/// Gives the terminal back as it was. Whatever of it fails, the rest is tried all the same.
pub fn give_back() {
    let _ = execute!(stdout(), DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Gives the terminal back when the program panics, before the message is printed.
pub fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
}

/// What is on the screen, and the way to change it.
#[derive(Debug)]
pub struct Screen<W: Write> {
    backend: CrosstermBackend<W>,
    shown: Buffer,
    cursor: Option<(u16, u16)>,
}

impl Screen<BufWriter<Stdout>> {
    /// The terminal's own screen.
    #[must_use]
    pub fn of_terminal() -> Self {
        Self::new(BufWriter::with_capacity(64 * 1024, stdout()))
    }

    /// The terminal's size now.
    #[must_use]
    pub fn size() -> (u16, u16) {
        size().unwrap_or((80, 24))
    }
}

impl<W: Write> Screen<W> {
    /// A screen that is empty.
    #[must_use]
    pub fn new(writer: W) -> Self {
        Self { backend: CrosstermBackend::new(writer), shown: Buffer::default(), cursor: None }
    }

    /// Draws what of the model differs from what is shown. Writes nothing where nothing does.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, model: &Model, size: (u16, u16)) -> io::Result<Layout> {
        let area = Rect::new(0, 0, size.0.min(LARGEST), size.1.min(LARGEST));
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

    /// Forgets what is shown: the next frame draws everything.
    pub fn forget(&mut self) {
        self.shown = Buffer::default();
        self.cursor = None;
    }

    /// Writes something that is no frame: a bell, a clipboard's content.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.backend.write_all(bytes)?;
        io::Write::flush(&mut self.backend)
    }
}
