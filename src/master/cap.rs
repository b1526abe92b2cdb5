//! What is kept of a task that prints more than there is room for: its beginning, and its newest frames.

use std::collections::VecDeque;

use crate::domain::{frame::Frame, run::Overflow};

/// What of a task's output is kept.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    /// Most bytes that are kept.
    pub bytes: u64,
    /// What happens to more.
    pub overflow: Overflow,
    /// Everything before this offset is kept.
    pub beginning: u64,
    /// Nothing more is kept, whatever its offset, once the log has so many bytes of the task: many small frames take more
    /// room with their headers than what they hold.
    pub most_written: u64,
}

impl Cap {
    /// Beginning and end of so many bytes together.
    #[must_use]
    pub fn new(bytes: u64, overflow: Overflow) -> Self {
        let newest = match overflow {
            Overflow::Block => bytes / 2,
            Overflow::Gap => NEWEST.min(bytes / 2),
        };
        let beginning = bytes - newest;
        Self { bytes, overflow, beginning, most_written: beginning.saturating_add(beginning / 8) }
    }
}

/// Most bytes of a task's newest output that are held in memory.
const NEWEST: u64 = 256 * 1024;

/// The newest frames of a task that prints more than is kept.
#[derive(Debug)]
pub struct Newest {
    frames: VecDeque<Frame>,
    /// Most bytes that are held.
    most: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// What a frame takes in memory, about.
fn held(frame: &Frame) -> u64 {
    frame.data.len() as u64 + size_of::<Frame>() as u64
}

impl Newest {
    /// None yet, of a task with this cap.
    #[must_use]
    pub fn new(cap: Cap) -> Self {
        Self { frames: VecDeque::new(), most: NEWEST.min(cap.bytes - cap.beginning), bytes: 0 }
    }

    /// Holds a frame; the end of what had to go for it.
    pub fn push(&mut self, frame: Frame) -> Option<u64> {
        self.bytes += held(&frame);
        self.frames.push_back(frame);
        let mut gone = None;
        while self.bytes > self.most && self.frames.len() > 1 {
            let frame = self.frames.pop_front()?;
            self.bytes -= held(&frame);
            gone = Some(frame.end());
        }
        gone
    }

    /// All of them, to be written.
    pub fn take(&mut self) -> VecDeque<Frame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}
