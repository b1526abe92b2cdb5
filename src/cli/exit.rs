//! Exit statuses, and the error that commands return.

use std::process::ExitCode;

use crate::{
    domain::{
        job::{Job, Task, TaskState},
        outcome::Ending,
    },
    wire::{client::ConnectError, status::CallError},
};

/// A process's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

/// The command succeeded.
pub(crate) const OK: Status = Status(0);
/// A command other than a job failed.
pub(crate) const FAILED: Status = Status(1);
/// The command line is invalid.
pub(crate) const USAGE: Status = Status(2);
/// The agent was ordered to stop; its service unit must not start it again.
pub(crate) const AGENT_STOPPED: Status = Status(3);
/// A task timed out.
pub(crate) const TIMED_OUT: Status = Status(124);
/// A task has no known exit status.
pub(crate) const NO_STATUS: Status = Status(125);
/// Interrupted by a signal: 128 + SIGINT.
pub(crate) const INTERRUPTED: Status = Status(130);

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.0)
    }
}

/// The failure of a command: the message, and the exit status.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// One or two lines; empty if everything was already reported.
    pub message: String,
    /// The exit status of the process.
    pub status: Status,
}

impl Failure {
    /// Creates a failure with the status [`FAILED`].
    pub(crate) fn new(message: impl ToString) -> Self {
        Self { message: message.to_string(), status: FAILED }
    }

    /// Creates a failure for an invalid command line.
    pub(crate) fn usage(message: impl ToString) -> Self {
        Self { message: message.to_string(), status: USAGE }
    }

    /// Returns the same message with another status.
    #[must_use]
    pub(crate) fn with(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

/// Returns the status of a job: the command's own for one task; for several 125, else 124, else the largest.
/// If an agent that the target names was left out, the job has no status.
#[must_use]
pub(crate) fn of_job(job: &Job) -> Status {
    if job.missed().next().is_some() { NO_STATUS } else { of_tasks(&job.tasks) }
}

fn of_tasks(tasks: &[Task]) -> Status {
    let status = |task: &Task| match &task.state {
        TaskState::Ended(outcome) => match (&outcome.ending, outcome.status()) {
            (_, Some(code)) => Status(code),
            (Ending::TimedOut(_), None) => TIMED_OUT,
            (_, None) => NO_STATUS,
        },
        TaskState::Queued | TaskState::Dispatched | TaskState::Running => NO_STATUS,
    };
    let is_own = |task: &Task| task.state.outcome().is_some_and(|outcome| outcome.status().is_some());
    if tasks.iter().any(|task| !is_own(task) && status(task) == NO_STATUS) {
        return NO_STATUS;
    }
    if tasks.iter().any(|task| !is_own(task)) {
        return TIMED_OUT;
    }
    tasks.iter().map(status).max_by_key(|status| status.0).unwrap_or(NO_STATUS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        job::{LeftOut, LeftOutKind},
        outcome::KillProof,
    };

    fn tasks(endings: &[Ending]) -> Vec<Task> {
        let task = |ending: &Ending| Task {
            state: TaskState::Ended(ending.clone().into()),
            ..Task::queued(0, "a".parse().unwrap())
        };
        endings.iter().map(task).collect()
    }

    #[test]
    fn who_was_asked_for_by_name_and_left_out_has_no_status() {
        let mut job = Job::for_tests(tasks(&[Ending::Exited(0)]));
        let left = |named| LeftOut {
            agent: "b".into(),
            kind: LeftOutKind::Draining,
            reason: "draining".into(),
            named,
        };
        job.left_out.push(left(false));
        assert_eq!(of_job(&job), OK, "an expression runs on those that take tasks");
        job.left_out.push(left(true));
        assert_eq!(of_job(&job), NO_STATUS);
    }

    #[test]
    fn a_missing_status_outweighs_a_timeout_outweighs_the_largest() {
        use Ending as E;
        let (timeout, lost) = (E::TimedOut(KillProof::default()), E::Lost(String::new().into()));
        for (endings, status) in [
            (vec![E::Exited(0)], 0),
            (vec![E::Exited(3), E::Exited(1)], 3),
            (vec![E::Signaled(9)], 137),
            (vec![E::Exited(255), timeout.clone()], 124),
            (vec![timeout, lost.clone(), E::Exited(7)], 125),
            (vec![lost], 125),
            (vec![], 125),
        ] {
            assert_eq!(of_tasks(&tasks(&endings)), Status(status), "{endings:?}");
        }
    }
}
