//! Output logs: one append-only log a run, rolled at 64 MiB, addressed by task offset and by position.
//!
//! A position counts the log's bytes, headers included, over all its files. Knows nothing of agents or clients.

pub mod budget;
mod index;
pub mod reader;
mod scan;
mod syncing;
pub mod writer;

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

pub use reader::LogReader;
pub use writer::{Pacer, RunLog};

use self::index::Index;
use crate::{
    domain::ids::RunId,
    sys::file::{numbered, numbers, sync_directory},
};

/// A file is closed when it has grown to this many bytes.
pub const FILE_SIZE: u64 = 64 * 1024 * 1024;

/// Runs that are over and whose places are remembered.
const INDEXED: usize = 8;

/// How log files' names end.
const ENDING: &str = "log";

fn file_path(directory: &Path, first_position: u64) -> PathBuf {
    numbered(directory, first_position, ENDING)
}

/// The first positions of a log's files.
fn files(directory: &Path) -> io::Result<VecDeque<u64>> {
    numbers(directory, ENDING)
}

/// A log that is open, or being opened by whoever holds the lock.
type Opened = Arc<tokio::sync::Mutex<Weak<RunLog>>>;

type Indexed = VecDeque<(RunId, Arc<Index>)>;

/// All output logs of a master.
#[derive(Clone, Debug)]
pub struct OutputLogs {
    root: PathBuf,
    open: Arc<Mutex<HashMap<RunId, Opened>>>,
    /// Of runs that are over and were read from the middle lately, newest last.
    indexed: Arc<Mutex<Indexed>>,
}

impl OutputLogs {
    /// The logs below a directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, open: Arc::default(), indexed: Arc::default() }
    }

    /// Makes the directory that they lie in. Its name is on the disk before any output is.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn make_root(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        self.root.parent().map_or(Ok(()), sync_directory)
    }

    /// The directory that they lie in.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    fn directory(&self, run: RunId) -> PathBuf {
        self.root.join(run.to_string())
    }

    /// The log of a run that is not over, for appending. It is opened once, however many tasks append, and synced
    /// beside the stream for as long as anybody holds it. A long one takes its time, in which nobody else has to wait.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub async fn open(&self, run: RunId) -> io::Result<Arc<RunLog>> {
        let opened = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if !open.contains_key(&run) {
                let is_held = |opened: &Opened| opened.try_lock().map_or(true, |log| log.strong_count() > 0);
                open.retain(|_, opened| Arc::strong_count(opened) > 1 || is_held(opened));
            }
            Arc::clone(open.entry(run).or_default())
        };
        let mut known = opened.lock().await;
        if let Some(log) = known.upgrade() {
            return Ok(log);
        }
        let directory = self.directory(run);
        let log = if directory.exists() {
            let open = move || RunLog::open(directory);
            tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??
        } else {
            RunLog::open(directory)?
        };
        let log = Arc::new(log);
        *known = Arc::downgrade(&log);
        // Ends with the last handle to the log.
        tokio::spawn(syncing::keep_synced(&log));
        Ok(log)
    }

    /// A reader of a run's log from a position, live or later.
    #[must_use]
    pub fn reader(&self, run: RunId, position: u64) -> LogReader {
        LogReader::new(self.directory(run), position)
    }

    /// Where a task's output from this offset on lies, in the log of a run that is over: a position at or before the
    /// frame that holds it. Reads the headers of the whole log once, and remembers them for a few runs.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn position_of(&self, run: RunId, task: u32, offset: u64) -> io::Result<u64> {
        let lock = || self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().iter().find(|(id, _)| *id == run).map(|(_, index)| Arc::clone(index));
        if let Some(index) = known {
            return Ok(index.position_of(task, offset));
        }
        let index = Arc::new(Index::scan(&self.directory(run))?);
        let position = index.position_of(task, offset);
        let mut indexed = lock();
        if indexed.len() >= INDEXED {
            indexed.pop_front();
        }
        indexed.push_back((run, index));
        Ok(position)
    }

    /// Bytes that a run's log takes on the disk.
    #[must_use]
    pub fn size(&self, run: RunId) -> u64 {
        let entries = fs::read_dir(self.directory(run)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Deletes a run's log.
    ///
    /// # Errors
    /// When it cannot be deleted; one that is not there is no error.
    pub fn remove(&self, run: RunId) -> io::Result<()> {
        match fs::remove_dir_all(self.directory(run)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// The end of a run's log on the disk, for one that nobody appends to.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn end(&self, run: RunId) -> io::Result<u64> {
        let directory = self.directory(run);
        match files(&directory)?.back() {
            Some(first) => Ok(first + fs::metadata(file_path(&directory, *first))?.len()),
            None => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests;
