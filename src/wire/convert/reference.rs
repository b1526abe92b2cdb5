//! References to jobs and tasks.

use bytes::Bytes;

use crate::{
    domain::{
        ids::{InvalidJobId, JobId, JobReference, TaskId},
        job::MOST_TASKS,
    },
    wire::{
        bounds::{OutOfBounds, job_number},
        proto::{self, job_reference::Kind},
    },
};

/// The error for a reference to a job or a task that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The reference is missing.
    #[error("the job is missing")]
    Missing,
    /// The job's id is not valid.
    #[error(transparent)]
    Id(#[from] InvalidJobId),
    /// The job's number is too high.
    #[error(transparent)]
    Number(#[from] OutOfBounds),
    /// The task's index is higher than that of any task.
    #[error("task {0}; a job has at most {MOST_TASKS}")]
    Task(u32),
}

pub(super) fn id_out(id: JobId) -> Bytes {
    id.to_bytes().to_vec().into()
}

pub(super) fn task_id(job: &[u8], index: u32) -> Result<TaskId, InvalidReference> {
    if index >= MOST_TASKS {
        return Err(InvalidReference::Task(index));
    }
    Ok(TaskId { job: JobId::from_bytes(job)?, index })
}

impl From<JobReference> for proto::JobReference {
    fn from(reference: JobReference) -> Self {
        let kind = match reference {
            JobReference::Id(id) => Kind::JobId(id_out(id)),
            JobReference::Number(number) => Kind::Number(number),
            JobReference::Last => Kind::Last(proto::LastOfAll {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::JobReference> for JobReference {
    type Error = InvalidReference;

    fn try_from(reference: proto::JobReference) -> Result<Self, InvalidReference> {
        match reference.kind {
            Some(Kind::JobId(id)) => Ok(Self::Id(JobId::from_bytes(&id)?)),
            Some(Kind::Number(number)) => Ok(Self::Number(job_number(number)?)),
            Some(Kind::Last(_)) => Ok(Self::Last),
            None => Err(InvalidReference::Missing),
        }
    }
}

pub(super) fn reference_in(job: Option<proto::JobReference>) -> Result<JobReference, InvalidReference> {
    job.ok_or(InvalidReference::Missing)?.try_into()
}
