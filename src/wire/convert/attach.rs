//! The messages of an Attach, and of a request to stop a task. Frames and input are not copied.

use std::time::Duration;

use super::{
    InvalidFrame, InvalidMessage, InvalidOutcome, InvalidReference, InvalidTask,
    frame::{frames_in, frames_out},
    reference::{id_out, task_id},
    seal::{seal_in, seal_out},
    task::{spec_in, spec_out},
};
use crate::{
    domain::{
        attach::{AttachRequest, AttachResponse, Open, SignalTask, Signalled, StartPermission},
        ids::{Incarnation, TaskId},
        offset::OutputOffset,
        outcome::TaskEnding,
        revision::SealedRevision,
    },
    wire::proto::{self, attach_request, attach_response},
};

/// The error for a message of an Attach that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttach {
    /// The task's id is not valid.
    #[error(transparent)]
    Id(#[from] InvalidReference),
    /// The specification of the task to start is not valid.
    #[error(transparent)]
    Task(#[from] InvalidTask),
    /// The message names a task, but its start permission is for a different task.
    #[error("a permission to start another task than the one that the message names")]
    OtherTask,
    /// The output of a task is not valid.
    #[error(transparent)]
    Frame(#[from] InvalidFrame),
    /// The end of a task has no outcome.
    #[error("the end of a task without an outcome")]
    NoOutcome,
    /// The outcome of a task is not valid.
    #[error(transparent)]
    Outcome(#[from] InvalidOutcome),
}

fn permission_in(id: TaskId, start: proto::StartPermission) -> Result<StartPermission, InvalidAttach> {
    let spec = start.spec.ok_or(InvalidTask::Missing)?;
    if task_id(&spec.job_id, spec.task_index)? != id {
        return Err(InvalidAttach::OtherTask);
    }
    Ok(StartPermission { spec: spec_in(spec)?, within: Duration::from_millis(start.within_ms.into()) })
}

impl From<Open> for proto::Open {
    fn from(open: Open) -> Self {
        let start = |start: StartPermission| proto::StartPermission {
            spec: Some(spec_out(open.id, start.spec)),
            within_ms: u32::try_from(start.within.as_millis()).unwrap_or(u32::MAX),
        };
        Self {
            job_id: id_out(open.id.job),
            task_index: open.id.index,
            attempt: open.attempt,
            start: open.start.map(start),
            from_offset: open.from_offset.0,
            incarnation: open.incarnation.to_string(),
            grant_to: open.grant_to.0,
            revision: Some(open.revision.into()),
            sent: open.sent.map(Into::into),
        }
    }
}

impl TryFrom<proto::Open> for Open {
    type Error = InvalidAttach;

    fn try_from(open: proto::Open) -> Result<Self, InvalidAttach> {
        let id = task_id(&open.job_id, open.task_index)?;
        Ok(Self {
            id,
            attempt: open.attempt,
            start: open.start.map(|start| permission_in(id, start)).transpose()?,
            from_offset: OutputOffset(open.from_offset),
            incarnation: Incarnation::from(open.incarnation),
            grant_to: OutputOffset(open.grant_to),
            revision: open.revision.map_or_else(SealedRevision::default, Into::into),
            sent: open.sent.map(Into::into),
        })
    }
}

impl From<AttachRequest> for proto::AttachRequest {
    fn from(request: AttachRequest) -> Self {
        use attach_request::Kind;
        let kind = match request {
            AttachRequest::Open(open) => Kind::Open((*open).into()),
            AttachRequest::Grant(to_offset) => Kind::Grant(proto::Grant { to_offset: to_offset.0 }),
            AttachRequest::Acknowledge(offset) => Kind::Acknowledge(proto::Acknowledge { offset: offset.0 }),
            AttachRequest::OutcomeStored => Kind::OutcomeStored(proto::OutcomeStored {}),
            AttachRequest::Stdin(stdin) => Kind::Stdin(stdin.into()),
            AttachRequest::WindowSize(size) => Kind::WindowSize(size.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::AttachRequest> for AttachRequest {
    type Error = InvalidMessage;

    fn try_from(request: proto::AttachRequest) -> Result<Self, InvalidMessage> {
        use attach_request::Kind;
        Ok(match request.kind.ok_or(InvalidMessage::UnknownKind)? {
            Kind::Open(open) => Self::Open(Box::new(open.try_into()?)),
            Kind::Grant(grant) => Self::Grant(OutputOffset(grant.to_offset)),
            Kind::Acknowledge(acknowledge) => Self::Acknowledge(OutputOffset(acknowledge.offset)),
            Kind::OutcomeStored(_) => Self::OutcomeStored,
            Kind::Stdin(stdin) => Self::Stdin(stdin.into()),
            Kind::WindowSize(size) => Self::WindowSize(size.into()),
        })
    }
}

impl From<AttachResponse> for proto::AttachResponse {
    fn from(response: AttachResponse) -> Self {
        use attach_response::Kind;
        let kind = match response {
            AttachResponse::Started { elapsed_ns } => Kind::Started(proto::TaskStarted { elapsed_ns }),
            AttachResponse::Output(frames) => Kind::Output(proto::Output { frames: frames_out(frames) }),
            AttachResponse::Ended(ended) => Kind::Ended(proto::TaskEnded {
                outcome: Some(ended.outcome.into()),
                end_offset: ended.end_offset.0,
                duration_ns: ended.duration_ns,
            }),
            AttachResponse::Unknown { incarnation, reason } => {
                Kind::Unknown(proto::TaskUnknown { incarnation: incarnation.to_string(), reason })
            }
            AttachResponse::Superseded { by } => Kind::Superseded(proto::Superseded { by_attempt: by }),
            AttachResponse::Closing(closing) => Kind::Closing(closing.into()),
            AttachResponse::Gap(gap) => Kind::Gap(gap.into()),
            AttachResponse::InputTaken(taken) => Kind::InputTaken(taken.into()),
            AttachResponse::Held(reason) => Kind::Held(proto::Held { reason }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::AttachResponse> for AttachResponse {
    type Error = InvalidMessage;

    fn try_from(response: proto::AttachResponse) -> Result<Self, InvalidMessage> {
        use attach_response::Kind;
        Ok(match response.kind.ok_or(InvalidMessage::UnknownKind)? {
            Kind::Started(started) => Self::Started { elapsed_ns: started.elapsed_ns },
            Kind::Output(output) => Self::Output(frames_in(output.frames)?),
            Kind::Ended(ended) => Self::Ended(TaskEnding {
                outcome: ended
                    .outcome
                    .ok_or(InvalidAttach::NoOutcome)?
                    .try_into()
                    .map_err(InvalidAttach::Outcome)?,
                end_offset: OutputOffset(ended.end_offset),
                duration_ns: ended.duration_ns,
            }),
            Kind::Unknown(unknown) => {
                Self::Unknown { incarnation: Incarnation::from(unknown.incarnation), reason: unknown.reason }
            }
            Kind::Superseded(superseded) => Self::Superseded { by: superseded.by_attempt },
            Kind::Closing(closing) => Self::Closing(closing.into()),
            Kind::Gap(gap) => Self::Gap(gap.into()),
            Kind::InputTaken(taken) => Self::InputTaken(taken.into()),
            Kind::Held(held) => Self::Held(held.reason),
        })
    }
}

impl From<SignalTask> for proto::SignalRequest {
    fn from(signal: SignalTask) -> Self {
        Self {
            job_id: id_out(signal.id.job),
            task_index: signal.id.index,
            by: signal.by,
            grace_ms: signal.grace_ms,
            seal: seal_out(signal.seal),
        }
    }
}

impl TryFrom<proto::SignalRequest> for SignalTask {
    type Error = InvalidReference;

    fn try_from(request: proto::SignalRequest) -> Result<Self, InvalidReference> {
        Ok(Self {
            id: task_id(&request.job_id, request.task_index)?,
            by: request.by,
            grace_ms: request.grace_ms,
            seal: seal_in(request.seal.as_ref()),
        })
    }
}

impl From<Signalled> for proto::SignalResponse {
    fn from(signalled: Signalled) -> Self {
        Self { known: signalled.known, incarnation: signalled.incarnation.to_string() }
    }
}

impl From<proto::SignalResponse> for Signalled {
    fn from(response: proto::SignalResponse) -> Self {
        Self { known: response.known, incarnation: Incarnation::from(response.incarnation) }
    }
}
