//! Converts jobs and tasks.

use super::{InvalidMessage, proto};
use crate::domain::{
    ids::JobId,
    job::{Job, LastJob, LeftOut, Task, TaskState},
    outcome::Outcome,
};

fn state_out(state: TaskState) -> (proto::TaskState, Option<proto::Outcome>) {
    match state {
        TaskState::Queued => (proto::TaskState::Queued, None),
        TaskState::Dispatched => (proto::TaskState::Dispatched, None),
        TaskState::Running => (proto::TaskState::Running, None),
        TaskState::Ended(outcome) => (proto::TaskState::Ended, Some(outcome.into())),
    }
}

fn state_in(state: proto::TaskState, outcome: Option<proto::Outcome>) -> Result<TaskState, InvalidMessage> {
    Ok(match state {
        proto::TaskState::Queued => TaskState::Queued,
        proto::TaskState::Dispatched => TaskState::Dispatched,
        proto::TaskState::Running => TaskState::Running,
        proto::TaskState::Ended => {
            let outcome = outcome.ok_or_else(|| InvalidMessage::missing("an outcome"))?;
            TaskState::Ended(Outcome::try_from(outcome)?)
        }
        proto::TaskState::Unspecified => return Err(InvalidMessage::missing("a task's state")),
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
            no_contact_since_ms: task.no_contact_since_ms.unwrap_or(0),
            started_ms: task.started_ms.unwrap_or(0),
            duration_ns: task.duration_ns,
            end_offset: task.end_offset,
            batch: task.batch,
            waiting: task.waiting.into(),
            later: task.later.map(Into::into),
        }
    }
}

fn some(ms: u64) -> Option<u64> {
    (ms > 0).then_some(ms)
}

impl TryFrom<proto::Task> for Task {
    type Error = InvalidMessage;

    fn try_from(task: proto::Task) -> Result<Self, InvalidMessage> {
        let state = state_in(task.state(), task.outcome)?;
        Ok(Self {
            index: task.index,
            agent: task.agent.try_into().map_err(InvalidMessage::because)?,
            state,
            no_contact_since_ms: some(task.no_contact_since_ms),
            started_ms: some(task.started_ms),
            duration_ns: task.duration_ns,
            end_offset: task.end_offset,
            batch: task.batch,
            waiting: task.waiting.into(),
            later: task.later.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<LastJob> for proto::LastJob {
    fn from(last: LastJob) -> Self {
        let LastJob { number, operator, state, no_contact } = last;
        let (state, outcome) = state_out(state);
        Self { number, operator: operator.into(), state: state.into(), outcome, no_contact }
    }
}

impl TryFrom<proto::LastJob> for LastJob {
    type Error = InvalidMessage;

    fn try_from(last: proto::LastJob) -> Result<Self, InvalidMessage> {
        let state = state_in(last.state(), last.outcome)?;
        Ok(Self { number: last.number, operator: last.operator.into(), state, no_contact: last.no_contact })
    }
}

impl From<LeftOut> for proto::LeftOut {
    fn from(left: LeftOut) -> Self {
        Self { name: left.agent, reason: left.reason.into(), named: left.named }
    }
}

impl From<proto::LeftOut> for LeftOut {
    fn from(left: proto::LeftOut) -> Self {
        Self { agent: left.name, reason: left.reason.into(), named: left.named }
    }
}

impl From<Job> for proto::Job {
    fn from(job: Job) -> Self {
        Self {
            job_id: job.id.to_bytes().to_vec().into(),
            number: job.number,
            operator: job.operator.into(),
            target: job.target.into(),
            command: Some(job.command.into()),
            created_ms: job.created_ms,
            ended_ms: job.ended_ms.unwrap_or(0),
            tasks: job.tasks.into_iter().map(Into::into).collect(),
            task_count: job.task_count,
            succeeded: job.succeeded,
            unfinished: job.unfinished,
            left_out: job.left_out.into_iter().map(Into::into).collect(),
            plain_name: job.plain_name,
            gate: Some(job.gate.into()),
            masks: job.masks.to_string(),
            command_left_out: job.command_left_out,
        }
    }
}

impl TryFrom<proto::Job> for Job {
    type Error = InvalidMessage;

    fn try_from(job: proto::Job) -> Result<Self, InvalidMessage> {
        let command = job.command.ok_or_else(|| InvalidMessage::missing("a job's command"))?;
        Ok(Self {
            id: JobId::from_bytes(&job.job_id).map_err(InvalidMessage::because)?,
            number: job.number,
            operator: job.operator.into(),
            target: job.target.into(),
            plain_name: job.plain_name,
            command: command.try_into()?,
            created_ms: job.created_ms,
            ended_ms: some(job.ended_ms),
            tasks: job.tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            task_count: job.task_count,
            succeeded: job.succeeded,
            unfinished: job.unfinished,
            left_out: job.left_out.into_iter().map(Into::into).collect(),
            gate: job.gate.unwrap_or_default().into(),
            masks: job.masks.parse().map_err(InvalidMessage::because)?,
            command_left_out: job.command_left_out,
        })
    }
}
