//! The events of a job.
//!
//! The calls that start, rerun and follow a job return a stream of events. Their responses differ only in the
//! names of the messages, so one type reads and writes all three; a test compares the descriptors.

use super::{
    InvalidFrame, InvalidJob,
    frame::{frames_in, frames_out},
};
use crate::{
    domain::{
        control::{Closing, JobEvent, TaskGap},
        job::LeftOut,
        name::{AgentName, InvalidName},
        offset::OutputOffset,
        time::UnixMs,
    },
    wire::proto::{self, job_event::Kind},
};

/// The error for an event that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The event's kind is missing, or this version does not know it.
    #[error("an event of a kind that this version does not know")]
    Kind,
    /// A job or a task in the event is not valid.
    #[error(transparent)]
    Job(#[from] InvalidJob),
    /// A frame of output in the event is not valid.
    #[error(transparent)]
    Frame(#[from] InvalidFrame),
    /// A gap has no offsets.
    #[error("a gap without its offsets")]
    Gap,
    /// The name of an agent in the event is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl From<TaskGap> for proto::Gap {
    fn from(TaskGap { from, to, reason }: TaskGap) -> Self {
        Self { from: from.0, to: to.0, reason }
    }
}

impl From<proto::Gap> for TaskGap {
    fn from(proto::Gap { from, to, reason }: proto::Gap) -> Self {
        Self { from: OutputOffset(from), to: OutputOffset(to), reason }
    }
}

impl From<Closing> for proto::Closing {
    fn from(Closing { reason, retry_after_ms }: Closing) -> Self {
        Self { reason, retry_after_ms }
    }
}

impl From<proto::Closing> for Closing {
    fn from(proto::Closing { reason, retry_after_ms }: proto::Closing) -> Self {
        Self { reason, retry_after_ms }
    }
}

impl From<JobEvent> for proto::FollowJobResponse {
    fn from(event: JobEvent) -> Self {
        let kind = match event {
            JobEvent::Job(job) => Kind::Job((*job).into()),
            JobEvent::Task(task) => Kind::Task((*task).into()),
            JobEvent::Output { task, frames } => {
                Kind::Output(proto::TaskOutput { task_index: task, frames: frames_out(frames) })
            }
            JobEvent::Gap { task, gap } => {
                Kind::Gap(proto::TaskGap { task_index: task, gap: Some(gap.into()) })
            }
            JobEvent::Gate(gate) => Kind::Gate(gate.into()),
            JobEvent::Ended { ended_ms: UnixMs(ended_ms) } => Kind::Ended(proto::JobEnded { ended_ms }),
            JobEvent::TargetChanged { gone, more } => Kind::TargetChanged(proto::TargetChanged {
                gone: gone.into_iter().map(Into::into).collect(),
                more: more.into_iter().map(Into::into).collect(),
            }),
            JobEvent::Refused(reason) => Kind::Refused(proto::StartRefused { reason }),
            JobEvent::Closing(closing) => Kind::Closing(closing.into()),
        };
        Self { event: Some(proto::JobEvent { kind: Some(kind) }) }
    }
}

impl TryFrom<proto::FollowJobResponse> for JobEvent {
    type Error = InvalidEvent;

    fn try_from(response: proto::FollowJobResponse) -> Result<Self, InvalidEvent> {
        Ok(match response.event.and_then(|event| event.kind).ok_or(InvalidEvent::Kind)? {
            Kind::Job(job) => Self::Job(Box::new(job.try_into()?)),
            Kind::Task(task) => Self::Task(Box::new(task.try_into()?)),
            Kind::Output(output) => {
                Self::Output { task: output.task_index, frames: frames_in(output.frames)? }
            }
            Kind::Gap(gap) => {
                Self::Gap { task: gap.task_index, gap: gap.gap.ok_or(InvalidEvent::Gap)?.into() }
            }
            Kind::Gate(gate) => Self::Gate(gate.into()),
            Kind::Ended(ended) => Self::Ended { ended_ms: UnixMs(ended.ended_ms) },
            Kind::TargetChanged(changed) => Self::TargetChanged {
                gone: changed.gone.into_iter().map(LeftOut::from).collect(),
                more: changed.more.into_iter().map(AgentName::try_from).collect::<Result<_, _>>()?,
            },
            Kind::Refused(refused) => Self::Refused(refused.reason),
            Kind::Closing(closing) => Self::Closing(closing.into()),
        })
    }
}
