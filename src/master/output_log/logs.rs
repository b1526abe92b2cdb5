//! The output logs of all jobs, and the locations of their files.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use super::{contents::Contents, file, opening, reader::LogReader, syncing, writer::JobLog};
use crate::{
    domain::{ids::JobId, offset::OutputOffset, time::UnixMs},
    sys::{disk::Disk, file::numbered},
};

/// A file is closed when it has grown to this many bytes.
pub const FILE_SIZE: u64 = 64 * 1024 * 1024;

/// How long a log that was opened in advance stays open.
const OPENED_IN_ADVANCE: Duration = Duration::from_secs(1);
/// Maximum number of ended jobs whose contents are cached.
const MAX_CACHED_CONTENTS: usize = 8;

/// The file name extension of log files.
pub(super) const LOG_EXTENSION: &str = "log";
/// The file name extension of their indices.
pub(super) const INDEX: &str = "index";

pub(super) fn file_path(directory: &Path, first_position: u64) -> PathBuf {
    numbered(directory, first_position, LOG_EXTENSION)
}

pub(super) fn index_path(directory: &Path, first_position: u64) -> PathBuf {
    numbered(directory, first_position, INDEX)
}

/// A place in a job's log: the bytes before it, headers included, over all files. Offsets count the bytes of one task's output
/// and are plain numbers, so that the two cannot be confused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition(pub u64);

impl LogPosition {
    /// The beginning of a log.
    pub const START: Self = Self(0);

    /// Returns the bytes of the log between an earlier position and this one; 0 if that one is not earlier.
    #[must_use]
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An open log. The holder of the lock may be opening it.
type Opened = Arc<tokio::sync::Mutex<Weak<JobLog>>>;

type Remembered = VecDeque<(JobId, Arc<Contents>)>;

/// All output logs of a master.
#[derive(Clone, Debug)]
pub struct OutputLogs {
    root: PathBuf,
    pub(super) disk: Disk,
    pub(super) open: Arc<Mutex<HashMap<JobId, Opened>>>,
    /// The contents of ended jobs that were recently read from the middle, newest last.
    pub(super) remembered: Arc<Mutex<Remembered>>,
}

impl OutputLogs {
    /// Returns the logs below a directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, disk: Disk::default(), open: Arc::default(), remembered: Arc::default() }
    }

    /// Returns the logs below a directory of a test's disk.
    #[cfg(test)]
    pub(in crate::master) fn on(disk: Disk, root: PathBuf) -> Self {
        Self { disk, ..Self::new(root) }
    }

    /// Creates the directory of the logs, and syncs its name before any output is written.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn make_root(&self) -> io::Result<()> {
        self.disk.make_directory(&self.root)?;
        self.root.parent().map_or(Ok(()), |parent| self.disk.sync_names(parent))
    }

    /// Moves the logs that an earlier version left in the directory `old`, and removes that directory.
    ///
    /// # Errors
    /// When the disk cannot be written. The next call moves the remaining logs.
    pub fn adopt(&self, old: &Path) -> io::Result<()> {
        let names = match fs::read_dir(old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?,
        };
        for name in names {
            self.disk.rename(&old.join(&name), &self.root.join(&name))?;
        }
        // After a power failure each log must exist in one of the directories.
        self.disk.sync_names(&self.root)?;
        fs::remove_dir(old)
    }

    /// Returns the directory of the logs.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    pub(super) fn directory(&self, job: JobId) -> PathBuf {
        self.root.join(job.to_string())
    }

    /// Returns the log of an unfinished job, for appending. All callers share one open log, which is synced
    /// in the background while anyone holds it. Opening a long log takes time, but delays no other job.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub async fn open(&self, job: JobId) -> io::Result<Arc<JobLog>> {
        let opened = self.opened(job);
        let mut known = opened.lock().await;
        if let Some(log) = known.upgrade().filter(|log| !log.is_failed()) {
            return Ok(log);
        }
        let (disk, directory) = (self.disk.clone(), self.directory(job));
        let open = move || opening::open(&disk, directory, FILE_SIZE);
        let log = Arc::new(tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??);
        *known = Arc::downgrade(&log);
        // Ends with the last handle to the log.
        tokio::spawn(syncing::keep_synced(&log));
        Ok(log)
    }

    pub(super) fn opened(&self, job: JobId) -> Opened {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(&job) {
            let is_held = |opened: &Opened| opened.try_lock().map_or(true, |log| log.strong_count() > 0);
            open.retain(|_, opened| Arc::strong_count(opened) > 1 || is_held(opened));
        }
        Arc::clone(open.entry(job).or_default())
    }

    /// Opens the log of a new job in the background while the job is being stored, so that it is open when
    /// output arrives.
    pub fn open_ahead(&self, job: JobId) {
        let logs = self.clone();
        tokio::spawn(async move {
            if let Ok(log) = logs.open(job).await {
                tokio::time::sleep(OPENED_IN_ADVANCE).await;
                drop(log);
            }
        });
    }

    /// Returns a reader of a job's log from a position on. The job may be live or not.
    #[must_use]
    pub fn reader(&self, job: JobId, position: LogPosition) -> LogReader {
        LogReader::new(self.disk.clone(), self.directory(job), position)
    }

    /// Returns the position in an ended job's log from which on a reader finds all output after these offsets
    /// of its tasks. The contents of a few logs are cached.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn position_behind(
        &self,
        job: JobId,
        seen: Vec<(u32, OutputOffset)>,
    ) -> io::Result<LogPosition> {
        let logs = self.clone();
        let find = move || {
            let contents = logs.contents(job)?;
            let places = seen.iter().filter_map(|(task, offset)| contents.position_of(*task, *offset));
            Ok(LogPosition(places.min().unwrap_or_else(|| contents.end())))
        };
        tokio::task::spawn_blocking(find).await.map_err(io::Error::other)?
    }

    fn contents(&self, job: JobId) -> io::Result<Arc<Contents>> {
        let lock = || self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().iter().find(|(id, _)| *id == job).map(|(_, contents)| Arc::clone(contents));
        if let Some(contents) = known {
            return Ok(contents);
        }
        let contents = Arc::new(Contents::scan(&self.disk, &self.directory(job))?);
        let mut remembered = lock();
        if remembered.len() >= MAX_CACHED_CONTENTS {
            remembered.pop_front();
        }
        remembered.push_back((job, Arc::clone(&contents)));
        Ok(contents)
    }

    /// Returns the jobs that have a log on the disk.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn jobs(&self) -> io::Result<Vec<JobId>> {
        let names = self.disk.names(&self.root)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns the time of the last write to a job's log, or `None` if it cannot be read.
    #[must_use]
    pub fn last_change_ms(&self, job: JobId) -> Option<UnixMs> {
        let directory = self.directory(job);
        let files = fs::read_dir(&directory).ok()?.flatten().map(|entry| entry.path());
        let changes = files.chain([directory]).filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        let since = changes.max()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(UnixMs(u64::try_from(since.as_millis()).ok()?))
    }

    /// Returns the size of a job's log on the disk, in bytes.
    #[must_use]
    pub fn size(&self, job: JobId) -> u64 {
        let entries = fs::read_dir(self.directory(job)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Deletes a job's log.
    ///
    /// # Errors
    /// When it cannot be deleted. A missing log is no error.
    pub fn remove(&self, job: JobId) -> io::Result<()> {
        match fs::remove_dir_all(self.directory(job)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Deletes a job's log unless it is open; returns true when it is deleted. Waits while the log is being opened, so call it
    /// where blocking is allowed.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_unused(&self, job: JobId) -> io::Result<bool> {
        let opened = self.opened(job);
        let known = opened.blocking_lock();
        if known.strong_count() > 0 {
            return Ok(false);
        }
        self.remove(job).map(|()| true)
    }

    /// Returns the end position of a job's log on the disk, if nothing is appended to it.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn end(&self, job: JobId) -> io::Result<LogPosition> {
        let (disk, directory) = (self.disk.clone(), self.directory(job));
        let find = move || match disk.numbers(&directory, LOG_EXTENSION)?.last() {
            Some(first) => {
                file::LogFile::read(&disk, &file_path(&directory, *first), *first)?.end().map(LogPosition)
            }
            None => Ok(LogPosition::START),
        };
        tokio::task::spawn_blocking(find).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests;
