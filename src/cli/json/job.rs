//! Jobs, their tasks, and the output of tasks.

use serde::Serialize;

use super::{outcome::OutcomeObject, some};
use crate::domain::{
    digest::GroupDigest,
    groups::mask::Masks,
    ids::JobId,
    job::{Job, LeftOutKind, Task},
    name::AgentName,
    offset::OutputOffset,
    outcome::Outcome,
    target::fold::fold,
    time::UnixMs,
};

/// `job list`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct JobList<'a> {
    jobs: Vec<JobObject<'a>>,
}

impl<'a> JobList<'a> {
    pub(in crate::cli) fn new(jobs: &'a [Job]) -> Self {
        Self { jobs: jobs.iter().map(JobObject::new).collect() }
    }
}

/// A job. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct JobObject<'a> {
    id: JobId,
    number: u64,
    operator: &'a str,
    target: &'a str,
    command: String,
    /// Number of bytes that a list omits at the end of the command.
    command_left_out: u64,
    created_ms: UnixMs,
    ended_ms: Option<UnixMs>,
    task_count: u32,
    left_out: Vec<LeftOutObject<'a>>,
    /// Empty in lists.
    tasks: Vec<TaskObject<'a>>,
}

/// An agent that matched the target, but has no task.
#[derive(Debug, Serialize)]
struct LeftOutObject<'a> {
    agent: &'a str,
    kind: LeftOutKind,
    reason: &'a str,
    named: bool,
}

impl<'a> JobObject<'a> {
    /// Creates a job without the output of its tasks.
    pub(in crate::cli) fn new(job: &'a Job) -> Self {
        Self::with_outputs(job, |_| None)
    }

    /// Creates a job with the output of each task.
    pub(in crate::cli) fn with_outputs(job: &'a Job, output: impl Fn(&Task) -> Option<Output<'a>>) -> Self {
        let left_out = job.left_out.iter().map(|left| LeftOutObject {
            agent: &left.agent,
            kind: left.kind,
            reason: left.reason.as_str(),
            named: left.named,
        });
        Self {
            id: job.id,
            number: job.number,
            operator: job.operator.as_str(),
            target: job.target.as_str(),
            command: job.shown_command(),
            command_left_out: job.command_left_out,
            created_ms: job.created_ms,
            ended_ms: job.ended_ms,
            task_count: job.task_count,
            left_out: left_out.collect(),
            tasks: job
                .tasks
                .iter()
                .map(|task| TaskObject { output: output(task), ..TaskObject::new(task) })
                .collect(),
        }
    }
}

/// The part of a job that one agent runs.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct TaskObject<'a> {
    index: u32,
    agent: &'a AgentName,
    /// `queued`, `dispatched`, `running`, or the name of the outcome.
    state: &'static str,
    outcome: Option<OutcomeObject<'a>>,
    /// The task's contribution to the exit status of the client, in the convention of a shell.
    status: Option<u8>,
    batch: u32,
    started_ms: Option<UnixMs>,
    duration_ns: u64,
    end_offset: OutputOffset,
    no_contact_since_ms: Option<UnixMs>,
    waiting: Option<&'a str>,
    /// How the task ended according to a later report. The outcome is final and does not change.
    later: Option<OutcomeObject<'a>>,
    #[serde(flatten)]
    output: Option<Output<'a>>,
}

impl<'a> TaskObject<'a> {
    pub(in crate::cli) fn new(task: &'a Task) -> Self {
        let outcome = task.state.outcome();
        Self {
            index: task.index,
            agent: &task.agent,
            state: task.state.word(),
            outcome: outcome.map(OutcomeObject::new),
            status: outcome.and_then(Outcome::status),
            batch: task.batch + 1,
            started_ms: task.started_ms,
            duration_ns: task.duration_ns,
            end_offset: task.end_offset,
            no_contact_since_ms: task.no_contact_since_ms,
            waiting: some(task.waiting.as_str()),
            later: task.later.as_ref().map(OutcomeObject::new),
            output: None,
        }
    }
}

/// The output of a task.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Output<'a> {
    /// The text, with replacement characters for invalid UTF-8.
    pub(in crate::cli) stdout: String,
    /// The exact bytes in Base64, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) stdout_base64: Option<String>,
    /// Whether bytes may be missing.
    pub(in crate::cli) stdout_truncated: bool,
    pub(in crate::cli) stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) stderr_base64: Option<String>,
    pub(in crate::cli) stderr_truncated: bool,
    pub(in crate::cli) gaps: &'a [Gap],
}

/// A range of a task's output that no longer exists.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Gap {
    /// The first missing offset.
    pub(in crate::cli) from: OutputOffset,
    /// The first offset after the gap.
    pub(in crate::cli) to: OutputOffset,
    pub(in crate::cli) reason: String,
    /// The position of the gap in the exact bytes of each stream.
    pub(in crate::cli) stdout_at: usize,
    pub(in crate::cli) stderr_at: usize,
}

/// A job whose tasks are grouped by their output (`-b`).
#[derive(Debug, Serialize)]
pub(in crate::cli) struct GroupedJob<'a> {
    #[serde(flatten)]
    job: JobObject<'a>,
    /// The masks that were applied for the comparison.
    masks: String,
    groups: Vec<GroupObject<'a>>,
}

impl<'a> GroupedJob<'a> {
    pub(in crate::cli) fn new(job: &'a Job, groups: &'a [GroupDigest], masks: Masks) -> Self {
        let group = |group| GroupObject::new(job, group);
        Self {
            job: JobObject::new(job),
            masks: masks.to_string(),
            groups: groups.iter().map(group).collect(),
        }
    }
}

/// Tasks that printed the same and ended in the same way.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct GroupObject<'a> {
    agents: Vec<&'a str>,
    folded: String,
    outcome: Option<OutcomeObject<'a>>,
    stdout_lines: u64,
    stderr_lines: u64,
    first_line: String,
    differs_from_line: Option<u64>,
}

impl<'a> GroupObject<'a> {
    fn new(job: &'a Job, group: &'a GroupDigest) -> Self {
        let agents: Vec<&str> = group.tasks_of(job).map(|task| task.agent.as_str()).collect();
        Self {
            folded: fold(agents.iter().copied()),
            agents,
            outcome: group.outcome.as_ref().map(OutcomeObject::new),
            stdout_lines: group.lines[0],
            stderr_lines: group.lines[1],
            first_line: String::from_utf8_lossy(&group.first_line).into_owned(),
            differs_from_line: group.parting.map(|parting| parting.line),
        }
    }
}
