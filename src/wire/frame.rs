//! Converts frames. Their bytes are not copied.

use super::{InvalidMessage, proto};
use crate::domain::frame::{Frame, MAX_PAYLOAD, Stream};

impl From<Stream> for proto::Stream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

impl From<Frame> for proto::Frame {
    fn from(frame: Frame) -> Self {
        let stream = proto::Stream::from(frame.stream);
        Self { stream: stream.into(), offset: frame.offset, time_ns: frame.time_ns, data: frame.data }
    }
}

impl TryFrom<proto::Frame> for Frame {
    type Error = InvalidMessage;

    fn try_from(frame: proto::Frame) -> Result<Self, InvalidMessage> {
        let stream = match frame.stream() {
            proto::Stream::Stdout => Stream::Stdout,
            proto::Stream::Stderr => Stream::Stderr,
            proto::Stream::Unspecified => return Err(InvalidMessage::missing("a frame's stream")),
        };
        if frame.data.is_empty() || frame.data.len() > MAX_PAYLOAD {
            return Err(InvalidMessage(format!("a frame of {} bytes", frame.data.len())));
        }
        if frame.offset.checked_add(frame.data.len() as u64).is_none() {
            return Err(InvalidMessage("a frame beyond every offset".to_owned()));
        }
        Ok(Self { stream, offset: frame.offset, time_ns: frame.time_ns, data: frame.data })
    }
}

impl From<(u32, u64)> for proto::TaskOffset {
    fn from((task_index, offset): (u32, u64)) -> Self {
        Self { task_index, offset }
    }
}
