//! Where each task's output lies in a log: offsets, about a step apart, and the positions of their frames.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{file_path, files};
use crate::domain::frame::{HEADER, Header};

/// How far apart two entries of a task are, in bytes of the task.
const STEP: u64 = 1024 * 1024;

/// What is known of one task in the log.
#[derive(Debug, Default)]
pub(super) struct TaskIndex {
    /// Payload bytes that were appended.
    pub(super) end: u64,
    /// Offsets and the positions of the frames that begin there.
    entries: Vec<(u64, u64)>,
}

impl TaskIndex {
    /// Notes a frame.
    pub(super) fn note(&mut self, position: u64, header: &Header) {
        if self.entries.last().is_none_or(|(offset, _)| header.offset >= offset + STEP) {
            self.entries.push((header.offset, position));
        }
        self.end = self.end.max(header.offset + u64::from(header.length));
    }

    /// A position at or before the frame that holds this offset.
    pub(super) fn position_of(&self, offset: u64) -> u64 {
        let after = self.entries.partition_point(|(first, _)| *first <= offset);
        after.checked_sub(1).map_or(0, |at| self.entries[at].1)
    }
}

/// The index of a log that nobody appends to.
#[derive(Debug, Default)]
pub(super) struct Index {
    tasks: HashMap<u32, TaskIndex>,
}

impl Index {
    /// Reads the headers of a log, and none of its payloads.
    pub(super) fn scan(directory: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        for first in files(directory)? {
            let file = File::open(file_path(directory, first))?;
            let length = file.metadata()?.len();
            let mut at = 0;
            while at + HEADER as u64 <= length {
                let mut head = [0; HEADER];
                file.read_exact_at(&mut head, at)?;
                // What follows a damaged header is found by whoever reads it, who says so.
                let Ok(header) = Header::parse(&head) else { break };
                index.tasks.entry(header.task).or_default().note(first + at, &header);
                at += header.size();
            }
        }
        Ok(index)
    }

    /// A position at or before the frame that holds this offset of a task.
    pub(super) fn position_of(&self, task: u32, offset: u64) -> u64 {
        self.tasks.get(&task).map_or(0, |index| index.position_of(offset))
    }
}
