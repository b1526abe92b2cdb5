//! Groups of running tasks: which ones have the same output so far, where output diverged, and which ones are silent.
//!
//! Lines are hashed into one prefix tree a stream, so a line costs one step and a comparison of two tasks a look at
//! their common ancestor. Stdout and stderr are apart: interleaving must not make equal commands differ. Pure: the
//! caller brings bytes, outcomes and the time.

pub mod line;
pub mod mask;
mod step;
mod tree;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hasher as _},
};

use self::{
    line::shown_line,
    mask::Masker,
    step::Standing,
    tree::{NodeId, ROOT, Tree},
};
use super::{
    frame::{Frame, Stream},
    outcome::Outcome,
};

/// Lines of all tasks together that are told apart; beyond its share of them a task is long.
const LINES_IN_ALL: usize = 4_000_000;
/// Minimum and maximum number of lines of one task that are compared one by one.
const LINES_OF_ONE: (usize, usize) = (256, 50_000);
/// A line without an end is compared in pieces of this many bytes.
const PIECE: usize = 64 * 1024;
/// Bytes of a task's first line that are kept for showing.
pub const PREVIEW: usize = 240;

/// One stream of one task.
#[derive(Debug)]
struct Place {
    node: NodeId,
    /// The beginning of a line that is not complete.
    pending: Vec<u8>,
    lines: u64,
    /// Lines behind the limit, as one hash; 0 for none.
    beyond: u64,
    /// The first line, as it is shown.
    first: Vec<u8>,
    /// The newest complete one.
    last: Vec<u8>,
}

#[derive(Debug)]
struct TaskText {
    masker: Masker,
    streams: [Place; 2],
    outcome: Option<Outcome>,
    last_output_ms: Option<u64>,
    /// Where the next byte belongs.
    next: u64,
    /// Some of it is missing, so that nobody knows whether it is the same as another's.
    is_incomplete: bool,
}

/// All tasks of a job, by what they printed.
#[derive(Debug)]
pub struct Grouping {
    trees: [Tree; 2],
    tasks: Vec<TaskText>,
    /// Number of lines of one task in one stream that are compared one by one.
    limit: u64,
}

/// Tasks that agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their indices in the job, in order.
    pub tasks: Vec<u32>,
    /// How all of them ended; `None` while they run.
    pub outcome: Option<Outcome>,
    /// The one that got furthest, for showing.
    pub example: u32,
    /// Its lines on stdout and on stderr.
    pub lines: [u64; 2],
    /// Where they part from the largest group; `None` where they do not, or nobody knows.
    pub parted: Option<Parting>,
    /// Printed more than is compared, or some of it is missing: that counts only at the end.
    pub long: bool,
}

/// Where two groups part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    /// In which stream.
    pub stream: Stream,
    /// At which line, from 1.
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
    /// Tasks that have printed nothing, with the masks for their lines.
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
            next: 0,
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

    /// Takes a frame, and that what lies between it and the one before is missing.
    pub fn take(&mut self, task: u32, frame: &Frame, now_ms: u64) {
        self.miss(task, frame.offset);
        if let Some(text) = usize::try_from(task).ok().and_then(|task| self.tasks.get_mut(task)) {
            text.next = frame.end().max(text.next);
        }
        self.feed(task, frame.stream, &frame.data, now_ms);
    }

    /// Takes that what a task printed before this offset, and was not brought, is missing. A line that was begun ends here:
    /// what comes later is another one. Nobody knows whether what is missing was the same: the task agrees with no other.
    pub fn miss(&mut self, task: u32, until: u64) {
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

    /// Takes what a task printed next on one stream, at a time of the caller's clock.
    pub fn feed(&mut self, task: u32, stream: Stream, bytes: &[u8], now_ms: u64) {
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

    /// Takes how a task ended, after all that it printed. A last line without an end counts now.
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

    /// When a task printed last, on the caller's clock; `None` for one that printed nothing.
    #[must_use]
    pub fn last_output_ms(&self, task: u32) -> Option<u64> {
        self.task(task)?.last_output_ms
    }

    /// A task's first line as it is shown, of stdout where there is one.
    #[must_use]
    pub fn first_line(&self, task: u32) -> Option<(Stream, &[u8])> {
        let text = self.task(task)?;
        let first = |stream: Stream| {
            let place = &text.streams[index(stream)];
            (place.lines > 0).then_some((stream, place.first.as_slice()))
        };
        first(Stream::Stdout).or_else(|| first(Stream::Stderr))
    }

    /// A task's newest complete line as it is shown, of the stream that has more.
    #[must_use]
    pub fn last_line(&self, task: u32) -> Option<&[u8]> {
        let longer = self.task(task)?.streams.iter().max_by_key(|place| place.lines)?;
        (longer.lines > 0).then_some(longer.last.as_slice())
    }

    /// Whether two tasks printed the same and ended the same way, as far as is known.
    #[must_use]
    pub fn agree(&self, left: u32, right: u32) -> bool {
        let key =
            |task| self.task(task).map(|text| (text.key(task), text.outcome.as_ref().map(Outcome::kind)));
        key(left).is_some() && key(left) == key(right)
    }

    /// Bytes that all this takes in memory, nearly.
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

    /// The groups, largest first, and by the first of their tasks where they are equally large.
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

    /// Running tasks in groups: one that is a prefix of another in both streams is in step with it. One that fits
    /// several joins the one that most tasks fit, and of those the one with the first task.
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

/// What a task printed, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    nodes: [NodeId; 2],
    beyond: [u64; 2],
    /// The task itself, where it can be the same as no other.
    alone: Option<u32>,
}

impl Key {
    /// What does not count before the end is left out.
    fn of_running(self) -> Self {
        Self { beyond: [0, 0], alone: None, ..self }
    }
}

/// What of an outcome tells groups apart.
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
            self.node = tree.step(self.node, hash(0, &line));
        }
    }
}

#[cfg(test)]
mod tests;
