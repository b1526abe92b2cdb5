//! Requests about jobs, and the events and digests of a job.

use super::{Closing, ShownAgent};
use crate::domain::{
    command::Command,
    digest::GroupDigest,
    frame::Frame,
    groups::mask::Masks,
    ids::{JobId, JobReference},
    job::{Job, JobOptions, LeftOut, Task},
    name::AgentName,
    offset::OutputOffset,
    outcome::JobResult,
    plan::Gate,
    target::selection::Selection,
    time::UnixMs,
};

/// Starts a job. Idempotent on its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartJob {
    /// The id that the client generated.
    pub id: JobId,
    /// The agents.
    pub selection: Selection,
    /// The command.
    pub command: Command,
    /// The options of the job.
    pub options: JobOptions,
    /// The agents that the operator was shown: the job runs on exactly these, or not at all. Empty if none
    /// were shown.
    pub shown: Vec<ShownAgent>,
    /// Whether the answer continues until the job ends; otherwise it ends when the job is stored.
    pub follow: bool,
}

/// Runs the command of an earlier job again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerunJob {
    /// The earlier job.
    pub job: JobReference,
    /// The id of the new job, which the client generated.
    pub id: JobId,
    /// Whether the command runs only on agents where it did not exit 0.
    pub failed: bool,
    /// As in [`StartJob`].
    pub follow: bool,
}

/// Follows a job, live or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowJob {
    /// The job.
    pub job: JobReference,
    /// Only the tasks of these agents; all if it is empty.
    pub agents: Vec<AgentName>,
    /// Leaves out output before this offset of each task.
    pub from_offset: OutputOffset,
    /// Leaves out output from this offset on, for each task. With one agent, the stream ends there.
    pub until_offset: Option<OutputOffset>,
    /// Whether the stream continues until the job ends; otherwise it ends with the current output.
    pub follow: bool,
    /// Whether only states are sent, and no output.
    pub without_output: bool,
    /// Set by the client that started the job: a command with more output than the cap waits for this client.
    pub attached: bool,
    /// The number of bytes of the log that the stream can be behind. Beyond that it leaves out output and
    /// reports gaps; `None` if it must not leave out output.
    pub most_behind: Option<u64>,
    /// The end of each task's output that the client has from an earlier stream.
    pub seen: Vec<TaskOffset>,
}

impl FollowJob {
    /// Requests everything that a job has now, of all agents.
    #[must_use]
    pub fn new(job: JobReference) -> Self {
        Self {
            job,
            agents: Vec::new(),
            from_offset: OutputOffset::START,
            until_offset: None,
            follow: false,
            without_output: false,
            attached: false,
            most_behind: None,
            seen: Vec::new(),
        }
    }
}

/// An offset in the output of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOffset {
    /// The task's index in its job.
    pub task: u32,
    /// The number of bytes of the task's output before it, both streams together.
    pub offset: OutputOffset,
}

/// Output of a task that no longer exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskGap {
    /// The first missing offset.
    pub from: OutputOffset,
    /// The first offset that exists again.
    pub to: OutputOffset,
    /// Why it is missing, for people.
    pub reason: String,
}

/// What happened in a job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEvent {
    /// The job as it is stored; always first.
    Job(Box<Job>),
    /// A task has changed.
    Task(Box<Task>),
    /// A task has printed something.
    Output {
        /// The task's index.
        task: u32,
        /// The output, in order.
        frames: Vec<Frame>,
    },
    /// Output of a task is missing.
    Gap {
        /// The task's index.
        task: u32,
        /// The missing part.
        gap: TaskGap,
    },
    /// The gate between two batches has changed.
    Gate(Gate),
    /// All tasks have ended and all requested output was sent; the last event.
    Ended {
        /// When the job ended.
        ended_ms: UnixMs,
    },
    /// Nothing was started, because the target no longer selects the agents that were shown; the only event.
    TargetChanged {
        /// Agents that were shown, and that were deleted or have a new key now.
        gone: Vec<LeftOut>,
        /// Agents that match the target and were not shown.
        more: Vec<AgentName>,
    },
    /// Nothing was started, for this reason; the only event.
    Refused(String),
    /// The master stops. The client reconnects and sends the offsets that it has. The last event.
    Closing(Closing),
}

/// Watches the groups of a job, live or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchJob {
    /// The job.
    pub job: JobReference,
    /// Masks for differences that do not matter.
    pub masks: Masks,
    /// Whether the stream continues until the job ends; otherwise it ends with the current output.
    pub follow: bool,
}

/// A snapshot of a job, or its changes since the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobDigest {
    /// The job with all its tasks; only in the first digest.
    pub job: Option<Box<Job>>,
    /// Tasks that have changed since the last digest.
    pub tasks: Vec<Task>,
    /// Groups of tasks with the same output, largest first; at most 200.
    pub groups: Vec<GroupDigest>,
    /// The number of groups beyond those.
    pub more_groups: u32,
    /// The gate between batches.
    pub gate: Gate,
    /// When the job ended; in the last digest.
    pub ended_ms: Option<UnixMs>,
    /// Set in the last digest of a master that stops: the client reconnects.
    pub closing: Option<Closing>,
}

/// Lists jobs, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListJobs {
    /// At most this number of jobs.
    pub limit: Option<u32>,
    /// Only jobs with a lower number than this.
    pub before: Option<u64>,
    /// Only jobs that were started within this time, in milliseconds.
    pub within_ms: Option<u64>,
    /// Only jobs of this operator.
    pub operator: Option<String>,
    /// Only jobs with a task on this agent.
    pub agent: Option<AgentName>,
    /// Only jobs whose command or target contains this text.
    pub text: Option<String>,
    /// Only jobs with this result.
    pub result: Option<JobResult>,
}

/// Watches the jobs: the answer is a list of the newest ones, and then every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchJobs {
    /// The number of jobs that are sent first.
    pub newest: Option<u32>,
}

/// A part of what has changed in the jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobsChange {
    /// Whether this part begins a new list. The client then drops all jobs that it had before.
    pub begins: bool,
    /// Whether this part completes an answer.
    pub is_complete: bool,
    /// Jobs as they are now, without their tasks.
    pub jobs: Vec<Job>,
    /// Jobs that were deleted.
    pub deleted: Vec<JobId>,
}

/// Cancels a job, or some of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelJob {
    /// The job.
    pub job: JobReference,
    /// Only these tasks; all unfinished tasks if it is empty.
    pub tasks: Vec<u32>,
    /// The time between SIGTERM and SIGKILL, in milliseconds; `None` for the job's own.
    pub grace_ms: Option<u32>,
}

/// A job is being cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// The job's number.
    pub number: u64,
    /// The number of tasks that are being killed.
    pub ordered: u32,
    /// The number of tasks without contact. They are killed when their agent reconnects.
    pub stored: u32,
    /// The time between SIGTERM and SIGKILL that applies, in milliseconds.
    pub grace_ms: u32,
}

/// Lets a job that waits at a gate continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromoteJob {
    /// The job.
    pub job: JobReference,
}

/// A job continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// The job's number.
    pub number: u64,
    /// The batch that starts now, from 1.
    pub batch: u32,
}

/// Starts no more tasks of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopJob {
    /// The job.
    pub job: JobReference,
}

/// A job starts no more tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoppedJob {
    /// The job's number.
    pub number: u64,
    /// The number of tasks that end as skipped.
    pub skipped: u32,
}

/// Deletes a job that has ended, and its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteJob {
    /// The job.
    pub job: JobReference,
}
