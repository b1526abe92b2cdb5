//! Syncs a job's log in the background: its contents, and the names of its new files.
//!
//! This happens on threads that may block on the disk. Appending never waits for a sync.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::{
    JobLog, LogPosition,
    file::{Frames, LogFile, Next},
    file_path,
};
use crate::sys::disk::Disk;

/// Number of unsynced bytes at which a sync begins …
const SYNC_BYTES: u64 = 8 * 1024 * 1024;
/// … or the time after which it begins anyway.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// Size of the end of a log that stays in the page cache, in bytes. Earlier data is rarely read again, and
/// large output must not push everything else out of memory.
const CACHED: u64 = 32 * 1024 * 1024;
/// Interval at which a failed sync is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Files of a log, by the positions at which they begin.
pub(super) type LogFiles = BTreeMap<u64, Arc<LogFile>>;

/// The reason why a log cannot be written to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The sync is retried.
    Retrying(String),
    /// Data that was not synced is also lost from memory. The log must be opened again, which recovers the
    /// rest of it; agents resend what is missing.
    Failed(String),
}

impl Trouble {
    /// Reports whether the log has failed and is not retried.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Returns the text for operators.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Retrying(text) | Self::Failed(text) => text,
        }
    }
}

/// The part of a log that is not synced yet.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// Files that have grown.
    pub(super) files: LogFiles,
    /// Directories with new names, which have to survive a crash like the data.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Whether a sync of it has failed: the system then considers data written that is not.
    has_failed: bool,
}

impl Unsynced {
    /// Adds what could not be synced. If a file was created again in the meantime, the new one counts.
    fn put_back(&mut self, other: Self) {
        for (first, file) in other.files {
            self.files.entry(first).or_insert(file);
        }
        self.directories.extend(other.directories);
        self.has_failed = true;
    }

    fn sync(&self, disk: &Disk) -> io::Result<()> {
        self.files.values().try_for_each(|file| file.sync())?;
        self.directories.iter().try_for_each(|directory| match disk.sync_names(directory) {
            // The job was deleted, and its names with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        })
    }

    /// Writes the data between two positions again, as the page cache has it, and verifies its checksums.
    fn write_again(&self, log: &JobLog, from: u64, end: u64) -> io::Result<()> {
        let nexts = self.files.keys().skip(1).copied().chain([u64::MAX]);
        for (file, next) in self.files.values().zip(nexts) {
            let (from, end) = (from.max(file.first), end.min(next).max(file.first));
            // Nothing is appended in this range, so the turn is not needed.
            file.write_again(from, end)?;
            let path = file_path(log.directory(), file.first);
            let mut frames = Frames::new(LogFile::read(log.disk(), &path, file.first)?, from);
            while frames.position() < end {
                if !matches!(frames.next(end)?, Next::Frame(..)) {
                    let text = "what was not synced is also lost from memory";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(())
    }
}

impl JobLog {
    /// Syncs what was appended, and publishes the position. Returns the synced files.
    pub(super) fn sync_once(&self) -> io::Result<LogFiles> {
        let (end, unsynced) = self.begin_sync();
        self.finish_sync(end, unsynced)
    }

    /// Returns the closed files without an index that are synced. The log is synced up to `end`.
    fn unindexed(&self, end: u64) -> Vec<u64> {
        let state = self.state();
        let closed = state.contents.files.iter().rev().skip(1);
        let closed = closed.filter(|(first, file)| file.end <= end && !state.indexed.contains(first));
        closed.map(|(first, _)| *first).collect()
    }

    /// Returns the position up to which the log is synced after this sync, and what to sync. More may be
    /// appended in the meantime.
    pub(super) fn begin_sync(&self) -> (u64, Unsynced) {
        let mut state = self.state();
        let mut unsynced = std::mem::take(&mut state.unsynced);
        unsynced.files.extend(state.file.iter().map(|file| (file.first, Arc::clone(file))));
        (self.appended().borrow().0, unsynced)
    }

    pub(super) fn finish_sync(&self, end: u64, unsynced: Unsynced) -> io::Result<LogFiles> {
        let LogPosition(behind) = *self.synced().borrow();
        let written = if unsynced.has_failed { unsynced.write_again(self, behind, end) } else { Ok(()) };
        match written.and_then(|()| unsynced.sync(self.disk())) {
            Ok(()) => {
                self.publish_synced(end);
                self.tell_trouble(None);
                Ok(unsynced.files)
            }
            Err(error) => {
                let text = format!("the master's disk does not take its output: {error}");
                self.state().unsynced.put_back(unsynced);
                if error.kind() == io::ErrorKind::InvalidData {
                    self.fail(text);
                } else {
                    self.tell_trouble(Some(Trouble::Retrying(format!("{text}; trying again"))));
                }
                Err(error)
            }
        }
    }

    /// Writes the missing indices of closed files before `end`, up to which the log is synced. Returns false
    /// if one fails; it is written with the next one.
    pub(super) fn write_indices(&self, end: u64) -> bool {
        let sealed = self.seal(&self.unindexed(end)).inspect_err(|error| {
            tracing::warn!(%error, log = %self.directory().display(), "cannot write an output log's index");
        });
        sealed.is_ok()
    }

    /// Writes and syncs the indices of closed files, except those that this process has already synced.
    pub(super) fn seal(&self, firsts: &[u64]) -> io::Result<()> {
        // One call at a time: while an index is written again, no other call may consider it written.
        let _sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let unsealed: Vec<_> = {
            let state = self.state();
            let unsealed = firsts.iter().filter(|first| !state.sealed.contains(first));
            unsealed.map(|first| (*first, state.contents.files[first].clone())).collect()
        };
        if unsealed.is_empty() {
            return Ok(());
        }
        unsealed.iter().try_for_each(|(first, file)| file.write(self.disk(), self.directory(), *first))?;
        self.disk().sync_names(self.directory())?;
        let mut state = self.state();
        for (first, _) in unsealed {
            state.indexed.insert(first);
            state.sealed.insert(first);
        }
        Ok(())
    }
}

/// The files with data in the page cache, oldest first.
#[derive(Debug, Default)]
struct Cached {
    files: VecDeque<Arc<LogFile>>,
    /// Data before this position was dropped from the page cache.
    from: u64,
}

impl Cached {
    fn add(&mut self, files: LogFiles) {
        let last = self.files.back().map(|file| file.first);
        self.files.extend(files.into_values().filter(|file| last.is_none_or(|last| file.first > last)));
    }

    /// Drops data before a position, which must be synced, from the page cache.
    fn forget_before(&mut self, position: u64) {
        while let Some(file) = self.files.front() {
            let next = self.files.get(1).map(|next| next.first).filter(|next| *next <= position);
            let (from, end) = (self.from.max(file.first), next.unwrap_or(position));
            if end > from {
                file.forget(from, end);
                self.from = end;
            }
            if next.is_none() {
                return;
            }
            self.files.pop_front();
        }
    }
}

/// Starts to write the missing indices, if there are any. The task returns true when they are written.
fn begin_indexing(log: &Arc<JobLog>, end: u64) -> Option<JoinHandle<bool>> {
    (!log.unindexed(end).is_empty()).then(|| {
        let log = Arc::clone(log);
        tokio::task::spawn_blocking(move || log.write_indices(end))
    })
}

/// Waits until the current indices are written. Returns true if they are. Cancel safe.
async fn indexed(indexing: &mut Option<JoinHandle<bool>>) -> bool {
    let Some(task) = indexing else { return std::future::pending().await };
    let is_written = task.await.unwrap_or(false);
    *indexing = None;
    is_written
}

/// Syncs a log, one sync at a time, until all its handles are dropped.
pub(super) fn keep_synced(log: &Arc<JobLog>) -> impl Future<Output = ()> + Send + use<> {
    let (mut appended, synced, flush) = (log.appended(), log.synced(), log.flushes());
    let log = Arc::downgrade(log);
    let mut cached = Cached::default();
    // Indices are written in parallel with the syncs, since agents wait for the syncs.
    let mut indexing = None;
    async move {
        loop {
            let LogPosition(behind) = *synced.borrow();
            tokio::select! {
                grown = appended.wait_for(|end| end.0 > behind) => if grown.is_err() { return },
                is_written = indexed(&mut indexing) => {
                    // More files may have been closed in the meantime.
                    indexing = log.upgrade().filter(|_| is_written).and_then(|log| begin_indexing(&log, behind));
                    continue;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(SYNC_AFTER) => {}
                () = flush.notified() => {}
                _ = appended.wait_for(|end| end.0 >= behind + SYNC_BYTES) => {}
            }
            let Some(log) = log.upgrade() else { return };
            let mut was_cached = std::mem::take(&mut cached);
            let syncing = Arc::clone(&log);
            let sync = move || {
                // Agents wait for this, but not for what follows.
                let synced = syncing.sync_once();
                let LogPosition(end) = *syncing.synced().borrow();
                let result = synced.map(|files| was_cached.add(files));
                was_cached.forget_before(end.saturating_sub(CACHED));
                (was_cached, result)
            };
            let result = match tokio::task::spawn_blocking(sync).await {
                Ok((still_cached, result)) => {
                    cached = still_cached;
                    result
                }
                Err(error) => {
                    let text = format!("the task that syncs the output log has ended: {error}");
                    return log.tell_trouble(Some(Trouble::Failed(text)));
                }
            };
            if indexing.is_none() {
                indexing = begin_indexing(&log, synced.borrow().0);
            }
            if let Err(error) = result {
                tracing::error!(%error, log = %log.directory().display(), "cannot sync an output log; trying again");
                if log.is_failed() {
                    return;
                }
                drop(log);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        domain::{
            frame::{Frame, Stream},
            offset::OutputOffset,
        },
        master::output_log::{FILE_SIZE, opening},
    };

    fn log() -> (tempfile::TempDir, JobLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = opening::open(&Disk::default(), dir.path().join("run"), FILE_SIZE).unwrap();
        (dir, log)
    }

    fn frame(offset: u64) -> Frame {
        Frame { stream: Stream::Stdout, offset: OutputOffset(offset), time_ns: 0, data: vec![7; 1000].into() }
    }

    #[test]
    fn what_could_not_be_synced_is_written_again_and_damage_is_noticed() {
        let (_dir, log) = log();
        log.append_here(0, &[frame(0)]).unwrap();
        let path = file_path(log.directory(), 0);
        log.state().unsynced.has_failed = true;
        let before = fs::read(&path).unwrap();
        log.sync_once().unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(!log.state().unsynced.has_failed);
        log.append_here(0, &[frame(1000)]).unwrap();
        log.state().unsynced.has_failed = true;
        let mut damaged = fs::read(&path).unwrap();
        *damaged.last_mut().unwrap() = 0;
        fs::write(&path, damaged).unwrap();
        let synced = *log.synced().borrow();
        assert!(log.sync_once().is_err());
        assert!(log.is_failed(), "only opening it anew helps");
        assert_eq!(*log.synced().borrow(), synced);
        assert!(log.append_here(0, &[frame(2000)]).is_err(), "nothing more comes into what will be cut");
    }

    #[test]
    fn what_could_not_be_synced_is_listed_once_however_often_that_is() {
        let (_dir, log) = log();
        log.append_here(0, &[frame(0)]).unwrap();
        for _ in 0..3 {
            let mut state = log.state();
            let mut unsynced = std::mem::take(&mut state.unsynced);
            unsynced.files.extend(state.file.iter().map(|file| (file.first, Arc::clone(file))));
            assert_eq!((unsynced.files.len(), unsynced.directories.len()), (1, 2));
            state.unsynced.put_back(unsynced);
        }
    }

    #[test]
    fn a_file_that_was_made_anew_while_the_old_one_could_not_be_synced_is_synced_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let make = || Arc::new(LogFile::create(&Disk::default(), &dir.path().join("file"), 0, None).unwrap());
        let (old, new) = (make(), make());
        let unsynced =
            |file: &Arc<LogFile>| Unsynced { files: [(0, Arc::clone(file))].into(), ..Unsynced::default() };
        let mut waiting = unsynced(&new);
        waiting.put_back(unsynced(&old));
        assert!(Arc::ptr_eq(&waiting.files[&0], &new));
        assert!(waiting.has_failed);
    }

    #[test]
    fn each_byte_is_forgotten_once_whichever_files_it_lies_in() {
        let dir = tempfile::tempdir().unwrap();
        let mut cached = Cached::default();
        let files = |firsts: &[u64]| {
            let file = |first: u64| LogFile::create(&Disk::default(), &dir.path().join("file"), first, None);
            firsts.iter().map(|first| (*first, Arc::new(file(*first).unwrap()))).collect()
        };
        cached.add(files(&[0]));
        // The newest file comes again with every sync.
        cached.add(files(&[0, 100, 250]));
        let mut steps = Vec::new();
        for position in [0, 50, 40, 100, 120, 400] {
            cached.forget_before(position);
            steps.push((cached.from, cached.files.len()));
        }
        assert_eq!(steps, [(0, 3), (50, 3), (50, 3), (100, 2), (120, 2), (400, 1)]);
    }
}
