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
    outcome::JobResult,
    plan::Gate,
    target::selection::Selection,
};

/// Starts a job. Idempotent on its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartJob {
    /// The id that the client made.
    pub id: JobId,
    /// The agents.
    pub selection: Selection,
    /// The command.
    pub command: Command,
    /// How it runs.
    pub options: JobOptions,
    /// The agents that a person was shown: the job runs on them, or not at all. Empty when none were shown.
    pub shown: Vec<ShownAgent>,
    /// The answer continues until the job ends; otherwise it ends when the job is stored.
    pub follow: bool,
}

/// Runs the command of an earlier job again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerunJob {
    /// The earlier job.
    pub job: JobReference,
    /// The id of the new job, which the client made.
    pub id: JobId,
    /// Only on agents where it did not exit 0.
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
    pub from_offset: u64,
    /// Leaves out output from this offset of each task on. With one agent the stream ends there.
    pub until_offset: Option<u64>,
    /// The stream continues until the job ends; otherwise it ends with what there is now.
    pub follow: bool,
    /// States only.
    pub without_output: bool,
    /// For the client that started the job: commands with output over the cap wait for it.
    pub attached: bool,
    /// The stream can leave out output when it is more than this number of bytes of the log behind, and reports gaps.
    pub most_behind: Option<u64>,
    /// Up to where the client has each task's output from an earlier stream.
    pub seen: Vec<TaskOffset>,
}

impl FollowJob {
    /// All there is of a job now.
    #[must_use]
    pub fn new(job: JobReference) -> Self {
        Self {
            job,
            agents: Vec::new(),
            from_offset: 0,
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
    /// Bytes of the task's output before it, both streams together.
    pub offset: u64,
}

/// Output of a task that no longer exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskGap {
    /// The first missing offset.
    pub from: u64,
    /// The first offset that exists again.
    pub to: u64,
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
        /// What it printed, in order.
        frames: Vec<Frame>,
    },
    /// Output of a task is missing.
    Gap {
        /// The task's index.
        task: u32,
        /// Which part.
        gap: TaskGap,
    },
    /// The gate between two batches has changed.
    Gate(Gate),
    /// All tasks have ended and everything that was asked for was sent; the last event.
    Ended {
        /// When the job ended.
        ended_ms: u64,
    },
    /// Nothing was started because what was shown is no longer true; the only event.
    TargetChanged {
        /// Agents that were shown and are deleted or have a new key.
        gone: Vec<LeftOut>,
        /// Agents that match and were not shown.
        more: Vec<AgentName>,
    },
    /// Nothing was started, for this reason; the only event.
    Refused(String),
    /// The master ends: ask again and say what was seen. The last event.
    Closing(Closing),
}

/// Watches the groups of a job, live or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchJob {
    /// The job.
    pub job: JobReference,
    /// What differs without a meaning.
    pub masks: Masks,
    /// The stream continues until the job ends; otherwise it ends with what there is now.
    pub follow: bool,
}

/// A job at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobDigest {
    /// The job with all its tasks; in the first digest.
    pub job: Option<Box<Job>>,
    /// Tasks that have changed since the last digest.
    pub tasks: Vec<Task>,
    /// Tasks with the same output, largest group first; at most 200 groups.
    pub groups: Vec<GroupDigest>,
    /// Groups beyond those.
    pub more_groups: u32,
    /// The gate between batches.
    pub gate: Gate,
    /// When the job ended; in the last digest.
    pub ended_ms: Option<u64>,
    /// The master ends: ask again. Set in the last digest of such a master.
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

/// Watches the jobs: the newest ones first, then what changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchJobs {
    /// The number of jobs that are sent first.
    pub newest: Option<u32>,
}

/// A part of what has changed in the jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobsChange {
    /// This part begins a new list: jobs known before are to be forgotten.
    pub begins: bool,
    /// This part completes an answer.
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
    /// Only these tasks; all that have not ended if it is empty.
    pub tasks: Vec<u32>,
    /// The time between TERM and KILL, in milliseconds, from now on; `None` for the job's own.
    pub grace_ms: Option<u32>,
}

/// A job is being cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// The job's number.
    pub number: u64,
    /// Tasks that are being ended.
    pub ordered: u32,
    /// Tasks without contact: they are ended when their agent returns.
    pub stored: u32,
    /// The time between TERM and KILL that applies, in milliseconds.
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
    /// Tasks that end as skipped.
    pub skipped: u32,
}

/// Deletes a job that is over, and its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteJob {
    /// The job.
    pub job: JobReference,
}
