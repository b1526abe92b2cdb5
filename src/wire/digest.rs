//! Converts the groups of a job.

use super::{InvalidMessage, proto};
use crate::domain::{digest::GroupDigest, frame::Stream, groups::Parting, outcome::Outcome};

impl TryFrom<proto::Parting> for Parting {
    type Error = InvalidMessage;

    fn try_from(parting: proto::Parting) -> Result<Self, InvalidMessage> {
        let stream = match parting.stream() {
            proto::Stream::Stderr => Stream::Stderr,
            proto::Stream::Stdout => Stream::Stdout,
            proto::Stream::Unspecified => return Err(InvalidMessage::missing("a parting's stream")),
        };
        Ok(Self { stream, line: parting.line })
    }
}

impl TryFrom<proto::Group> for GroupDigest {
    type Error = InvalidMessage;

    fn try_from(group: proto::Group) -> Result<Self, InvalidMessage> {
        Ok(Self {
            outcome: group.outcome.map(Outcome::try_from).transpose()?,
            example: group.example,
            lines: [group.stdout_lines, group.stderr_lines],
            parting: group.parting.map(Parting::try_from).transpose()?,
            is_long: group.long,
            last_output_ms: Some(group.last_output_ms).filter(|ms| *ms > 0),
            first_line: group.first_line.into(),
            last_line: group.last_line.into(),
            quiet: group.quiet.into_iter().map(|quiet| (quiet.index, quiet.since_ms)).collect(),
            tasks: group.tasks,
        })
    }
}
