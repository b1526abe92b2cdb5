//! Appends frames to a job's log, and notifies its readers. `syncing` syncs the log.
//!
//! One caller at a time writes all queued frames. It determines their positions, writes them on a thread that
//! may block on the disk, and then publishes them. Callers that only read the state do not wait for this.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{Notify, OwnedMutexGuard, oneshot, watch},
};

use super::{
    LogPosition,
    contents::Contents,
    file::LogFile,
    file_path,
    state::{State, Waiting},
    syncing::{Trouble, Unsynced},
};
use crate::domain::{
    frame::{Frame, Header},
    offset::OutputOffset,
};
use crate::sys::disk::Disk;

/// Approximate number of bytes that are collected for one write.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Approximate number of bytes of one write call, so that data whose checksum was just computed is still in
/// the cache of the processor.
const PIECE: usize = 128 * 1024;

/// Output of fewer bytes is written on the current thread. A short command has no more than this.
pub(crate) const INLINE_WRITE_BYTES: usize = 32 * 1024;

/// A job's log, open for appending.
#[derive(Debug)]
pub struct JobLog {
    disk: Disk,
    directory: PathBuf,
    /// Size in bytes at which a file is closed.
    file_size: u64,
    /// Frames that wait to be appended.
    queue: Mutex<VecDeque<Waiting>>,
    /// Held by the caller that writes the queue.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    appended: watch::Sender<LogPosition>,
    synced: watch::Sender<LogPosition>,
    trouble: watch::Sender<Option<Trouble>>,
    flush: Arc<Notify>,
    /// Held while indices are written.
    pub(super) sealing: Mutex<()>,
    /// Positions of the followers that commands wait for.
    pub(super) paced: Mutex<HashMap<u64, LogPosition>>,
    /// The position of the slowest of them; `None` when there are none.
    pub(super) slowest: watch::Sender<Option<LogPosition>>,
}

/// Writes frames consecutively, from `begin` on.
fn write_frames(file: &LogFile, begin: u64, frames: &[(u32, Frame)]) -> io::Result<()> {
    let mut at = begin;
    let mut rest = frames;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest.iter().take_while(|(_, frame)| {
            let takes = bytes < PIECE;
            bytes += frame.data.len();
            takes
        });
        let (piece, behind) = rest.split_at(count.count());
        let first = at;
        let head = |(task, frame): &(u32, Frame)| {
            let Frame { stream, offset, time_ns, ref data } = *frame;
            let head = Header::new(*task, stream, offset, time_ns, data, file.seed(at));
            at += head.size();
            head.to_bytes()
        };
        let heads: Vec<_> = piece.iter().map(head).collect();
        let slices = heads.iter().zip(piece);
        let mut slices: Vec<_> =
            slices.flat_map(|(head, (_, frame))| [IoSlice::new(head), IoSlice::new(&frame.data)]).collect();
        file.write(first, &mut slices)?;
        rest = behind;
    }
    Ok(())
}

impl JobLog {
    /// Returns a log with these contents, which are synced up to `end`.
    pub(super) fn new(
        disk: Disk,
        directory: PathBuf,
        file_size: u64,
        contents: Contents,
        indexed: BTreeSet<u64>,
        end: u64,
    ) -> Self {
        let state = State {
            file: None,
            unsynced: Unsynced::default(),
            contents,
            written: HashMap::new(),
            rolls: false,
            indexed,
            sealed: BTreeSet::new(),
            dropped: BTreeSet::new(),
            tail: VecDeque::new(),
        };
        Self {
            disk,
            directory,
            file_size,
            queue: Mutex::default(),
            turn: Arc::default(),
            state: Mutex::new(state),
            appended: watch::Sender::new(LogPosition(end)),
            synced: watch::Sender::new(LogPosition(end)),
            trouble: watch::Sender::new(None),
            flush: Arc::default(),
            sealing: Mutex::default(),
            paced: Mutex::default(),
            slowest: watch::Sender::new(None),
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the end offset of a task's output.
    #[must_use]
    pub fn task_end(&self, task: u32) -> OutputOffset {
        self.state().contents.task_end(task)
    }

    /// Returns how many bytes of the log a task uses. Headers count only for frames that were written since
    /// the log was opened.
    #[must_use]
    pub fn written(&self, task: u32) -> u64 {
        let state = self.state();
        state.written.get(&task).copied().unwrap_or(0).max(state.contents.task_end(task).0)
    }

    /// Returns the position from which on a reader finds all present and future output after these offsets of
    /// tasks.
    #[must_use]
    pub fn position_behind(&self, seen: &[(u32, OutputOffset)]) -> LogPosition {
        let state = self.state();
        let places = seen.iter().filter_map(|(task, offset)| state.contents.position_of(*task, *offset));
        places.min().map_or(*self.appended.borrow(), LogPosition)
    }

    /// Appends the new parts of a task's frames, and returns a position at or after their end. Frames that
    /// several tasks append at the same time are written together.
    ///
    /// # Errors
    /// When the disk cannot be written. Then none of the frames count.
    pub async fn append(self: &Arc<Self>, task: u32, frames: &[Frame]) -> io::Result<LogPosition> {
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        let written = self.enqueue(task, frames);
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
            let log = Arc::clone(self);
            // The other work of this thread moves to another thread. For a small write this takes less time
            // than to hand over the write and to wait for its result.
            if bytes < INLINE_WRITE_BYTES && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
            {
                tokio::task::block_in_place(|| log.write_batch(&turn));
                drop(turn);
                log.resume();
            } else {
                tokio::task::spawn_blocking(move || log.write_queued(turn));
            }
        }
        written.await.unwrap_or_else(|_| Err(io::Error::other("the log was closed")))
    }

    fn enqueue(&self, task: u32, frames: &[Frame]) -> oneshot::Receiver<io::Result<LogPosition>> {
        let (done, written) = oneshot::channel();
        self.queue().push_back(Waiting { task, frames: frames.to_vec(), done });
        written
    }

    /// The same as [`Self::append`], on this thread.
    #[cfg(test)]
    pub(super) fn append_here(&self, task: u32, frames: &[Frame]) -> io::Result<LogPosition> {
        let written = self.enqueue(task, frames);
        self.write_queued(Arc::clone(&self.turn).blocking_lock_owned());
        written.blocking_recv().unwrap()
    }

    /// Writes frames that were queued while the turn was taken, on a thread that may block on the disk.
    fn resume(self: &Arc<Self>) {
        if !self.queue().is_empty()
            && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
        {
            let log = Arc::clone(self);
            tokio::task::spawn_blocking(move || log.write_queued(turn));
        }
    }

    /// Writes until the queue is empty. A caller that queues frames takes the turn if it is free.
    fn write_queued(&self, mut turn: OwnedMutexGuard<()>) {
        loop {
            while self.write_batch(&turn) {}
            drop(turn);
            if self.queue().is_empty() {
                return;
            }
            match Arc::clone(&self.turn).try_lock_owned() {
                Ok(again) => turn = again,
                Err(_) => return,
            }
        }
    }

    /// Writes part of the queue with one write, and notifies the callers that wait for it. Returns false if
    /// the queue is empty.
    fn write_batch(&self, turn: &OwnedMutexGuard<()>) -> bool {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        {
            let mut queue = self.queue();
            while bytes < BATCH_BYTES
                && let Some(waiting) = queue.pop_front()
            {
                bytes += waiting.frames.iter().map(|frame| frame.data.len()).sum::<usize>();
                batch.push(waiting);
            }
        }
        if batch.is_empty() {
            return false;
        }
        let result = self.write(turn, &batch);
        for waiting in batch {
            let result = match &result {
                Ok(position) => Ok(*position),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            // The caller may have gone away.
            let _ = waiting.done.send(result);
        }
        true
    }

    fn write(&self, _turn: &OwnedMutexGuard<()>, batch: &[Waiting]) -> io::Result<LogPosition> {
        if let Some(trouble) = self.trouble.borrow().as_ref().filter(|trouble| trouble.is_failure()) {
            return Err(io::Error::other(trouble.text().to_owned()));
        }
        let LogPosition(position) = *self.appended.borrow();
        let (frames, file) = {
            let state = self.state();
            (state.fresh(batch), state.file.clone().filter(|file| position - file.first < self.file_size))
        };
        if frames.is_empty() {
            return Ok(LogPosition(position));
        }
        let file = file.map_or_else(|| self.next_file(position), Ok)?;
        let begin = position.max(file.frames_from());
        if let Err(error) = write_frames(&file, begin, &frames) {
            // The written part does not count. Cutting it only frees the space.
            let _ = file.cut(begin);
            let mut state = self.state();
            let left = state.file.take();
            state.unsynced.files.extend(left.map(|left| (left.first, left)));
            state.rolls = true;
            return Err(error);
        }
        let keeps = self.has_followers();
        let mut state = self.state();
        let end = LogPosition(state.note(position, file.first, begin, frames, keeps));
        // Published before the next write, which begins where this one ends.
        self.appended.send_replace(end);
        Ok(end)
    }

    /// Returns the file for `position`: the last file if it is neither full nor closed, else a new file.
    fn next_file(&self, position: u64) -> io::Result<Arc<LogFile>> {
        let mut names = BTreeSet::new();
        if self.disk.make_directory(&self.directory)? {
            names.extend(self.directory.parent().map(Path::to_owned));
        }
        let (last, is_closed) = {
            let state = self.state();
            let last = state.contents.files.keys().next_back().copied();
            // When the log is opened, data after the last frame of a closed file is ignored.
            (last, state.rolls || last.is_some_and(|first| state.indexed.contains(&first)))
        };
        let reopened = match last.filter(|first| !is_closed && position - first < self.file_size) {
            Some(first) => Some(LogFile::open(&self.disk, &file_path(&self.directory, first), first)?),
            None => None,
        };
        let file = if let Some(file) = reopened.filter(LogFile::takes_frames) {
            file
        } else {
            names.insert(self.directory.clone());
            // The names must be synced from now on, even if the file stays empty.
            self.state().unsynced.directories.append(&mut names);
            LogFile::create(&self.disk, &file_path(&self.directory, position), position, last)?
        };
        let file = Arc::new(file);
        let mut state = self.state();
        state.rolls = false;
        let full = state.file.replace(Arc::clone(&file));
        state.unsynced.files.extend(full.map(|full| (full.first, full)));
        Ok(file)
    }

    /// Returns the position after the last frame, as it grows.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<LogPosition> {
        self.appended.subscribe()
    }

    /// Returns the position before which everything is synced, as it grows.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<LogPosition> {
        self.synced.subscribe()
    }

    /// Returns why the log cannot be written to the disk, as it changes; `None` if it can.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Publishes a trouble, or its end.
    pub(super) fn tell_trouble(&self, trouble: Option<Trouble>) {
        self.trouble.send_if_modified(|known| {
            let is_new = *known != trouble;
            *known = trouble;
            is_new
        });
    }

    /// Reports whether the log has failed and must be opened again.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.trouble.borrow().as_ref().is_some_and(Trouble::is_failure)
    }

    /// Makes the log fail. Nothing is appended from now on, since the files belong to the log that is opened
    /// next.
    pub(super) fn fail(&self, text: String) {
        let turn = Arc::clone(&self.turn).blocking_lock_owned();
        self.tell_trouble(Some(Trouble::Failed(text)));
        // Notifies the callers that wait.
        self.write_queued(turn);
    }

    fn has_followers(&self) -> bool {
        // One receiver is the syncing task's.
        self.appended.receiver_count() > 1
    }

    /// Returns the position of the oldest frame in memory.
    #[must_use]
    pub fn recent_from(&self) -> Option<LogPosition> {
        self.state().recent_from()
    }

    /// Returns frames in memory from exactly this position on, and where they end; `None` if no frame in
    /// memory begins there.
    #[must_use]
    pub fn recent(&self, position: LogPosition) -> Option<(Vec<(u32, Frame)>, LogPosition)> {
        self.state().recent(position)
    }

    /// Deletes closed files before `position` if `is_spare` is true for each task in the file. Its arguments
    /// are the first and the end offset of the task in the file, and the end of the output of the task. The
    /// indices stay, and show that nothing else is missing.
    ///
    /// # Errors
    /// When a file cannot be unlinked.
    pub fn drop_spare(
        &self,
        position: LogPosition,
        is_spare: impl Fn((OutputOffset, OutputOffset), OutputOffset) -> bool,
    ) -> io::Result<()> {
        let spare: Vec<u64> = {
            let state = self.state();
            let is_all_spare = |first: u64| {
                let mut parts = state.contents.files[&first].parts.iter();
                parts.all(|(task, part)| is_spare((part.from, part.to), state.contents.task_end(*task)))
            };
            let firsts: Vec<u64> = state.contents.files.keys().copied().collect();
            let closed = firsts.iter().zip(firsts.iter().skip(1));
            let behind = closed.filter(|(_, next)| **next <= position.0).map(|(first, _)| *first);
            let is_there = |first: &u64| state.indexed.contains(first) && !state.dropped.contains(first);
            behind.filter(|first| is_there(first) && is_all_spare(*first)).collect()
        };
        // The index of such a file must be synced before the file is deleted.
        self.seal(&spare)?;
        for first in spare {
            match self.disk.remove(&file_path(&self.directory, first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.state().dropped.insert(first),
            };
        }
        Ok(())
    }

    /// Requests a sync without waiting for more bytes.
    pub fn flush(&self) {
        self.flush.notify_one();
    }

    /// Returns the notification of requested syncs.
    pub(super) fn flushes(&self) -> Arc<Notify> {
        Arc::clone(&self.flush)
    }

    /// Publishes the position up to which the log is synced.
    pub(super) fn publish_synced(&self, end: u64) {
        self.synced.send_replace(LogPosition(end));
    }

    /// Returns the directory of the files.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the disk of the files.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }
}
