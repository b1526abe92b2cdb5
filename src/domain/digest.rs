//! The groups of a job, as clients see them: tasks with the same output and the same state.

use std::time::Duration;

use super::{
    frame::Stream,
    groups::Parting,
    job::{Job, Task, TaskState},
    outcome::{Ending, Outcome},
    text::strip_control,
    time::UnixMs,
};

/// The shortest silence after which a running task counts as silent.
pub const SILENT_AFTER: Duration = Duration::from_secs(10);
/// A running task counts as silent only after this multiple of the median run time of the finished tasks.
const SILENT_FACTOR: u32 = 3;

/// A group of tasks with the same output and the same state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDigest {
    /// The indices of the tasks, in ascending order.
    pub tasks: Vec<u32>,
    /// The outcome of the tasks; `None` while they run.
    pub outcome: Option<Outcome>,
    /// The index of the task that has printed most. Its output represents the group's.
    pub example: u32,
    /// The number of complete lines of the example on stdout and on stderr.
    pub lines: [u64; 2],
    /// The first line that differs from the largest group; `None` if there is no difference.
    pub parting: Option<Parting>,
    /// Whether the tasks printed more than is compared while they run.
    pub is_long: bool,
    /// The time of the last output of one of the tasks, in milliseconds since the Unix epoch.
    pub last_output_ms: Option<UnixMs>,
    /// The stream of the example's first line; `None` if there is no line.
    pub first_line_stream: Option<Stream>,
    /// The beginning of the example's first line, in the form in which it is shown.
    pub first_line: Vec<u8>,
    /// The beginning of the example's last complete line.
    pub last_line: Vec<u8>,
    /// The running tasks without recent output: their indices, and the time of their last output in
    /// milliseconds since the Unix epoch.
    pub quiet: Vec<(u32, UnixMs)>,
}

impl GroupDigest {
    /// Returns the tasks of the group, from their job.
    pub fn tasks_of<'a>(&'a self, job: &'a Job) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter_map(|index| job.task(*index))
    }

    /// Returns the number of complete lines in both streams.
    #[must_use]
    pub fn line_count(&self) -> u64 {
        self.lines.iter().sum()
    }

    /// Returns one line about the output of tasks that ended, with the details of the outcome.
    #[must_use]
    pub fn ended_text(&self, outcome: &Outcome) -> String {
        let detail = detail(outcome);
        let first = strip_control(&String::from_utf8_lossy(&self.first_line));
        let mut parts = Vec::new();
        match self.line_count() {
            0 if detail.as_ref().is_none_or(|_| outcome.killed_by_us()) => parts.push("no output".to_owned()),
            0 => {}
            1 => parts.push(first),
            count if first.trim().is_empty() => parts.push(format!("{count} lines")),
            2 => parts.push(format!("{first}  (+1 line)")),
            count => parts.push(format!("{first}  (+{} lines)", count - 1)),
        }
        parts.extend(detail);
        if let Some(parting) = self.parting.filter(|_| self.line_count() > 1) {
            parts.push(format!("differs from line {}", parting_text(parting)));
        }
        if self.is_long {
            parts.push("long".to_owned());
        }
        parts.join("; ")
    }

    /// Returns one line about the output of running tasks.
    #[must_use]
    pub fn running_text(&self) -> String {
        let shown = |line: &[u8]| strip_control(&String::from_utf8_lossy(line));
        let mut text = match self.line_count() {
            0 => "no output yet".to_owned(),
            1 => shown(&self.first_line),
            count => format!("line {count}: {}", shown(&self.last_line)),
        };
        if let Some(parting) = self.parting {
            text = format!("parts at {}; {text}", parting_text(parting));
        }
        text
    }
}

/// Returns the line of a difference as text: `14`, or `14 of stderr`.
#[must_use]
pub fn parting_text(parting: Parting) -> String {
    match parting.stream {
        Stream::Stdout => parting.line.to_string(),
        Stream::Stderr => format!("{} of stderr", parting.line),
    }
}

impl Outcome {
    /// Reports whether sloth-runner killed the command: such an outcome has a kill proof.
    #[must_use]
    pub fn killed_by_us(&self) -> bool {
        matches!(self.ending, Ending::Cancelled { .. } | Ending::TimedOut(_))
    }

    /// Returns the outcome in at most two words: `exited 3`, `timed out`.
    #[must_use]
    pub fn brief(&self) -> String {
        match self.ending {
            Ending::Exited(code) => format!("exited {code}"),
            _ => self.word().replace('_', " "),
        }
    }
}

/// Returns what an outcome contains besides its word: a reason, or a kill proof.
#[must_use]
pub fn detail(outcome: &Outcome) -> Option<String> {
    let text = outcome.to_string();
    match outcome.ending {
        Ending::Exited(_) if outcome.background == 0 => None,
        Ending::Exited(_) => text.split_once(", ").map(|(_, rest)| strip_control(rest)),
        Ending::Cancelled { .. } | Ending::TimedOut(_) => {
            text.split_once(", ").map(|(_, rest)| strip_control(rest)).or(Some(strip_control(&text)))
        }
        Ending::Signaled(_) => Some(strip_control(&text)),
        Ending::Refused(_) | Ending::Undeliverable(_) | Ending::Lost(_) | Ending::Skipped(_) => {
            text.split_once(": ").map(|(_, rest)| strip_control(rest))
        }
    }
}

/// Returns the number of tasks whose command ran to a known end, and their median run time.
/// `None` if there are no such tasks.
#[must_use]
pub fn median_duration(job: &Job) -> Option<(usize, Duration)> {
    let ran = |task: &&Task| matches!(&task.state, TaskState::Ended(outcome) if outcome.has_run());
    let mut took: Vec<u64> = job.tasks.iter().filter(ran).map(|task| task.duration_ns).collect();
    took.sort_unstable();
    took.get(took.len() / 2).map(|median| (took.len(), Duration::from_nanos(*median)))
}

/// Returns the silence after which a running task of this job counts as silent: the larger of
/// [`SILENT_AFTER`] and three times the median run time of the tasks that ended.
#[must_use]
pub fn silence_that_counts(job: &Job) -> Duration {
    let median = median_duration(job).map_or(Duration::ZERO, |(_, median)| median);
    SILENT_AFTER.max(median.saturating_mul(SILENT_FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_ten_seconds_and_three_times_the_median() {
        let mut job = Job::for_tests((0..3).map(|n| Task::queued(n, "a".parse().unwrap())).collect());
        assert_eq!(silence_that_counts(&job), Duration::from_secs(10));
        for task in &mut job.tasks[..2] {
            task.state = TaskState::Ended(Ending::Exited(0).into());
            task.duration_ns = 20_000_000_000;
        }
        assert_eq!(silence_that_counts(&job), Duration::from_mins(1));
    }

    #[test]
    fn a_group_is_said_in_one_line() {
        let group = GroupDigest {
            lines: [41, 0],
            first_line: b"Reading".to_vec(),
            last_line: b"Setting up".to_vec(),
            parting: Some(Parting { stream: Stream::Stdout, line: 14 }),
            ..GroupDigest::default()
        };
        assert_eq!(group.running_text(), "parts at 14; line 41: Setting up");
        let text = group.ended_text(&Ending::Exited(0).into());
        assert_eq!(text, "Reading  (+40 lines); differs from line 14");
        assert_eq!(GroupDigest::default().ended_text(&Ending::Exited(0).into()), "no output");
    }
}
