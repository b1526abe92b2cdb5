//! Frames and streams of output. The bytes of a frame are not copied.

use crate::{
    domain::{
        frame::{Frame, MAX_PAYLOAD, Stream},
        offset::OutputOffset,
    },
    wire::proto,
};

/// The error for a frame that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// The frame's output stream is unknown.
    #[error("a frame of no stream")]
    Stream,
    /// The frame is empty, or longer than a frame can be.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// The frame's end is higher than the highest possible offset.
    #[error("a frame beyond every offset")]
    Offset,
}

impl From<Stream> for proto::Stream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

pub(super) fn stream_in(stream: proto::Stream) -> Option<Stream> {
    match stream {
        proto::Stream::Stdout => Some(Stream::Stdout),
        proto::Stream::Stderr => Some(Stream::Stderr),
        proto::Stream::Unspecified => None,
    }
}

impl From<Frame> for proto::Frame {
    fn from(frame: Frame) -> Self {
        let stream = proto::Stream::from(frame.stream);
        Self { stream: stream.into(), offset: frame.offset.0, time_ns: frame.time_ns, data: frame.data }
    }
}

impl TryFrom<proto::Frame> for Frame {
    type Error = InvalidFrame;

    fn try_from(frame: proto::Frame) -> Result<Self, InvalidFrame> {
        let stream = stream_in(frame.stream()).ok_or(InvalidFrame::Stream)?;
        if frame.data.is_empty() || frame.data.len() > MAX_PAYLOAD {
            return Err(InvalidFrame::Length(frame.data.len()));
        }
        if frame.offset.checked_add(frame.data.len() as u64).is_none() {
            return Err(InvalidFrame::Offset);
        }
        Ok(Self { stream, offset: OutputOffset(frame.offset), time_ns: frame.time_ns, data: frame.data })
    }
}

pub(super) fn frames_out(frames: Vec<Frame>) -> Vec<proto::Frame> {
    frames.into_iter().map(Into::into).collect()
}

pub(super) fn frames_in(frames: Vec<proto::Frame>) -> Result<Vec<Frame>, InvalidFrame> {
    frames.into_iter().map(TryInto::try_into).collect()
}
