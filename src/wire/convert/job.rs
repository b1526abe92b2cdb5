//! Jobs and tasks, as clients see them.

use super::{InvalidOutcome, reference::id_out};
use crate::{
    domain::{
        command::InvalidCommand,
        ids::{InvalidJobId, JobId},
        job::{Job, LastJob, LeftOut, LeftOutKind, Task, TaskState},
        name::InvalidName,
        offset::OutputOffset,
        outcome::Outcome,
        time::UnixMs,
    },
    wire::proto,
};

/// The error for a job, or one of its tasks, that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJob {
    /// The job is missing.
    #[error("a job is missing")]
    Missing,
    /// The job's id is not valid.
    #[error(transparent)]
    Id(#[from] InvalidJobId),
    /// The job has no command.
    #[error("a job's command is missing")]
    NoCommand,
    /// The job's command is not valid.
    #[error(transparent)]
    Command(#[from] InvalidCommand),
    /// The name of a task's agent is not valid.
    #[error(transparent)]
    Agent(#[from] InvalidName),
    /// This version does not know the state of a task.
    #[error("a task in a state that this version does not know")]
    State,
    /// A task has ended without an outcome.
    #[error("a task that has ended has no outcome")]
    NoOutcome,
    /// The outcome of a task is not valid.
    #[error(transparent)]
    Outcome(#[from] InvalidOutcome),
}

fn state_out(state: TaskState) -> (proto::TaskState, Option<proto::Outcome>) {
    match state {
        TaskState::Queued => (proto::TaskState::Queued, None),
        TaskState::Dispatched => (proto::TaskState::Dispatched, None),
        TaskState::Running => (proto::TaskState::Running, None),
        TaskState::Ended(outcome) => (proto::TaskState::Ended, Some(outcome.into())),
    }
}

fn state_in(state: proto::TaskState, outcome: Option<proto::Outcome>) -> Result<TaskState, InvalidJob> {
    Ok(match state {
        proto::TaskState::Queued => TaskState::Queued,
        proto::TaskState::Dispatched => TaskState::Dispatched,
        proto::TaskState::Running => TaskState::Running,
        proto::TaskState::Ended => {
            TaskState::Ended(Outcome::try_from(outcome.ok_or(InvalidJob::NoOutcome)?)?)
        }
        proto::TaskState::Unspecified => return Err(InvalidJob::State),
    })
}

impl From<Task> for proto::Task {
    fn from(task: Task) -> Self {
        let (state, outcome) = state_out(task.state);
        Self {
            index: task.index,
            agent: task.agent.into(),
            state: state.into(),
            outcome,
            no_contact_since_ms: task.no_contact_since_ms.map(|moment| moment.0),
            started_ms: task.started_ms.map(|moment| moment.0),
            duration_ns: task.duration_ns,
            end_offset: task.end_offset.0,
            batch: task.batch,
            waiting: task.waiting.into(),
            later: task.later.map(Into::into),
        }
    }
}

impl TryFrom<proto::Task> for Task {
    type Error = InvalidJob;

    fn try_from(task: proto::Task) -> Result<Self, InvalidJob> {
        let state = state_in(task.state(), task.outcome)?;
        Ok(Self {
            index: task.index,
            agent: task.agent.try_into()?,
            state,
            no_contact_since_ms: task.no_contact_since_ms.map(UnixMs),
            started_ms: task.started_ms.map(UnixMs),
            duration_ns: task.duration_ns,
            end_offset: OutputOffset(task.end_offset),
            batch: task.batch,
            waiting: task.waiting.into(),
            later: task.later.map(TryInto::try_into).transpose()?,
        })
    }
}

pub(super) fn tasks_out(tasks: Vec<Task>) -> Vec<proto::Task> {
    tasks.into_iter().map(Into::into).collect()
}

pub(super) fn tasks_in(tasks: Vec<proto::Task>) -> Result<Vec<Task>, InvalidJob> {
    tasks.into_iter().map(TryInto::try_into).collect()
}

impl From<LastJob> for proto::LastJob {
    fn from(last: LastJob) -> Self {
        let LastJob { number, operator, state, no_contact } = last;
        let (state, outcome) = state_out(state);
        Self { number, operator: operator.into(), state: state.into(), outcome, no_contact }
    }
}

impl TryFrom<proto::LastJob> for LastJob {
    type Error = InvalidJob;

    fn try_from(last: proto::LastJob) -> Result<Self, InvalidJob> {
        let state = state_in(last.state(), last.outcome)?;
        Ok(Self { number: last.number, operator: last.operator.into(), state, no_contact: last.no_contact })
    }
}

impl From<LeftOut> for proto::LeftOut {
    fn from(left: LeftOut) -> Self {
        let kind = match left.kind {
            LeftOutKind::Other => proto::LeftOutKind::Unspecified,
            LeftOutKind::Draining => proto::LeftOutKind::Draining,
            LeftOutKind::Changed => proto::LeftOutKind::Changed,
            LeftOutKind::NewMatch => proto::LeftOutKind::NewMatch,
        };
        Self { name: left.agent, kind: kind.into(), reason: left.reason.into(), named: left.named }
    }
}

impl From<proto::LeftOut> for LeftOut {
    fn from(left: proto::LeftOut) -> Self {
        let kind = match left.kind() {
            proto::LeftOutKind::Unspecified => LeftOutKind::Other,
            proto::LeftOutKind::Draining => LeftOutKind::Draining,
            proto::LeftOutKind::Changed => LeftOutKind::Changed,
            proto::LeftOutKind::NewMatch => LeftOutKind::NewMatch,
        };
        Self { agent: left.name, kind, reason: left.reason.into(), named: left.named }
    }
}

impl From<Job> for proto::Job {
    fn from(job: Job) -> Self {
        Self {
            job_id: id_out(job.id),
            number: job.number,
            operator: job.operator.into(),
            target: job.target.into(),
            command: Some(job.command.into()),
            created_ms: job.created_ms.0,
            ended_ms: job.ended_ms.map(|moment| moment.0),
            tasks: tasks_out(job.tasks),
            task_count: job.task_count,
            succeeded: job.succeeded,
            unfinished: job.unfinished,
            left_out: job.left_out.into_iter().map(Into::into).collect(),
            plain_name: job.plain_name,
            gate: Some(job.gate.into()),
            masks: Some(job.masks.into()),
            command_left_out: job.command_left_out,
        }
    }
}

impl TryFrom<proto::Job> for Job {
    type Error = InvalidJob;

    fn try_from(job: proto::Job) -> Result<Self, InvalidJob> {
        Ok(Self {
            id: JobId::from_bytes(&job.job_id)?,
            number: job.number,
            operator: job.operator.into(),
            target: job.target.into(),
            plain_name: job.plain_name,
            command: job.command.ok_or(InvalidJob::NoCommand)?.try_into()?,
            created_ms: UnixMs(job.created_ms),
            ended_ms: job.ended_ms.map(UnixMs),
            tasks: tasks_in(job.tasks)?,
            task_count: job.task_count,
            succeeded: job.succeeded,
            unfinished: job.unfinished,
            left_out: job.left_out.into_iter().map(Into::into).collect(),
            gate: job.gate.unwrap_or_default().into(),
            masks: job.masks.unwrap_or_default().into(),
            command_left_out: job.command_left_out,
        })
    }
}
