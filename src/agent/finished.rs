//! The tasks that must never be started again: those that ended and were handed over, and those that the agent promised
//! never to start.
//!
//! One line of JSON for each task, appended; in memory only where each line begins. A line is not synced: a power
//! failure changes the boot id, and with it the incarnation, and nothing is started for another incarnation.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::keeper::protocol::TaskEnding;
use crate::{
    domain::ids::{Incarnation, TaskId},
    sys::paths::write_private,
};

/// Days for which ids are kept.
const KEPT_DAYS: u64 = 30;
/// The newest ids are kept whatever the clock says: it may have jumped.
const KEPT_ALWAYS: usize = 10_000;
/// Longest line that is read back, in bytes.
const LONGEST_LINE: usize = 16 * 1024;
/// Bytes of dropped lines from which on the file is rewritten, where they are more than half of it.
const REWRITE_FROM: u64 = 1024 * 1024;

/// What the agent remembers of such a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// How it ended. The master has stored that.
    Ending(TaskEnding),
    /// It was never started in this incarnation, and never will be.
    NeverStarted(Incarnation),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: TaskId,
    day: u64,
    #[serde(flatten)]
    memory: Memory,
}

/// The file and its index.
#[derive(Debug)]
pub struct Finished {
    path: PathBuf,
    file: File,
    /// Where the next line goes.
    size: u64,
    /// Bytes of lines whose tasks were dropped from the index.
    dropped: u64,
    index: HashMap<TaskId, Line>,
    /// The same tasks, oldest line first.
    order: VecDeque<TaskId>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    at: u64,
    length: u64,
    day: u64,
}

impl Finished {
    /// Reads the file and keeps it open. It is made where there is none; on a full disk that alone fails.
    ///
    /// # Errors
    /// When it cannot be read, or not be made.
    pub fn open(path: &Path, today: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let mut finished = Self {
            path: path.to_owned(),
            file: file.try_clone()?,
            size: 0,
            dropped: 0,
            index: HashMap::new(),
            order: VecDeque::new(),
        };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            // What is behind the last whole line was not written to its end, and is written over.
            if line.last() == Some(&b'\n') {
                let length = line.len() as u64;
                match serde_json::from_slice::<Entry>(&line) {
                    Ok(entry) => finished.note(entry.id, length, entry.day),
                    Err(_) => finished.dropped += length,
                }
                finished.size += length;
            }
            line.clear();
        }
        finished.drop_old(today);
        Ok(finished)
    }

    fn note(&mut self, id: TaskId, length: u64, day: u64) {
        self.index.insert(id, Line { at: self.size, length, day });
        self.order.push_back(id);
    }

    /// Forgets what is too old, and rewrites the file when most of it was forgotten. A disk that does not take the new
    /// file keeps the old one.
    fn drop_old(&mut self, today: u64) {
        while self.order.len() > KEPT_ALWAYS
            && let Some(line) = self.order.front().and_then(|oldest| self.index.get(oldest))
            && line.day + KEPT_DAYS < today
        {
            self.dropped += line.length;
            if let Some(oldest) = self.order.pop_front() {
                self.index.remove(&oldest);
            }
        }
        if self.dropped >= REWRITE_FROM
            && self.dropped * 2 > self.size
            && let Err(error) = self.rewrite()
        {
            tracing::warn!(%error, "cannot shorten the list of finished tasks");
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut kept = Vec::new();
        let mut index = HashMap::with_capacity(self.index.len());
        for id in &self.order {
            let Some(line) = self.index.get(id) else { continue };
            let at = kept.len();
            kept.resize(at + usize::try_from(line.length).unwrap_or(LONGEST_LINE), 0);
            self.file.read_exact_at(&mut kept[at..], line.at)?;
            index.insert(*id, Line { at: at as u64, ..*line });
        }
        write_private(&self.path, &kept, false)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        (self.size, self.dropped, self.index) = (kept.len() as u64, 0, index);
        Ok(())
    }

    /// Whether the task is in it.
    #[must_use]
    pub fn contains(&self, id: TaskId) -> bool {
        self.index.contains_key(&id)
    }

    /// What is remembered of a task.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, id: TaskId) -> io::Result<Option<Memory>> {
        let Some(line) = self.index.get(&id) else { return Ok(None) };
        let mut text = vec![0; usize::try_from(line.length).unwrap_or(LONGEST_LINE)];
        self.file.read_exact_at(&mut text, line.at)?;
        let entry: Entry = serde_json::from_slice(&text)?;
        Ok(Some(entry.memory))
    }

    /// Adds a task. What is known of a task stays.
    ///
    /// # Errors
    /// When the disk does not take it; the task is not in it then.
    pub fn insert(&mut self, id: TaskId, day: u64, memory: Memory) -> io::Result<()> {
        if self.contains(id) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&Entry { id, day, memory })?;
        line.push(b'\n');
        // A part of it that stays behind the end is written over by the next line.
        self.file.write_all_at(&line, self.size)?;
        self.note(id, line.len() as u64, day);
        self.size += line.len() as u64;
        if self.order.front().and_then(|oldest| self.index.get(oldest)).is_some_and(|line| line.day < day) {
            self.drop_old(day);
        }
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

    fn ending(code: u8) -> Memory {
        Memory::Ending(TaskEnding { outcome: Ending::Exited(code).into(), end_offset: 5, duration_ns: 7 })
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("finished.log");
        (dir, path)
    }

    #[test]
    fn ids_survive_a_restart_and_a_torn_line() {
        let (_dir, path) = file();
        let mut finished = Finished::open(&path, 100).unwrap();
        finished.insert(id(1), 100, ending(1)).unwrap();
        let promise = Memory::NeverStarted(Incarnation::new("dir", "boot"));
        finished.insert(id(2), 100, promise.clone()).unwrap();
        let torn = b"{\"id\":\"a line that was not written to its end, and is longer than what follows it";
        finished.file.write_all_at(torn, finished.size).unwrap();
        let mut again = Finished::open(&path, 100).unwrap();
        assert_eq!(again.get(id(2)).unwrap(), Some(promise));
        again.insert(id(3), 100, ending(3)).unwrap();
        let again = Finished::open(&path, 100).unwrap();
        assert_eq!(again.get(id(3)).unwrap(), Some(ending(3)));
        assert_eq!(again.get(id(1)).unwrap(), Some(ending(1)));
        assert_eq!(again.get(id(9)).unwrap(), None);
    }

    #[test]
    fn lines_of_0_1_0_are_read() {
        let (_dir, path) = file();
        let line = format!(
            "{{\"id\":{{\"run\":\"{}\",\"index\":0}},\"day\":100,\"ending\":{{\"outcome\":{{\"ending\":{{\"exited\":1}},\"background\":0}},\"end_offset\":5,\"duration_ns\":7}}}}\n",
            id(1).run
        );
        std::fs::write(&path, line).unwrap();
        assert_eq!(Finished::open(&path, 100).unwrap().get(id(1)).unwrap(), Some(ending(1)));
    }

    #[test]
    fn a_jump_of_the_clock_forgets_nothing_recent() {
        let (_dir, path) = file();
        Finished::open(&path, 100).unwrap().insert(id(1), 100, ending(0)).unwrap();
        assert!(Finished::open(&path, 100_000).unwrap().contains(id(1)));
    }

    #[test]
    fn what_is_old_is_forgotten_and_the_file_shortened() {
        let (_dir, path) = file();
        let mut finished = Finished::open(&path, 100).unwrap();
        let count = KEPT_ALWAYS as u128 + 12_000;
        (0..count).for_each(|n| finished.insert(id(n), 100, ending(0)).unwrap());
        assert!(finished.contains(id(0)), "nothing is dropped on the same day");
        let before = finished.size;
        finished.insert(id(count), 200, ending(9)).unwrap();
        let last = id(count - 1);
        assert!(!finished.contains(id(0)) && finished.contains(last));
        let (kept, size) = (finished.order.len(), finished.size);
        assert_eq!(kept, KEPT_ALWAYS);
        assert!(size < before, "{size} of {before} bytes");
        let again = Finished::open(&path, 200).unwrap();
        assert_eq!((again.order.len(), again.get(id(count)).unwrap()), (KEPT_ALWAYS, Some(ending(9))));
    }
}
