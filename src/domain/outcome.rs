//! The outcome of a task. Each task gets exactly one, which is final and is never a guess.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Reason, Word},
    offset::OutputOffset,
    seal::Seal,
    text::plural,
};

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The way in which it ended.
    pub ending: Ending,
    /// The number of background processes that still held the command's pipes when the end was reported.
    #[serde(default)]
    pub background: u32,
}

/// The end of a task: its outcome, and how much it printed until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEnding {
    /// The outcome.
    pub outcome: Outcome,
    /// The number of bytes that it printed, both streams together.
    pub end_offset: OutputOffset,
    /// How long it ran, in nanoseconds by the agent's monotonic clock.
    pub duration_ns: u64,
}

/// The eight ways in which a task can end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The command ended by itself with this status.
    Exited(u8),
    /// A signal that sloth-runner did not send ended it.
    Signaled(i32),
    /// It reached its timeout and was killed.
    TimedOut(KillProof),
    /// An operator cancelled it.
    Cancelled {
        /// What the kill did; `None` if the task had not started.
        proof: Option<KillProof>,
        /// The operator who cancelled it.
        by: Word,
        /// The master's seal on the order to cancel, which the agent returns as a proof. The master does not
        /// store it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seal: Option<Seal>,
    },
    /// The agent or the master refused to start it.
    Refused(Reason),
    /// It never started, because its agent could not be reached.
    Undeliverable(Reason),
    /// It started, and there is evidence that its end cannot be known.
    Lost(Reason),
    /// The job stopped before the task was started.
    Skipped(Reason),
}

/// The value of `by` when an agent is stopped on its own machine. No operator ordered that, so it needs no
/// proof.
pub const AGENT_STOP: &str = "agent stop";

/// The value of `by` if the master has no record of the order and the agent no proof.
const UNRECORDED: &str = "an order of which the master has no record";

/// What a kill did to a process tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillProof {
    /// Processes that ended.
    pub ended: u32,
    /// The first [`MAX_SURVIVORS`] processes that still exist.
    pub left: Vec<Survivor>,
    /// The number of further processes that still exist.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_left: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Maximum number of processes that a proof lists.
pub const MAX_SURVIVORS: usize = 32;

impl KillProof {
    /// Creates a proof that lists at most [`MAX_SURVIVORS`] survivors and counts the rest.
    #[must_use]
    pub fn new(ended: u32, mut left: Vec<Survivor>, more_left: u32) -> Self {
        let rest = left.len().saturating_sub(MAX_SURVIVORS);
        left.truncate(MAX_SURVIVORS);
        let rest = u32::try_from(rest).unwrap_or(u32::MAX);
        Self { ended, left, more_left: more_left.saturating_add(rest) }
    }

    /// Returns the number of processes that still exist.
    #[must_use]
    pub fn left_count(&self) -> u64 {
        self.left.len() as u64 + u64::from(self.more_left)
    }
}

/// A process that still exists after SIGKILL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Its process id.
    pub pid: u32,
    /// Its state, for people.
    pub state: Word,
}

/// A result by which a list of jobs is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// All tasks exited 0.
    Ok,
    /// The job has ended, and a task did not exit 0.
    Failed,
    /// The job has not ended.
    Running,
    /// A task has an outcome with this word, which is one of [`Outcome::WORDS`].
    Outcome(&'static str),
}

impl JobResult {
    /// Returns the result's name, as in options and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Outcome(word) => word,
        }
    }

    /// Returns all results.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Failed, Self::Running].into_iter().chain(Outcome::WORDS.map(Self::Outcome))
    }
}

impl FromStr for JobResult {
    type Err = String;

    /// Parses a result's name. A hyphen equals an underscore.
    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.replace('-', "_");
        Self::all().find(|result| result.word() == word).ok_or_else(|| {
            let words: Vec<&str> = Self::all().map(Self::word).collect();
            format!("no job is {text:?}: it is one of {}", words.join(", "))
        })
    }
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        Self { ending, background: 0 }
    }
}

impl Outcome {
    /// Reports whether the command exited with status 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Exited(0)
    }

    /// All values of [`Self::word`].
    pub const WORDS: [&'static str; 8] =
        ["exited", "signaled", "timed_out", "cancelled", "refused", "undeliverable", "lost", "skipped"];

    /// Returns the outcome's name in JSON and other output for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.ending {
            Ending::Exited(_) => "exited",
            Ending::Signaled(_) => "signaled",
            Ending::TimedOut(_) => "timed_out",
            Ending::Cancelled { .. } => "cancelled",
            Ending::Refused(_) => "refused",
            Ending::Undeliverable(_) => "undeliverable",
            Ending::Lost(_) => "lost",
            Ending::Skipped(_) => "skipped",
        }
    }

    /// Returns the kill proof, if sloth-runner killed the processes.
    #[must_use]
    pub fn proof(&self) -> Option<&KillProof> {
        match &self.ending {
            Ending::TimedOut(proof) => Some(proof),
            Ending::Cancelled { proof, .. } => proof.as_ref(),
            _ => None,
        }
    }

    /// Reports whether the command ran to a known end that no operator caused.
    #[must_use]
    pub fn has_run(&self) -> bool {
        match self.ending {
            Ending::Exited(_) | Ending::Signaled(_) | Ending::TimedOut(_) => true,
            Ending::Cancelled { .. }
            | Ending::Refused(_)
            | Ending::Undeliverable(_)
            | Ending::Lost(_)
            | Ending::Skipped(_) => false,
        }
    }

    /// Reports whether the agent has the outcome on its disk and reports it again until the master has stored
    /// it. Every other outcome is a conclusion of the master, and is final only once it is stored.
    #[must_use]
    pub fn is_agents_own(&self) -> bool {
        match &self.ending {
            Ending::Exited(_) | Ending::Signaled(_) | Ending::TimedOut(_) => true,
            Ending::Cancelled { proof, .. } => proof.is_some(),
            Ending::Refused(_) | Ending::Undeliverable(_) | Ending::Lost(_) | Ending::Skipped(_) => false,
        }
    }

    /// Returns the part that distinguishes groups of tasks: the word and the exit status, but not the
    /// processes that a kill found.
    #[must_use]
    pub fn kind(&self) -> (&'static str, Option<u8>) {
        (self.word(), self.status())
    }

    /// Removes the seal, and clears `by` unless the seal proves it or the agent was stopped on its machine.
    #[must_use]
    pub fn cancelled_as_proved(mut self, is_proved: impl FnOnce(&str, Option<Seal>) -> bool) -> Self {
        if let Ending::Cancelled { by, seal, .. } = &mut self.ending
            && !is_proved(by, seal.take())
            && *by != AGENT_STOP
        {
            by.clear();
        }
        self
    }

    /// Sets `by` from the master's record if the agent has proved nothing about it.
    #[must_use]
    pub fn cancelled_on_record(mut self, record: Option<Word>) -> Self {
        if let Ending::Cancelled { by, .. } = &mut self.ending
            && by.is_empty()
        {
            *by = record.unwrap_or_else(|| UNRECORDED.into());
        }
        self
    }

    /// Returns the exit status of the command as a shell reports it; `None` if the command did not end by
    /// itself or by a foreign signal.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        match self.ending {
            Ending::Exited(code) => Some(code),
            // The highest signal is 64, so 128 + n always fits.
            Ending::Signaled(signal) => signal.checked_add(128).and_then(|status| u8::try_from(status).ok()),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ending {
            Ending::Exited(code) => write!(f, "exited {code}")?,
            Ending::Signaled(signal) => write!(f, "killed by {}", signal_name(*signal))?,
            Ending::TimedOut(proof) => write!(f, "timed out, {proof}")?,
            Ending::Cancelled { proof: Some(proof), by, .. } => {
                write!(f, "cancelled by {by}, {proof}")?;
            }
            Ending::Cancelled { proof: None, by, .. } => {
                write!(f, "cancelled by {by} before it started")?;
            }
            Ending::Refused(reason) => write!(f, "refused: {reason}")?,
            Ending::Undeliverable(reason) => write!(f, "undeliverable: {reason}")?,
            Ending::Lost(reason) => write!(f, "lost: {reason}")?,
            Ending::Skipped(reason) => write!(f, "skipped: {reason}")?,
        }
        match self.background {
            0 => Ok(()),
            1 => f.write_str(", 1 background process continues"),
            n => write!(f, ", {n} background processes continue"),
        }
    }
}

impl fmt::Display for KillProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = plural("process", self.ended as usize);
        write!(f, "{} {noun} ended, {} left", self.ended, self.left_count())?;
        for (index, survivor) in self.left.iter().take(3).enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}pid {} ({})", survivor.pid, survivor.state)?;
        }
        Ok(())
    }
}

/// Returns a signal's name as `kill -l` prints it, with `SIG` before it.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 32] = [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
        "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(signal).ok().and_then(|index| NAMES.get(index)) {
        Some(name) if !name.is_empty() => format!("SIG{name}"),
        _ => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_read_like_sentences() {
        let proof = KillProof::new(7, vec![Survivor { pid: 4242, state: "disk wait".into() }], 0);
        let table = [
            (Outcome::from(Ending::Exited(0)), "exited 0"),
            (
                Outcome { ending: Ending::Exited(3), background: 2 },
                "exited 3, 2 background processes continue",
            ),
            (Ending::Signaled(9).into(), "killed by SIGKILL"),
            (Ending::Signaled(40).into(), "killed by signal 40"),
            (
                Ending::Cancelled { proof: Some(proof), by: "ana".into(), seal: None }.into(),
                "cancelled by ana, 7 processes ended, 1 left: pid 4242 (disk wait)",
            ),
            (Ending::Lost("machine rebooted".into()).into(), "lost: machine rebooted"),
        ];
        for (outcome, text) in table {
            assert_eq!(outcome.to_string(), text);
        }
    }

    #[test]
    fn only_the_commands_own_end_has_a_status() {
        assert_eq!(Outcome::from(Ending::Exited(3)).status(), Some(3));
        assert_eq!(Outcome::from(Ending::Signaled(15)).status(), Some(143));
        assert_eq!(Outcome::from(Ending::Lost(Reason::default())).status(), None);
        assert_eq!(Outcome::from(Ending::TimedOut(KillProof::default())).status(), None);
    }
}
