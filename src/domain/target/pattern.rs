//! Names with ranges: `web[01-20/2,7]-eu[1-2]`, and the words that they stand for.

use super::MOST_NAMES;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// What one pair of brackets stands for, in the order in which it was written.
    Ranges(Vec<Range>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    step: u64,
    /// Numbers are padded with zeros to this width; 0 for not at all.
    width: usize,
}

/// A word with ranges in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// What is wrong with a pattern, and at which of its characters.
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

/// Most digits of a number in a range; more would not fit.
const MOST_DIGITS: usize = 18;

fn number(text: &str, at: usize) -> Result<u64, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new(at, "a number is missing here: write ranges as [1-5,9]"));
    }
    if let Some(place) = text.chars().position(|sign| !sign.is_ascii_digit()) {
        return Err(Wrong::new(
            at + place,
            "only digits can stand here: write ranges as [1-5,9] or [01-20/2]",
        ));
    }
    if text.len() > MOST_DIGITS {
        return Err(Wrong::new(at, format!("a number of more than {MOST_DIGITS} digits")));
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Digits of a number that is padded with zeros; 0 for one that is not.
fn padding(text: &str) -> usize {
    if text.len() > 1 && text.starts_with('0') { text.len() } else { 0 }
}

impl Range {
    /// Reads `3`, `1-5` or `1-9/2`.
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
            return Err(Wrong::new(at, "this range runs backwards"));
        }
        let step = match step {
            None => 1,
            Some((step, place)) => match number(step, place)? {
                0 => return Err(Wrong::new(place, "a step of 0 goes nowhere")),
                step => step,
            },
        };
        Ok(Self { first, last, step, width })
    }

    fn count(&self) -> u64 {
        (self.last - self.first) / self.step + 1
    }

    fn numbers(self) -> impl Iterator<Item = String> {
        (0..self.count())
            .map(move |index| format!("{:0width$}", self.first + index * self.step, width = self.width))
    }
}

impl Pattern {
    /// Reads a word. Offsets in errors count its characters.
    pub(super) fn parse(word: &str) -> Result<Self, Wrong> {
        let mut parts = Vec::new();
        let mut rest = word;
        let mut at = 0;
        while let Some(open) = rest.find(['[', ']']) {
            let text = &rest[..open];
            at += text.chars().count();
            if rest[open..].starts_with(']') {
                return Err(Wrong::new(at, "this bracket closes nothing"));
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
            parts.push(Part::Ranges(ranges));
            at += inside.chars().count() + 2;
            rest = &rest[open + close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether it has no ranges.
    pub(super) fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The words that it stands for.
    pub(super) fn words(&self) -> Result<Vec<String>, Wrong> {
        let count = self.parts.iter().fold(1u64, |count, part| match part {
            Part::Text(_) => count,
            Part::Ranges(ranges) => {
                let of_part = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.count()));
                count.saturating_mul(of_part)
            }
        });
        if count > MOST_NAMES as u64 {
            return Err(Wrong::new(
                0,
                format!("these are {count} names; one target may spell out {MOST_NAMES}"),
            ));
        }
        let mut words = vec![String::new()];
        for part in &self.parts {
            match part {
                Part::Text(text) => words.iter_mut().for_each(|word| word.push_str(text)),
                Part::Ranges(ranges) => {
                    let numbers: Vec<String> = ranges.iter().flat_map(|range| range.numbers()).collect();
                    words = words
                        .iter()
                        .flat_map(|word| numbers.iter().map(move |number| format!("{word}{number}")))
                        .collect();
                }
            }
        }
        Ok(words)
    }
}
