//! The tasks that ended and were handed over: their ids are kept, so that none of them is ever started again.
//!
//! One line of JSON a task, appended; in memory only where each line begins.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::keeper::protocol::TaskEnding;
use crate::{domain::ids::TaskId, sys::paths::write_private};

/// Days for which ids are kept.
const KEPT_DAYS: u64 = 30;
/// The newest ids are kept whatever the clock says: it may have jumped.
const KEPT_ALWAYS: usize = 10_000;
/// Longest line that is read back.
const LONGEST_LINE: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Entry {
    id: TaskId,
    day: u64,
    ending: TaskEnding,
}

/// The file and its index.
#[derive(Debug)]
pub struct Finished {
    path: PathBuf,
    /// When it was opened: what is too old is dropped on another day.
    day: u64,
    file: File,
    size: u64,
    index: HashMap<TaskId, u64>,
}

impl Finished {
    /// Reads the file, drops what is too old, and keeps it open.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(path: &Path, today: u64) -> io::Result<Self> {
        let mut entries: Vec<(Entry, Vec<u8>)> = Vec::new();
        if path.exists() {
            for line in BufReader::new(File::open(path)?).split(b'\n') {
                let line = line?;
                // A torn last line is a task whose directory is still there.
                entries.extend(serde_json::from_slice(&line).ok().map(|entry| (entry, line)));
            }
        }
        let always_from = entries.len().saturating_sub(KEPT_ALWAYS);
        let mut kept = Vec::new();
        let mut index = HashMap::new();
        for (position, (entry, line)) in entries.into_iter().enumerate() {
            if position >= always_from || entry.day + KEPT_DAYS >= today {
                index.insert(entry.id, kept.len() as u64);
                kept.extend_from_slice(&line);
                kept.push(b'\n');
            }
        }
        write_private(path, &kept, false)?;
        let file = OpenOptions::new().read(true).write(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), day: today, file, size: kept.len() as u64, index })
    }

    /// Whether the task is in it.
    #[must_use]
    pub fn contains(&self, id: TaskId) -> bool {
        self.index.contains_key(&id)
    }

    /// How a task ended.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, id: TaskId) -> io::Result<Option<TaskEnding>> {
        let Some(at) = self.index.get(&id) else { return Ok(None) };
        let mut line = vec![0; LONGEST_LINE];
        let count = self.file.read_at(&mut line, *at)?;
        let line = line[..count].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let entry: Entry = serde_json::from_slice(line)?;
        Ok(Some(entry.ending))
    }

    /// Adds a task.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn insert(&mut self, id: TaskId, day: u64, ending: TaskEnding) -> io::Result<()> {
        if self.contains(id) {
            return Ok(());
        }
        if day != self.day {
            *self = Self::open(&self.path, day)?;
        }
        let mut line = serde_json::to_vec(&Entry { id, day, ending })?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all_at(&line, self.size) {
            // A part of it would make the next line unreadable.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.index.insert(id, self.size);
        self.size += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ids::RunId, outcome::Ending};

    fn id(n: u128) -> TaskId {
        TaskId { run: RunId::from_parts(1, n), index: 0 }
    }

    fn ending(code: u8) -> TaskEnding {
        TaskEnding { outcome: Ending::Exited(code).into(), end_offset: 5, duration_ns: 7 }
    }

    #[test]
    fn ids_survive_a_restart_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("finished.log");
        let mut finished = Finished::open(&path, 100).unwrap();
        finished.insert(id(1), 100, ending(1)).unwrap();
        finished.insert(id(2), 100, ending(2)).unwrap();
        std::io::Write::write_all(&mut OpenOptions::new().append(true).open(&path).unwrap(), b"{\"id\":")
            .unwrap();
        let mut again = Finished::open(&path, 100).unwrap();
        assert_eq!(again.get(id(2)).unwrap(), Some(ending(2)));
        again.insert(id(3), 100, ending(3)).unwrap();
        assert_eq!(again.get(id(3)).unwrap(), Some(ending(3)));
        assert_eq!(again.get(id(1)).unwrap(), Some(ending(1)));
        assert_eq!(again.get(id(9)).unwrap(), None);
    }

    #[test]
    fn a_jump_of_the_clock_forgets_nothing_recent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("finished.log");
        Finished::open(&path, 100).unwrap().insert(id(1), 100, ending(0)).unwrap();
        assert!(Finished::open(&path, 100_000).unwrap().contains(id(1)));
    }
}
