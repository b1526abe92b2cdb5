//! Names with ranges: `web[01-20/2,7]-eu[1-2]`. Matching does not expand ranges. Before ranges are expanded
//! for any other purpose, their size is checked.

use std::iter::Peekable;

use crate::domain::name::MAX_LENGTH;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Ranges(Ranges),
}

/// The ranges in one pair of brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges {
    /// The ranges in the order in which they are written.
    written: Vec<Range>,
    /// Ranges without steps, sorted by width and value, without overlaps.
    intervals: Vec<Interval>,
    /// Ranges with steps.
    stepped: Vec<Range>,
}

/// All numbers of one width between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    width: usize,
    first: u64,
    last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    step: u64,
    /// The width to which numbers are padded with zeros; 0 for no padding.
    width: usize,
}

/// A word that can contain ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// An error in a pattern, and the index of the character at which it is.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) problem: String,
}

impl Wrong {
    pub(super) fn new(at: usize, problem: impl Into<String>) -> Self {
        Self { at, problem: problem.into() }
    }
}

/// Maximum number of digits of a number in a range. More digits would not fit into a `u64`.
const MOST_DIGITS: usize = 18;

fn number(text: &str, at: usize) -> Result<u64, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new(at, "a number is missing here: write ranges as [1-5,9]"));
    }
    if let Some(place) = text.chars().position(|sign| !sign.is_ascii_digit()) {
        return Err(Wrong::new(
            at + place,
            "only digits are allowed here: write ranges as [1-5,9] or [01-20/2]",
        ));
    }
    if text.len() > MOST_DIGITS {
        return Err(Wrong::new(at, format!("this number has more than {MOST_DIGITS} digits")));
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Returns the number of digits of a zero-padded number; 0 for a number without padding.
fn padding(text: &str) -> usize {
    if text.len() > 1 && text.starts_with('0') { text.len() } else { 0 }
}

impl Range {
    /// Parses `3`, `1-5` or `1-9/2`.
    fn parse(text: &str, at: usize) -> Result<Self, Wrong> {
        let (bounds, step) = match text.split_once('/') {
            Some((bounds, step)) => (bounds, Some((step, at + bounds.chars().count() + 1))),
            None => (text, None),
        };
        let Some((low, high)) = bounds.split_once('-') else {
            if let Some((_, place)) = step {
                return Err(Wrong::new(place - 1, "a step needs a range before it, as in [1-9/2]"));
            }
            let first = number(bounds, at)?;
            return Ok(Self { first, last: first, step: 1, width: padding(bounds) });
        };
        let high_at = at + low.chars().count() + 1;
        let (first, last) = (number(low, at)?, number(high, high_at)?);
        let width = padding(low).max(padding(high));
        if width > 0 && low.len() != high.len() {
            return Err(Wrong::new(high_at, "both ends of a padded range need the same number of digits"));
        }
        if first > last {
            return Err(Wrong::new(at, "this range ends before it begins"));
        }
        let step = match step {
            None => 1,
            Some((step, place)) => match number(step, place)? {
                0 => return Err(Wrong::new(place, "the step of a range must not be 0")),
                step => step,
            },
        };
        Ok(Self { first, last, step, width })
    }

    fn count(&self) -> u64 {
        (self.last - self.first) / self.step + 1
    }

    fn numbers(self) -> impl Iterator<Item = String> {
        (0..self.count()).map(move |index| self.written(self.first + index * self.step))
    }

    fn written(self, number: u64) -> String {
        format!("{number:0width$}", width = self.width)
    }

    fn has(&self, width: usize, number: u64) -> bool {
        let is_between = self.width == width && (self.first..=self.last).contains(&number);
        is_between && (number - self.first).is_multiple_of(self.step)
    }
}

impl Ranges {
    fn new(written: Vec<Range>) -> Self {
        let (whole, stepped): (Vec<Range>, Vec<Range>) = written.iter().partition(|range| range.step == 1);
        let mut intervals: Vec<Interval> = whole
            .into_iter()
            .map(|Range { first, last, width, .. }| Interval { width, first, last })
            .collect();
        intervals.sort_unstable();
        intervals.dedup_by(|next, kept| {
            let is_joined = next.width == kept.width && next.first <= kept.last.saturating_add(1);
            kept.last = if is_joined { kept.last.max(next.last) } else { kept.last };
            is_joined
        });
        Self { written, intervals, stepped }
    }

    fn count(&self) -> u64 {
        self.written.iter().fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    /// Reports whether these digits are one of the numbers, including its padding.
    fn has(&self, digits: &[u8]) -> bool {
        if digits.len() > MOST_DIGITS {
            return false;
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        // A number that fills its width looks the same with and without padding.
        let is_padded = digits.len() > 1 && digits[0] == b'0';
        let is_between = |width| {
            let behind = self.intervals.partition_point(|one| (one.width, one.first) <= (width, number));
            let before = behind.checked_sub(1).map(|place| self.intervals[place]);
            before.is_some_and(|one| one.width == width && number <= one.last)
                || self.stepped.iter().any(|range| range.has(width, number))
        };
        is_between(digits.len()) || (!is_padded && is_between(0))
    }

    fn numbers(&self) -> impl Iterator<Item = String> {
        self.written.iter().flat_map(|range| range.numbers())
    }

    /// Returns the longest number, including its padding.
    fn longest(&self) -> String {
        let last = |range: &Range| range.written(range.last);
        self.written.iter().map(last).max_by_key(String::len).unwrap_or_default()
    }
}

impl Pattern {
    /// Parses a word. Offsets in errors count its characters.
    pub(super) fn parse(word: &str) -> Result<Self, Wrong> {
        let mut parts = Vec::new();
        let mut rest = word;
        let mut at = 0;
        while let Some(open) = rest.find(['[', ']']) {
            let text = &rest[..open];
            at += text.chars().count();
            if rest[open..].starts_with(']') {
                return Err(Wrong::new(at, "this bracket was not opened"));
            }
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let inside = &rest[open + 1..];
            let close = inside.find(']').ok_or_else(|| Wrong::new(at, "this bracket is not closed"))?;
            let inside = &inside[..close];
            let mut ranges = Vec::new();
            let mut place = at + 1;
            for range in inside.split(',') {
                let lead = range.chars().take_while(|sign| *sign == ' ').count();
                ranges.push(Range::parse(range.trim_matches(' '), place + lead)?);
                place += range.chars().count() + 1;
            }
            parts.push(Part::Ranges(Ranges::new(ranges)));
            at += inside.chars().count() + 2;
            rest = &rest[open + close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Reports whether the pattern has no ranges.
    pub(super) fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    fn brackets(&self) -> impl DoubleEndedIterator<Item = &Ranges> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Ranges(ranges) => Some(ranges),
        })
    }

    /// Returns the number of words that the pattern expands to.
    pub(super) fn count(&self) -> u64 {
        self.parts.iter().fold(1, |count: u64, part| match part {
            Part::Text(_) => count,
            Part::Ranges(ranges) => count.saturating_mul(ranges.count()),
        })
    }

    /// Returns the cost of matching one name, in ranges that are checked one by one. Each pair of brackets
    /// can start at many positions of a name, so the number of pairs counts squared.
    pub(super) fn weight(&self) -> u64 {
        let (pairs, stepped) =
            self.brackets().fold((0u64, 0), |(pairs, stepped), one| (pairs + 1, stepped + one.stepped.len()));
        1 + pairs * pairs + stepped as u64
    }

    /// Returns the longest word that the pattern expands to. If it is a valid name, all words are.
    pub(super) fn longest(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Ranges(ranges) => ranges.longest(),
        };
        self.parts.iter().map(part).collect()
    }

    /// Reports whether the pattern expands to this word.
    pub(super) fn matches(&self, word: &str) -> bool {
        let bytes = word.as_bytes();
        if bytes.len() > MAX_LENGTH {
            return false;
        }
        // One bit for each position of the word that the parts so far can reach.
        let mut places: u64 = 1;
        for part in &self.parts {
            let mut next = 0;
            while places != 0 {
                let at = places.trailing_zeros() as usize;
                places &= places - 1;
                let rest = &bytes[at..];
                match part {
                    Part::Text(text) if rest.starts_with(text.as_bytes()) => next |= 1 << (at + text.len()),
                    Part::Text(_) => {}
                    Part::Ranges(ranges) => {
                        let digits = rest.iter().take(MOST_DIGITS).take_while(|byte| byte.is_ascii_digit());
                        let digits = digits.count();
                        let ends = (1..=digits).filter(|end| ranges.has(&rest[..*end]));
                        next |= ends.fold(0, |next, end| next | 1 << (at + end));
                    }
                }
            }
            places = next;
        }
        places & (1 << bytes.len()) != 0
    }

    /// Returns the words that the pattern expands to, in the order in which they are written. Their number is
    /// [`Self::count`].
    pub(super) fn words(&self) -> Words<'_> {
        Words { pattern: self, numbers: Vec::new(), is_over: false }
    }
}

type Numbers<'a> = Peekable<Box<dyn Iterator<Item = String> + 'a>>;

/// Iterates over the words of a pattern. The last brackets change fastest.
pub(super) struct Words<'a> {
    pattern: &'a Pattern,
    /// The remaining numbers of each pair of brackets, the current one first; empty before the first word.
    numbers: Vec<Numbers<'a>>,
    is_over: bool,
}

fn from_the_first(ranges: &Ranges) -> Numbers<'_> {
    let numbers: Box<dyn Iterator<Item = String> + '_> = Box::new(ranges.numbers());
    numbers.peekable()
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        if self.numbers.is_empty() {
            self.numbers = self.pattern.brackets().map(from_the_first).collect();
        }
        let mut numbers = self.numbers.iter_mut();
        let mut word = String::new();
        for part in &self.pattern.parts {
            match part {
                Part::Text(text) => word.push_str(text),
                Part::Ranges(_) => word.push_str(numbers.next()?.peek()?),
            }
        }
        self.is_over = true;
        for (numbers, ranges) in self.numbers.iter_mut().rev().zip(self.pattern.brackets().rev()) {
            numbers.next();
            if numbers.peek().is_some() {
                self.is_over = false;
                break;
            }
            *numbers = from_the_first(ranges);
        }
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.problem))
    }

    #[test]
    fn words_are_spelled_out_in_their_order() {
        for (text, words) in [
            ("web", "web"),
            ("n[3,1-2]", "n3 n1 n2"),
            ("r[1-2]n[08-10/2]x", "r1n08x r1n10x r2n08x r2n10x"),
            ("[1-2][3-4]", "13 14 23 24"),
        ] {
            let spelled: Vec<String> = pattern(text).words().collect();
            assert_eq!(spelled.join(" "), words, "{text}");
            assert_eq!(spelled.len() as u64, pattern(text).count(), "{text}");
        }
    }

    #[test]
    fn what_no_word_is_does_not_match() {
        for (text, word) in [
            ("n[1-9]", "n"),
            ("n[1-9]", "n01"),
            ("n[1-9]", "n1x"),
            ("n[01-09]", "n1"),
            ("n[01-99]", "n001"),
            ("n[1-9/4]", "n3"),
            ("n[1-9]", "n99999999999999999999999"),
            ("n[1-9]", "N1"),
        ] {
            assert!(!pattern(text).matches(word), "{text} {word}");
        }
    }

    #[test]
    fn a_pattern_of_many_words_is_asked_at_once() {
        let pattern = pattern("n[1-999999999999999999][1-999999999999999999]");
        assert_eq!(pattern.count(), u64::MAX);
        assert!(pattern.matches("n12") && !pattern.matches("n0"));
    }

    proptest! {
        #[test]
        fn a_word_matches_where_it_is_spelled_out(
            ranges in proptest::collection::vec((0u32..30, 0u32..12, 1u32..4, any::<bool>()), 1..5),
            more in proptest::collection::vec((0u32..4, 0u32..3, 1u32..3, any::<bool>()), 0..3),
            asked in 0u32..60,
        ) {
            let written = |ranges: &[(u32, u32, u32, bool)]| {
                let range = |(first, more, step, padded): &(u32, u32, u32, bool)| {
                    let (first, last) = (*first, first + more);
                    let step = if *more > 0 && *step > 1 { format!("/{step}") } else { String::new() };
                    if *padded { format!("{first:03}-{last:03}{step}") } else { format!("{first}-{last}{step}") }
                };
                ranges.iter().map(range).collect::<Vec<_>>().join(",")
            };
            let mut text = format!("n[{}]", written(&ranges));
            if !more.is_empty() {
                text = format!("{text}[{}]", written(&more));
            }
            let pattern = pattern(&text);
            let words: BTreeSet<String> = pattern.words().collect();
            for word in &words {
                prop_assert!(pattern.matches(word), "{} {}", text, word);
            }
            for asked in [format!("n{asked}"), format!("n{asked:03}"), format!("n{asked}1")] {
                prop_assert_eq!(pattern.matches(&asked), words.contains(&asked), "{} {}", text, asked);
            }
        }
    }
}
