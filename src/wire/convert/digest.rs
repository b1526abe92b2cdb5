//! The groups of a job, and its digests.

use super::{
    InvalidJob, InvalidMessage, InvalidOutcome,
    frame::stream_in,
    job::{tasks_in, tasks_out},
};
use crate::{
    domain::{control::JobDigest, digest::GroupDigest, groups::Parting, outcome::Outcome, time::UnixMs},
    wire::proto,
};

/// The error for a group that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    /// The output stream of the group's difference is unknown.
    #[error("a difference in no stream")]
    Stream,
    /// The outcome of the group's tasks is not valid.
    #[error(transparent)]
    Outcome(#[from] InvalidOutcome),
}

impl From<Parting> for proto::Divergence {
    fn from(Parting { stream, line }: Parting) -> Self {
        Self { stream: proto::Stream::from(stream).into(), line }
    }
}

impl TryFrom<proto::Divergence> for Parting {
    type Error = InvalidGroup;

    fn try_from(divergence: proto::Divergence) -> Result<Self, InvalidGroup> {
        let stream = stream_in(divergence.stream()).ok_or(InvalidGroup::Stream)?;
        Ok(Self { stream, line: divergence.line })
    }
}

impl From<GroupDigest> for proto::Group {
    fn from(group: GroupDigest) -> Self {
        let [stdout_lines, stderr_lines] = group.lines;
        let (stream, text) = (group.first_line_stream, group.first_line);
        let quiet = |(index, UnixMs(since_ms))| proto::QuietTask { index, since_ms };
        Self {
            outcome: group.outcome.map(Into::into),
            example: group.example,
            stdout_lines,
            stderr_lines,
            divergence: group.parting.map(Into::into),
            long: group.is_long,
            last_output_ms: group.last_output_ms.map(|moment| moment.0),
            first_line: stream.map(|stream| proto::FirstLine {
                stream: proto::Stream::from(stream).into(),
                text: text.into(),
            }),
            last_line: group.last_line.into(),
            last_error: group.last_error.into(),
            differing_line: group.differing_line.into(),
            usual_line: group.usual_line.into(),
            quiet: group.quiet.into_iter().map(quiet).collect(),
            tasks: group.tasks,
        }
    }
}

impl TryFrom<proto::Group> for GroupDigest {
    type Error = InvalidGroup;

    fn try_from(group: proto::Group) -> Result<Self, InvalidGroup> {
        let first = group.first_line.unwrap_or_default();
        let first_line_stream = stream_in(first.stream());
        Ok(Self {
            outcome: group.outcome.map(Outcome::try_from).transpose()?,
            example: group.example,
            lines: [group.stdout_lines, group.stderr_lines],
            parting: group.divergence.map(Parting::try_from).transpose()?,
            is_long: group.long,
            last_output_ms: group.last_output_ms.map(UnixMs),
            first_line: if first_line_stream.is_some() { first.text.into() } else { Vec::new() },
            first_line_stream,
            last_line: group.last_line.into(),
            last_error: group.last_error.into(),
            differing_line: group.differing_line.into(),
            usual_line: group.usual_line.into(),
            quiet: group.quiet.into_iter().map(|quiet| (quiet.index, UnixMs(quiet.since_ms))).collect(),
            tasks: group.tasks,
        })
    }
}

impl From<JobDigest> for proto::WatchJobResponse {
    fn from(digest: JobDigest) -> Self {
        Self {
            job: digest.job.map(|job| (*job).into()),
            tasks: tasks_out(digest.tasks),
            groups: digest.groups.into_iter().map(Into::into).collect(),
            more_groups: digest.more_groups,
            gate: Some(digest.gate.into()),
            ended_ms: digest.ended_ms.map(|moment| moment.0),
            closing: digest.closing.map(Into::into),
        }
    }
}

impl TryFrom<proto::WatchJobResponse> for JobDigest {
    type Error = InvalidMessage;

    fn try_from(digest: proto::WatchJobResponse) -> Result<Self, InvalidMessage> {
        let job = |job: proto::Job| -> Result<_, InvalidJob> { Ok(Box::new(job.try_into()?)) };
        Ok(Self {
            job: digest.job.map(job).transpose()?,
            tasks: tasks_in(digest.tasks)?,
            groups: digest.groups.into_iter().map(TryInto::try_into).collect::<Result<_, InvalidGroup>>()?,
            more_groups: digest.more_groups,
            gate: digest.gate.unwrap_or_default().into(),
            ended_ms: digest.ended_ms.map(UnixMs),
            closing: digest.closing.map(Into::into),
        })
    }
}
