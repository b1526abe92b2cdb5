//! Tables, colours and messages: everything that the program itself writes to standard output and standard
//! error. The output of commands goes through `stdio`, cleaned by `sanitize`. Independent of the commands.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::{
    args::{Colour, Format},
    sanitize::Clean,
    stdio::write_fully,
};
use crate::domain::{
    frame::Stream,
    sign::{Meaning, Sign},
    text::{is_harmful, strip_control},
};

/// Whether to colour text with SGR sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A success, or a state that needs nothing.
    Good,
    /// A failure that needs attention.
    Bad,
    /// A state that may resolve by itself.
    Waiting,
    /// Work that continues.
    Running,
    /// Secondary information.
    Dim,
    /// One of several names, by its index.
    Name(usize),
}

impl From<Sign> for Tone {
    fn from(sign: Sign) -> Self {
        match sign.meaning {
            Meaning::Good => Self::Good,
            Meaning::Bad => Self::Bad,
            Meaning::Waiting => Self::Waiting,
            Meaning::Running => Self::Running,
        }
    }
}

impl Paint {
    /// Returns the colours for a stream, according to the flags and `NO_COLOR`.
    #[must_use]
    pub fn new(colour: Colour, is_terminal: bool) -> Self {
        let refused = is_dumb() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let on = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => is_terminal && !refused,
        };
        Self { on }
    }

    /// Returns a text in a tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Waiting => "33",
            Tone::Running => "36",
            Tone::Dim => "2",
            Tone::Name(place) => NAME_COLOURS[place % NAME_COLOURS.len()],
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Colours that are readable on dark and on light backgrounds.
const NAME_COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "96"];

/// Whether a code occurs in a colour sequence of this program.
fn is_own_code(code: &str) -> bool {
    ["0", "2", "31", "32", "33"].contains(&code) || NAME_COLOURS.contains(&code)
}

/// Returns a text that is safe for a terminal: lines, tabs and this program's own colours. Every other
/// control character and every mark that changes the text direction becomes a space. All messages pass
/// through here, whatever the origin of their parts.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(|sign| is_harmful(sign) && sign != '\n') {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let own = rest.strip_prefix("\x1b[").and_then(|behind| behind.split_once('m'));
        if let Some((code, behind)) = own.filter(|(code, _)| is_own_code(code)) {
            clean.push_str(&rest[..rest.len() - behind.len()]);
            debug_assert!(clean.ends_with(&format!("{code}m")));
            rest = behind;
            continue;
        }
        clean.push(if is_harmful(sign) && !matches!(sign, '\n' | '\t') { ' ' } else { sign });
        rest = &rest[sign.len_utf8()..];
    }
    Cow::Owned(clean)
}

/// Returns JSON that is safe for a terminal: harmful characters are written as escapes, which have the same
/// meaning.
#[must_use]
pub fn sanitize_json(json: &str) -> Cow<'_, str> {
    if !json.contains(|sign| is_harmful(sign) && sign != '\n') {
        return Cow::Borrowed(json);
    }
    let mut clean = String::with_capacity(json.len());
    for sign in json.chars() {
        if !is_harmful(sign) || sign == '\n' {
            clean.push(sign);
            continue;
        }
        // Such characters occur only inside strings.
        for unit in sign.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(clean, "\\u{unit:04x}");
        }
    }
    Cow::Owned(clean)
}

/// Whether the terminal supports plain text only.
#[must_use]
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Whether standard output is a terminal.
#[must_use]
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Prints an error message to standard error.
pub fn complain(message: &str) {
    let paint = Paint::new(Colour::Auto, stderr_is_terminal());
    let mut lines = message.lines();
    let first = strip_control(lines.next().unwrap_or_default());
    note(&format!("{} {first}", paint.paint(Tone::Bad, "sloth-runner:")));
    for line in lines {
        note(&format!("  {}", strip_control(line)));
    }
}

/// Prints a message to standard error.
pub fn note(message: &str) {
    // If standard error is gone, there is no other place for the message.
    let _ = write_fully(Stream::Stderr, format!("{}\n", for_locale(&harmless(message))).as_bytes());
}

/// Returns the name of the locale for characters, in lower case.
fn locale() -> String {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(is_set);
    locale.and_then(|name| std::env::var(name).ok()).unwrap_or_default().to_lowercase()
}

/// Whether the locale encodes characters in UTF-8.
#[must_use]
pub fn is_utf8() -> bool {
    let locale = locale();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Whether the locale has the glyphs of this program, and shows each in one cell.
#[must_use]
pub fn has_glyphs() -> bool {
    let locale = locale();
    let is_wide = ["zh", "ja", "ko"].iter().any(|language| locale.starts_with(language));
    is_utf8() && !is_wide
}

/// Returns a text with this program's glyphs replaced by ASCII, if the locale lacks them: in mail of cron,
/// for example.
#[must_use]
pub fn for_locale(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || has_glyphs() { Cow::Borrowed(text) } else { Cow::Owned(in_ascii(text)) }
}

fn in_ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '✓' => ascii.push_str("ok"),
            '✗' => ascii.push('x'),
            '⊘' => ascii.push('/'),
            '▸' => ascii.push('>'),
            '…' => ascii.push_str("..."),
            '●' => ascii.push('*'),
            '◐' => ascii.push('-'),
            '○' => ascii.push('o'),
            '◇' => ascii.push('+'),
            '▽' => ascii.push('v'),
            other => ascii.push(other),
        }
    }
    ascii
}

/// Prints to standard output.
///
/// # Errors
/// If standard output cannot be written. A reader that is gone is no error: it needs no more output.
pub fn say(text: &str) -> io::Result<()> {
    let text = harmless(text);
    // Output to anything else is for a program, and is not changed.
    let text = if stdout_is_terminal() { for_locale(&text) } else { Cow::Borrowed(text.as_ref()) };
    ignore_broken_pipe(write_fully(Stream::Stdout, text.as_bytes()))
}

/// Prints a line to standard output.
///
/// # Errors
/// If its reader is gone, or standard output cannot be written.
pub fn print_line(line: &str) -> io::Result<()> {
    let line = harmless(line);
    let line = if stdout_is_terminal() { for_locale(&line) } else { Cow::Borrowed(line.as_ref()) };
    write_fully(Stream::Stdout, format!("{line}\n").as_bytes())
}

/// Prints one JSON object, on a single line for NDJSON.
///
/// # Errors
/// As [`say`].
pub fn print_json_ignoring_closed(format: Format, value: &impl Serialize) -> io::Result<()> {
    ignore_broken_pipe(print_json(format, value))
}

/// Like [`print_json_ignoring_closed`], but a reader that is gone is an error.
///
/// # Errors
/// If its reader is gone, or standard output cannot be written.
pub fn print_json(format: Format, value: &impl Serialize) -> io::Result<()> {
    let json = match format {
        Format::Ndjson => serde_json::to_string(value),
        Format::Json | Format::Text => serde_json::to_string_pretty(value),
    };
    write_fully(Stream::Stdout, sanitize_json(&(json? + "\n")).as_bytes())
}

/// Prints a help text of the command-line parser, with colours on a terminal.
///
/// # Errors
/// As [`say`].
pub fn say_help(help: &clap::builder::StyledStr) -> io::Result<()> {
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    let text = if paint.on { help.ansi().to_string() } else { help.to_string() };
    ignore_broken_pipe(write_fully(Stream::Stdout, text.as_bytes()))
}

/// Ignores the error of a reader that is gone: it needs no more output.
///
/// # Errors
/// Returns all other errors.
pub fn ignore_broken_pipe(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints the output of a command, cleaned or raw.
///
/// # Errors
/// If its reader is gone, or the stream cannot be written.
pub fn pass_on(stream: Stream, bytes: &Clean) -> io::Result<()> {
    write_fully(stream, bytes.as_bytes())
}

/// A cell of a table: its text and its tone.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: strip_control(&text.into()), tone: None }
    }
}

impl Cell {
    /// Creates a cell in a tone.
    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { tone: Some(tone), ..Self::from(text) }
    }
}

/// Formats rows under a heading, in columns as wide as their widest cell. Widths are counted in terminal
/// cells.
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

    #[test]
    fn signs_have_a_form_in_ascii_and_nothing_else_changes() {
        assert_eq!(in_ascii("✗ 2 web-[2-3] exited 1 … ✓ ⊘ ▸ ●"), "x 2 web-[2-3] exited 1 ... ok / > *");
        assert_eq!(in_ascii("printf 'Grüße'"), "printf 'Grüße'");
    }

    #[test]
    fn only_own_colours_and_lines_get_through() {
        for (dirty, clean) in [
            ("plain\tand\nlines\n", "plain\tand\nlines\n"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[8mhidden", " [8mhidden"),
            ("\x1b[31;8mhidden", " [31;8mhidden"),
            ("\x1b]0;title\x07x", " ]0;title x"),
            ("\x1b]52;c;aGk=\x1b\\x", " ]52;c;aGk= \\x"),
            ("\x1b[2Jx\r", " [2Jx "),
            ("\u{9b}2J\u{202e}x", " 2J x"),
            ("\x1b", " "),
            ("\x1b[m", " [m"),
        ] {
            assert_eq!(harmless(dirty), clean, "{dirty:?}");
        }
        let json = serde_json::json!({ "reason": "a\u{202e}b\u{9b}c\u{e0041}d\x1be" });
        let shown = sanitize_json(&json.to_string()).into_owned();
        assert!(!shown.contains(is_harmful), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json, "it means the same");
    }
}
