//! How the lines of a window fill the rows of a pane: a long line takes several when lines are wrapped, and none when its
//! stream is not shown. Independent of what is drawn.

use unicode_width::UnicodeWidthChar as _;

use super::{
    line::{Line, Source},
    look::{DisplayOptions, Streams},
    window::Window,
};
use crate::domain::text::on_screen;

/// The number of columns of a line's time.
pub(crate) const TIME_COLUMNS: usize = 11;
/// The number of columns of the mark of stderr.
pub(crate) const STDERR_COLUMNS: usize = 2;

/// A row of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The index of the line in the window.
    pub line: usize,
    /// The row of the line.
    pub row: usize,
}

impl Position {
    /// The end, whatever the number of rows.
    pub(crate) const END: Self = Self { line: usize::MAX, row: 0 };

    /// The first row of a line.
    #[must_use]
    pub(crate) fn of_line(line: usize) -> Self {
        Self { line, row: 0 }
    }
}

/// The rows of a window in a pane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// The lines.
    pub window: &'a Window,
    /// How they are shown.
    pub look: DisplayOptions,
    /// The number of columns of the pane.
    pub columns: usize,
    /// The number of its rows.
    pub page: usize,
}

/// Returns the number of columns before the text of a line.
#[must_use]
pub(crate) fn columns_before(line: &Line, look: DisplayOptions) -> usize {
    let time = if look.has_times && line.source != Source::Gap { TIME_COLUMNS } else { 0 };
    let mark =
        if look.streams == Streams::Both && line.source == Source::Stderr { STDERR_COLUMNS } else { 0 };
    time + mark
}

/// Returns the number of rows of a line in a pane of some columns.
#[must_use]
pub(crate) fn height(line: &Line, look: DisplayOptions, columns: usize) -> usize {
    if !look.streams.shows(line.source) {
        return 0;
    }
    if !look.wraps || line.source == Source::Gap {
        return 1;
    }
    let room = columns.saturating_sub(columns_before(line, look)).max(1);
    if line.text.is_ascii() {
        return line.text.len().div_ceil(room).max(1);
    }
    let (mut rows, mut used) = (1, 0);
    for wide in line.text.chars().filter_map(on_screen).filter_map(char::width) {
        if used + wide > room {
            (rows, used) = (rows + 1, 0);
        }
        used += wide;
    }
    rows
}

impl Rows<'_> {
    /// Returns the number of rows of a line.
    #[must_use]
    pub(crate) fn height_at(&self, line: usize) -> usize {
        self.window.lines(line, 1).next().map_or(0, |line| height(&line, self.look, self.columns))
    }

    /// Returns the number of rows of the window, at most a number.
    #[must_use]
    pub(crate) fn rows_up_to(&self, most: usize) -> usize {
        let mut rows = 0;
        for line in 0..self.window.len() {
            rows += self.height_at(line);
            if rows >= most {
                return most;
            }
        }
        rows
    }

    /// Returns the position at which the last row of the window is the last row of the pane.
    #[must_use]
    pub(crate) fn last_top(&self) -> Position {
        let mut rows = 0;
        for line in (0..self.window.len()).rev() {
            rows += self.height_at(line);
            if rows >= self.page {
                return Position { line, row: rows - self.page };
            }
        }
        Position::default()
    }

    /// Returns the nearest position that leaves no rows empty, if there are enough.
    #[must_use]
    pub(crate) fn clamped(&self, at: Position) -> Position {
        let last = self.last_top();
        if at >= last {
            return last;
        }
        Position { row: at.row.min(self.height_at(at.line).saturating_sub(1)), ..at }
    }

    /// Returns the position some rows below or above another one; `isize::MIN` and `isize::MAX` are the ends.
    #[must_use]
    pub(crate) fn moved(&self, from: Position, by: isize) -> Position {
        let Position { mut line, mut row } = self.clamped(from);
        let mut left = by.unsigned_abs();
        match by {
            isize::MIN => return self.clamped(Position::default()),
            isize::MAX => return self.last_top(),
            0.. => {
                while left > 0 && line < self.window.len() {
                    let rest = self.height_at(line).saturating_sub(row);
                    if left < rest {
                        row += left;
                        break;
                    }
                    (line, row, left) = (line + 1, 0, left - rest);
                }
            }
            _ => {
                while left > row {
                    left -= row;
                    let Some(above) = line.checked_sub(1) else { return Position::default() };
                    (line, row) = (above, self.height_at(above));
                }
                row -= left;
            }
        }
        self.clamped(Position { line, row })
    }

    /// Returns the position that shows a line in the middle of the pane.
    #[must_use]
    pub(crate) fn around(&self, line: usize) -> Position {
        let half = isize::try_from(self.page / 2).unwrap_or(0);
        self.moved(Position::of_line(line), -half)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{
            frame::{Frame, Stream},
            offset::OutputOffset,
        },
        tui::output::window::FULL_VIEW_CAPACITY,
    };

    fn window(text: &str) -> Window {
        let mut window = Window::new(FULL_VIEW_CAPACITY, OutputOffset::START);
        let data = Bytes::copy_from_slice(text.as_bytes());
        window.feed(Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data });
        window
    }

    fn rows(window: &Window, wraps: bool, has_times: bool, columns: usize, page: usize) -> Rows<'_> {
        let look = DisplayOptions { wraps, has_times, ..DisplayOptions::default() };
        Rows { window, look, columns, page }
    }

    #[test]
    fn a_wrapped_line_takes_the_rows_that_it_needs() {
        for (text, columns, has_times, expected) in [
            ("", 10, false, 1),
            ("0123456789", 10, false, 1),
            ("0123456789a", 10, false, 2),
            ("漢字漢字漢", 5, false, 3),
            ("0123456789", 16, true, 2),
            ("e\u{301}e\u{301}", 2, false, 1),
        ] {
            let window = window(&format!("{text}\n"));
            let rows = rows(&window, true, has_times, columns, 5);
            assert_eq!(rows.height_at(0), expected, "{text:?}");
        }
    }

    #[test]
    fn sixty_lines_of_three_rows_are_all_reached() {
        let text = (0..60).map(|n| format!("{n:<150}\n")).collect::<Vec<_>>().concat();
        let window = window(&text);
        let rows = rows(&window, true, false, 60, 20);
        let mut at = Position::default();
        let mut steps = 0;
        while at != rows.last_top() {
            at = rows.moved(at, 1);
            steps += 1;
        }
        assert_eq!((steps, at), (60 * 3 - 20, Position { line: 53, row: 1 }));
    }

    proptest! {
        #[test]
        fn moving_down_and_up_again_ends_where_it_began(
            lines in proptest::collection::vec("[a-z漢]{0,40}", 1..60),
            columns in 1usize..50,
            page in 1usize..30,
            by in 1isize..200,
            wraps in any::<bool>(),
        ) {
            let window = window(&(lines.join("\n") + "\n"));
            let rows = rows(&window, wraps, false, columns, page);
            let begin = rows.clamped(Position::default());
            let there = rows.moved(begin, by);
            prop_assert!(there <= rows.last_top());
            if there < rows.last_top() {
                prop_assert_eq!(rows.moved(there, -by), begin);
            }
            prop_assert_eq!(rows.moved(there, isize::MIN), begin);
            prop_assert_eq!(rows.moved(there, isize::MAX), rows.last_top());
        }
    }
}
