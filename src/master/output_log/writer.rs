//! The appending side of one run's log: frames in, and who is told of them. What brings them to the disk is `syncing`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::{
    FILE_SIZE, file_path, files,
    index::TaskIndex,
    scan::whole_frames,
    syncing::{LogFile, Unsynced},
};
use crate::domain::frame::{Frame, HEADER, Header, MAX_PAYLOAD};
use crate::sys::file::{sync_directory, write_pieces};

/// The newest frames are kept in memory for followers that keep pace, up to so many bytes of the log.
const TAIL: u64 = 6 * 1024 * 1024;

#[derive(Debug)]
struct Writer {
    file: Option<LogFile>,
    /// Closed files that are not synced yet, and directories in which names were made.
    unsynced: Unsynced,
    tasks: HashMap<u32, TaskIndex>,
    /// Positions and frames, up to the end of the log.
    tail: VecDeque<(u64, u32, Frame)>,
    /// Files by their first positions, and what lies in them.
    files: BTreeMap<u64, Extents>,
}

impl Writer {
    /// What of a task's frames the log does not have, with headers.
    fn fresh(&self, task: u32, frames: &[Frame]) -> Vec<(Header, Frame)> {
        let mut known = self.tasks.get(&task).map_or(0, |index| index.end);
        let fresh = |frame: &Frame| {
            let frame = frame.clone().from_offset(known)?;
            known = frame.end();
            let header = Header::new(task, frame.stream, frame.offset, frame.time_ns, &frame.data);
            Some((header, frame))
        };
        frames.iter().filter_map(fresh).collect()
    }

    /// Notes what was written at a position into the file that begins at `first`, and returns the position behind it.
    fn note(&mut self, position: u64, first: u64, written: Vec<(Header, Frame)>, has_followers: bool) -> u64 {
        let mut end = position;
        for (header, frame) in written {
            self.tasks.entry(header.task).or_default().note(end, &header);
            note_extent(self.files.entry(first).or_default(), &header);
            if has_followers {
                self.tail.push_back((end, header.task, frame));
            } else {
                self.tail.clear();
            }
            end += header.size();
        }
        while self.tail.front().is_some_and(|(first, ..)| end - first > TAIL) {
            self.tail.pop_front();
        }
        end
    }
}

fn note_extent(extents: &mut Extents, header: &Header) {
    let end = header.offset + u64::from(header.length);
    let extent = extents.entry(header.task).or_insert((header.offset, end));
    extent.1 = extent.1.max(end);
}

/// What of each task lies in one file: offsets from and to.
type Extents = HashMap<u32, (u64, u64)>;

/// A run's log, open for appending.
#[derive(Debug)]
pub struct RunLog {
    directory: PathBuf,
    writer: Mutex<Writer>,
    appended: watch::Sender<u64>,
    synced: watch::Sender<u64>,
    flush: Arc<Notify>,
    /// Positions of followers at whose pace commands may go.
    paced: Mutex<HashMap<u64, u64>>,
    /// The position of the slowest of them; `None` when there are none.
    slowest: watch::Sender<Option<u64>>,
}

/// A follower at whose pace commands may go, until it is dropped.
#[derive(Debug)]
pub struct Pacer {
    log: Arc<RunLog>,
    id: u64,
}

impl Pacer {
    /// Notes how far the follower has read.
    pub fn moved(&self, position: u64) {
        self.log.paced().insert(self.id, position);
        self.log.tell_slowest();
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.log.paced().remove(&self.id);
        self.log.tell_slowest();
    }
}

impl RunLog {
    /// Opens a log, cuts it at its first bad frame, learns what is in it, and brings that to the disk: whoever appended to
    /// it last may not have come to that.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        let mut tasks: HashMap<u32, TaskIndex> = HashMap::new();
        let mut extents: BTreeMap<u64, Extents> = BTreeMap::new();
        let mut end = 0;
        let all = files(&directory)?;
        for (index, first) in all.iter().enumerate() {
            let path = file_path(&directory, *first);
            end = whole_frames(&path, *first, |position, header| {
                tasks.entry(header.task).or_default().note(position, header);
                note_extent(extents.entry(*first).or_default(), header);
            })?;
            if end < first + fs::metadata(&path)?.len() {
                // What follows a torn frame was never acknowledged: agents still have it.
                OpenOptions::new().write(true).open(&path)?.set_len(end - first)?;
                for later in all.iter().skip(index + 1) {
                    fs::remove_file(file_path(&directory, *later))?;
                }
                break;
            }
        }
        for first in files(&directory)? {
            File::open(file_path(&directory, first))?.sync_data()?;
        }
        if directory.exists() {
            sync_directory(&directory)?;
            directory.parent().map_or(Ok(()), sync_directory)?;
        }
        let writer = Writer {
            file: None,
            unsynced: Unsynced::default(),
            tasks,
            tail: VecDeque::new(),
            files: extents,
        };
        Ok(Self {
            directory,
            writer: Mutex::new(writer),
            appended: watch::Sender::new(end),
            synced: watch::Sender::new(end),
            flush: Arc::default(),
            paced: Mutex::default(),
            slowest: watch::Sender::new(None),
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Payload bytes that there are of a task.
    #[must_use]
    pub fn task_end(&self, task: u32) -> u64 {
        self.writer().tasks.get(&task).map_or(0, |index| index.end)
    }

    /// A position at or before the frame that holds this offset of a task.
    #[must_use]
    pub fn position_of(&self, task: u32, offset: u64) -> u64 {
        let writer = self.writer();
        writer.tasks.get(&task).map_or(0, |index| index.position_of(offset))
    }

    /// Appends what of a task's frames is new, all of it with one write, and returns the position behind it.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it counts then.
    pub fn append(&self, task: u32, frames: &[Frame]) -> io::Result<u64> {
        let mut writer = self.writer();
        let position = *self.appended.borrow();
        let fresh = writer.fresh(task, frames);
        if fresh.is_empty() {
            return Ok(position);
        }
        let (first, file) = match writer.file.take() {
            Some((first, file)) if position - first < FILE_SIZE => (first, file),
            full => {
                writer.unsynced.files.extend(full);
                self.next_file(position, &mut writer.unsynced.directories)?
            }
        };
        let heads: Vec<_> = fresh.iter().map(|(header, _)| header.to_bytes()).collect();
        let frames = heads.iter().zip(&fresh);
        let mut pieces: Vec<_> =
            frames.flat_map(|(head, (_, frame))| [IoSlice::new(head), IoSlice::new(&frame.data)]).collect();
        let written = write_pieces(&file, &mut pieces);
        if written.is_err() {
            file.set_len(position - first)?;
        }
        writer.file = Some((first, file));
        written?;
        let end = writer.note(position, first, fresh, self.has_followers());
        // Told before the next one may append, who begins where this one ends.
        self.appended.send_replace(end);
        drop(writer);
        Ok(end)
    }

    /// The file that `position` belongs into, the last one again where it is not full; and where names were made for it.
    fn next_file(&self, position: u64, named: &mut BTreeSet<PathBuf>) -> io::Result<LogFile> {
        if !self.directory.exists() {
            fs::create_dir_all(&self.directory)?;
            named.extend(self.directory.parent().map(Path::to_owned));
        }
        let last = files(&self.directory)?.back().copied();
        let first = last.filter(|first| position - first < FILE_SIZE).unwrap_or(position);
        let path = file_path(&self.directory, first);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if first == position {
            named.insert(self.directory.clone());
        }
        Ok((first, Arc::new(file)))
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

    fn has_followers(&self) -> bool {
        // One receiver is the syncing task's.
        self.appended.receiver_count() > 1
    }

    /// Where the frames begin that are still in memory.
    #[must_use]
    pub fn recent_from(&self) -> Option<u64> {
        self.writer().tail.front().map(|(first, ..)| *first)
    }

    /// Frames from exactly this position on, as far as they are still in memory, and where they end.
    #[must_use]
    pub fn recent(&self, position: u64) -> Option<(Vec<(u32, Frame)>, u64)> {
        let writer = self.writer();
        let at = writer.tail.binary_search_by_key(&position, |(first, ..)| *first).ok()?;
        let mut end = position;
        let mut frames = Vec::new();
        for (first, task, frame) in writer.tail.range(at..) {
            if first - position >= MAX_PAYLOAD as u64 {
                break;
            }
            end = first + (HEADER + frame.data.len()) as u64;
            frames.push((*task, frame.clone()));
        }
        Some((frames, end))
    }

    fn paced(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.paced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_slowest(&self) {
        let paced = self.paced();
        self.slowest.send_replace(paced.values().min().copied());
    }

    /// Makes a follower one at whose pace commands may go.
    #[must_use]
    pub fn pace(self: &Arc<Self>, position: u64) -> Pacer {
        let id = {
            let mut paced = self.paced();
            let id = paced.keys().max().map_or(0, |last| last + 1);
            paced.insert(id, position);
            id
        };
        self.tell_slowest();
        Pacer { log: Arc::clone(self), id }
    }

    /// The position of the slowest of those followers, as it changes; `None` when there are none.
    #[must_use]
    pub fn slowest(&self) -> watch::Receiver<Option<u64>> {
        self.slowest.subscribe()
    }

    /// Unlinks closed files before `position` in which there is nothing but what `is_spare` lets go, given for each task
    /// in the file its offsets from and to, and the end of what it printed.
    ///
    /// # Errors
    /// When a file cannot be unlinked.
    pub fn drop_spare(&self, position: u64, is_spare: impl Fn((u64, u64), u64) -> bool) -> io::Result<()> {
        let mut writer = self.writer();
        let firsts: Vec<u64> = writer.files.keys().copied().collect();
        for (first, next) in firsts.iter().zip(firsts.iter().skip(1)) {
            let all_spare = writer.files[first].iter().all(|(task, extent)| {
                let end = writer.tasks.get(task).map_or(0, |index| index.end);
                is_spare(*extent, end)
            });
            if *next <= position && all_spare {
                fs::remove_file(file_path(&self.directory, *first))?;
                writer.files.remove(first);
            }
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

    /// What has to be synced now, and up to where that brings the log.
    pub(super) fn take_unsynced(&self) -> (u64, Unsynced) {
        let mut writer = self.writer();
        let mut unsynced = std::mem::take(&mut writer.unsynced);
        unsynced.files.extend(writer.file.clone());
        (*self.appended.borrow(), unsynced)
    }

    /// Takes back what could not be synced.
    pub(super) fn put_back(&self, unsynced: Unsynced) {
        self.writer().unsynced.extend(unsynced);
    }

    /// Tells up to where the log is on the disk.
    pub(super) fn tell_synced(&self, end: u64) {
        self.synced.send_replace(end);
    }

    /// Where its files lie.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}
