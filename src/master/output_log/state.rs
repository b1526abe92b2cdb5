//! The state of a log that is being written: its files, the end of each task, and the newest frames.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{LogPosition, contents::Contents, file::LogFile, syncing::Unsynced};
use crate::domain::{
    frame::{Frame, HEADER, MAX_PAYLOAD},
    offset::OutputOffset,
};
/// Size of the newest part of the log, in bytes, that is kept in memory for followers that keep up.
const MAX_TAIL_BYTES: u64 = 6 * 1024 * 1024;

/// Frames that wait to be appended, and the sender of the result.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) task: u32,
    pub(super) frames: Vec<Frame>,
    pub(super) done: oneshot::Sender<io::Result<LogPosition>>,
}

/// A frame that is still in memory.
#[derive(Debug)]
pub(super) struct Recent {
    position: u64,
    end: u64,
    task: u32,
    frame: Frame,
}

/// The state of a log that is being written, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    /// The file that is written to.
    pub(super) file: Option<Arc<LogFile>>,
    /// Closed files that are not synced yet, and directories with new names.
    pub(super) unsynced: Unsynced,
    pub(super) contents: Contents,
    /// Bytes of each task that were written since the log was opened, headers included.
    pub(super) written: HashMap<u32, u64>,
    /// Whether the next frames go into a new file. True after a failed write, whose remains may look like
    /// frames.
    pub(super) rolls: bool,
    /// Files with an index: they are closed and synced, and so is everything before them.
    pub(super) indexed: BTreeSet<u64>,
    /// Files whose index this process has synced. An index that was found may exist only in the memory of the
    /// system.
    pub(super) sealed: BTreeSet<u64>,
    /// Files that were unlinked.
    pub(super) dropped: BTreeSet<u64>,
    pub(super) tail: VecDeque<Recent>,
}

impl State {
    /// Returns the parts of the waiting frames that the log does not have, with their tasks.
    pub(super) fn fresh(&self, batch: &[Waiting]) -> Vec<(u32, Frame)> {
        let mut known: HashMap<u32, OutputOffset> = HashMap::new();
        let mut fresh = Vec::new();
        for Waiting { task, frames, .. } in batch {
            let known = known.entry(*task).or_insert_with(|| self.contents.task_end(*task));
            for frame in frames {
                if let Some(frame) = frame.clone().from_offset(*known) {
                    *known = frame.end();
                    fresh.push((*task, frame));
                }
            }
        }
        fresh
    }

    /// Records frames that were written consecutively from `begin` on to the file that begins at `first`.
    /// `position` is the end of the log before them, and `keeps` says whether they stay in memory. Returns
    /// the position after them.
    pub(super) fn note(
        &mut self,
        position: u64,
        first: u64,
        begin: u64,
        frames: Vec<(u32, Frame)>,
        keeps: bool,
    ) -> u64 {
        let (mut position, mut begin) = (position, begin);
        for (task, frame) in frames {
            let end = begin + (HEADER + frame.data.len()) as u64;
            *self.written.entry(task).or_default() += end - begin;
            self.contents.note(first, position, end, task, &frame);
            if keeps {
                self.tail.push_back(Recent { position, end, task, frame });
            } else {
                self.tail.clear();
            }
            (position, begin) = (end, end);
        }
        while self.tail.front().is_some_and(|oldest| position - oldest.position > MAX_TAIL_BYTES) {
            self.tail.pop_front();
        }
        position
    }

    /// Returns the position of the oldest frame in memory.
    pub(super) fn recent_from(&self) -> Option<LogPosition> {
        self.tail.front().map(|oldest| LogPosition(oldest.position))
    }

    /// Returns frames in memory from exactly this position on, and where they end; `None` if no frame in
    /// memory begins there.
    pub(super) fn recent(
        &self,
        LogPosition(position): LogPosition,
    ) -> Option<(Vec<(u32, Frame)>, LogPosition)> {
        let at = self.tail.binary_search_by_key(&position, |recent| recent.position).ok()?;
        let mut end = position;
        let mut frames = Vec::new();
        for recent in self.tail.range(at..) {
            if recent.position - position >= MAX_PAYLOAD as u64 {
                break;
            }
            end = recent.end;
            frames.push((recent.task, recent.frame.clone()));
        }
        Some((frames, LogPosition(end)))
    }
}
