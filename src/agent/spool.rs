//! A task's output on the agent's disk, until the master has it: segments of frames, addressed by offset.
//!
//! The task's process appends; the connector reads. A segment that the master has is written over as a later one:
//! for a flood, new files would cost more than all else that is done with its bytes. So what follows the last frame of a
//! segment may be anything, and only a frame that begins where the one before it ended is one of the segment's. Knows
//! nothing of processes or the wire.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    domain::frame::{Frame, HEADER, HEADERS, Header, MAX_PAYLOAD, Stream, UNBOUND, take_frame},
    sys::{
        disk::{Disk, File, Open},
        file::numbered,
    },
};

/// Size in bytes at which a segment is closed.
pub const SEGMENT: u64 = 4 * 1024 * 1024;

/// How many segments that the master has are kept to be written over.
const KEPT: usize = 2;

/// How segments' names end.
const ENDING: &str = "frames";

fn segment_path(directory: &Path, first_offset: u64) -> PathBuf {
    numbered(directory, first_offset, ENDING)
}

/// The first offsets of a spool's segments; none before the first byte, since many commands print nothing.
fn segments(disk: &Disk, directory: &Path) -> io::Result<Vec<u64>> {
    disk.numbers(directory, ENDING)
}

/// Unlinks the segments that hold nothing at or behind `offset`. The newest one stays.
///
/// # Errors
/// When the directory cannot be read or a file not be unlinked.
pub fn drop_before(disk: &Disk, directory: &Path, offset: u64) -> io::Result<()> {
    let all = segments(disk, directory)?;
    for (first, next) in all.iter().zip(all.iter().skip(1)) {
        if *next <= offset {
            disk.remove(&segment_path(directory, *first))?;
        }
    }
    Ok(())
}

/// The writing side; one a task.
#[derive(Debug)]
pub struct SpoolWriter {
    disk: Disk,
    directory: PathBuf,
    /// The number of bytes after which a segment is closed.
    segment_size: u64,
    /// The newest segment, where it begins, and the bytes written to it.
    segment: Option<(File, u64, u64)>,
    /// Where the segments before it begin, ascending.
    older: VecDeque<u64>,
    end: u64,
    acknowledged: u64,
}

impl SpoolWriter {
    /// A new, empty spool; its directory is made with the first byte.
    #[must_use]
    pub fn new(disk: Disk, directory: PathBuf) -> Self {
        Self {
            disk,
            directory,
            segment_size: SEGMENT,
            segment: None,
            older: VecDeque::new(),
            end: 0,
            acknowledged: 0,
        }
    }

    /// Payload bytes that were appended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The offset before which the master has everything.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Appends one frame of at most [`MAX_PAYLOAD`] bytes.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it counts then, and the same call may be made again.
    pub fn append(&mut self, stream: Stream, time_ns: u64, payload: &[u8]) -> io::Result<()> {
        let (file, first, size) = match self.segment.take() {
            Some((file, first, size)) if size < self.segment_size => (file, first, size),
            full => {
                self.older.extend(full.map(|(_, first, _)| first));
                (self.next_segment()?, self.end, 0)
            }
        };
        let header = Header::new(0, stream, self.end, time_ns, payload, UNBOUND);
        // A part that is written counts for nothing: the next frame is written over it.
        let head = header.to_bytes();
        let written = file.write_at(size, &mut [IoSlice::new(&head), IoSlice::new(payload)]);
        let size = if written.is_ok() { size + header.size() } else { size };
        self.segment = Some((file, first, size));
        written?;
        self.end += payload.len() as u64;
        Ok(())
    }

    fn next_segment(&mut self) -> io::Result<File> {
        let path = segment_path(&self.directory, self.end);
        if self.is_older_spare(0) {
            match self.disk.rename(&segment_path(&self.directory, self.older[0]), &path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                renamed => {
                    self.older.pop_front();
                    if renamed.is_ok() {
                        return self.disk.open(&path, Open::Existing);
                    }
                }
            }
        }
        if self.end == 0 {
            self.disk.make_directory(&self.directory)?;
        }
        self.disk.open(&path, Open::Empty)
    }

    /// Whether the master has all of an older segment.
    fn is_older_spare(&self, index: usize) -> bool {
        let next = self.older.get(index + 1).copied();
        let next = next.or(self.segment.as_ref().map(|(_, first, _)| *first)).unwrap_or(self.end);
        index < self.older.len() && next <= self.acknowledged
    }

    /// Notes that the master has everything before `offset`. What need not be kept to be written over is unlinked; all
    /// of it where the volume `is_tight`.
    ///
    /// # Errors
    /// When a file cannot be unlinked; the next call tries again.
    pub fn acknowledge(&mut self, offset: u64, is_tight: bool) -> io::Result<()> {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        let kept = if is_tight { 0 } else { KEPT };
        while self.is_older_spare(kept) {
            match self.disk.remove(&segment_path(&self.directory, self.older[0])) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {
                    self.older.pop_front();
                }
            }
        }
        Ok(())
    }
}

/// The reading side, from any offset that is still there.
#[derive(Debug)]
pub struct SpoolReader {
    disk: Disk,
    directory: PathBuf,
    /// The segment that is read, and where it begins.
    segment: Option<(File, u64)>,
    /// Where in the file the next read goes.
    position: u64,
    buffer: Bytes,
    /// Where the next frame of the segment begins.
    next: u64,
    /// Read before, but to be given only with the next call.
    kept: Option<Frame>,
    offset: u64,
    /// Each frame is held against its checksum.
    is_checked: bool,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Frames, in order and without a gap between them.
    Frames(Vec<Frame>),
    /// Nothing whole is there yet.
    Nothing,
    /// The spool begins behind the offset that was asked for; the next read begins there.
    Gap {
        /// The offset that was asked for.
        from: u64,
        /// The first offset that is still there.
        to: u64,
    },
}

impl SpoolReader {
    /// A reader of what comes at and behind `offset`.
    #[must_use]
    pub fn new(disk: Disk, directory: PathBuf, offset: u64) -> Self {
        Self {
            disk,
            directory,
            segment: None,
            position: 0,
            buffer: Bytes::new(),
            next: 0,
            kept: None,
            offset,
            is_checked: false,
        }
    }

    /// The same for a spool that was written before the machine was started: what a power failure left of it may be
    /// damaged, and it ends at its first bad frame. What this machine has in its memory is as it was written.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.is_checked = true;
        self
    }

    /// The first offset that was not read yet.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives up what comes before `offset`.
    pub fn skip_to(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Reads bytes before `until`, an offset that the writer has announced; about [`MAX_PAYLOAD`] at a time.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn read(&mut self, until: u64) -> io::Result<Read> {
        let mut frames = Vec::new();
        loop {
            while self.offset < until
                && let Some(mut frame) = self.next_frame()
            {
                if frame.offset > self.offset {
                    // What was read before the gap goes out first.
                    let to = frame.offset;
                    self.kept = Some(frame);
                    if frames.is_empty() {
                        let from = std::mem::replace(&mut self.offset, to);
                        return Ok(Read::Gap { from, to });
                    }
                    return Ok(Read::Frames(frames));
                }
                if frame.end() > until {
                    let here = usize::try_from(until - frame.offset).unwrap_or(usize::MAX);
                    let mut rest = frame.clone();
                    rest.data = frame.data.split_off(here);
                    rest.offset = until;
                    self.kept = Some(rest);
                }
                let end = frame.end();
                frames.extend(frame.from_offset(self.offset));
                self.offset = self.offset.max(end);
            }
            if self.offset >= until {
                // What was read behind the announced bytes may have been written since.
                self.position -= self.buffer.len() as u64;
                self.buffer = Bytes::new();
            }
            if !frames.is_empty() {
                return Ok(Read::Frames(frames));
            }
            if self.offset >= until || !(self.fill(until)? || self.open_next()?) {
                return Ok(Read::Nothing);
            }
        }
    }

    /// The segment's next frame, where all of it is in the buffer.
    fn next_frame(&mut self) -> Option<Frame> {
        if let Some(kept) = self.kept.take() {
            return Some(kept);
        }
        if !self.is_at_frame() {
            return None;
        }
        let Ok(frame) = take_frame(&mut self.buffer, self.is_checked.then_some(UNBOUND)) else {
            // What a power failure left of a spool may be damaged. No frame begins there, so that nothing more is read of
            // the segment.
            self.next = u64::MAX;
            self.buffer = Bytes::from_static(&[0; HEADER]);
            return None;
        };
        let (_, frame) = frame?;
        self.next = frame.end();
        Some(frame)
    }

    /// False when the buffer shows that the segment ends here.
    fn is_at_frame(&self) -> bool {
        let Some(head) = self.buffer.first_chunk::<HEADER>() else { return true };
        Header::parse(head).is_ok_and(|header| header.offset == self.next)
    }

    /// Reads more of the segment. False when there is nothing more.
    fn fill(&mut self, until: u64) -> io::Result<bool> {
        let Some((file, _)) = self.segment.as_ref().filter(|_| self.is_at_frame()) else { return Ok(false) };
        let announced = usize::try_from(until - self.offset).unwrap_or(MAX_PAYLOAD);
        let room = announced.min(MAX_PAYLOAD) + HEADERS;
        let before = self.buffer.len();
        self.buffer = file.read_more(self.position, &self.buffer, room)?;
        let count = self.buffer.len() - before;
        self.position += count as u64;
        Ok(count > 0)
    }

    /// Continues with the segment that holds the offset, or with the first one behind it. False when that is the same.
    fn open_next(&mut self) -> io::Result<bool> {
        let all = segments(&self.disk, &self.directory)?;
        let holding = all.iter().rposition(|first| *first <= self.offset);
        let Some(first) = holding.map_or_else(|| all.first(), |index| all.get(index)).copied() else {
            return Ok(false);
        };
        if self.segment.as_ref().is_some_and(|(_, open)| *open == first) {
            return Ok(false);
        }
        self.segment = Some((self.disk.read(&segment_path(&self.directory, first))?, first));
        self.position = 0;
        self.buffer = Bytes::new();
        self.next = first;
        Ok(true)
    }
}

/// The end of what is whole in a spool whose writer is gone: everything up to the first bad frame.
///
/// # Errors
/// When the disk does not give it.
pub fn whole_end(disk: &Disk, directory: &Path) -> io::Result<u64> {
    let mut whole = None;
    for first in segments(disk, directory)? {
        if whole.is_some_and(|end| end != first) {
            break;
        }
        let mut end = first;
        let mut content = Bytes::from(disk.contents(&segment_path(directory, first))?.unwrap_or_default());
        while let Some(head) = content.first_chunk::<HEADER>() {
            if !Header::parse(head).is_ok_and(|header| header.offset == end) {
                break;
            }
            let Ok(Some((_, frame))) = take_frame(&mut content, Some(UNBOUND)) else { break };
            end = frame.end();
        }
        whole = Some(end);
    }
    Ok(whole.unwrap_or(0))
}

#[cfg(test)]
mod tests;
