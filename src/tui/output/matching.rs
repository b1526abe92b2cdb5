//! Search for a text in lines of output, in upper or lower case.

use std::ops::Range;

/// A text that is searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needle(Vec<char>);

impl Needle {
    /// Creates a search for a text. An empty one is found nowhere.
    #[must_use]
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().flat_map(char::to_lowercase).collect())
    }

    /// Reports whether a text contains it.
    #[must_use]
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.matches(text).next().is_some()
    }

    /// Returns the bytes of a text that match, from left to right.
    pub(crate) fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = text[from..].char_indices().find_map(|(at, _)| {
                let begin = from + at;
                self.length_at(&text[begin..]).map(|length| begin..begin + length)
            })?;
            from = found.end;
            Some(found)
        })
    }

    /// Returns the number of bytes at the beginning of a text that match.
    fn length_at(&self, text: &str) -> Option<usize> {
        let mut wanted = self.0.iter();
        let mut next = wanted.next()?;
        for (at, sign) in text.char_indices() {
            for lower in sign.to_lowercase() {
                if lower != *next {
                    return None;
                }
                match wanted.next() {
                    Some(sign) => next = sign,
                    None => return Some(at + sign.len_utf8()),
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_found_in_upper_and_lower_case() {
        for (needle, text, found) in [
            ("err", "Error: ERR, err", vec![0..3, 7..10, 12..15]),
            ("aa", "aaaa", vec![0..2, 2..4]),
            ("é", "É e é", vec![0..2, 5..7]),
            ("x", "", vec![]),
            ("", "abc", vec![]),
            ("longer than the text", "long", vec![]),
        ] {
            assert_eq!(Needle::new(needle).matches(text).collect::<Vec<_>>(), found, "{needle:?} {text:?}");
        }
    }
}
