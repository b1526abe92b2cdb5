//! A line of output as it is shown.

use ratatui::style::Style;

use crate::domain::text::spoken_bytes;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Not printed by the command: what is missing here, in words.
    Gap,
}

/// A line as it is shown, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it comes from.
    pub source: Source,
    /// When it began, in nanoseconds since the task's start.
    pub time_ns: u64,
    /// Where its first byte stands in the task's output.
    pub offset: u64,
    /// The text, with nothing in it that a terminal obeys.
    pub text: String,
    /// Styles: each reaches from the end of the one before it to this byte of the text.
    pub styles: Vec<(usize, Style)>,
    /// It continues with the line before it, which was too long for one.
    pub continues: bool,
}

impl Line {
    /// What it takes in memory, nearly.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.styles.len() * size_of::<(usize, Style)>()
    }

    /// Says that what lies between two offsets is missing.
    #[must_use]
    pub fn missing(from: u64, to: u64, time_ns: u64) -> Self {
        let text = format!("{} are not shown here", spoken_bytes(to - from));
        Self { source: Source::Gap, time_ns, offset: from, text, styles: Vec::new(), continues: false }
    }
}
