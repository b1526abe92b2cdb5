//! The appending side of one run's log: frames in, groups of them synced beside the stream.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io,
    num::NonZeroU64,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::fs::Advice;
use tokio::sync::{Notify, watch};

use super::{FILE_SIZE, file_path, files, index::TaskIndex, scan::whole_frames};
use crate::domain::frame::{Frame, HEADER, Header, MAX_PAYLOAD};
use crate::sys::file::write_both;

/// A sync begins when so many bytes wait for one …
const SYNC_BYTES: u64 = 8 * 1024 * 1024;
/// … or the first of them has waited so long.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// The newest frames are kept in memory for followers that keep pace, up to so many bytes of the log.
const TAIL: u64 = 6 * 1024 * 1024;
/// So much of a log's end stays in the machine's page cache. What lies before it is rarely read again, and a flood must
/// not push everything else out of the memory.
const CACHED: u64 = 32 * 1024 * 1024;
/// How often a failed sync is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Writer {
    file: Option<(Arc<File>, u64)>,
    /// Closed files that are not synced yet, and where they begin.
    unsynced_files: Vec<(Arc<File>, u64)>,
    tasks: HashMap<u32, TaskIndex>,
    /// Positions and frames, up to the end of the log.
    tail: VecDeque<(u64, u32, Frame)>,
    /// Files by their first positions, and what lies in them.
    files: BTreeMap<u64, Extents>,
}

/// The files that have something in the machine's page cache, oldest first, each with where it begins.
#[derive(Debug, Default)]
struct Cached {
    files: VecDeque<(Arc<File>, u64)>,
    /// What comes before this position was forgotten.
    from: u64,
}

impl Cached {
    fn add(&mut self, files: Vec<(Arc<File>, u64)>) {
        let last = self.files.back().map(|(_, first)| *first);
        self.files.extend(files.into_iter().filter(|(_, first)| last.is_none_or(|last| *first > last)));
    }

    /// Lets go of what lies before a position; it must be synced.
    fn forget_before(&mut self, position: u64) {
        while let Some((file, first)) = self.files.front() {
            let next = self.files.get(1).map(|(_, next)| *next).filter(|next| *next <= position);
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
        let writer =
            Writer { file: None, unsynced_files: Vec::new(), tasks, tail: VecDeque::new(), files: extents };
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

    /// Appends what of a frame is new, and returns the position behind it.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it counts then.
    pub fn append(&self, task: u32, frame: Frame) -> io::Result<u64> {
        let mut writer = self.writer();
        let position = *self.appended.borrow();
        let known = writer.tasks.get(&task).map_or(0, |index| index.end);
        let Some(frame) = frame.from_offset(known) else { return Ok(position) };
        let (file, first) = match writer.file.take() {
            Some((file, first)) if position - first < FILE_SIZE => (file, first),
            full => {
                writer.unsynced_files.extend(full);
                self.next_file(position)?
            }
        };
        let header = Header::new(task, frame.stream, frame.offset, frame.time_ns, &frame.data);
        let written = write_both(&file, &header.to_bytes(), &frame.data);
        if written.is_ok() {
            writer.tasks.entry(task).or_default().note(position, &header);
            note_extent(writer.files.entry(first).or_default(), &header);
        } else {
            file.set_len(position - first)?;
        }
        writer.file = Some((file, first));
        written?;
        let end = position + header.size();
        if self.has_followers() {
            writer.tail.push_back((position, task, frame));
        } else {
            writer.tail.clear();
        }
        while writer.tail.front().is_some_and(|(first, ..)| end - first > TAIL) {
            writer.tail.pop_front();
        }
        // Told before the next one may append, who begins where this one ends.
        self.appended.send_replace(end);
        drop(writer);
        Ok(end)
    }

    /// The file that `position` belongs into, the last one again where it is not full.
    fn next_file(&self, position: u64) -> io::Result<(Arc<File>, u64)> {
        fs::create_dir_all(&self.directory)?;
        let last = files(&self.directory)?.back().copied();
        let first = last.filter(|first| position - first < FILE_SIZE).unwrap_or(position);
        let path = file_path(&self.directory, first);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if first == position {
            // The file's name has to survive a crash as its bytes do.
            File::open(&self.directory)?.sync_all()?;
        }
        Ok((Arc::new(file), first))
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

    /// What has to be synced now, and up to where that brings the log.
    fn unsynced(&self) -> (u64, Vec<(Arc<File>, u64)>) {
        let mut writer = self.writer();
        let mut files = std::mem::take(&mut writer.unsynced_files);
        files.extend(writer.file.clone());
        (*self.appended.borrow(), files)
    }

    /// Syncs beside the stream, one sync at a time, until nobody appends to the log any more.
    pub(super) fn keep_synced(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let log = Arc::downgrade(self);
        let (mut appended, synced) = (self.appended(), self.synced());
        let flush = Arc::clone(&self.flush);
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
                let (end, files) = log.unsynced();
                let again = files.clone();
                let mut was_cached = std::mem::take(&mut cached);
                let directory = log.directory.clone();
                let sync = move || {
                    if has_failed {
                        write_again(&directory, &files, behind)?;
                    }
                    files.iter().try_for_each(|(file, _)| file.sync_data())?;
                    was_cached.add(files);
                    was_cached.forget_before(end.saturating_sub(CACHED));
                    Ok::<_, io::Error>(was_cached)
                };
                match tokio::task::spawn_blocking(sync).await {
                    Ok(Ok(still_cached)) => {
                        cached = still_cached;
                        has_failed = false;
                        log.synced.send_replace(end);
                    }
                    Ok(Err(error)) => {
                        tracing::error!(%error, log = %log.directory.display(), "cannot bring output to the disk; trying again");
                        log.writer().unsynced_files.extend(again);
                        has_failed = true;
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(_) => return,
                }
            }
        }
    }
}

/// Writes again what lies behind a position: after a sync that failed the system takes for written what is not. It is
/// read from what the machine still holds of it, and held against its checksums first.
fn write_again(directory: &Path, files: &[(Arc<File>, u64)], from: u64) -> io::Result<()> {
    for (_, first) in files {
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
    use super::*;

    #[test]
    fn what_is_written_again_is_the_same_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let log = RunLog::open(dir.path().join("run")).unwrap();
        let frame = |offset: u64| Frame {
            stream: crate::domain::frame::Stream::Stdout,
            offset,
            time_ns: 0,
            data: vec![7; 1000].into(),
        };
        let middle = log.append(0, frame(0)).unwrap();
        log.append(0, frame(1000)).unwrap();
        let (_, files) = log.unsynced();
        let path = file_path(&log.directory, 0);
        let before = fs::read(&path).unwrap();
        write_again(&log.directory, &files, middle).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        let mut damaged = before;
        *damaged.last_mut().unwrap() = 0;
        fs::write(&path, damaged).unwrap();
        assert!(write_again(&log.directory, &files, middle).is_err());
    }

    #[test]
    fn each_byte_is_forgotten_once_whichever_files_it_lies_in() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut cached = Cached::default();
        cached.add(vec![(Arc::clone(&file), 0)]);
        // The newest file comes again with every sync.
        cached.add(vec![(Arc::clone(&file), 0), (Arc::clone(&file), 100), (Arc::clone(&file), 250)]);
        let mut steps = Vec::new();
        for position in [0, 50, 40, 100, 120, 400] {
            cached.forget_before(position);
            steps.push((cached.from, cached.files.len()));
        }
        assert_eq!(steps, [(0, 3), (50, 3), (50, 3), (100, 2), (120, 2), (400, 1)]);
    }
}
