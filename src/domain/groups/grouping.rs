//! Groups tasks by their output while it arrives.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hasher as _},
};

use super::{
    line::shown_line,
    mask::Masker,
    step::{self, Standing},
    tree::{NodeId, ROOT, Tree},
};
use crate::domain::{
    frame::{Frame, Stream},
    offset::OutputOffset,
    outcome::Outcome,
    time::UnixMs,
};

/// Maximum number of lines of all tasks together that are compared one by one. Each task has an equal share;
/// a task with more lines is long.
const LINES_IN_ALL: usize = 4_000_000;
/// Minimum and maximum number of lines of one task that are compared one by one.
const LINES_OF_ONE: (usize, usize) = (256, 50_000);
/// A line is split for comparison after this many bytes.
const PIECE: usize = 64 * 1024;
/// Maximum number of bytes of a line that are kept for display.
pub const PREVIEW: usize = 240;

/// The output of one task in one stream.
#[derive(Debug)]
struct Place {
    node: NodeId,
    /// The beginning of an incomplete line.
    pending: Vec<u8>,
    lines: u64,
    /// A hash of all lines after the limit; 0 if there are none.
    beyond: u64,
    /// The first line, as it is shown.
    first: Vec<u8>,
    /// The last complete line.
    last: Vec<u8>,
}

#[derive(Debug)]
struct TaskText {
    masker: Masker,
    streams: [Place; 2],
    outcome: Option<Outcome>,
    last_output_ms: Option<UnixMs>,
    /// The offset of the next byte.
    next: OutputOffset,
    /// Whether some of the output is missing. Such a task equals no other, because the missing part is
    /// unknown.
    is_incomplete: bool,
}

/// The tasks of a job, grouped by their output.
#[derive(Debug)]
pub struct Grouping {
    trees: [Tree; 2],
    tasks: Vec<TaskText>,
    /// Maximum number of lines of one task in one stream that are compared one by one.
    limit: u64,
}

/// Tasks with the same output and the same kind of outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their indices in the job, in order.
    pub tasks: Vec<u32>,
    /// The outcome; `None` while the tasks run.
    pub outcome: Option<Outcome>,
    /// The task that has printed most lines, which represents the group.
    pub example: u32,
    /// The number of its lines on stdout and on stderr.
    pub lines: [u64; 2],
    /// The first line that differs from the largest group; `None` if there is no difference, or it is
    /// unknown.
    pub parted: Option<Parting>,
    /// Whether the tasks printed more than is compared one by one, or some output is missing. That separates
    /// tasks only after they have ended.
    pub long: bool,
}

/// The first difference between two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The stream of the line.
    pub stream: Stream,
    /// The number of the line, from 1.
    pub line: u64,
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(bytes);
    hasher.finish()
}

impl Grouping {
    /// Creates a grouping of tasks without output. Each masker is for the lines of one task.
    #[must_use]
    pub fn new(maskers: Vec<Masker>) -> Self {
        let share = LINES_IN_ALL / maskers.len().max(1);
        let place = || Place {
            node: ROOT,
            pending: Vec::new(),
            lines: 0,
            beyond: 0,
            first: Vec::new(),
            last: Vec::new(),
        };
        let task = |masker| TaskText {
            masker,
            streams: [place(), place()],
            outcome: None,
            last_output_ms: None,
            next: OutputOffset::START,
            is_incomplete: false,
        };
        Self {
            trees: [Tree::default(), Tree::default()],
            tasks: maskers.into_iter().map(task).collect(),
            limit: share.clamp(LINES_OF_ONE.0, LINES_OF_ONE.1) as u64,
        }
    }

    fn task(&self, task: u32) -> Option<&TaskText> {
        self.tasks.get(usize::try_from(task).ok()?)
    }

    /// Adds a frame. If it does not follow the previous one, the part between them is recorded as missing.
    pub fn take(&mut self, task: u32, frame: &Frame, now_ms: UnixMs) {
        self.miss(task, frame.offset);
        if let Some(text) = usize::try_from(task).ok().and_then(|task| self.tasks.get_mut(task)) {
            text.next = frame.end().max(text.next);
        }
        self.feed(task, frame.stream, &frame.data, now_ms);
    }

    /// Records that the task's output up to this offset is missing, if it was not added. An incomplete line
    /// ends here, and later bytes begin another line. Such a task agrees with no other, because the missing
    /// part is unknown.
    pub fn miss(&mut self, task: u32, until: OutputOffset) {
        let limit = self.limit;
        let Some(text) = usize::try_from(task).ok().and_then(|task| self.tasks.get_mut(task)) else { return };
        if text.next >= until {
            return;
        }
        text.next = until;
        text.is_incomplete = true;
        for (place, tree) in text.streams.iter_mut().zip(&mut self.trees) {
            let line = std::mem::take(&mut place.pending);
            if !line.is_empty() {
                place.take(&line, &text.masker, tree, limit);
            }
        }
    }

    /// Adds the next output of a task on one stream, at a time of the caller's clock.
    pub fn feed(&mut self, task: u32, stream: Stream, bytes: &[u8], now_ms: UnixMs) {
        let limit = self.limit;
        let tree = &mut self.trees[index(stream)];
        let Some(text) = usize::try_from(task).ok().and_then(|task| self.tasks.get_mut(task)) else { return };
        text.last_output_ms = Some(now_ms);
        let place = &mut text.streams[index(stream)];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.strip_suffix(b"\n");
            if place.pending.is_empty()
                && let Some(line) = whole
            {
                place.take(line, &text.masker, tree, limit);
                continue;
            }
            place.pending.extend_from_slice(whole.unwrap_or(piece));
            while place.pending.len() > PIECE {
                let rest = place.pending.split_off(PIECE);
                let piece = std::mem::replace(&mut place.pending, rest);
                place.take(&piece, &text.masker, tree, limit);
            }
            if whole.is_some() {
                let line = std::mem::take(&mut place.pending);
                place.take(&line, &text.masker, tree, limit);
            }
        }
    }

    /// Records the outcome of a task after all of its output. An incomplete last line counts as a line now.
    pub fn end(&mut self, task: u32, outcome: Outcome) {
        let limit = self.limit;
        let trees = &mut self.trees;
        let Some(text) = usize::try_from(task).ok().and_then(|task| self.tasks.get_mut(task)) else { return };
        for (place, tree) in text.streams.iter_mut().zip(trees) {
            let line = std::mem::take(&mut place.pending);
            if !line.is_empty() {
                place.take(&line, &text.masker, tree, limit);
            }
        }
        text.outcome = Some(outcome);
    }

    /// Returns the time of a task's last output, by the caller's clock; `None` if it has printed nothing.
    #[must_use]
    pub fn last_output_ms(&self, task: u32) -> Option<UnixMs> {
        self.task(task)?.last_output_ms
    }

    /// Returns a task's first line as it is shown: of stdout, or of stderr if stdout has none.
    #[must_use]
    pub fn first_line(&self, task: u32) -> Option<(Stream, &[u8])> {
        let text = self.task(task)?;
        let first = |stream: Stream| {
            let place = &text.streams[index(stream)];
            (place.lines > 0).then_some((stream, place.first.as_slice()))
        };
        first(Stream::Stdout).or_else(|| first(Stream::Stderr))
    }

    /// Returns a task's last complete line as it is shown, of the stream with more lines.
    #[must_use]
    pub fn last_line(&self, task: u32) -> Option<&[u8]> {
        let longer = self.task(task)?.streams.iter().max_by_key(|place| place.lines)?;
        (longer.lines > 0).then_some(longer.last.as_slice())
    }

    /// Returns a task's last complete line of stderr, if there is one.
    #[must_use]
    pub fn last_error(&self, task: u32) -> Option<&[u8]> {
        let place = &self.task(task)?.streams[index(Stream::Stderr)];
        (place.lines > 0).then_some(place.last.as_slice())
    }

    /// Returns the beginning of a task's line at a difference, with what is masked left out; `None` if the task has no such line,
    /// or if it is not stored.
    #[must_use]
    pub fn line_at(&self, task: u32, parting: Parting) -> Option<&[u8]> {
        let tree = &self.trees[index(parting.stream)];
        let node = self.task(task)?.streams[index(parting.stream)].node;
        let depth = u32::try_from(parting.line).ok().filter(|depth| *depth <= tree.depth(node))?;
        tree.text(tree.ancestor(node, depth))
    }

    /// Reports whether two tasks have the same output and the same kind of outcome. If output is missing, the
    /// answer is no.
    #[must_use]
    pub fn agree(&self, left: u32, right: u32) -> bool {
        let key =
            |task| self.task(task).map(|text| (text.key(task), text.outcome.as_ref().map(Outcome::kind)));
        key(left).is_some() && key(left) == key(right)
    }

    /// Returns the approximate size in memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of_task = |text: &TaskText| {
            size_of::<TaskText>()
                + text
                    .streams
                    .iter()
                    .map(|place| place.pending.capacity() + place.first.capacity() + place.last.capacity())
                    .sum::<usize>()
        };
        self.trees.iter().map(Tree::bytes).sum::<usize>() + self.tasks.iter().map(of_task).sum::<usize>()
    }

    /// Returns the groups, largest first. Groups of equal size are ordered by their first task.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut ended: HashMap<(Key, Kind), Vec<u32>> = HashMap::new();
        let mut running: HashMap<Key, Vec<u32>> = HashMap::new();
        for (task, text) in (0u32..).zip(&self.tasks) {
            match &text.outcome {
                Some(outcome) => ended.entry((text.key(task), outcome.kind())).or_default().push(task),
                None => running.entry(text.key(task).of_running()).or_default().push(task),
            }
        }
        let mut groups: Vec<Group> = ended.into_values().map(|tasks| self.group(tasks)).collect();
        groups.extend(self.in_step(running).into_iter().map(|tasks| self.group(tasks)));
        groups.sort_by_key(|group| (std::cmp::Reverse(group.tasks.len()), group.tasks[0]));
        if let Some(largest) = groups.first().map(|group| group.example) {
            for group in groups.iter_mut().skip(1) {
                group.parted = self.parting(largest, group.example);
            }
        }
        groups
    }

    fn group(&self, mut tasks: Vec<u32>) -> Group {
        tasks.sort_unstable();
        let lines_of = |task: u32| self.task(task).map_or([0, 0], TaskText::lines);
        let furthest = |task: &&u32| (lines_of(**task).iter().sum::<u64>(), std::cmp::Reverse(**task));
        let example = tasks.iter().max_by_key(furthest).copied().unwrap_or_default();
        let text = self.task(example);
        Group {
            outcome: text.and_then(|text| text.outcome.clone()),
            example,
            lines: lines_of(example),
            parted: None,
            long: text
                .is_some_and(|text| text.is_incomplete || text.streams.iter().any(|place| place.beyond != 0)),
            tasks,
        }
    }

    /// Groups running tasks. A task whose output is a prefix of another task's in both streams joins that
    /// task's group. If several groups fit, it joins the one that most tasks fit, and of those the one with
    /// the first task.
    fn in_step(&self, places: HashMap<Key, Vec<u32>>) -> Vec<Vec<u32>> {
        let mut places: Vec<(Key, Vec<u32>)> = places.into_iter().collect();
        let standing = |(key, tasks): &(Key, Vec<u32>)| Standing {
            nodes: key.nodes,
            count: tasks.len() as u64,
            first: tasks[0],
        };
        let standings: Vec<Standing> = places.iter().map(standing).collect();
        for (place, end) in step::ends(&self.trees, &standings).into_iter().enumerate() {
            if place != end {
                let behind = std::mem::take(&mut places[place].1);
                places[end].1.extend(behind);
            }
        }
        places.into_iter().map(|(_, tasks)| tasks).filter(|tasks| !tasks.is_empty()).collect()
    }

    fn parting(&self, left: u32, right: u32) -> Option<Parting> {
        let (left, right) = (self.task(left)?, self.task(right)?);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (a, b) = (&left.streams[index(stream)], &right.streams[index(stream)]);
            let tree = &self.trees[index(stream)];
            let common = tree.common(a.node, b.node);
            let is_step = |place: &Place| tree.depth(place.node) == common;
            let both_ended = left.outcome.is_some() && right.outcome.is_some();
            let is_known = !left.is_incomplete && !right.is_incomplete;
            let differs = if is_step(a) || is_step(b) {
                both_ended && is_known && (a.node, a.beyond) != (b.node, b.beyond)
            } else {
                true
            };
            if differs {
                return Some(Parting { stream, line: u64::from(common) + 1 });
            }
        }
        None
    }
}

/// The part of a task's output that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    nodes: [NodeId; 2],
    beyond: [u64; 2],
    /// The index of the task, if it can equal no other task.
    alone: Option<u32>,
}

impl Key {
    /// Returns the key without the parts that count only after the end.
    fn of_running(self) -> Self {
        Self { beyond: [0, 0], alone: None, ..self }
    }
}

/// The part of an outcome that separates groups: the word and the exit status.
type Kind = (&'static str, Option<u8>);

impl TaskText {
    fn key(&self, task: u32) -> Key {
        let [out, err] = &self.streams;
        Key {
            nodes: [out.node, err.node],
            beyond: [out.beyond, err.beyond],
            alone: self.is_incomplete.then_some(task),
        }
    }

    fn lines(&self) -> [u64; 2] {
        [self.streams[0].lines, self.streams[1].lines]
    }
}

impl Place {
    fn take(&mut self, line: &[u8], masker: &Masker, tree: &mut Tree, limit: u64) {
        let shown = shown_line(line);
        if self.lines == 0 {
            self.first = shown[..shown.len().min(PREVIEW)].to_vec();
        }
        self.last.clear();
        self.last.extend_from_slice(&shown[..shown.len().min(PREVIEW)]);
        let line = masker.apply(shown);
        self.lines += 1;
        if self.lines > limit {
            self.beyond = hash(self.beyond, &line) | 1;
        } else {
            self.node = tree.step(self.node, hash(0, &line), &line[..line.len().min(PREVIEW)]);
        }
    }
}

#[cfg(test)]
mod tests;
