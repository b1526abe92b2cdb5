//! Removes from a command's output what must not reach a terminal: everything but text, line ends, tabs and colours (SGR).
//!
//! Output is hostile: titles, clipboards, cursor moves and device queries are dropped.

use vte::{Params, Parser, Perform};

use crate::domain::text::is_harmful;

/// Output of a command that is safe for its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean(Vec<u8>);

impl Clean {
    /// Wraps bytes that are passed on unchanged: into a pipe or file, or because of `--raw`.
    #[must_use]
    pub fn raw(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A stateful filter for one stream; sequences may be cut anywhere between two calls.
#[derive(Default)]
pub struct Sanitizer {
    parser: Parser,
    coloured: bool,
}

impl std::fmt::Debug for Sanitizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sanitizer").field("coloured", &self.coloured).finish_non_exhaustive()
    }
}

struct Output<'a> {
    clean: &'a mut Vec<u8>,
    coloured: &'a mut bool,
}

impl Perform for Output<'_> {
    fn print(&mut self, c: char) {
        // Some terminals obey C1 controls in UTF-8, and direction marks reorder the text after them.
        if !is_harmful(c) {
            self.clean.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\r' | b'\t') {
            self.clean.push(byte);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if action != 'm' || ignore || !intermediates.is_empty() {
            return;
        }
        let one = |param: &[u16]| param.iter().map(u16::to_string).collect::<Vec<_>>().join(":");
        let all: Vec<String> = params.iter().map(one).collect();
        *self.coloured = !matches!(all.iter().map(String::as_str).collect::<Vec<_>>()[..], [] | ["" | "0"]);
        self.clean.extend_from_slice(format!("\x1b[{}m", all.join(";")).as_bytes());
    }
}

impl Sanitizer {
    /// Returns the harmless part of `bytes`.
    pub fn clean(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        let mut output = Output { clean: &mut clean, coloured: &mut self.coloured };
        self.parser.advance(&mut output, bytes);
        clean
    }

    /// Returns the harmless part of `bytes`, as [`Clean`].
    pub fn clean_output(&mut self, bytes: &[u8]) -> Clean {
        Clean(self.clean(bytes))
    }

    /// Returns the sequence that resets a colour that the command left on; empty if none is on.
    pub fn reset(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.coloured) { b"\x1b[0m" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_pass_and_everything_else_of_the_terminal_language_does_not() {
        for (dirty, clean) in [
            ("plain\n", "plain\n"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[38;5;208mx", "\x1b[38;5;208mx"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]52;c;aGk=\x1b\\x", "x"),
            ("\x1b[2J\x1b[Hx", "x"),
            ("\x1bPq#0\x1b\\x", "x"),
            ("\x1b[6nx", "x"),
            ("a\x08\x07b", "ab"),
            ("\u{9b}2Jx", "2Jx"),
            ("a\u{202e}b", "ab"),
        ] {
            let cleaned = Sanitizer::default().clean(dirty.as_bytes());
            assert_eq!(String::from_utf8_lossy(&cleaned), clean, "{dirty:?}");
        }
    }

    #[test]
    fn a_colour_left_on_is_ended() {
        let mut sanitizer = Sanitizer::default();
        sanitizer.clean(b"\x1b[31mred");
        assert_eq!(sanitizer.reset(), b"\x1b[0m");
        assert_eq!(sanitizer.reset(), b"");
    }

    proptest! {
        #[test]
        fn nothing_but_colours_follows_an_escape_however_it_is_cut(bytes: Vec<u8>, cut in 0usize..64) {
            let mut sanitizer = Sanitizer::default();
            let cut = cut.min(bytes.len());
            let mut clean = sanitizer.clean(&bytes[..cut]);
            clean.extend(sanitizer.clean(&bytes[cut..]));
            let text = String::from_utf8(clean).expect("valid UTF-8");
            for part in text.split('\x1b').skip(1) {
                let end = part.find('m').expect("a colour ends");
                prop_assert!(part[1..end].bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':'));
            }
            prop_assert!(text.chars().all(|c| !c.is_control() || "\n\r\t\x1b".contains(c)));
        }
    }
}
