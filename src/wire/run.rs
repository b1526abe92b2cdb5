//! Runs and tasks on the wire.

use super::{InvalidMessage, proto};
use crate::domain::{
    ids::RunId,
    outcome::Outcome,
    run::{LastRun, LeftOut, Run, Task, TaskState},
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

impl From<LastRun> for proto::LastRun {
    fn from(last: LastRun) -> Self {
        let LastRun { number, operator, state, no_contact } = last;
        let (state, outcome) = state_out(state);
        Self { number, operator: operator.into(), state: state.into(), outcome, no_contact }
    }
}

impl TryFrom<proto::LastRun> for LastRun {
    type Error = InvalidMessage;

    fn try_from(last: proto::LastRun) -> Result<Self, InvalidMessage> {
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

impl From<Run> for proto::Run {
    fn from(run: Run) -> Self {
        Self {
            run_id: run.id.to_bytes().to_vec().into(),
            number: run.number,
            operator: run.operator.into(),
            target: run.target.into(),
            command: Some(run.command.into()),
            created_ms: run.created_ms,
            ended_ms: run.ended_ms.unwrap_or(0),
            tasks: run.tasks.into_iter().map(Into::into).collect(),
            task_count: run.task_count,
            succeeded: run.succeeded,
            unfinished: run.unfinished,
            left_out: run.left_out.into_iter().map(Into::into).collect(),
            plain_name: run.plain_name,
            gate: Some(run.gate.into()),
            masks: run.masks.to_string(),
            command_left_out: run.command_left_out,
        }
    }
}

impl TryFrom<proto::Run> for Run {
    type Error = InvalidMessage;

    fn try_from(run: proto::Run) -> Result<Self, InvalidMessage> {
        let command = run.command.ok_or_else(|| InvalidMessage::missing("a run's command"))?;
        Ok(Self {
            id: RunId::from_bytes(&run.run_id).map_err(InvalidMessage::because)?,
            number: run.number,
            operator: run.operator.into(),
            target: run.target.into(),
            plain_name: run.plain_name,
            command: command.try_into()?,
            created_ms: run.created_ms,
            ended_ms: some(run.ended_ms),
            tasks: run.tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            task_count: run.task_count,
            succeeded: run.succeeded,
            unfinished: run.unfinished,
            left_out: run.left_out.into_iter().map(Into::into).collect(),
            gate: run.gate.unwrap_or_default().into(),
            masks: run.masks.parse().map_err(InvalidMessage::because)?,
            command_left_out: run.command_left_out,
        })
    }
}
