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
}

impl Cap {
    /// Beginning and end of so many bytes together.
    #[must_use]
    pub fn new(bytes: u64, overflow: Overflow) -> Self {
        let newest = match overflow {
            Overflow::Block => bytes / 2,
            Overflow::Gap => NEWEST.min(bytes / 2),
        };
        Self { bytes, overflow, beginning: bytes - newest }
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

impl Newest {
    /// None yet, of a task with this cap.
    #[must_use]
    pub fn new(cap: Cap) -> Self {
        Self { frames: VecDeque::new(), most: NEWEST.min(cap.bytes - cap.beginning), bytes: 0 }
    }

    /// Holds a frame; the end of what had to go for it.
    pub fn push(&mut self, frame: Frame) -> Option<u64> {
        self.bytes += frame.data.len() as u64;
        self.frames.push_back(frame);
        let mut gone = None;
        while self.bytes > self.most && self.frames.len() > 1 {
            let frame = self.frames.pop_front()?;
            self.bytes -= frame.data.len() as u64;
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
