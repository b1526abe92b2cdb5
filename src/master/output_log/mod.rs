//! Output logs: one append-only log for each job, in files of 64 MiB, addressed by task offset and by position.
//!
//! A position counts the log's bytes, headers included, over all its files. Knows nothing of agents or clients.

pub mod budget;
mod contents;
mod file;
mod opening;
mod pacing;
pub mod reader;
mod state;
mod syncing;
pub mod writer;

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

pub use pacing::Pacer;
pub use reader::LogReader;
pub use syncing::Trouble;
pub use writer::JobLog;

use self::contents::Contents;
use crate::{
    domain::ids::JobId,
    sys::{disk::Disk, file::numbered},
};

/// A file is closed when it has grown to this many bytes.
pub const FILE_SIZE: u64 = 64 * 1024 * 1024;

/// How long a log stays open that was opened ahead.
const OPENED_AHEAD: Duration = Duration::from_secs(1);
/// Jobs that are over and whose contents are remembered.
const REMEMBERED: usize = 8;

/// How log files' names end.
const ENDING: &str = "log";
/// How the names of their indices end.
const INDEX: &str = "index";

fn file_path(directory: &Path, first_position: u64) -> PathBuf {
    numbered(directory, first_position, ENDING)
}

fn index_path(directory: &Path, first_position: u64) -> PathBuf {
    numbered(directory, first_position, INDEX)
}

/// A log that is open, or being opened by whoever holds the lock.
type Opened = Arc<tokio::sync::Mutex<Weak<JobLog>>>;

type Remembered = VecDeque<(JobId, Arc<Contents>)>;

/// All output logs of a master.
#[derive(Clone, Debug)]
pub struct OutputLogs {
    root: PathBuf,
    disk: Disk,
    open: Arc<Mutex<HashMap<JobId, Opened>>>,
    /// Of jobs that are over and were read from the middle lately, newest last.
    remembered: Arc<Mutex<Remembered>>,
}

impl OutputLogs {
    /// The logs below a directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, disk: Disk::default(), open: Arc::default(), remembered: Arc::default() }
    }

    /// The same on a disk of a test's.
    #[cfg(test)]
    pub(super) fn on(disk: Disk, root: PathBuf) -> Self {
        Self { disk, ..Self::new(root) }
    }

    /// Makes the directory that they lie in. Its name is on the disk before any output is.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn make_root(&self) -> io::Result<()> {
        self.disk.make_directory(&self.root)?;
        self.root.parent().map_or(Ok(()), |parent| self.disk.sync_names(parent))
    }

    /// Moves the logs here that an earlier version left in another directory, and removes that one.
    ///
    /// # Errors
    /// When the disk does not take it. What was not moved yet is moved the next time.
    pub fn take_over(&self, old: &Path) -> io::Result<()> {
        let names = match fs::read_dir(old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?,
        };
        for name in names {
            self.disk.rename(&old.join(&name), &self.root.join(&name))?;
        }
        // A log must not be missing at both places after a power failure.
        self.disk.sync_names(&self.root)?;
        fs::remove_dir(old)
    }

    /// The directory that they lie in.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    fn directory(&self, job: JobId) -> PathBuf {
        self.root.join(job.to_string())
    }

    /// The log of a job that is not over, for appending. It is opened once, however many tasks append, and synced
    /// beside the stream for as long as anybody holds it. A long one takes its time, in which nobody else has to wait.
    ///
    /// # Errors
    /// When the disk does not give it.
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

    fn opened(&self, job: JobId) -> Opened {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(&job) {
            let is_held = |opened: &Opened| opened.try_lock().map_or(true, |log| log.strong_count() > 0);
            open.retain(|_, opened| Arc::strong_count(opened) > 1 || is_held(opened));
        }
        Arc::clone(open.entry(job).or_default())
    }

    /// Opens the log of a job that is about to begin, while the job is being stored: who appends to it finds it open.
    pub fn open_ahead(&self, job: JobId) {
        let logs = self.clone();
        tokio::spawn(async move {
            if let Ok(log) = logs.open(job).await {
                tokio::time::sleep(OPENED_AHEAD).await;
                drop(log);
            }
        });
    }

    /// A reader of a job's log from a position, live or later.
    #[must_use]
    pub fn reader(&self, job: JobId, position: u64) -> LogReader {
        LogReader::new(self.disk.clone(), self.directory(job), position)
    }

    /// Where to begin to read what tasks have printed behind these offsets, in the log of a job that is over. Remembers
    /// what lies where for a few jobs.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub async fn position_behind(&self, job: JobId, seen: Vec<(u32, u64)>) -> io::Result<u64> {
        let logs = self.clone();
        let find = move || {
            let contents = logs.contents(job)?;
            let places = seen.iter().filter_map(|(task, offset)| contents.position_of(*task, *offset));
            Ok(places.min().unwrap_or_else(|| contents.end()))
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
        if remembered.len() >= REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back((job, Arc::clone(&contents)));
        Ok(contents)
    }

    /// The jobs that have a log on the disk.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn jobs(&self) -> io::Result<Vec<JobId>> {
        let names = self.disk.names(&self.root)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// When a job's log was written to last, in milliseconds since the Unix epoch; `None` when the disk does not tell.
    #[must_use]
    pub fn last_change_ms(&self, job: JobId) -> Option<u64> {
        let directory = self.directory(job);
        let files = fs::read_dir(&directory).ok()?.flatten().map(|entry| entry.path());
        let changes = files.chain([directory]).filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        let since = changes.max()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }

    /// Bytes that a job's log takes on the disk.
    #[must_use]
    pub fn size(&self, job: JobId) -> u64 {
        let entries = fs::read_dir(self.directory(job)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Deletes a job's log.
    ///
    /// # Errors
    /// When it cannot be deleted; one that is not there is no error.
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

    /// The end of a job's log on the disk, for one that nobody appends to.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub async fn end(&self, job: JobId) -> io::Result<u64> {
        let (disk, directory) = (self.disk.clone(), self.directory(job));
        let find = move || match disk.numbers(&directory, ENDING)?.last() {
            Some(first) => file::LogFile::read(&disk, &file_path(&directory, *first), *first)?.end(),
            None => Ok(0),
        };
        tokio::task::spawn_blocking(find).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod tests;
