//! Limits the stored output of a task: keeps its beginning and its newest frames.

use std::collections::VecDeque;

use crate::domain::{frame::Frame, job::Overflow, offset::OutputOffset};

/// Which part of a task's output is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    /// Maximum number of stored bytes.
    pub bytes: u64,
    /// What happens to output over `bytes`.
    pub overflow: Overflow,
    /// Output before this offset is always stored.
    pub beginning: u64,
    /// Maximum number of bytes of the task in the log, frame headers included: many small frames take more space with their
    /// headers than their contents do.
    pub most_written: u64,
}

impl Cap {
    /// Divides `bytes` into a stored beginning and a stored end.
    #[must_use]
    pub(super) fn new(bytes: u64, overflow: Overflow) -> Self {
        let newest = match overflow {
            Overflow::Block => bytes / 2,
            Overflow::Gap => MAX_NEWEST_BYTES.min(bytes / 2),
        };
        // At least one byte of the end is kept: otherwise nothing would show that output was dropped.
        let newest = newest.max(1);
        let beginning = bytes.saturating_sub(newest);
        Self { bytes, overflow, beginning, most_written: beginning.saturating_add(beginning / 8) }
    }
}

/// Maximum size of a task's newest output in memory, in bytes.
const MAX_NEWEST_BYTES: u64 = 256 * 1024;

/// Returns the approximate memory use of a frame, in bytes.
fn memory_of(frame: &Frame) -> u64 {
    (frame.data.len() + size_of::<Frame>()) as u64
}

/// The newest frames of a task whose output is over its cap.
#[derive(Debug)]
pub(super) struct Newest {
    frames: VecDeque<Frame>,
    /// Maximum number of payload bytes. The frames may use twice this amount of memory with their overhead.
    most: u64,
    /// Payload bytes of `frames`.
    bytes: u64,
}

impl Newest {
    /// Returns an empty buffer for a task with this cap.
    #[must_use]
    pub(super) fn new(cap: Cap) -> Self {
        Self {
            frames: VecDeque::new(),
            most: MAX_NEWEST_BYTES.min(cap.bytes.saturating_sub(cap.beginning)).max(1),
            bytes: 0,
        }
    }

    /// Whether it holds no frames.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns the approximate memory use of all frames, in bytes.
    fn memory(&self) -> u64 {
        self.bytes + (self.frames.len() * size_of::<Frame>()) as u64
    }

    /// Appends a frame, and drops the oldest output that no longer fits. Returns the offset at which the
    /// dropped output ends, or `None` if nothing was dropped. Of equal outputs the same bytes are kept
    /// however they are split into frames, unless the frames are very small.
    pub(super) fn push(&mut self, frame: Frame) -> Option<OutputOffset> {
        self.bytes += frame.data.len() as u64;
        self.frames.push_back(frame);
        let mut gone = None;
        let is_over = |newest: &Self| newest.frames.len() > 1 && newest.memory() > 2 * newest.most;
        while (self.bytes > self.most || is_over(self))
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= oldest.data.len() as u64;
            let end = oldest.end();
            let rest = oldest.from_offset(end - self.most.saturating_sub(self.bytes));
            let fits =
                |rest: &Frame| self.frames.is_empty() || self.memory() + memory_of(rest) <= 2 * self.most;
            let rest = rest.filter(fits);
            gone = Some(rest.as_ref().map_or(end, |rest| rest.offset));
            if let Some(rest) = rest {
                self.bytes += rest.data.len() as u64;
                self.frames.push_front(rest);
            }
        }
        gone
    }

    /// Removes and returns all frames, to write them.
    pub(super) fn take(&mut self) -> VecDeque<Frame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::frame::Stream;

    proptest! {
        #[test]
        fn the_newest_bytes_are_held_however_long_the_frames_are(
            lengths in proptest::collection::vec(1usize..3_000, 1..40),
            kept in 1u64..5_000,
        ) {
            let cap = Cap { bytes: 10_000, overflow: Overflow::Gap, beginning: 10_000 - kept, most_written: 0 };
            let mut newest = Newest::new(cap);
            let (mut end, mut gone) = (OutputOffset::START, OutputOffset::START);
            for length in lengths {
                let data = Bytes::from(vec![b'x'; length]);
                gone = newest.push(Frame { stream: Stream::Stdout, offset: end, time_ns: 0, data }).unwrap_or(gone);
                end += length as u64;
                let is_small = newest.memory() <= 2 * kept || newest.frames.len() == 1;
                prop_assert!(newest.bytes <= kept && is_small && !newest.is_empty(), "{newest:?}");
            }
            let frames = newest.take();
            let first = frames.front().map_or(end, |frame| frame.offset);
            prop_assert_eq!(first, gone, "the reported end of the dropped output is exact");
            let pairs = frames.iter().zip(frames.iter().skip(1));
            prop_assert!(pairs.clone().all(|(one, next)| one.end() == next.offset));
            let is_full = end.since(first) == kept || (frames.len() * size_of::<Frame>()) as u64 * 2 > kept;
            prop_assert!(gone == OutputOffset::START || is_full, "{gone} {first} {end}");
        }
    }
}
