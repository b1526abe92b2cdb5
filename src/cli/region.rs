//! A few lines at the bottom of a terminal that are redrawn, and erased at the end. Writes to standard error.

use std::io::{self, Write as _};

use nix::unistd::{getpgrp, tcgetpgrp};
use unicode_width::UnicodeWidthChar as _;

use super::{
    output::{for_locale, harmless, is_dumb, stderr_is_terminal},
    stdio::is_pipe,
};

/// The live region. It holds the bottom lines of the terminal; everything else is printed while it is erased.
#[derive(Debug, Default)]
pub(crate) struct StatusLines {
    /// Number of lines that are on the screen now.
    height: usize,
}

/// Columns and rows of a terminal that does not report its size.
const DEFAULT_TERMINAL_SIZE: (usize, usize) = (80, 24);

/// Returns the columns and rows of the terminal at standard error.
#[must_use]
pub(crate) fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => DEFAULT_TERMINAL_SIZE,
    }
}

impl StatusLines {
    /// Creates a region if standard error is a terminal that can be drawn on. Returns `None` if standard
    /// output is a pipe, because a pager or `tee` may write to the same terminal.
    #[must_use]
    pub(crate) fn new() -> Option<Self> {
        (stderr_is_terminal() && !is_dumb() && !is_pipe(&io::stdout())).then(Self::default)
    }

    /// Replaces the lines of the region. Lines that do not fit are clipped.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        // While this program is in the background, the terminal belongs to another program.
        if tcgetpgrp(io::stderr()) != Ok(getpgrp()) {
            return;
        }
        let (columns, rows) = terminal_size();
        // The last lines matter most, and one row stays for the text above.
        let fits = lines.len().min(rows.saturating_sub(1).max(1));
        let lines = &lines[lines.len() - fits..];
        let mut out = self.erase_sequence();
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                out.push_str("\r\n");
            }
            // A full last column would wrap on some terminals.
            out.push_str(&clip(&for_locale(&harmless(line)), columns.saturating_sub(1)));
        }
        self.height = lines.len();
        let _ = io::stderr().write_all(out.as_bytes());
    }

    /// Erases the region from the screen.
    pub(crate) fn erase(&mut self) {
        if self.height > 0 {
            let out = self.erase_sequence();
            self.height = 0;
            let _ = io::stderr().write_all(out.as_bytes());
        }
    }

    /// Accounts for a typed Enter, which moved the cursor below the region.
    pub(crate) fn account_for_newline(&mut self) {
        if self.height > 0 {
            self.height += 1;
        }
    }

    fn erase_sequence(&self) -> String {
        match self.height {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            height => format!("\r\x1b[{}A\x1b[J", height - 1),
        }
    }
}

/// Returns the part of a line that fits into a number of cells. Colour sequences take no cells, and are
/// closed where the line is cut.
#[must_use]
pub(crate) fn clip(line: &str, columns: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut used, mut coloured) = (0, false);
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        if sign == '\x1b' {
            out.push(sign);
            coloured = true;
            for sign in signs.by_ref() {
                out.push(sign);
                if sign.is_ascii_alphabetic() {
                    break;
                }
            }
            continue;
        }
        let width = sign.width().unwrap_or(0);
        if used + width > columns {
            if coloured {
                out.push_str("\x1b[0m");
            }
            return out;
        }
        used += width;
        out.push(sign);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_clipped_by_cells_and_colours_end() {
        for (line, columns, clipped) in [
            ("short", 10, "short"),
            ("long line", 4, "long"),
            ("漢字漢字", 5, "漢字"),
            ("\x1b[31mred text\x1b[0m", 3, "\x1b[31mred\x1b[0m"),
            ("\x1b[31mred\x1b[0m", 3, "\x1b[31mred\x1b[0m"),
        ] {
            assert_eq!(clip(line, columns), clipped, "{line}");
        }
    }
}
