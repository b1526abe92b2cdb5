//! Text from other machines, limited when it arrives: one line, a maximum length, no control characters.
//!
//! A [`Line`] needs no further check before the text is stored, forwarded or shown. Does not depend on where
//! the text comes from.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Serialize};

use super::text::is_harmful;

/// A short text: a version, a host name, a user. At most 256 bytes.
pub type Word = Line<256>;
/// A reason or an error message. At most 1 KiB.
pub type Reason = Line<1024>;
/// A target as it was typed. At most 128 KiB, which is Linux' limit for one argument.
pub type Expression = Line<{ 128 * 1024 }>;

/// The mark at the end of a text that was cut.
const CUT: &str = "…";

/// One line of UTF-8 text of at most `MAX` bytes, without control characters and directional marks.
///
/// Longer text is cut and ends with `…`. `MAX` is at least 4.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Line<const MAX: usize>(String);

impl<const MAX: usize> Line<MAX> {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Removes the whole text.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<const MAX: usize> Default for Line<MAX> {
    fn default() -> Self {
        Self(String::new())
    }
}

impl<const MAX: usize> From<&str> for Line<MAX> {
    fn from(text: &str) -> Self {
        if text.len() <= MAX && !text.contains(is_harmful) {
            return Self(text.to_owned());
        }
        // Stops at the limit, so that a very long text is not scanned to its end.
        let mut line = String::new();
        for sign in text.chars() {
            let sign = if is_harmful(sign) { ' ' } else { sign };
            if line.len() + sign.len_utf8() > MAX {
                while line.len() + CUT.len() > MAX {
                    line.pop();
                }
                line.push_str(CUT);
                break;
            }
            line.push(sign);
        }
        Self(line)
    }
}

impl<const MAX: usize> From<String> for Line<MAX> {
    fn from(text: String) -> Self {
        if text.len() <= MAX && !text.contains(is_harmful) { Self(text) } else { text.as_str().into() }
    }
}

impl<const MAX: usize> From<Line<MAX>> for String {
    fn from(line: Line<MAX>) -> Self {
        line.0
    }
}

impl<const MAX: usize> Deref for Line<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> PartialEq<str> for Line<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Line<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> PartialEq<String> for Line<MAX> {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> fmt::Display for Line<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: usize> fmt::Debug for Line<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_cut_and_made_harmless() {
        for (text, line) in [
            ("", ""),
            ("12345678", "12345678"),
            ("123456789", "12345…"),
            ("ééééé", "éé…"),
            ("a\u{1b}[2J", "a [2J"),
            ("a\nb\u{202e}c", "a b c"),
        ] {
            assert_eq!(Line::<8>::from(text), line, "{text:?}");
            assert_eq!(Line::<8>::from(text.to_owned()), line, "{text:?}");
        }
        assert_eq!(Reason::from("x".repeat(4 << 20)).len(), 1024);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_one_harmless_line_within_its_bound(text in "\\PC{0,40}|(?s).{0,40}") {
            let line = Line::<16>::from(text.as_str());
            prop_assert!(line.len() <= 16);
            prop_assert!(!line.contains(is_harmful));
            prop_assert_eq!(Line::<16>::from(line.to_string()), line, "what is bounded stays as it is");
        }
    }
}
