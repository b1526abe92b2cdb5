//! Turns bytes into text for the screen. Output is untrusted: SGR colours are kept, carriage return and
//! backspace work as on a terminal, tabs are expanded, and all other control sequences are dropped.
//!
//! A sequence ends at the latest with its line, so that an unterminated one hides at most one line.

use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthChar as _;
use vte::{Params, Parser, Perform};

use super::line::{Line, Source};
use crate::domain::{
    frame::{Frame, Stream},
    offset::OutputOffset,
    text::is_harmful,
};

/// The number of characters at which a longer line is split.
const MAX_LINE_CHARS: usize = 4 * 1024;
/// The number of columns between two tab stops.
const TAB: usize = 8;

/// Makes lines from one output stream of a task.
pub struct LineParser {
    source: Source,
    parser: Parser,
    /// Whether the current line contains an escape or a byte from 0x80 on, so that the parser may be inside a
    /// sequence.
    is_escaped: bool,
    pen: LineBuffer,
    /// The offset and the time at which the incomplete line began.
    began: Option<(OutputOffset, u64)>,
    continues: bool,
}

impl std::fmt::Debug for LineParser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineMaker").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The current line, with one character in each cell.
#[derive(Debug, Default)]
struct LineBuffer {
    cells: Vec<(char, Style)>,
    cursor: usize,
    style: Style,
}

impl LineBuffer {
    fn put(&mut self, sign: char) {
        match self.cells.get_mut(self.cursor) {
            Some(cell) => *cell = (sign, self.style),
            None => self.cells.push((sign, self.style)),
        }
        self.cursor += 1;
    }

    fn tab(&mut self) {
        let before = &self.cells[..self.cursor.min(self.cells.len())];
        let column: usize = before.iter().map(|(sign, _)| sign.width().unwrap_or(0)).sum();
        for _ in column..(column / TAB + 1) * TAB {
            self.put(' ');
        }
    }
}

impl Perform for LineBuffer {
    fn print(&mut self, sign: char) {
        if !is_harmful(sign) {
            self.put(sign);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.cursor = 0,
            0x08 => self.cursor = self.cursor.saturating_sub(1),
            b'\t' => self.tab(),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        match action {
            'm' if !ignore && intermediates.is_empty() => self.style = styled(self.style, params),
            // Progress bars erase to the end of the line.
            'K' if intermediates.is_empty() => self.cells.truncate(self.cursor),
            _ => {}
        }
    }
}

/// Applies an SGR sequence to a style. Hidden and blinking text is shown as normal text.
fn styled(mut style: Style, params: &Params) -> Style {
    let mut all = params.iter();
    let mut is_first = true;
    while let Some(param) = all.next() {
        is_first = false;
        let code = param.first().copied().unwrap_or(0);
        let modifier = |on: Modifier, style: Style| style.add_modifier(on);
        style = match code {
            0 => Style::default(),
            1 => modifier(Modifier::BOLD, style),
            2 => modifier(Modifier::DIM, style),
            3 => modifier(Modifier::ITALIC, style),
            4 => modifier(Modifier::UNDERLINED, style),
            7 => modifier(Modifier::REVERSED, style),
            9 => modifier(Modifier::CROSSED_OUT, style),
            22 => style.remove_modifier(Modifier::BOLD | Modifier::DIM),
            23 => style.remove_modifier(Modifier::ITALIC),
            24 => style.remove_modifier(Modifier::UNDERLINED),
            27 => style.remove_modifier(Modifier::REVERSED),
            29 => style.remove_modifier(Modifier::CROSSED_OUT),
            30..=37 => style.fg(indexed(code - 30)),
            40..=47 => style.bg(indexed(code - 40)),
            90..=97 => style.fg(indexed(code - 90 + 8)),
            100..=107 => style.bg(indexed(code - 100 + 8)),
            39 => Style { fg: None, ..style },
            49 => Style { bg: None, ..style },
            38 | 48 => {
                let colour = if param.len() > 1 {
                    extended(&mut param[1..].iter().copied())
                } else {
                    extended(&mut all.by_ref().map(|param| param.first().copied().unwrap_or(0)))
                };
                match (colour, code) {
                    (Some(colour), 38) => style.fg(colour),
                    (Some(colour), _) => style.bg(colour),
                    (None, _) => style,
                }
            }
            _ => style,
        };
    }
    if is_first { Style::default() } else { style }
}

/// Parses the colour after 38 or 48: `5;N`, or `2;R;G;B` with or without a colour space.
fn extended(params: &mut dyn Iterator<Item = u16>) -> Option<Color> {
    let byte = |value: u16| u8::try_from(value).ok();
    match params.next()? {
        5 => Some(indexed(params.next()?)),
        2 => {
            let rest: Vec<u16> = params.take(4).collect();
            let [red, green, blue] = match rest[..] {
                [_, red, green, blue] if rest.len() == 4 => [red, green, blue],
                [red, green, blue] => [red, green, blue],
                _ => return None,
            };
            Some(Color::Rgb(byte(red)?, byte(green)?, byte(blue)?))
        }
        _ => None,
    }
}

fn indexed(index: u16) -> Color {
    match index {
        0 => Color::Black,
        1 => Color::Red,
        2 => Color::Green,
        3 => Color::Yellow,
        4 => Color::Blue,
        5 => Color::Magenta,
        6 => Color::Cyan,
        7 => Color::Gray,
        8 => Color::DarkGray,
        9 => Color::LightRed,
        10 => Color::LightGreen,
        11 => Color::LightYellow,
        12 => Color::LightBlue,
        13 => Color::LightMagenta,
        14 => Color::LightCyan,
        15 => Color::White,
        other => Color::Indexed(u8::try_from(other).unwrap_or(u8::MAX)),
    }
}

/// Makes lines from both output streams of a task.
#[derive(Debug)]
pub struct LineMakers([LineParser; 2]);

impl Default for LineMakers {
    fn default() -> Self {
        Self([LineParser::new(Stream::Stdout), LineParser::new(Stream::Stderr)])
    }
}

impl LineMakers {
    /// Processes a frame, and passes each line that it completes to `done`.
    pub fn feed(&mut self, frame: &Frame, done: impl FnMut(Line)) {
        let maker = &mut self.0[usize::from(frame.stream == Stream::Stderr)];
        maker.feed(&frame.data, frame.offset, frame.time_ns, done);
    }

    /// Records a gap between two offsets. Returns the incomplete lines, and a line that describes the gap.
    pub fn miss(&mut self, from: OutputOffset, to: OutputOffset) -> Vec<Line> {
        let mut lines = std::mem::take(self).end();
        lines.push(Line::missing(from, to, 0));
        lines
    }

    /// Returns the incomplete lines at the end of the output.
    #[must_use]
    pub fn end(self) -> Vec<Line> {
        self.0.iter().filter_map(LineParser::pending).collect()
    }
}

impl LineParser {
    /// Creates a maker for one stream.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self {
            source: match stream {
                Stream::Stdout => Source::Stdout,
                Stream::Stderr => Source::Stderr,
            },
            parser: Parser::new(),
            is_escaped: false,
            pen: LineBuffer::default(),
            began: None,
            continues: false,
        }
    }

    /// Processes bytes at an offset of the task's output, and passes each line that they complete to `done`.
    pub fn feed(&mut self, bytes: &[u8], offset: OutputOffset, time_ns: u64, mut done: impl FnMut(Line)) {
        let mut at = offset;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.strip_suffix(b"\n");
            if let Some(line) = whole
                && let Some(line) = self.plain_line(line, at, time_ns)
            {
                done(line);
            } else {
                self.began.get_or_insert((at, time_ns));
                for part in whole.unwrap_or(piece).chunks(MAX_LINE_CHARS) {
                    self.is_escaped |= part.iter().any(|byte| *byte == 0x1b || *byte >= 0x80);
                    self.parser.advance(&mut self.pen, part);
                    if self.pen.cells.len() >= MAX_LINE_CHARS {
                        done(self.take_line());
                        self.continues = true;
                        self.began = Some((at, time_ns));
                    }
                }
                if whole.is_some() {
                    done(self.take_line());
                    self.end_line();
                }
            }
            at += piece.len() as u64;
        }
    }

    /// Returns a complete line that needs no interpretation, as most lines do.
    fn plain_line(&mut self, line: &[u8], offset: OutputOffset, time_ns: u64) -> Option<Line> {
        if self.began.is_some() || line.len() > MAX_LINE_CHARS {
            return None;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
            return None;
        }
        let text = std::str::from_utf8(line).ok()?;
        if !line.is_ascii() && text.chars().any(is_harmful) {
            return None;
        }
        let is_plain = self.pen.style == Style::default();
        let styles = if is_plain { Vec::new() } else { vec![(text.len(), self.pen.style)] };
        Some(Line { source: self.source, time_ns, offset, text: text.to_owned(), styles, continues: false })
    }

    /// Returns the incomplete line as it would be shown now.
    #[must_use]
    pub fn pending(&self) -> Option<Line> {
        let (offset, time_ns) = self.began?;
        (!self.pen.cells.is_empty()).then(|| self.line(offset, time_ns))
    }

    fn take_line(&mut self) -> Line {
        let (offset, time_ns) = self.began.unwrap_or_default();
        let line = self.line(offset, time_ns);
        self.pen.cells.clear();
        self.pen.cursor = 0;
        line
    }

    fn end_line(&mut self) {
        self.began = None;
        self.continues = false;
        if std::mem::take(&mut self.is_escaped) {
            self.parser = Parser::new();
        }
    }

    fn line(&self, offset: OutputOffset, time_ns: u64) -> Line {
        let mut text = String::with_capacity(self.pen.cells.len());
        let mut styles: Vec<(usize, Style)> = Vec::new();
        for (sign, style) in &self.pen.cells {
            text.push(*sign);
            match styles.last_mut() {
                Some((end, last)) if last == style => *end = text.len(),
                _ => styles.push((text.len(), *style)),
            }
        }
        if styles.iter().all(|(_, style)| *style == Style::default()) {
            styles.clear();
        }
        Line { source: self.source, time_ns, offset, text, styles, continues: self.continues }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Line> {
        let mut maker = LineParser::new(Stream::Stdout);
        let mut lines = Vec::new();
        maker.feed(bytes, OutputOffset::START, 0, |line| lines.push(line));
        lines.extend(maker.pending());
        lines
    }

    fn texts(bytes: &str) -> Vec<String> {
        lines(bytes.as_bytes()).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_line_is_what_a_terminal_shows_of_it_without_what_a_terminal_obeys() {
        for (bytes, shown) in [
            ("plain\nnext", vec!["plain", "next"]),
            (" 10%\r 50%\r100%\n", vec!["100%"]),
            ("100%\rok\x1b[K\n", vec!["ok"]),
            ("abc\x08\x08X\n", vec!["aXc"]),
            ("a\tb\n", vec!["a       b"]),
            ("漢\tb\n", vec!["漢      b"]),
            ("\x1b]0;title\x07x\x1b]52;c;aGk=\x1b\\y\n", vec!["xy"]),
            ("\x1b[2J\x1b[Hx\x1b[6n\x1b[?1049h\n", vec!["x"]),
            ("\x1bPq#0;never ended\nnext line\n", vec!["", "next line"]),
            ("\x1b]0;never ended\nnext line\n", vec!["", "next line"]),
            ("left\u{202e}right\u{9b}31m\n", vec!["leftright31m"]),
            ("dos\r\n", vec!["dos"]),
            ("\n\n", vec!["", ""]),
        ] {
            assert_eq!(texts(bytes), shown, "{bytes:?}");
        }
    }

    #[test]
    fn colours_are_kept_and_continue_over_lines() {
        let all = lines(b"\x1b[31mred\nstill\x1b[0m not\n\x1b[38;2;1;2;3mrgb\x1b[38:5:208mindexed\n");
        assert_eq!(all[0].styles, [(3, Style::default().fg(Color::Red))]);
        assert_eq!(all[1].styles[0], (5, Style::default().fg(Color::Red)));
        assert_eq!(all[1].styles[1], (9, Style::default()));
        assert_eq!(all[2].styles[0].1.fg, Some(Color::Rgb(1, 2, 3)));
        assert_eq!(all[2].styles[1].1.fg, Some(Color::Indexed(208)));
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let long = vec![b'x'; 3 * MAX_LINE_CHARS];
        let all = lines(&long);
        assert!(all.len() >= 3 && all.iter().all(|line| line.text.len() <= 2 * MAX_LINE_CHARS));
        assert!(!all[0].continues && all[1].continues);
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_comes_through_however_it_is_cut(bytes: Vec<u8>, cut in 0usize..64) {
            let mut maker = LineParser::new(Stream::Stderr);
            let mut found = Vec::new();
            let cut = cut.min(bytes.len());
            maker.feed(&bytes[..cut], OutputOffset::START, 0, |line| found.push(line));
            maker.feed(&bytes[cut..], OutputOffset(cut as u64), 0, |line| found.push(line));
            found.extend(maker.pending());
            for line in found {
                prop_assert!(!line.text.chars().any(is_harmful), "{:?}", line.text);
                prop_assert!(line.styles.last().is_none_or(|(end, _)| *end == line.text.len()));
            }
        }
    }
}
