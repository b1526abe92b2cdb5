//! Tables, colours and complaints on a terminal or in a pipe. Knows no commands.

use std::io::{self, IsTerminal as _, Write as _};

use unicode_width::UnicodeWidthStr as _;

use super::args::Colour;
use crate::domain::text::plain;

/// SGR sequences, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Needs a person.
    Bad,
    /// Needs patience.
    Waiting,
    /// Beside the point.
    Dim,
    /// One of several names, by its place.
    Name(usize),
}

impl Paint {
    /// For a stream, as the flags and `NO_COLOR` say.
    #[must_use]
    pub fn new(colour: Colour, is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let on = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => is_terminal && !refused,
        };
        Self { on }
    }

    /// Text in a tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        /// Colours that are readable on dark and on light.
        const NAMES: [&str; 6] = ["36", "33", "35", "32", "34", "96"];
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Waiting => "33",
            Tone::Dim => "2",
            Tone::Name(place) => NAMES[place % NAMES.len()],
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Says what went wrong, on standard error.
pub fn complain(message: &str) {
    let paint = Paint::new(Colour::Auto, io::stderr().is_terminal());
    let mut lines = message.lines();
    let first = plain(lines.next().unwrap_or_default());
    // Nothing is left to say when standard error is gone.
    let _ = writeln!(io::stderr(), "{} {first}", paint.paint(Tone::Bad, "sloth-runner:"));
    for line in lines {
        let _ = writeln!(io::stderr(), "  {}", plain(line));
    }
}

/// Says something beside the output, on standard error.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Prints to standard output; a reader that is gone is no error.
pub fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints one JSON object.
pub fn say_json(value: &serde_json::Value) {
    say(&format!("{value:#}\n"));
}

/// A cell: its text, and how it is painted.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: plain(&text.into()), tone: None }
    }
}

impl Cell {
    /// A cell in a tone.
    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { tone: Some(tone), ..Self::from(text) }
    }
}

/// Rows under a heading, in columns as wide as their widest cell; widths are counted in terminal cells.
#[must_use]
pub fn table(heading: &[&str], rows: &[Vec<Cell>], paint: Paint) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|text| text.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let line = |cells: &[(String, usize)]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|((text, width), wide)| format!("{text}{}", " ".repeat(wide.saturating_sub(*width))));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let head: Vec<_> = heading.iter().map(|text| (paint.paint(Tone::Dim, text), text.width())).collect();
    let mut out = line(&head);
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .map(|cell| {
                let shown = cell.tone.map_or_else(|| cell.text.clone(), |tone| paint.paint(tone, &cell.text));
                (shown, cell.text.width())
            })
            .collect();
        out.push_str(&line(&cells));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_straight_with_wide_characters() {
        let rows = vec![vec!["a".into(), "x".into()], vec!["漢字".into(), "y\x1b[2J".into()]];
        let text = table(&["N", "V"], &rows, Paint { on: false });
        assert_eq!(text, "N     V\na     x\n漢字  y [2J\n");
    }
}
