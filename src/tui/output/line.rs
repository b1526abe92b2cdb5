//! A line of output for the screen.

use ratatui::style::Style;

use crate::domain::{offset::OutputOffset, text::spoken_bytes};

/// The origin of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Not output of the command: describes a gap.
    Gap,
}

/// A line of output without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The origin of the line.
    pub source: Source,
    /// When the line began, in nanoseconds since the task's start.
    pub time_ns: u64,
    /// The offset of its first byte in the output of the task.
    pub offset: OutputOffset,
    /// The text, without any character that controls a terminal.
    pub text: String,
    /// The styles. Each one is valid from the end of the previous one up to this byte of the text.
    pub styles: Vec<(usize, Style)>,
    /// Whether it continues the previous line, which was split because of its length.
    pub continues: bool,
}

impl Line {
    /// Returns the approximate size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.styles.len() * size_of::<(usize, Style)>()
    }

    /// Creates a line that describes a gap between two offsets.
    #[must_use]
    pub fn missing(from: OutputOffset, to: OutputOffset, time_ns: u64) -> Self {
        let text = format!("{} are not shown here", spoken_bytes(to.since(from)));
        Self { source: Source::Gap, time_ns, offset: from, text, styles: Vec::new(), continues: false }
    }
}
