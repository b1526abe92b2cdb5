//! The groups of a job, as clients see them: tasks with the same output and the same state.

use std::{ops::Range, time::Duration};

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

/// One line about a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLine {
    /// The text.
    pub text: String,
    /// The bytes of it that differ from the largest group.
    pub differing: Range<usize>,
}

impl GroupLine {
    fn plain(text: String) -> Self {
        Self { text, differing: 0..0 }
    }

    /// Creates a line, and finds the part of it that differs from another one.
    fn differing(text: String, usual: &str) -> Self {
        if usual.is_empty() {
            return Self::plain(text);
        }
        let same = |(a, b): &(char, char)| a == b;
        let length = |(sign, _): (char, char)| sign.len_utf8();
        let begin: usize = text.chars().zip(usual.chars()).take_while(same).map(length).sum();
        let (rest, usual) = (&text[begin..], &usual[begin..]);
        let end: usize = rest.chars().rev().zip(usual.chars().rev()).take_while(same).map(length).sum();
        Self { differing: begin..text.len() - end, text }
    }

    fn followed_by(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    fn after(self, before: &str) -> Self {
        let shift = before.len();
        let differing = self.differing.start + shift..self.differing.end + shift;
        Self { text: format!("{before}{}", self.text), differing }
    }
}

fn shown(line: &[u8]) -> String {
    strip_control(&String::from_utf8_lossy(line))
}

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
    /// The beginning of the example's last line on stderr; empty if there is none.
    pub last_error: Vec<u8>,
    /// The beginning of the example's line at the difference; empty if it is not known.
    pub differing_line: Vec<u8>,
    /// The beginning of the largest group's line at the difference; empty if it is not known, or there is none.
    pub usual_line: Vec<u8>,
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

    /// Returns one line about the output of tasks that ended, with the details of the outcome: what distinguishes them. That is
    /// the last error of those that failed, and the first line that differs of the others.
    #[must_use]
    pub fn ended_line(&self, outcome: &Outcome) -> GroupLine {
        let detail = detail(outcome);
        let count = self.line_count();
        let (line, place) = if !outcome.is_success() && !self.last_error.is_empty() {
            (GroupLine::plain(shown(&self.last_error)), None)
        } else if let Some(parting) = self.parting.filter(|_| !self.differing_line.is_empty()) {
            let line = GroupLine::differing(shown(&self.differing_line), &shown(&self.usual_line));
            (line, Some(parting).filter(|_| count > 1))
        } else {
            (GroupLine::plain(shown(&self.first_line)), None)
        };
        let mut rest = Vec::new();
        let line = match count {
            0 if detail.as_ref().is_none_or(|_| outcome.killed_by_us()) => {
                GroupLine::plain("no output".to_owned())
            }
            0 => GroupLine::default(),
            count if line.text.trim().is_empty() => GroupLine::plain(format!("{count} lines")),
            1 => line,
            2 => line.followed_by("  (+1 line)"),
            count => line.followed_by(&format!("  (+{} lines)", count - 1)),
        };
        rest.extend(detail);
        let line = match (place, self.parting.filter(|_| count > 1)) {
            (Some(parting), _) => line.after(&format!("line {}: ", parting_text(parting))),
            (None, Some(parting)) => {
                rest.push(format!("differs from line {}", parting_text(parting)));
                line
            }
            (None, None) => line,
        };
        if self.is_long {
            rest.push("long".to_owned());
        }
        rest.into_iter().fold(line, |line, part| {
            let gap = if line.text.is_empty() { "" } else { "; " };
            line.followed_by(&format!("{gap}{part}"))
        })
    }

    /// Returns the text of `ended_line`.
    #[must_use]
    pub fn ended_text(&self, outcome: &Outcome) -> String {
        self.ended_line(outcome).text
    }

    /// Returns one line about the output of running tasks.
    #[must_use]
    pub fn running_text(&self) -> String {
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
    fn a_line_says_what_tells_a_group_from_the_others() {
        let parting = Some(Parting { stream: Stream::Stdout, line: 3 });
        let group = GroupDigest {
            lines: [60, 1],
            first_line: b"Reading package lists...".to_vec(),
            last_line: b"Done".to_vec(),
            last_error: b"E: dpkg was interrupted".to_vec(),
            differing_line: b"kernel 5.15.0 generic".to_vec(),
            usual_line: b"kernel 6.1.0 generic".to_vec(),
            parting,
            ..GroupDigest::default()
        };
        let line = group.ended_line(&Ending::Exited(100).into());
        assert_eq!(line.text, "E: dpkg was interrupted  (+60 lines); differs from line 3");
        let line = group.ended_line(&Ending::Exited(0).into());
        assert_eq!(line.text, "line 3: kernel 5.15.0 generic  (+60 lines)");
        assert_eq!(&line.text[line.differing], "5.15");
        let only = GroupDigest { lines: [1, 0], last_error: Vec::new(), ..group.clone() };
        let line = only.ended_line(&Ending::Exited(1).into());
        assert_eq!(
            (line.text.as_str(), &line.text[line.differing.clone()]),
            ("kernel 5.15.0 generic", "5.15")
        );
        let unknown = GroupDigest { differing_line: Vec::new(), last_error: Vec::new(), ..group };
        let line = unknown.ended_line(&Ending::Exited(1).into());
        assert_eq!(line.text, "Reading package lists...  (+60 lines); differs from line 3");
        let same = GroupLine::differing("abc".to_owned(), "abcd");
        assert!(same.text.get(same.differing).is_some_and(str::is_empty), "it only lacks something");
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
