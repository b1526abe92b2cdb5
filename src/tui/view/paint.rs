//! Draws text cell by cell. Cuts text that does not fit, and removes characters that would move the cursor.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    domain::text::{clipped, pad_to_width, strip_control},
    tui::{
        model::Area,
        output::line::{Line, Source},
        theme::{Theme, Tone},
    },
};

/// A text with a tone.
pub(super) type Piece = (String, Tone);

/// Creates a piece.
pub(super) fn piece(text: impl Into<String>, tone: Tone) -> Piece {
    (text.into(), tone)
}

/// Returns the first row to draw so that the cursor is visible.
pub(super) fn first_visible(top: usize, cursor: usize, room: usize, count: usize) -> usize {
    let top = top.min(count.saturating_sub(room));
    if cursor < top {
        cursor
    } else if room > 0 && cursor >= top + room {
        cursor + 1 - room
    } else {
        top
    }
}

/// The screen buffer and the theme.
pub(super) struct Painter<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) theme: Theme,
}

/// The display options of a line of output.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineLook {
    /// The number of columns to the left of the screen.
    pub left: usize,
    /// Whether stderr is marked.
    pub marks_stderr: bool,
    /// Whether lines begin with their time.
    pub has_times: bool,
}

impl Painter<'_> {
    /// Draws a text, cut to a number of cells.
    pub(super) fn text(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) {
        let style = self.theme.style(tone);
        self.styled(x, y, width, text, style);
    }

    fn styled(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        let area = *self.buffer.area();
        if y >= area.bottom() || x >= area.right() || width == 0 {
            return;
        }
        let text = strip_control(&self.theme.text(text));
        let room = usize::from(width.min(area.right() - x));
        let text = clipped(&text, room, self.theme.mark());
        // The previous contents of the cells do not remain visible.
        self.buffer.set_stringn(x, y, text, room, Style::reset().patch(style));
    }

    /// Draws pieces one after the other. Returns the column after them.
    pub(super) fn pieces(&mut self, x: u16, y: u16, width: u16, pieces: &[Piece]) -> u16 {
        let end = x.saturating_add(width);
        let mut at = x;
        for (text, tone) in pieces {
            if at >= end {
                break;
            }
            self.text(at, y, end - at, text, *tone);
            let used = u16::try_from(self.theme.text(text).width()).unwrap_or(u16::MAX);
            at = at.saturating_add(used).min(end);
        }
        at
    }

    /// Returns the width of pieces on the screen.
    pub(super) fn width_of(&self, pieces: &[Piece]) -> u16 {
        let width: usize = pieces.iter().map(|(text, _)| self.theme.text(text).width()).sum();
        u16::try_from(width).unwrap_or(u16::MAX)
    }

    /// Draws a rule with a title; a heavy one for the focused pane. If space is short, the pieces at the
    /// right are dropped first, starting with the last one.
    pub(super) fn rule(&mut self, area: Area, left: &[Piece], right: &[Piece], is_focused: bool) {
        let line = if is_focused { "━" } else { "─" };
        let tone = if is_focused { Tone::Strong } else { Tone::Dim };
        let whole = line.repeat(usize::from(area.width));
        self.text(area.x, area.y, area.width, &whole, tone);
        let room = area.width.saturating_sub(3);
        let mut title = vec![piece(" ", tone)];
        title.extend(left.iter().cloned());
        title.push(piece(" ", tone));
        let used = self.width_of(&title).min(room);
        self.pieces(area.x + 1.min(area.width), area.y, room, &title);
        // If not all pieces fit, drop the last ones.
        for count in (1..=right.len()).rev() {
            let mut end = vec![piece(" ", tone)];
            end.extend(right[..count].iter().cloned());
            end.push(piece(" ", tone));
            let width = self.width_of(&end);
            if used + width + 3 <= area.width {
                self.pieces(area.x + area.width - width - 1, area.y, width, &end);
                return;
            }
        }
    }

    /// Highlights a row as the row under the cursor.
    pub(super) fn highlight(&mut self, x: u16, y: u16, width: u16) {
        let area = Rect::new(x, y, width, 1).intersection(*self.buffer.area());
        // One colour for the whole row: words and glyphs show the rest.
        let style = Style::reset().patch(self.theme.style(Tone::Cursor));
        self.buffer.set_style(area, style);
    }

    /// Draws a line of output. Returns the number of rows, which is more than one if it wraps.
    pub(super) fn line(&mut self, area: Area, line: &Line, look: LineLook, wraps: bool) -> u16 {
        let (mut x, y, end) = (area.x, area.y, area.x.saturating_add(area.width));
        if look.has_times && line.source != Source::Gap {
            let time = format_task_time(line.time_ns);
            self.text(x, y, end.saturating_sub(x), &time, Tone::Dim);
            x = x.saturating_add(11);
        }
        match line.source {
            Source::Gap => {
                self.text(x, y, end.saturating_sub(x), &format!("~ {}", line.text), Tone::Waiting);
                return 1;
            }
            Source::Stderr if look.marks_stderr => {
                self.text(x, y, end.saturating_sub(x), "! ", Tone::Bad);
                x = x.saturating_add(2);
            }
            Source::Stderr | Source::Stdout => {}
        }
        let room = usize::from(end.saturating_sub(x));
        if room == 0 {
            return 1;
        }
        let mut rows = 0u16;
        let (mut column, mut skip) = (0usize, if wraps { 0 } else { look.left });
        let mut begin = 0usize;
        let plain = [(line.text.len(), Style::default())];
        let styles = if line.styles.is_empty() { &plain[..] } else { &line.styles[..] };
        for (until, style) in styles {
            let style = self.theme.output(*style);
            for sign in line.text[begin..*until].chars() {
                let wide = unicode_width::UnicodeWidthChar::width(sign).unwrap_or(0);
                if skip > 0 {
                    skip = skip.saturating_sub(wide.max(1));
                    continue;
                }
                if column + wide > room {
                    if !wraps || rows + 1 >= area.height {
                        if !wraps {
                            let last = end - 1;
                            let mark = self.theme.mark();
                            self.buffer.set_stringn(last, y, mark, 1, self.theme.style(Tone::Dim));
                        }
                        return rows + 1;
                    }
                    rows += 1;
                    column = 0;
                }
                let at = x + u16::try_from(column).unwrap_or(0);
                if wide == 0 {
                    // A combining character belongs to the cell before it.
                    if column > 0
                        && let Some(cell) = self.buffer.cell_mut((at - 1, y + rows))
                    {
                        let joined = format!("{}{sign}", cell.symbol());
                        cell.set_symbol(&joined);
                    }
                    continue;
                }
                self.buffer.set_stringn(at, y + rows, sign.to_string(), wide, style);
                column += wide;
            }
            begin = *until;
        }
        rows + 1
    }

    /// Returns a text, cut or padded to a number of cells.
    pub(super) fn pad_to_width(&self, text: &str, room: usize) -> String {
        pad_to_width(&self.theme.text(text), room, self.theme.mark())
    }
}

/// Formats the time since the start of a task: `0:12.345`.
fn format_task_time(time_ns: u64) -> String {
    let ms = time_ns / 1_000_000;
    format!("{:>3}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000)
}
