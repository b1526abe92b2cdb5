//! Computes the digest of a job from its output log and the states of its tasks: groups of equal output, and silent tasks.
//!
//! Knows nothing of the clients, or of how often they need a digest.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::master::output_log::LogPosition;
use crate::{
    domain::{
        digest::GroupDigest,
        frame::Frame,
        groups::{Group, Grouping, mask::Masker},
        job::{Job, Task, TaskState},
        offset::OutputOffset,
        outcome::Outcome,
        plan::Gate,
        time::UnixMs,
    },
    master::{journal::Changes, output_log::LogReader},
    sys::clock::unix_ms,
};

/// Maximum number of groups in a digest.
const MAX_GROUPS: usize = 200;
/// A task is quiet when it has printed nothing for this long. Digests report this although nothing else has
/// changed.
pub(super) const QUIET_AFTER: Duration = Duration::from_secs(5);
/// How long reading the log may delay a digest.
const MAX_READ_TIME: Duration = Duration::from_millis(200);

/// Computes the digests of one job, each from the one before.
pub(super) struct Digester {
    job: Job,
    grouping: Grouping,
    reader: LogReader,
    /// Tasks that have changed since the last digest.
    changed: Vec<Task>,
    /// Tasks that have ended, each with the end of the log at that time. They are compared as ended once the
    /// log was read up to there.
    ending: Vec<(u32, Outcome, LogPosition)>,
}

/// The state of a job and the groups of its output.
#[derive(Debug)]
pub(super) struct Digest {
    /// Tasks that have changed since the digest before.
    pub changed: Vec<Task>,
    /// Groups of tasks with the same output, largest first; only the first [`MAX_GROUPS`].
    pub groups: Vec<GroupDigest>,
    /// The number of further groups.
    pub more_groups: u32,
    /// The job's gate.
    pub gate: Gate,
    /// When the job ended. The digest then contains all output.
    pub ended_ms: Option<UnixMs>,
    /// The digest contains the log before this position.
    pub read: LogPosition,
    /// How long the digest took to compute.
    pub cost: Duration,
}

impl Digester {
    pub(super) fn new(job: Job, maskers: Vec<Masker>, reader: LogReader) -> Self {
        Self { job, grouping: Grouping::new(maskers), reader, changed: Vec::new(), ending: Vec::new() }
    }

    /// Returns when a frame was printed, on the master's clock.
    fn time_of(&self, task: u32, frame: &Frame) -> UnixMs {
        let started_ms = self.job.task(task).and_then(|task| task.started_ms);
        started_ms.unwrap_or(self.job.created_ms) + Duration::from_nanos(frame.time_ns)
    }

    /// Reads the log up to `end`, but no longer than `longest`, so that states are reported while large
    /// output is still being compared. Returns true if all of it was read. Blocks on the disk.
    fn feed(&mut self, end: LogPosition, longest: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        let mut has_read = false;
        while !has_read && begun.elapsed() < longest {
            let frames = self.reader.read(end)?;
            has_read = frames.is_empty();
            for (task, frame) in frames {
                let at_ms = self.time_of(task, &frame);
                self.grouping.take(task, &frame, at_ms);
            }
        }
        let position = self.reader.position();
        for (task, outcome, at) in std::mem::take(&mut self.ending) {
            if has_read || at <= position {
                let end_offset = self.job.task(task).map_or(OutputOffset::START, |task| task.end_offset);
                self.grouping.miss(task, end_offset);
                self.grouping.end(task, outcome);
            } else {
                self.ending.push((task, outcome, at));
            }
        }
        Ok(has_read)
    }

    /// Reads the log for a limited time and computes a digest, on a thread that may block. The last value
    /// reports whether the digest contains everything up to `end`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn work(mut self, end: LogPosition) -> io::Result<(Self, Digest, bool)> {
        let work = move || {
            let has_read = self.feed(end, MAX_READ_TIME)?;
            let digest = self.digest(has_read.then_some(end));
            Ok((self, digest, has_read))
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// Applies new states of tasks. `until` is the end of the log, which contains all output before these
    /// states.
    pub(super) fn take(&mut self, news: Changes, until: LogPosition) {
        for task in news.tasks {
            if let Some(outcome) = task.state.outcome() {
                self.ending.push((task.index, outcome.clone(), until));
            }
            if let Some(known) = self.job.task_mut(task.index) {
                known.clone_from(&task);
            }
            self.changed.push(task);
        }
        if let Some(gate) = news.gate {
            self.job.gate = gate;
        }
        self.job.ended_ms = news.ended_ms.or(self.job.ended_ms);
    }

    /// Computes a digest. `end` is the end of the log if everything before it was read.
    fn digest(&mut self, end: Option<LogPosition>) -> Digest {
        let begun = Instant::now();
        let now_ms = unix_ms();
        let mut groups = self.grouping.groups();
        for group in &mut groups {
            // A job that was recovered from its agents may lack some of its tasks.
            group.tasks.retain(|task| self.job.task(*task).is_some());
        }
        groups.retain(|group| !group.tasks.is_empty());
        let more_groups = u32::try_from(groups.len().saturating_sub(MAX_GROUPS)).unwrap_or(u32::MAX);
        let largest = groups.first().map_or(0, |group| group.example);
        let shown = |group| self.shown(group, largest, UnixMs(now_ms));
        let groups = groups.into_iter().take(MAX_GROUPS).map(shown).collect();
        Digest {
            changed: std::mem::take(&mut self.changed),
            groups,
            more_groups,
            gate: self.job.gate.clone(),
            ended_ms: self.job.ended_ms.filter(|_| end.is_some()),
            read: end.unwrap_or(self.reader.position()),
            cost: begun.elapsed(),
        }
    }

    /// Returns those of the tasks that run and are quiet, each with the time of its last output or start.
    fn quiet(&self, tasks: &[u32], now_ms: UnixMs) -> Vec<(u32, UnixMs)> {
        let quiet = |index: &u32| {
            let task = self.job.task(*index)?;
            let is_running = task.state == TaskState::Running;
            let since_ms = self.grouping.last_output_ms(*index).max(task.started_ms)?;
            let is_quiet = now_ms.since(since_ms) >= QUIET_AFTER;
            (is_running && is_quiet).then_some((*index, since_ms))
        };
        tasks.iter().filter_map(quiet).collect()
    }

    /// Reports whether a digest changes with time alone.
    pub(super) fn has_running(&self) -> bool {
        self.job.tasks.iter().any(|task| task.state == TaskState::Running)
    }

    /// Returns a group as clients see it.
    fn shown(&self, group: Group, largest: u32, now_ms: UnixMs) -> GroupDigest {
        let line_at = |task: u32| {
            let line = group.parted.and_then(|parting| self.grouping.line_at(task, parting));
            line.unwrap_or_default().to_vec()
        };
        let first = self.grouping.first_line(group.example);
        GroupDigest {
            outcome: group.outcome,
            example: group.example,
            lines: group.lines,
            parting: group.parted,
            is_long: group.long,
            last_output_ms: group.tasks.iter().filter_map(|task| self.grouping.last_output_ms(*task)).max(),
            first_line_stream: first.map(|(stream, _)| stream),
            first_line: first.map_or_else(Vec::new, |(_, line)| line.to_vec()),
            last_line: self.grouping.last_line(group.example).unwrap_or_default().to_vec(),
            last_error: self.grouping.last_error(group.example).unwrap_or_default().to_vec(),
            differing_line: line_at(group.example),
            usual_line: line_at(largest),
            quiet: self.quiet(&group.tasks, now_ms),
            tasks: group.tasks,
        }
    }
}
