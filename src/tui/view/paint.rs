//! Draws text cell by cell. Cuts text that does not fit, and removes characters that would move the cursor.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{
    domain::text::{clipped, on_screen, pad_to_width},
    tui::{
        model::Area,
        output::{
            line::{Line, Source},
            look::{DisplayOptions, Streams},
            matching::Needle,
            rows::{STDERR_COLUMNS, TIME_COLUMNS},
        },
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

/// The maximum number of combining characters on one character. Texts may have any number of them.
const MAX_COMBINING: usize = 8;

/// Places characters into the cells of a row, one after the other.
///
/// It does not place whole grapheme clusters: terminals disagree about the width of many of them, but agree about single
/// characters.
struct Cells {
    x: u16,
    y: u16,
    room: usize,
    used: usize,
    /// Whether the row is on the screen. If not, characters are only counted.
    is_drawn: bool,
    /// The cell of the last character that has a width, and the number of combining characters on it.
    last: Option<(u16, usize)>,
}

impl Cells {
    fn new(x: u16, y: u16, room: usize, is_drawn: bool) -> Self {
        Self { x, y, room, used: 0, is_drawn, last: None }
    }

    /// Places a character. Returns false if it does not fit.
    fn put(&mut self, buffer: &mut Buffer, sign: char, style: Style) -> bool {
        let wide = sign.width().unwrap_or(0);
        if wide == 0 {
            if let Some((at, combining)) = &mut self.last
                && *combining < MAX_COMBINING
                && let Some(cell) = buffer.cell_mut((*at, self.y))
            {
                *combining += 1;
                let joined = format!("{}{sign}", cell.symbol());
                cell.set_symbol(&joined);
            }
            return true;
        }
        if self.used + wide > self.room {
            return false;
        }
        if !self.is_drawn {
            self.used += wide;
            return true;
        }
        let at = self.x.saturating_add(u16::try_from(self.used).unwrap_or(u16::MAX));
        if let Some(cell) = buffer.cell_mut((at, self.y)) {
            cell.set_char(sign).set_style(style);
        }
        for hidden in 1..u16::try_from(wide).unwrap_or(1) {
            if let Some(cell) = buffer.cell_mut((at.saturating_add(hidden), self.y)) {
                cell.reset();
            }
        }
        self.last = Some((at, 0));
        self.used += wide;
        true
    }
}

/// The screen buffer and the theme.
pub(super) struct Painter<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) theme: Theme,
}

/// How a line of output is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct LineLook {
    /// The display options.
    pub options: DisplayOptions,
    /// The number of columns to the left of the screen.
    pub left: usize,
    /// The text whose matches are marked.
    pub needle: Needle,
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
        let room = usize::from(width.min(area.right() - x));
        let text = self.theme.text(text);
        let text = clipped(&text, room, self.theme.mark());
        let mut cells = Cells::new(x, y, room, true);
        for sign in text.chars() {
            // The previous contents of the cells do not remain visible.
            if !cells.put(self.buffer, sign, self.theme.base().patch(style)) {
                break;
            }
        }
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

    /// Highlights a row as the row under the cursor. What has a colour keeps it: it says what is wrong.
    pub(super) fn highlight(&mut self, x: u16, y: u16, width: u16) {
        let area = Rect::new(x, y, width, 1).intersection(*self.buffer.area());
        let (base, cursor) = (self.theme.base(), self.theme.style(Tone::Cursor));
        for x in area.left()..area.right() {
            if let Some(cell) = self.buffer.cell_mut((x, y)) {
                let colour = cell.fg;
                cell.set_style(base.patch(cursor));
                if colour != Color::Reset {
                    cell.set_fg(colour);
                }
            }
        }
    }

    /// Draws a line of output without its first `skipped` rows. Returns the number of rows, which is more than one if it wraps.
    pub(super) fn line(&mut self, area: Area, line: &Line, look: &LineLook, skipped: usize) -> u16 {
        let (mut x, y, end) = (area.x, area.y, area.x.saturating_add(area.width));
        if look.options.has_times && line.source != Source::Gap {
            if skipped == 0 {
                let time = format_task_time(line.time_ns);
                self.text(x, y, end.saturating_sub(x), &time, Tone::Dim);
            }
            x = x.saturating_add(u16::try_from(TIME_COLUMNS).unwrap_or(0));
        }
        match line.source {
            Source::Gap => {
                self.text(x, y, end.saturating_sub(x), &format!("~ {}", line.text), Tone::Waiting);
                return 1;
            }
            Source::Stderr if look.options.streams == Streams::Both => {
                self.text(x, y, end.saturating_sub(x), "! ", Tone::Bad);
                x = x.saturating_add(u16::try_from(STDERR_COLUMNS).unwrap_or(0));
            }
            Source::Stderr | Source::Stdout => {}
        }
        let room = usize::from(end.saturating_sub(x));
        if room == 0 {
            return 1;
        }
        let wraps = look.options.wraps;
        let mut left = if wraps { 0 } else { look.left };
        // The row of the line, and the row of the area on which it is drawn, if it is.
        let (mut row, drawn) =
            (0usize, |row: usize| row.checked_sub(skipped).and_then(|at| u16::try_from(at).ok()));
        let mut cells = Cells::new(x, y, room, drawn(0).is_some());
        let mut matches = look.needle.matches(&line.text).peekable();
        let marked = self.theme.style(Tone::Match);
        let mut begin = 0usize;
        let plain = [(line.text.len(), Style::default())];
        let styles = if line.styles.is_empty() { &plain[..] } else { &line.styles[..] };
        for (until, style) in styles {
            let style = self.theme.output(*style);
            for (at, sign) in line.text[begin..*until].char_indices() {
                let at = begin + at;
                while matches.next_if(|range| range.end <= at).is_some() {}
                let style =
                    if matches.peek().is_some_and(|range| range.contains(&at)) { marked } else { style };
                let Some(sign) = on_screen(sign).map(|sign| self.theme.sign_of_output(sign)) else {
                    continue;
                };
                if left > 0 {
                    left = left.saturating_sub(sign.width().unwrap_or(0).max(1));
                    continue;
                }
                if cells.put(self.buffer, sign, style) {
                    continue;
                }
                if !wraps {
                    let mark = self.theme.mark().chars().next().unwrap_or('~');
                    Cells::new(end - 1, y, 1, true).put(self.buffer, mark, self.theme.style(Tone::Dim));
                    return 1;
                }
                row += 1;
                let at = drawn(row);
                if at.is_some_and(|at| at >= area.height) {
                    return area.height;
                }
                cells = Cells::new(x, y + at.unwrap_or(0), room, at.is_some());
                cells.put(self.buffer, sign, style);
            }
            begin = *until;
        }
        drawn(row).map_or(0, |at| at + 1)
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
