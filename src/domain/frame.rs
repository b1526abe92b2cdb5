//! Frames: pieces of a task's output, and their format on disk.
//!
//! The agent's spool and the master's output log share this format. Each has its own files and offsets.

use bytes::{Bytes, BytesMut};

use super::offset::OutputOffset;

/// One of a command's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a task's output, as it was read from a pipe.
///
/// ```
/// use bytes::Bytes;
/// use sloth_runner::domain::{
///     frame::{Frame, Stream},
///     offset::OutputOffset,
/// };
///
/// let (offset, data) = (OutputOffset(10), Bytes::from_static(b"hello"));
/// let frame = Frame { stream: Stream::Stdout, offset, time_ns: 0, data };
/// assert_eq!(frame.end(), OutputOffset(15));
/// // A reader that has read up to offset 12 continues inside of it.
/// assert_eq!(&frame.from_offset(OutputOffset(12)).unwrap().data[..], b"llo");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The pipe.
    pub stream: Stream,
    /// The number of payload bytes of the task before this frame, both streams together.
    pub offset: OutputOffset,
    /// The time since the task's start, in nanoseconds by the agent's monotonic clock.
    pub time_ns: u64,
    /// The bytes.
    pub data: Bytes,
}

impl Frame {
    /// Returns the first offset after the frame.
    #[must_use]
    pub fn end(&self) -> OutputOffset {
        self.offset + self.data.len() as u64
    }

    /// Returns the part of the frame from `offset` on; `None` if the frame ends before. A reader can resume
    /// inside a frame.
    #[must_use]
    pub fn from_offset(mut self, offset: OutputOffset) -> Option<Self> {
        if self.end() <= offset {
            return None;
        }
        if offset > self.offset {
            self.data = self.data.slice(usize::try_from(offset.since(self.offset)).ok()?..);
            self.offset = offset;
        }
        Some(self)
    }

    /// Returns the part of the frame before `offset`, which can be empty.
    #[must_use]
    pub fn before_offset(mut self, offset: OutputOffset) -> Self {
        let room = usize::try_from(offset.since(self.offset)).unwrap_or(usize::MAX);
        self.data.truncate(room);
        self
    }
}

/// The size of the header before each payload on disk, in bytes.
pub const HEADER: usize = 32;

/// Frames with fewer payload bytes are small: it is worth to save their headers.
const SMALL: usize = 1024;
/// The size up to which small frames are joined, in bytes.
const JOINED: usize = 16 * 1024;
/// Maximum time between two frames that are joined, in nanoseconds. A person sees such frames as one.
const JOINED_NS: u64 = 20_000_000;

/// Joins small consecutive frames of one stream that follow each other within 20 ms. A command that prints
/// byte by byte produces one frame for each byte.
#[must_use]
pub fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let follows = |last: &Frame, next: &Frame| {
        last.stream == next.stream
            && last.end() == next.offset
            && last.data.len().max(next.data.len()) < SMALL
            && next.time_ns.saturating_sub(last.time_ns) < JOINED_NS
    };
    if !frames.windows(2).any(|pair| follows(&pair[0], &pair[1])) {
        return frames;
    }
    let mut joined: Vec<Frame> = Vec::new();
    let mut bytes = BytesMut::new();
    // The last frame before joining. The next frame is compared with it.
    let mut last: Option<Frame> = None;
    for frame in frames {
        let is_joined = last.as_ref().is_some_and(|last| follows(last, &frame)) && bytes.len() < JOINED;
        if let Some(whole) = joined.last().filter(|_| is_joined) {
            if bytes.is_empty() {
                bytes.extend_from_slice(&whole.data);
            }
            bytes.extend_from_slice(&frame.data);
        } else {
            if let Some(whole) = joined.last_mut().filter(|_| !bytes.is_empty()) {
                whole.data = bytes.split().freeze();
            }
            joined.push(frame.clone());
        }
        last = Some(frame);
    }
    if let Some(whole) = joined.last_mut().filter(|_| !bytes.is_empty()) {
        whole.data = bytes.freeze();
    }
    joined
}

/// Maximum number of payload bytes of one frame: one read of a pipe.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// The size of the headers in a read of [`MAX_PAYLOAD`] payload bytes, if frames have at least 4 KiB. Reads
/// have room for them too: a frame that was only read in part is copied in front of the next read.
pub const HEADERS: usize = 64 * HEADER;

/// The seed of a checksum that is not bound to a position: the frame is valid at any position.
pub const UNBOUND: u32 = 0;

/// A frame's header on disk: the CRC-32 of everything that follows it, then length, task, stream, offset and
/// time, in little endian.
///
/// The checksum begins with a seed. A seed that depends on the frame's position makes sure that old data at
/// another position, or command output that looks like a frame, is not read as a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    crc: u32,
    /// The number of payload bytes.
    pub length: u32,
    /// The task's index in its job; 0 in a spool, which holds one task.
    pub task: u32,
    /// The pipe.
    pub stream: Stream,
    /// As in [`Frame`].
    pub offset: OutputOffset,
    /// As in [`Frame`].
    pub time_ns: u64,
}

/// The error for a header or payload that is incomplete or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a damaged or unfinished frame")]
pub struct BadFrame;

fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl Header {
    /// Creates the header of `payload`.
    ///
    /// # Panics
    /// When the payload is longer than [`MAX_PAYLOAD`]: callers split it first.
    #[must_use]
    pub fn new(
        task: u32,
        stream: Stream,
        offset: OutputOffset,
        time_ns: u64,
        payload: &[u8],
        seed: u32,
    ) -> Self {
        assert!(payload.len() <= MAX_PAYLOAD, "a frame of {} bytes", payload.len());
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut header = Self { crc: 0, length, task, stream, offset, time_ns };
        header.crc = header.checksum(payload, seed);
        header
    }

    fn checksum(&self, payload: &[u8], seed: u32) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(&self.to_bytes()[4..]);
        hasher.update(payload);
        hasher.finalize()
    }

    /// Returns the header's bytes on disk.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.crc.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.task.to_le_bytes());
        bytes[12] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        bytes[16..24].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes
    }

    /// Parses a header. Does not check the payload.
    ///
    /// # Errors
    /// When no valid frame has such a header.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, BadFrame> {
        let length = u32::from_le_bytes(field(bytes, 4));
        let stream = match bytes[12] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(BadFrame),
        };
        if length == 0 || length as usize > MAX_PAYLOAD || bytes[13..16] != [0; 3] {
            return Err(BadFrame);
        }
        Ok(Self {
            crc: u32::from_le_bytes(field(bytes, 0)),
            length,
            task: u32::from_le_bytes(field(bytes, 8)),
            stream,
            offset: OutputOffset(u64::from_le_bytes(field(bytes, 16))),
            time_ns: u64::from_le_bytes(field(bytes, 24)),
        })
    }

    /// Checks the payload of this header.
    ///
    /// # Errors
    /// When it is not the payload that was written.
    pub fn check(&self, payload: &[u8], seed: u32) -> Result<(), BadFrame> {
        if payload.len() == self.length as usize && self.checksum(payload, seed) == self.crc {
            Ok(())
        } else {
            Err(BadFrame)
        }
    }

    /// Returns the size on disk of header and payload, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.length)
    }

    /// Returns the frame with this payload.
    #[must_use]
    pub fn frame(&self, data: Bytes) -> Frame {
        Frame { stream: self.stream, offset: self.offset, time_ns: self.time_ns, data }
    }
}

/// Removes the first frame from `buffer`, and checks its checksum if there is a seed. `None` if the buffer
/// ends inside the frame.
///
/// # Errors
/// When the bytes are not a frame, or not the frame that was written.
pub fn take_frame(buffer: &mut Bytes, seed: Option<u32>) -> Result<Option<(u32, Frame)>, BadFrame> {
    let Some(head) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let header = Header::parse(head)?;
    let size = HEADER + header.length as usize;
    if buffer.len() < size {
        return Ok(None);
    }
    if let Some(seed) = seed {
        header.check(&buffer[HEADER..size], seed)?;
    }
    let data = buffer.split_to(size).slice(HEADER..);
    Ok(Some((header.task, header.frame(data))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_disk(header: &Header, payload: &[u8]) -> Vec<u8> {
        [&header.to_bytes()[..], payload].concat()
    }

    fn frame(stream: Stream, offset: u64, time_ns: u64, data: &[u8]) -> Frame {
        Frame { stream, offset: OutputOffset(offset), time_ns, data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn only_small_frames_that_follow_at_once_in_one_stream_are_joined() {
        use Stream::{Stderr, Stdout};
        let long = vec![b'x'; SMALL];
        for (frames, expected) in [
            (vec![frame(Stdout, 0, 1, b"a"), frame(Stdout, 1, 2, b"b")], vec![frame(Stdout, 0, 1, b"ab")]),
            (
                vec![frame(Stdout, 0, 1, b"a"), frame(Stderr, 1, 2, b"b"), frame(Stderr, 2, 3, b"c")],
                vec![frame(Stdout, 0, 1, b"a"), frame(Stderr, 1, 2, b"bc")],
            ),
            (
                vec![frame(Stdout, 0, 1, b"a"), frame(Stdout, 5, 2, b"b"), frame(Stdout, 6, 2, b"c")],
                vec![frame(Stdout, 0, 1, b"a"), frame(Stdout, 5, 2, b"bc")],
            ),
        ] {
            assert_eq!(joined(frames), expected);
        }
        for apart in [
            vec![frame(Stdout, 0, 1, b"a"), frame(Stdout, 1, 1 + JOINED_NS, b"b")],
            vec![frame(Stdout, 0, 1, b"a"), frame(Stdout, 1, 2, &long)],
            vec![frame(Stdout, 0, 1, &long), frame(Stdout, SMALL as u64, 2, b"a")],
        ] {
            assert_eq!(joined(apart.clone()), apart);
        }
        let bytes: Vec<Frame> = (0..100_000).map(|n| frame(Stdout, n, n, b"x")).collect();
        let joined = joined(bytes);
        assert!(joined.len() < 10 && joined.iter().all(|frame| frame.data.len() <= JOINED + SMALL));
        assert_eq!(joined.iter().map(|frame| frame.data.len()).sum::<usize>(), 100_000);
    }

    proptest! {
        #[test]
        fn joining_changes_no_byte_and_no_offset(
            frames in proptest::collection::vec((any::<bool>(), 1usize..2_000, 0u64..30_000_000, 0u64..3), 0..40),
        ) {
            let (mut offset, mut time_ns) = (0, 0);
            let mut all = Vec::new();
            for (is_error, length, pause, hole) in frames {
                offset += hole;
                time_ns += pause;
                let stream = if is_error { Stream::Stderr } else { Stream::Stdout };
                let data: Vec<u8> = (0..length).map(|n| u8::try_from((offset + n as u64) % 251).unwrap()).collect();
                all.push(frame(stream, offset, time_ns, &data));
                offset += length as u64;
            }
            let bytes = |frames: &[Frame]| -> Vec<(u64, Stream, u8)> {
                frames
                    .iter()
                    .flat_map(|frame| (frame.offset.0..).zip(frame.data.iter()).map(|(at, byte)| (at, frame.stream, *byte)))
                    .collect()
            };
            prop_assert_eq!(bytes(&joined(all.clone())), bytes(&all));
        }

        #[test]
        fn frames_come_back_and_any_flipped_bit_is_noticed(
            payload in proptest::collection::vec(any::<u8>(), 1..200),
            task: u32, offset in 0..u64::MAX / 2, time_ns: u64, flip in 0usize..1600, seed: u32,
        ) {
            let written = Frame { stream: Stream::Stderr, offset: OutputOffset(offset), time_ns, data: payload.into() };
            let mut bytes = on_disk(&Header::new(task, Stream::Stderr, OutputOffset(offset), time_ns, &written.data, seed), &written.data);
            let mut buffer = Bytes::from(bytes.clone());
            prop_assert_eq!(take_frame(&mut buffer.clone(), Some(seed ^ 1)), Err(BadFrame), "for another place");
            prop_assert_eq!(take_frame(&mut buffer, Some(seed)).unwrap().unwrap(), (task, written));
            prop_assert!(buffer.is_empty());

            let bit = flip % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!matches!(take_frame(&mut bytes.into(), Some(seed)), Ok(Some(_))));
        }

        #[test]
        fn resuming_inside_a_frame_gives_exactly_the_rest(start in 0u64..50, length in 1usize..50, from in 0u64..120) {
            let data: Vec<u8> = (0..length).map(|i| u8::try_from(i).unwrap()).collect();
            let frame = Frame { stream: Stream::Stdout, offset: OutputOffset(start), time_ns: 0, data: data.clone().into() };
            let (start, from, end) = (frame.offset, OutputOffset(from), frame.end());
            match frame.from_offset(from) {
                None => prop_assert!(from >= end),
                Some(rest) => {
                    prop_assert_eq!(rest.offset, from.max(start));
                    prop_assert_eq!(rest.end(), end);
                    let skipped = usize::try_from(rest.offset.since(start)).unwrap();
                    prop_assert_eq!(&rest.data[..], &data[skipped..]);
                }
            }
        }
    }

    #[test]
    fn half_a_frame_is_not_yet_a_frame() {
        let bytes =
            on_disk(&Header::new(0, Stream::Stdout, OutputOffset::START, 0, b"hello", UNBOUND), b"hello");
        for cut in 0..bytes.len() {
            assert_eq!(
                take_frame(&mut Bytes::copy_from_slice(&bytes[..cut]), Some(UNBOUND)),
                Ok(None),
                "{cut}"
            );
        }
    }
}
