//! Remembers the tasks that must never be started again: tasks whose ending the master has stored, and tasks
//! that the agent has promised never to start.
//!
//! Appends one line of JSON for each task; only the position of each line is kept in memory. A line is not
//! synced: a power failure changes the boot id, and with it the incarnation, and a permission for another
//! incarnation starts nothing.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::{self, BufRead as _, BufReader, IoSlice},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::core::FinalRecord;
use crate::{
    domain::ids::TaskId,
    sys::disk::{Disk, File, Open},
};

/// The number of days for which an id is kept.
const KEPT_DAYS: u64 = 30;
/// The number of newest ids that are kept regardless of their age, since the clock may have jumped.
const MIN_KEPT: usize = 10_000;
/// Maximum length of a line that is read back, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// The size of the dropped lines, in bytes, at which the file is rewritten, if they are more than half of it.
const REWRITE_FROM: u64 = 1024 * 1024;
/// The number of bytes per read when the file is opened.
const READ: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Entry {
    id: TaskId,
    day: u64,
    #[serde(flatten)]
    record: FinalRecord,
}

/// The file of finished tasks, and its index.
#[derive(Debug)]
pub struct FinishedTasks {
    disk: Disk,
    path: PathBuf,
    file: File,
    /// Whether the file was opened on a read-only disk, and must be opened again before a write.
    is_read_only: bool,
    /// The number of newest ids that are kept regardless of their age.
    kept_always: usize,
    /// The size of the dropped lines, in bytes, at which the file is rewritten.
    rewrite_from: u64,
    /// The position of the next line.
    size: u64,
    /// The size of the lines that are not in the index, in bytes.
    dropped: u64,
    index: HashMap<TaskId, Line>,
    /// The tasks of the index, oldest line first.
    order: VecDeque<TaskId>,
}

/// Opens the file, only for reading if the disk is read-only. Returns the file and whether the disk is
/// read-only.
fn open(disk: &Disk, path: &Path) -> io::Result<(File, bool)> {
    match disk.open(path, Open::OrNew) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            disk.read(path).map(|file| (file, true)).map_err(|_| error)
        }
        opened => opened.map(|file| (file, false)),
    }
}

/// Reports whether the file at `path` contains the task; false if there is no such file. Reads the whole
/// file, while another process may append to it.
///
/// # Errors
/// When the file cannot be read.
pub fn is_recorded(path: &Path, id: TaskId) -> io::Result<bool> {
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => BufReader::with_capacity(READ, file?),
    };
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        if serde_json::from_slice::<Entry>(&line).is_ok_and(|entry| entry.id == id) {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

#[derive(Clone, Copy, Debug)]
struct Line {
    at: u64,
    length: u64,
    day: u64,
}

impl FinishedTasks {
    /// Reads the file and keeps it open. Creates it if it does not exist; on a full disk only the creation
    /// fails.
    ///
    /// # Errors
    /// When the file cannot be read or created.
    pub fn open(disk: &Disk, path: &Path, today: u64) -> io::Result<Self> {
        Self::open_with(disk, path, today, MIN_KEPT, REWRITE_FROM)
    }

    fn open_with(
        disk: &Disk,
        path: &Path,
        today: u64,
        kept_always: usize,
        rewrite_from: u64,
    ) -> io::Result<Self> {
        let (file, is_read_only) = open(disk, path)?;
        let mut finished = Self {
            disk: disk.clone(),
            path: path.to_owned(),
            file,
            is_read_only,
            kept_always,
            rewrite_from,
            size: 0,
            dropped: 0,
            index: HashMap::new(),
            order: VecDeque::new(),
        };
        let (mut read, mut position) = (Bytes::new(), 0);
        loop {
            let before = read.len();
            read = finished.file.read_more(position, &read, READ)?;
            position += (read.len() - before) as u64;
            if read.len() == before {
                break;
            }
            // A partial last line is overwritten by the next line.
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line = read.split_to(end + 1);
                let length = line.len() as u64;
                match serde_json::from_slice::<Entry>(&line) {
                    Ok(entry) => finished.note(entry.id, length, entry.day),
                    Err(_) => finished.dropped += length,
                }
                finished.size += length;
            }
        }
        finished.drop_old(today);
        Ok(finished)
    }

    fn note(&mut self, id: TaskId, length: u64, day: u64) {
        self.index.insert(id, Line { at: self.size, length, day });
        self.order.push_back(id);
    }

    /// Drops tasks that are too old, and rewrites the file when most of it was dropped. If the new file
    /// cannot be written, the old one stays.
    fn drop_old(&mut self, today: u64) {
        while self.order.len() > self.kept_always
            && let Some(line) = self.order.front().and_then(|oldest| self.index.get(oldest))
            && line.day + KEPT_DAYS < today
        {
            self.dropped += line.length;
            if let Some(oldest) = self.order.pop_front() {
                self.index.remove(&oldest);
            }
        }
        if self.dropped >= self.rewrite_from
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
            kept.resize(at + usize::try_from(line.length).unwrap_or(MAX_LINE_BYTES), 0);
            self.file.read_exact_at(line.at, &mut kept[at..])?;
            index.insert(*id, Line { at: at as u64, ..*line });
        }
        // Opened before it is renamed: after that, nothing may be written to the old file.
        let temporary = self.path.with_extension("new");
        let file = self.disk.open(&temporary, Open::Empty)?;
        file.write_at(0, &mut [IoSlice::new(&kept)])?;
        self.disk.rename(&temporary, &self.path)?;
        self.file = file;
        (self.size, self.dropped, self.index) = (kept.len() as u64, 0, index);
        Ok(())
    }

    /// Reports whether the file contains the task.
    #[must_use]
    pub fn contains(&self, id: TaskId) -> bool {
        self.index.contains_key(&id)
    }

    /// Returns the record of a task.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, id: TaskId) -> io::Result<Option<FinalRecord>> {
        let Some(line) = self.index.get(&id) else { return Ok(None) };
        let mut text = vec![0; usize::try_from(line.length).unwrap_or(MAX_LINE_BYTES)];
        self.file.read_exact_at(line.at, &mut text)?;
        let entry: Entry = serde_json::from_slice(&text)?;
        Ok(Some(entry.record))
    }

    /// Adds the record of a task. A record that exists is kept.
    ///
    /// # Errors
    /// When the record cannot be written. The task is not added then.
    pub fn insert(&mut self, id: TaskId, day: u64, record: FinalRecord) -> io::Result<()> {
        if self.contains(id) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&Entry { id, day, record })?;
        line.push(b'\n');
        if self.is_read_only {
            self.file = self.disk.open(&self.path, Open::OrNew)?;
            self.is_read_only = false;
        }
        // After a failed write, the next line overwrites a part that was written.
        self.file.write_at(self.size, &mut [IoSlice::new(&line)])?;
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
    use crate::{
        domain::{
            ids::{Incarnation, JobId},
            offset::OutputOffset,
            outcome::{Ending, TaskEnding},
        },
        sys::disk::model::Model,
    };

    fn id(n: u128) -> TaskId {
        TaskId { job: JobId::from_parts(1, n), index: 0 }
    }

    fn ending(code: u8) -> FinalRecord {
        FinalRecord::Ending(TaskEnding {
            outcome: Ending::Exited(code).into(),
            end_offset: OutputOffset(5),
            duration_ns: 7,
        })
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("finished.log");
        (dir, path)
    }

    #[test]
    fn ids_survive_a_restart_and_a_torn_line() {
        let (_dir, path) = file();
        let mut finished = FinishedTasks::open(&Disk::default(), &path, 100).unwrap();
        finished.insert(id(1), 100, ending(1)).unwrap();
        let promise = FinalRecord::NeverStarted(Incarnation::new("dir", "boot"));
        finished.insert(id(2), 100, promise.clone()).unwrap();
        let torn = b"{\"id\":\"a line that was not written to its end, and is longer than what follows it";
        finished.file.write_at(finished.size, &mut [IoSlice::new(torn)]).unwrap();
        let mut again = FinishedTasks::open(&Disk::default(), &path, 100).unwrap();
        assert_eq!(again.get(id(2)).unwrap(), Some(promise));
        again.insert(id(3), 100, ending(3)).unwrap();
        let again = FinishedTasks::open(&Disk::default(), &path, 100).unwrap();
        assert_eq!(again.get(id(3)).unwrap(), Some(ending(3)));
        assert_eq!(again.get(id(1)).unwrap(), Some(ending(1)));
        assert_eq!(again.get(id(9)).unwrap(), None);
        let is_recorded = |n| is_recorded(&path, id(n)).unwrap();
        assert!(is_recorded(1) && is_recorded(3) && !is_recorded(9));
    }

    #[test]
    fn lines_of_0_1_0_are_read() {
        let (_dir, path) = file();
        let line = format!(
            "{{\"id\":{{\"run\":\"{}\",\"index\":0}},\"day\":100,\"ending\":{{\"outcome\":{{\"ending\":{{\"exited\":1}},\"background\":0}},\"end_offset\":5,\"duration_ns\":7}}}}\n",
            id(1).job
        );
        std::fs::write(&path, line).unwrap();
        assert_eq!(
            FinishedTasks::open(&Disk::default(), &path, 100).unwrap().get(id(1)).unwrap(),
            Some(ending(1))
        );
    }

    #[test]
    fn a_jump_of_the_clock_forgets_nothing_recent() {
        let (_dir, path) = file();
        FinishedTasks::open(&Disk::default(), &path, 100).unwrap().insert(id(1), 100, ending(0)).unwrap();
        assert!(FinishedTasks::open(&Disk::default(), &path, 100_000).unwrap().contains(id(1)));
    }

    #[test]
    fn what_is_old_is_forgotten_and_the_file_shortened() {
        let (_dir, path) = file();
        let mut finished = FinishedTasks::open(&Disk::default(), &path, 100).unwrap();
        let count = MIN_KEPT as u128 + 12_000;
        (0..count).for_each(|n| finished.insert(id(n), 100, ending(0)).unwrap());
        assert!(finished.contains(id(0)), "nothing is dropped on the same day");
        let before = finished.size;
        finished.insert(id(count), 200, ending(9)).unwrap();
        let last = id(count - 1);
        assert!(!finished.contains(id(0)) && finished.contains(last));
        let (kept, size) = (finished.order.len(), finished.size);
        assert_eq!(kept, MIN_KEPT);
        assert!(size < before, "{size} of {before} bytes");
        let again = FinishedTasks::open(&Disk::default(), &path, 200).unwrap();
        assert_eq!((again.order.len(), again.get(id(count)).unwrap()), (MIN_KEPT, Some(ending(9))));
    }

    #[test]
    fn what_was_taken_is_remembered_by_every_process_after_it_whatever_the_disk_does() {
        let mut rewritten = 0;
        for seed in 0..1_000 {
            let model = Model::new(seed);
            let disk = Disk::model(model.clone());
            disk.make_directory(Path::new("/tasks")).unwrap();
            disk.sync_names(Path::new("/")).unwrap();
            let path = Path::new("/tasks/finished.log");
            let open = |day| FinishedTasks::open_with(&disk, path, day, 8, 900).unwrap();
            let (mut day, mut finished) = (100, open(100));
            let mut taken: Vec<(TaskId, u64, FinalRecord)> = Vec::new();
            for n in 0..u128::from(model.roll(60)) {
                model.fail([0, 0, 3, 9][usize::try_from(model.roll(4)).unwrap()]);
                let memory = ending(u8::try_from(n).unwrap());
                if finished.insert(id(n), day, memory.clone()).is_ok() {
                    taken.push((id(n), day, memory));
                }
                model.fail(0);
                match model.roll(12) {
                    0 => day += 40,
                    1 | 2 => {
                        model.restart();
                        let size = finished.size;
                        finished = open(day);
                        rewritten += u32::from(finished.size < size);
                    }
                    _ => {}
                }
                for (id, _, memory) in taken.iter().filter(|(_, of, _)| of + KEPT_DAYS >= day) {
                    assert_eq!(finished.get(*id).unwrap().as_ref(), Some(memory), "seed {seed}");
                }
            }
            model.crash();
            // The crash begins another incarnation. The records that are left must be correct.
            let finished = open(day);
            for (id, _, memory) in &taken {
                assert!(finished.get(*id).unwrap().is_none_or(|found| found == *memory), "seed {seed}");
            }
        }
        assert!(rewritten > 100, "the file was shortened");
    }
}
