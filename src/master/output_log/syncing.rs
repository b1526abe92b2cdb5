//! Bringing a run's log to the disk beside the stream: what was written, and the names of what was made for it.
//!
//! All of it happens on threads that may wait for a disk. Whoever appends waits for no sync.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{File, OpenOptions},
    io,
    num::NonZeroU64,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::Advice;

use super::{RunLog, file_path, scan::whole_frames};
use crate::sys::file::sync_directory;

/// A sync begins when so many bytes wait for one …
const SYNC_BYTES: u64 = 8 * 1024 * 1024;
/// … or the first of them has waited so long.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// So much of a log's end stays in the machine's page cache. What lies before it is rarely read again, and a flood must
/// not push everything else out of the memory.
const CACHED: u64 = 32 * 1024 * 1024;
/// How often a failed sync is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The position at which a file of a log begins, and the file.
pub(super) type LogFile = (u64, Arc<File>);
/// Files of a log, by those positions.
pub(super) type LogFiles = BTreeMap<u64, Arc<File>>;

/// What of a log is not on the disk yet.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// Files that have grown.
    pub(super) files: LogFiles,
    /// Directories in which a name was made: it has to survive a crash as the bytes do.
    pub(super) directories: BTreeSet<PathBuf>,
}

impl Unsynced {
    /// Adds what has not come to the disk after all.
    pub(super) fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.directories.extend(other.directories);
    }

    fn sync(&self) -> io::Result<()> {
        self.files.values().try_for_each(|file| file.sync_data())?;
        self.directories.iter().try_for_each(|directory| match sync_directory(directory) {
            // The run was deleted, and its names with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        })
    }
}

/// The files that have something in the machine's page cache, oldest first, each with where it begins.
#[derive(Debug, Default)]
struct Cached {
    files: VecDeque<LogFile>,
    /// What comes before this position was forgotten.
    from: u64,
}

impl Cached {
    fn add(&mut self, files: LogFiles) {
        let last = self.files.back().map(|(first, _)| *first);
        self.files.extend(files.into_iter().filter(|(first, _)| last.is_none_or(|last| *first > last)));
    }

    /// Lets go of what lies before a position; it must be synced.
    fn forget_before(&mut self, position: u64) {
        while let Some((first, file)) = self.files.front() {
            let next = self.files.get(1).map(|(next, _)| *next).filter(|next| *next <= position);
            let (from, end) = (self.from.max(*first), next.unwrap_or(position));
            if let Some(length) = end.checked_sub(from).and_then(NonZeroU64::new) {
                // Where the system does not take the advice the bytes merely stay longer.
                let _ = rustix::fs::fadvise(file, from - first, Some(length), Advice::DontNeed);
                self.from = end;
            }
            if next.is_none() {
                return;
            }
            self.files.pop_front();
        }
    }
}

/// Syncs a log, one sync at a time, until nobody appends to it any more.
pub(super) fn keep_synced(log: &Arc<RunLog>) -> impl Future<Output = ()> + Send + use<> {
    let (mut appended, synced, flush) = (log.appended(), log.synced(), log.flushes());
    let log = Arc::downgrade(log);
    let mut cached = Cached::default();
    let mut has_failed = false;
    async move {
        loop {
            let behind = *synced.borrow();
            if appended.wait_for(|end| *end > behind).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(SYNC_AFTER) => {}
                () = flush.notified() => {}
                _ = appended.wait_for(|end| *end >= behind + SYNC_BYTES) => {}
            }
            let Some(log) = log.upgrade() else { return };
            let (end, unsynced) = log.take_unsynced();
            let mut was_cached = std::mem::take(&mut cached);
            let syncing = Arc::clone(&log);
            let sync = move || {
                let written = if has_failed {
                    write_again(syncing.directory(), &unsynced.files, behind)
                } else {
                    Ok(())
                };
                if let Err(error) = written.and_then(|()| unsynced.sync()) {
                    return Err((error, unsynced, was_cached));
                }
                // Agents wait for this, and for nothing that comes after it.
                syncing.tell_synced(end);
                was_cached.add(unsynced.files);
                was_cached.forget_before(end.saturating_sub(CACHED));
                Ok(was_cached)
            };
            match tokio::task::spawn_blocking(sync).await {
                Ok(Ok(still_cached)) => {
                    cached = still_cached;
                    has_failed = false;
                }
                Ok(Err((error, unsynced, still_cached))) => {
                    cached = still_cached;
                    tracing::error!(%error, log = %log.directory().display(), "cannot bring output to the disk; trying again");
                    log.put_back(unsynced);
                    has_failed = true;
                    tokio::time::sleep(RETRY).await;
                }
                Err(_) => return,
            }
        }
    }
}

/// Writes again what lies behind a position: after a sync that failed the system takes for written what is not. It is
/// read from what the machine still holds of it, and held against its checksums first.
fn write_again(directory: &Path, files: &LogFiles, from: u64) -> io::Result<()> {
    for first in files.keys() {
        let path = file_path(directory, *first);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let end = first + file.metadata()?.len();
        if whole_frames(&path, *first, |_, _| {})? < end {
            return Err(io::Error::other("what the disk did not take is gone from memory too"));
        }
        let mut piece = vec![0; 1024 * 1024];
        let mut at = from.saturating_sub(*first);
        loop {
            let count = file.read_at(&mut piece, at)?;
            if count == 0 {
                break;
            }
            file.write_all_at(&piece[..count], at)?;
            at += count as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::frame::{Frame, Stream};

    #[test]
    fn what_is_written_again_is_the_same_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let log = RunLog::open(dir.path().join("run")).unwrap();
        let frame =
            |offset: u64| Frame { stream: Stream::Stdout, offset, time_ns: 0, data: vec![7; 1000].into() };
        let middle = log.append(0, &[frame(0)]).unwrap();
        log.append(0, &[frame(1000)]).unwrap();
        let (_, unsynced) = log.take_unsynced();
        let path = file_path(log.directory(), 0);
        let before = fs::read(&path).unwrap();
        write_again(log.directory(), &unsynced.files, middle).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        let mut damaged = before;
        *damaged.last_mut().unwrap() = 0;
        fs::write(&path, damaged).unwrap();
        assert!(write_again(log.directory(), &unsynced.files, middle).is_err());
    }

    #[test]
    fn what_could_not_be_synced_is_listed_once_however_often_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let log = RunLog::open(dir.path().join("run")).unwrap();
        let data = vec![7; 1000].into();
        log.append(0, &[Frame { stream: Stream::Stdout, offset: 0, time_ns: 0, data }]).unwrap();
        for _ in 0..3 {
            let (_, unsynced) = log.take_unsynced();
            assert_eq!((unsynced.files.len(), unsynced.directories.len()), (1, 2));
            log.put_back(unsynced);
        }
    }

    #[test]
    fn each_byte_is_forgotten_once_whichever_files_it_lies_in() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut cached = Cached::default();
        let files = |firsts: &[u64]| firsts.iter().map(|first| (*first, Arc::clone(&file))).collect();
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
