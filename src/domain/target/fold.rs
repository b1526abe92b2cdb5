//! Sets of names the short way: `web-[1,4-8],db-1`. What is folded can be read back as a target.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::domain::name::natural_order;

/// A name taken apart: the texts around its numbers, and the numbers as they are written.
type Shape<'a> = Vec<&'a str>;
/// For each number of a shape, the values that it takes. A box stands for all combinations.
type Box<'a> = Vec<Vec<&'a str>>;

/// Folds names. The order is natural, and each name is in the result once.
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

/// Joins boxes that differ in one number only, the last number first: `r1n1,r1n2,r2n1,r2n2` is `r[1-2]n[1-2]`.
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

/// By value, then by width: `8`, `08`, `9`.
fn by_value(a: &str, b: &str) -> Ordering {
    let value = |text: &str| text.trim_start_matches('0').to_owned();
    let (left, right) = (value(a), value(b));
    left.len().cmp(&right.len()).then_with(|| left.cmp(&right)).then_with(|| a.len().cmp(&b.len()))
}

/// Whether `next` follows `last` in a range that begins with `first`, written with or without padding as that one is.
fn follows(first: &str, last: &str, next: &str) -> bool {
    let is_padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let same_width = if is_padded(first) { next.len() == first.len() } else { !is_padded(next) };
    let value = |text: &str| text.parse::<u64>().ok();
    same_width
        && value(last).and_then(|last| last.checked_add(1)) == value(next)
        && value(next).is_some_and(|next| next < 10u64.pow(18))
}

/// One number's values, sorted: `7`, or `[1-3,7]`.
fn ranges(values: &[&str]) -> String {
    let mut runs: Vec<Vec<&str>> = Vec::new();
    // Padded and plain numbers are told apart before they are joined, or `8,08,9,09` would never be ranges.
    let (padded, plain): (Vec<&str>, Vec<&str>) =
        values.iter().partition(|text| text.len() > 1 && text.starts_with('0'));
    let mut left: Vec<&str> = plain;
    for first in padded {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| follows(run[0], last, first)) => run.push(first),
            _ => runs.push(vec![first]),
        }
    }
    for run in &mut runs {
        // A padded run goes on with numbers that fill its width: 08, 09, 10.
        while let Some(at) = left.iter().position(|next| follows(run[0], run[run.len() - 1], next)) {
            run.push(left.remove(at));
        }
    }
    let mut plain_runs: Vec<Vec<&str>> = Vec::new();
    for first in left {
        match plain_runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| follows(run[0], last, first)) => run.push(first),
            _ => plain_runs.push(vec![first]),
        }
    }
    runs.extend(plain_runs);
    runs.sort_by(|a, b| by_value(a[0], b[0]));
    let shown = runs.iter().map(|run| match run.as_slice() {
        [one] => (*one).to_owned(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    let shown = shown.collect::<Vec<_>>().join(",");
    if values.len() == 1 { shown } else { format!("[{shown}]") }
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
                let read = target.evaluate(&[]).unknown;
                let expected = names.iter().map(|name| name.parse().unwrap()).collect();
                prop_assert_eq!(read, expected, "{}", folded);
            }
        }
    }
}
