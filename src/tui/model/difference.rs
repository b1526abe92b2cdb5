//! The difference between the outputs of two tasks. Compares the lines that are loaded, and knows nothing of the screen.

use similar::{ChangeTag, TextDiff};

use crate::{
    domain::offset::OutputOffset,
    tui::output::{look::Streams, window::Window},
};

/// The maximum number of lines of each output that are compared.
const MAX_COMPARED_LINES: usize = 2_000;
/// The number of equal lines that are shown around a change.
const CONTEXT_LINES: usize = 2;

/// What happened to a line from the first output to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in both.
    Same,
    /// It is only in the first.
    Removed,
    /// It is only in the second.
    Added,
    /// Equal lines are left out here.
    LeftOut,
}

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffLine {
    /// What happened to it.
    pub change: Change,
    /// Its parts, and whether each of them is what changed in it.
    pub parts: Vec<(String, bool)>,
}

/// The parts of two outputs that were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compared {
    tasks: (u32, u32),
    ends: (OutputOffset, OutputOffset),
    streams: Streams,
}

/// The comparison that is shown instead of an output.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The task that the operator has marked as the first one. Without a second one, the task under the cursor is
    /// compared with the largest group.
    pub marked: Option<u32>,
    /// The task that it is compared with.
    pub second: Option<u32>,
    /// The difference of what is loaded.
    pub lines: Vec<DiffLine>,
    /// The index of the first visible line.
    pub top: usize,
    compared: Option<Compared>,
}

impl Comparison {
    /// Begins with one task.
    #[must_use]
    pub fn of(task: u32) -> Self {
        Self { marked: Some(task), ..Self::default() }
    }

    /// Returns the two tasks to compare, if they differ: the marked ones, or else the largest group's and the one under the
    /// cursor.
    #[must_use]
    pub fn tasks(&self, largest: Option<u32>, current: Option<u32>) -> Option<(u32, u32)> {
        let pair = match (self.marked, self.second) {
            (Some(marked), Some(second)) => (marked, second),
            _ => (largest?, current?),
        };
        (pair.0 != pair.1).then_some(pair)
    }

    /// Compares two windows again if they have changed.
    pub fn update(&mut self, tasks: (u32, u32), before: &Window, after: &Window, streams: Streams) {
        let compared = Compared { tasks, ends: (before.next(), after.next()), streams };
        if self.compared == Some(compared) {
            return;
        }
        if self.compared.is_none_or(|known| known.tasks != tasks) {
            self.top = 0;
        }
        self.compared = Some(compared);
        self.lines = difference(&texts(before, streams), &texts(after, streams));
    }

    /// Forgets the difference, because there is nothing to compare.
    pub fn clear(&mut self) {
        (self.compared, self.top) = (None, 0);
        self.lines.clear();
    }
}

fn texts(window: &Window, streams: Streams) -> Vec<String> {
    let from = window.len().saturating_sub(MAX_COMPARED_LINES);
    let shown = window.lines(from, MAX_COMPARED_LINES).filter(|line| streams.shows(line.source));
    shown.map(|line| line.text.clone() + "\n").collect()
}

/// Returns the changed lines between two outputs, with a few equal lines around them.
fn difference(before: &[String], after: &[String]) -> Vec<DiffLine> {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let after: Vec<&str> = after.iter().map(String::as_str).collect();
    let diff = TextDiff::from_slices(&before, &after);
    let mut lines: Vec<DiffLine> = Vec::new();
    for group in diff.grouped_ops(CONTEXT_LINES) {
        if !lines.is_empty() {
            lines.push(DiffLine { change: Change::LeftOut, parts: Vec::new() });
        }
        for change in group.iter().flat_map(|op| diff.iter_inline_changes(op)) {
            let part = |(is_changed, text): (bool, std::borrow::Cow<'_, str>)| {
                (text.trim_end_matches('\n').to_owned(), is_changed)
            };
            lines.push(DiffLine {
                change: match change.tag() {
                    ChangeTag::Equal => Change::Same,
                    ChangeTag::Delete => Change::Removed,
                    ChangeTag::Insert => Change::Added,
                },
                parts: change.iter_strings_lossy().map(part).filter(|(text, _)| !text.is_empty()).collect(),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| format!("{text}\n")).collect()
    }

    #[test]
    fn the_changed_word_of_a_line_is_marked() {
        let before = lines(&["one", "kernel 5.15.0 generic", "three"]);
        let after = lines(&["one", "kernel 6.1.0 generic", "three"]);
        let found = difference(&before, &after);
        let changes: Vec<Change> = found.iter().map(|line| line.change).collect();
        assert_eq!(changes, [Change::Same, Change::Removed, Change::Added, Change::Same]);
        let marked = |line: &DiffLine| -> String {
            line.parts.iter().filter(|(_, is_changed)| *is_changed).map(|(text, _)| text.as_str()).collect()
        };
        assert_eq!((marked(&found[1]).as_str(), marked(&found[2]).as_str()), ("5.15.0", "6.1.0"));
    }

    #[test]
    fn all_lines_of_a_long_output_are_there() {
        let long: Vec<String> = (0..100).map(|n| format!("line {n}\n")).collect();
        let found = difference(&lines(&["line 1", "line 2"]), &long);
        assert_eq!(found.iter().filter(|line| line.change == Change::Added).count(), 98);
        assert_eq!(difference(&long, &long), []);
    }

    #[test]
    fn two_marked_tasks_or_the_one_under_the_cursor_are_compared() {
        let mut comparison = Comparison::of(3);
        assert_eq!(comparison.tasks(Some(0), Some(3)), Some((0, 3)));
        assert_eq!(comparison.tasks(Some(3), Some(3)), None);
        comparison.second = Some(5);
        assert_eq!(comparison.tasks(Some(0), Some(9)), Some((3, 5)));
    }
}
