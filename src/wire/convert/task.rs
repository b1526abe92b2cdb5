//! The specification of a task that an agent receives, and the tasks that an agent reports that it has.

use super::{
    InvalidOptions, InvalidReference,
    command::{directory_in, directory_out, limit_in, variables_in, variables_out},
    input::{input_in, input_out},
    reference::{id_out, task_id},
    seal::{seal_in, seal_out},
};
use crate::{
    domain::{
        command::{InvalidCommand, TaskSpec},
        ids::TaskId,
        session::HeldTask,
        time::UnixMs,
    },
    wire::{
        bounds::{OutOfBounds, job_number},
        proto,
    },
};

/// The error for a task that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTask {
    /// The task is missing.
    #[error("a task is missing")]
    Missing,
    /// The task has no command.
    #[error("a task's command is missing")]
    NoCommand,
    /// The task's id is not valid.
    #[error(transparent)]
    Id(#[from] InvalidReference),
    /// The task's command is not valid.
    #[error(transparent)]
    Command(#[from] InvalidCommand),
    /// The task's environment or working directory is not valid.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// The number of the task's job, or the task's time limit, is too high.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
}

/// Converts a task's specification, together with the task's id.
pub(super) fn spec_out(id: TaskId, spec: TaskSpec) -> proto::TaskSpec {
    proto::TaskSpec {
        job_id: id_out(id.job),
        job_number: spec.job_number,
        task_index: id.index,
        operator: spec.operator.into(),
        target: spec.target.into(),
        command: Some(spec.command.into()),
        environment: variables_out(spec.environment),
        working_directory: directory_out(spec.working_directory),
        timeout_ms: spec.timeout_ms,
        kill_grace_ms: spec.kill_grace_ms,
        input: input_out(spec.input),
        by_admin: spec.by_admin,
        seal: seal_out(spec.seal),
    }
}

pub(super) fn spec_in(spec: proto::TaskSpec) -> Result<TaskSpec, InvalidTask> {
    Ok(TaskSpec {
        job_number: job_number(spec.job_number)?,
        operator: spec.operator.into(),
        target: spec.target.into(),
        command: spec.command.ok_or(InvalidTask::NoCommand)?.try_into()?,
        environment: variables_in(spec.environment)?,
        working_directory: directory_in(spec.working_directory)?,
        timeout_ms: limit_in(spec.timeout_ms, "a time limit")?,
        kill_grace_ms: spec.kill_grace_ms,
        input: input_in(spec.input),
        by_admin: spec.by_admin,
        seal: seal_in(spec.seal.as_ref()),
    })
}

impl From<HeldTask> for proto::HeldTask {
    fn from(task: HeldTask) -> Self {
        Self { spec: Some(spec_out(task.id, task.spec)), started_ms: task.started_ms.0 }
    }
}

impl TryFrom<proto::HeldTask> for HeldTask {
    type Error = InvalidTask;

    fn try_from(task: proto::HeldTask) -> Result<Self, InvalidTask> {
        let spec = task.spec.ok_or(InvalidTask::Missing)?;
        let id = task_id(&spec.job_id, spec.task_index)?;
        Ok(Self { id, spec: spec_in(spec)?, started_ms: UnixMs(task.started_ms) })
    }
}
