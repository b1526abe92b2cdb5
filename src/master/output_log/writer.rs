//! Appends frames to a job's log, and notifies its readers. `syncing` brings them to the disk.
//!
//! One writes at a time, all that is queued by then. It works out where the frames go, writes them there on a thread that may
//! wait for a disk, and then lets them count. Who asks what there is waits for none of that.

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
    contents::Contents,
    file::LogFile,
    file_path,
    state::{State, Waiting},
    syncing::{Trouble, Unsynced},
};
use crate::domain::frame::{Frame, Header};
use crate::sys::disk::Disk;

/// Approximate number of bytes that are collected for one write.
const BATCH: usize = 4 * 1024 * 1024;

/// Approximate number of bytes that are written with one call, so that what the checksums have just read is still in the processor's cache.
const PIECE: usize = 128 * 1024;

/// Output of fewer bytes is written where it came: a short command's is all there is.
pub const SHORT: usize = 32 * 1024;

/// A job's log, open for appending.
#[derive(Debug)]
pub struct JobLog {
    disk: Disk,
    directory: PathBuf,
    /// Size in bytes at which a file is closed.
    file_size: u64,
    /// What is to be appended next.
    queue: Mutex<VecDeque<Waiting>>,
    /// Held by whoever writes it.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    appended: watch::Sender<u64>,
    synced: watch::Sender<u64>,
    trouble: watch::Sender<Option<Trouble>>,
    flush: Arc<Notify>,
    /// Held while indices are written.
    pub(super) sealing: Mutex<()>,
    /// Positions of followers at whose pace commands may go.
    pub(super) paced: Mutex<HashMap<u64, u64>>,
    /// The position of the slowest of them; `None` when there are none.
    pub(super) slowest: watch::Sender<Option<u64>>,
}

/// Writes frames one behind the other.
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
    /// A log in which this lies, all of it on the disk up to `end`.
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
            appended: watch::Sender::new(end),
            synced: watch::Sender::new(end),
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

    /// Payload bytes that there are of a task.
    #[must_use]
    pub fn task_end(&self, task: u32) -> u64 {
        self.state().contents.task_end(task)
    }

    /// Bytes that a task takes in the log, headers among them, as far as it was written since the log was opened.
    #[must_use]
    pub fn written(&self, task: u32) -> u64 {
        let state = self.state();
        state.written.get(&task).copied().unwrap_or(0).max(state.contents.task_end(task))
    }

    /// Where to begin to read what tasks have printed behind these offsets, and are going to.
    #[must_use]
    pub fn position_behind(&self, seen: &[(u32, u64)]) -> u64 {
        let state = self.state();
        let places = seen.iter().filter_map(|(task, offset)| state.contents.position_of(*task, *offset));
        places.min().unwrap_or(*self.appended.borrow())
    }

    /// Appends what of a task's frames is new, and returns a position at or behind its end. What several tasks append at
    /// once is written together.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it counts then.
    pub async fn append(self: &Arc<Self>, task: u32, frames: &[Frame]) -> io::Result<u64> {
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        let written = self.enqueue(task, frames);
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
            let log = Arc::clone(self);
            // What this thread has to do otherwise goes to another one. For little that takes less time than handing the
            // writing over, and getting its end back.
            if bytes < SHORT && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
                tokio::task::block_in_place(|| log.write_some(&turn));
                drop(turn);
                log.resume();
            } else {
                tokio::task::spawn_blocking(move || log.write_queued(turn));
            }
        }
        written.await.unwrap_or_else(|_| Err(io::Error::other("the log was closed")))
    }

    fn enqueue(&self, task: u32, frames: &[Frame]) -> oneshot::Receiver<io::Result<u64>> {
        let (done, written) = oneshot::channel();
        self.queue().push_back(Waiting { task, frames: frames.to_vec(), done });
        written
    }

    /// The same as [`Self::append`], on this thread.
    #[cfg(test)]
    pub(super) fn append_here(&self, task: u32, frames: &[Frame]) -> io::Result<u64> {
        let written = self.enqueue(task, frames);
        self.write_queued(Arc::clone(&self.turn).blocking_lock_owned());
        written.blocking_recv().unwrap()
    }

    /// Writes what came while somebody had the turn, on a thread that may wait for the disk.
    fn resume(self: &Arc<Self>) {
        if !self.queue().is_empty()
            && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
        {
            let log = Arc::clone(self);
            tokio::task::spawn_blocking(move || log.write_queued(turn));
        }
    }

    /// Writes until nothing is left to write. Whoever queues something while nobody has the turn takes it.
    fn write_queued(&self, mut turn: OwnedMutexGuard<()>) {
        loop {
            while self.write_some(&turn) {}
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

    /// Writes a good piece of what is queued with one write, and tells those who wait for it. False when there is nothing.
    fn write_some(&self, turn: &OwnedMutexGuard<()>) -> bool {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        {
            let mut queue = self.queue();
            while bytes < BATCH
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
            // Whoever waited may have gone away.
            let _ = waiting.done.send(result);
        }
        true
    }

    fn write(&self, _turn: &OwnedMutexGuard<()>, batch: &[Waiting]) -> io::Result<u64> {
        if let Some(trouble) = self.trouble.borrow().as_ref().filter(|trouble| trouble.is_failure()) {
            return Err(io::Error::other(trouble.text().to_owned()));
        }
        let position = *self.appended.borrow();
        let (frames, file) = {
            let state = self.state();
            (state.fresh(batch), state.file.clone().filter(|file| position - file.first < self.file_size))
        };
        if frames.is_empty() {
            return Ok(position);
        }
        let file = file.map_or_else(|| self.next_file(position), Ok)?;
        let begin = position.max(file.frames_from());
        if let Err(error) = write_frames(&file, begin, &frames) {
            // What was written of it counts for nothing: cutting it merely gives the room back.
            let _ = file.cut(begin);
            let mut state = self.state();
            let left = state.file.take();
            state.unsynced.files.extend(left.map(|left| (left.first, left)));
            state.rolls = true;
            return Err(error);
        }
        let keeps = self.has_followers();
        let mut state = self.state();
        let end = state.note(position, file.first, begin, frames, keeps);
        // Told before the next one may append, who begins where this one ends.
        self.appended.send_replace(end);
        Ok(end)
    }

    /// The file that `position` belongs into: the last one again where it is neither full nor closed, else a new one.
    fn next_file(&self, position: u64) -> io::Result<Arc<LogFile>> {
        let mut names = BTreeSet::new();
        if self.disk.make_directory(&self.directory)? {
            names.extend(self.directory.parent().map(Path::to_owned));
        }
        let (last, is_closed) = {
            let state = self.state();
            let last = state.contents.files.keys().next_back().copied();
            // What follows a closed file's last frame is not looked for when the log is opened.
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
            // The names count from here on, even if nothing comes into the file.
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

    /// The position behind the last frame, as it grows.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// The position before which everything is on the disk, as it grows.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }

    /// What keeps the disk from taking the log, as it changes.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Tells of trouble, or that there is none.
    pub(super) fn tell_trouble(&self, trouble: Option<Trouble>) {
        self.trouble.send_if_modified(|known| {
            let is_new = *known != trouble;
            *known = trouble;
            is_new
        });
    }

    /// The log cannot continue, and has to be opened anew.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.trouble.borrow().as_ref().is_some_and(Trouble::is_failure)
    }

    /// From now on nothing is appended: who opens the log anew writes to its files.
    pub(super) fn fail(&self, text: String) {
        let turn = Arc::clone(&self.turn).blocking_lock_owned();
        self.tell_trouble(Some(Trouble::Failed(text)));
        // Whoever waits is told.
        self.write_queued(turn);
    }

    fn has_followers(&self) -> bool {
        // One receiver is the syncing task's.
        self.appended.receiver_count() > 1
    }

    /// Where the frames begin that are still in memory.
    #[must_use]
    pub fn recent_from(&self) -> Option<u64> {
        self.state().recent_from()
    }

    /// Frames from exactly this position on, as far as they are still in memory, and where they end.
    #[must_use]
    pub fn recent(&self, position: u64) -> Option<(Vec<(u32, Frame)>, u64)> {
        self.state().recent(position)
    }

    /// Unlinks closed files before `position` in which there is nothing but what `is_spare` lets go, given for each task
    /// in the file its offsets from and to, and the end of what it printed. Their indices stay, which say that nothing
    /// else is missing.
    ///
    /// # Errors
    /// When a file cannot be unlinked.
    pub fn drop_spare(&self, position: u64, is_spare: impl Fn((u64, u64), u64) -> bool) -> io::Result<()> {
        let spare: Vec<u64> = {
            let state = self.state();
            let is_all_spare = |first: u64| {
                let mut parts = state.contents.files[&first].parts.iter();
                parts.all(|(task, part)| is_spare((part.from, part.to), state.contents.task_end(*task)))
            };
            let firsts: Vec<u64> = state.contents.files.keys().copied().collect();
            let closed = firsts.iter().zip(firsts.iter().skip(1));
            let behind = closed.filter(|(_, next)| **next <= position).map(|(first, _)| *first);
            let is_there = |first: &u64| state.indexed.contains(first) && !state.dropped.contains(first);
            behind.filter(|first| is_there(first) && is_all_spare(*first)).collect()
        };
        // Soon nothing but its index tells of such a file.
        self.seal(&spare)?;
        for first in spare {
            match self.disk.remove(&file_path(&self.directory, first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.state().dropped.insert(first),
            };
        }
        Ok(())
    }

    /// Asks for a sync without waiting for more bytes.
    pub fn flush(&self) {
        self.flush.notify_one();
    }

    /// Notified when a sync was asked for.
    pub(super) fn flushes(&self) -> Arc<Notify> {
        Arc::clone(&self.flush)
    }

    /// Tells up to where the log is on the disk.
    pub(super) fn tell_synced(&self, end: u64) {
        self.synced.send_replace(end);
    }

    /// Where its files lie.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What they lie on.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }
}
