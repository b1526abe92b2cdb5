//! Folds sets of names into a short form, `web-[1,4-8],db-1`, which can be parsed as a target.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
};

use super::UNKNOWN_SHOWN;
use crate::domain::name::natural_order;

/// The texts around the numbers of a name.
type Shape<'a> = Vec<&'a str>;
/// For each number of a shape, the values of that number. A box represents all combinations of them.
type Box<'a> = Vec<Vec<&'a str>>;

/// Folds names. The result is in natural order and contains each name once.
#[must_use]
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut shapes: BTreeMap<Shape<'a>, Vec<Box<'a>>> = BTreeMap::new();
    for name in names {
        let (texts, numbers) = take_apart(name);
        shapes.entry(texts).or_default().push(numbers.into_iter().map(|number| vec![number]).collect());
    }
    let mut words: Vec<(String, String)> = Vec::new();
    for (texts, boxes) in shapes {
        for numbers in merged(boxes, texts.len() - 1) {
            let first = assemble(&texts, numbers.iter().map(|values| values[0].to_owned()));
            words.push((first, assemble(&texts, numbers.iter().map(|values| ranges(values)))));
        }
    }
    words.sort_by(|a, b| natural_order(&a.0, &b.0));
    words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

fn take_apart(name: &str) -> (Shape<'_>, Vec<&str>) {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    let mut rest = name;
    while let Some(begin) = rest.find(|sign: char| sign.is_ascii_digit()) {
        let behind = &rest[begin..];
        let end = behind.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(behind.len());
        texts.push(&rest[..begin]);
        numbers.push(&behind[..end]);
        rest = &behind[end..];
    }
    texts.push(rest);
    (texts, numbers)
}

fn assemble(texts: &[&str], numbers: impl Iterator<Item = String>) -> String {
    let mut word = String::new();
    let mut numbers = numbers.fuse();
    for text in texts {
        word.push_str(text);
        word.extend(numbers.next());
    }
    word
}

/// Joins boxes that differ in only one number, the last number first: `r1n1,r1n2,r2n1,r2n2` becomes
/// `r[1-2]n[1-2]`.
fn merged(mut boxes: Vec<Box<'_>>, numbers: usize) -> Vec<Box<'_>> {
    for place in (0..numbers).rev() {
        let mut by_rest: BTreeMap<Box<'_>, Vec<&str>> = BTreeMap::new();
        for mut one in boxes {
            let values = std::mem::take(&mut one[place]);
            by_rest.entry(one).or_default().extend(values);
        }
        boxes = by_rest
            .into_iter()
            .map(|(mut one, mut values)| {
                values.sort_by(|a, b| by_value(a, b));
                values.dedup();
                one[place] = values;
                one
            })
            .collect();
    }
    boxes.dedup();
    boxes
}

/// Compares numbers by value, then by width: `8`, `08`, `9`.
fn by_value(a: &str, b: &str) -> Ordering {
    let (left, right) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right)).then_with(|| a.len().cmp(&b.len()))
}

/// Maximum number of digits of a number in a range.
const MOST_DIGITS: usize = 18;

fn is_padded(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

/// Returns the next number, padded to the same width; `None` if a range cannot continue there.
fn next_of(text: &str, width: usize) -> Option<String> {
    let next = text.parse::<u64>().ok().filter(|_| text.len() <= MOST_DIGITS)?.checked_add(1)?;
    let next = format!("{next:0width$}");
    (next.len() <= MOST_DIGITS && (width == 0 || next.len() == width)).then_some(next)
}

/// Formats the values of one number, sorted by value and width: `7`, or `[1-3,7]`.
fn ranges(values: &[&str]) -> String {
    // Values that are not in a range yet. Padded ranges come first, and continue with numbers that have their
    // full width: 08, 09, 10.
    let mut left: HashSet<&str> = values.iter().copied().collect();
    let mut found: Vec<(&str, String)> = Vec::new();
    let (padded, plain): (Vec<&str>, Vec<&str>) = values.iter().partition(|text| is_padded(text));
    for first in padded.into_iter().chain(plain) {
        if !left.remove(first) {
            continue;
        }
        let width = if is_padded(first) { first.len() } else { 0 };
        let mut last = first.to_owned();
        while let Some(next) = next_of(&last, width).filter(|next| left.remove(next.as_str())) {
            last = next;
        }
        found.push((first, last));
    }
    found.sort_by(|a, b| by_value(a.0, b.0));
    let shown = found
        .iter()
        .map(|(first, last)| if first == last { last.clone() } else { format!("{first}-{last}") });
    let shown = shown.collect::<Vec<_>>().join(",");
    if values.len() == 1 { shown } else { format!("[{shown}]") }
}

/// Folds at most [`UNKNOWN_SHOWN`] names for a message, followed by the number of further names.
#[must_use]
pub fn fold_some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<&str> = names.by_ref().take(UNKNOWN_SHOWN).collect();
    match names.count() {
        0 => fold(first),
        more => format!("{} and {more} more", fold(first)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::target::Target;

    #[test]
    fn sets_are_written_the_short_way() {
        for (names, folded) in [
            ("web-1 web-2 web-3", "web-[1-3]"),
            ("web-1 web-4 web-5 web-6 web-7 web-8 web-10 web-11 web-14", "web-[1,4-8,10-11,14]"),
            ("n8 n9 n10 n08 n09", "n[8-9,08-10]"),
            ("n08 n09 n10 n11", "n[08-11]"),
            ("r1n1 r1n2 r2n1 r2n2 r3n1", "r[1-2]n[1-2],r3n1"),
            ("db web-1", "db,web-1"),
            ("a0 a00 a1", "a[0-1,00]"),
            ("x", "x"),
            ("", ""),
        ] {
            assert_eq!(fold(names.split_whitespace()), folded);
        }
    }

    proptest! {
        #[test]
        fn what_is_folded_reads_back_as_the_same_set(
            names in proptest::collection::btree_set("[ab]{1,2}[0-9]{0,3}(-[0-9]{1,2})?", 0..40),
        ) {
            let folded = fold(names.iter().map(String::as_str));
            if !names.is_empty() {
                let target: Target = folded.parse().unwrap();
                let read = target.evaluate_with(&[], usize::MAX).unknown;
                let expected = names.iter().map(|name| name.parse().unwrap()).collect();
                prop_assert_eq!(read, expected, "{}", folded);
            }
        }
    }
}
