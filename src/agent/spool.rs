//! A task's output on the agent's disk, until the master has it: segments of frames, addressed by offset.
//!
//! The task's shim appends; the connector reads. A segment that the master has stored is reused for later
//! output: with much output, the creation of new files would be the largest cost. So any bytes can follow the
//! last frame of a segment. A frame belongs to the segment only if it begins at the offset at which the
//! previous frame ended. Does not depend on processes or the wire protocol.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    domain::{
        frame::{Frame, HEADER, HEADERS, Header, MAX_PAYLOAD, Stream, UNBOUND, take_frame},
        offset::OutputOffset,
    },
    sys::{
        disk::{Disk, File, Open},
        file::numbered,
    },
};

/// Size in bytes at which a segment is closed.
pub const SEGMENT: u64 = 4 * 1024 * 1024;

/// The number of segments that are kept for reuse after the master has stored them.
const MAX_SPARE_SEGMENTS: usize = 2;

/// The file name extension of segments.
const ENDING: &str = "frames";

fn segment_path(directory: &Path, first_offset: OutputOffset) -> PathBuf {
    numbered(directory, first_offset.0, ENDING)
}

/// Returns the first offsets of a spool's segments, ascending. There is no segment before the first byte of
/// output.
fn segments(disk: &Disk, directory: &Path) -> io::Result<Vec<OutputOffset>> {
    Ok(disk.numbers(directory, ENDING)?.into_iter().map(OutputOffset).collect())
}

/// Removes the segments that contain only bytes before `offset`. The newest segment is kept.
///
/// # Errors
/// When the directory cannot be read or a file cannot be removed.
pub fn drop_before(disk: &Disk, directory: &Path, offset: OutputOffset) -> io::Result<()> {
    let all = segments(disk, directory)?;
    for (first, next) in all.iter().zip(all.iter().skip(1)) {
        if *next <= offset {
            disk.remove(&segment_path(directory, *first))?;
        }
    }
    Ok(())
}

/// The writer of a spool. A task has one.
#[derive(Debug)]
pub struct SpoolWriter {
    disk: Disk,
    directory: PathBuf,
    /// The number of bytes after which a segment is closed.
    segment_size: u64,
    /// The newest segment, its first offset, and the number of bytes in the file.
    segment: Option<(File, OutputOffset, u64)>,
    /// The first offsets of the earlier segments, ascending.
    older: VecDeque<OutputOffset>,
    end: OutputOffset,
    acknowledged: OutputOffset,
}

impl SpoolWriter {
    /// Returns the writer of a new, empty spool. The directory is created with the first byte.
    #[must_use]
    pub fn new(disk: Disk, directory: PathBuf) -> Self {
        Self {
            disk,
            directory,
            segment_size: SEGMENT,
            segment: None,
            older: VecDeque::new(),
            end: OutputOffset::START,
            acknowledged: OutputOffset::START,
        }
    }

    /// Returns the number of appended payload bytes, which is the offset of the end.
    #[must_use]
    pub fn end(&self) -> OutputOffset {
        self.end
    }

    /// Returns the offset up to which the master has stored the output.
    #[must_use]
    pub fn acknowledged(&self) -> OutputOffset {
        self.acknowledged
    }

    /// Appends one frame of at most [`MAX_PAYLOAD`] bytes.
    ///
    /// # Errors
    /// When the write fails. Nothing is appended then, and the call may be repeated.
    pub fn append(&mut self, stream: Stream, time_ns: u64, payload: &[u8]) -> io::Result<()> {
        let (file, first, size) = match self.segment.take() {
            Some((file, first, size)) if size < self.segment_size => (file, first, size),
            full => {
                self.older.extend(full.map(|(_, first, _)| first));
                (self.next_segment()?, self.end, 0)
            }
        };
        let header = Header::new(0, stream, self.end, time_ns, payload, UNBOUND);
        // A frame that was written partially is ignored, and overwritten by the next frame.
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
        if self.end == OutputOffset::START {
            self.disk.make_directory(&self.directory)?;
        }
        self.disk.open(&path, Open::Empty)
    }

    /// Reports whether the master has stored all of the older segment with this index.
    fn is_older_spare(&self, index: usize) -> bool {
        let next = self.older.get(index + 1).copied();
        let next = next.or(self.segment.as_ref().map(|(_, first, _)| *first)).unwrap_or(self.end);
        index < self.older.len() && next <= self.acknowledged
    }

    /// Notes that the master has stored everything before `offset`. Removes the segments that are not kept
    /// for reuse; none is kept if the volume `is_tight`.
    ///
    /// # Errors
    /// When a file cannot be removed; the next call tries again.
    pub fn acknowledge(&mut self, offset: OutputOffset, is_tight: bool) -> io::Result<()> {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        let kept = if is_tight { 0 } else { MAX_SPARE_SEGMENTS };
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

/// The reader of a spool, from any offset that still exists.
#[derive(Debug)]
pub struct SpoolReader {
    disk: Disk,
    directory: PathBuf,
    /// The current segment, and its first offset.
    segment: Option<(File, OutputOffset)>,
    /// The position of the next read in the file.
    position: u64,
    buffer: Bytes,
    /// The offset of the next frame of the segment.
    next: OutputOffset,
    /// A frame that was read, but is returned by the next call.
    kept: Option<Frame>,
    offset: OutputOffset,
    /// Whether the checksum of each frame is verified.
    is_checked: bool,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Frames, in order and without a gap between them.
    Frames(Vec<Frame>),
    /// No complete frame is available.
    Nothing,
    /// The spool has no output before `to`; the next read continues there.
    Gap {
        /// The offset from which the output is missing.
        from: OutputOffset,
        /// The first offset that still exists.
        to: OutputOffset,
    },
}

impl SpoolReader {
    /// Returns a reader that begins at `offset`.
    #[must_use]
    pub fn new(disk: Disk, directory: PathBuf, offset: OutputOffset) -> Self {
        Self {
            disk,
            directory,
            segment: None,
            position: 0,
            buffer: Bytes::new(),
            next: OutputOffset::START,
            kept: None,
            offset,
            is_checked: false,
        }
    }

    /// Returns the reader with checksums verified, for a spool that was written before the machine was
    /// booted: a power failure may have damaged it, so it ends at its first bad frame. A spool of the current
    /// boot needs no check.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.is_checked = true;
        self
    }

    /// Returns the first offset that was not read yet.
    #[must_use]
    pub fn offset(&self) -> OutputOffset {
        self.offset
    }

    /// Skips the output before `offset`.
    pub fn skip_to(&mut self, offset: OutputOffset) {
        self.offset = self.offset.max(offset);
    }

    /// Reads bytes before `until`, an offset that the writer has reported; about [`MAX_PAYLOAD`] bytes per
    /// call.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn read(&mut self, until: OutputOffset) -> io::Result<Read> {
        let mut frames = Vec::new();
        loop {
            while self.offset < until
                && let Some(mut frame) = self.next_frame()
            {
                if frame.offset > self.offset {
                    // The frames before the gap are returned first.
                    let to = frame.offset;
                    self.kept = Some(frame);
                    if frames.is_empty() {
                        let from = std::mem::replace(&mut self.offset, to);
                        return Ok(Read::Gap { from, to });
                    }
                    return Ok(Read::Frames(frames));
                }
                if frame.end() > until {
                    let here = usize::try_from(until.since(frame.offset)).unwrap_or(usize::MAX);
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
                // Bytes that were read after `until` may have changed since then.
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

    /// Returns the segment's next frame, if the buffer contains all of it.
    fn next_frame(&mut self) -> Option<Frame> {
        if let Some(kept) = self.kept.take() {
            return Some(kept);
        }
        if !self.is_at_frame() {
            return None;
        }
        let Ok(frame) = take_frame(&mut self.buffer, self.is_checked.then_some(UNBOUND)) else {
            // The spool was damaged by a power failure. No frame begins at this offset, so that nothing more
            // of the segment is read.
            self.next = OutputOffset::MAX;
            self.buffer = Bytes::from_static(&[0; HEADER]);
            return None;
        };
        let (_, frame) = frame?;
        self.next = frame.end();
        Some(frame)
    }

    /// Returns false if the buffer shows that the segment ends here.
    fn is_at_frame(&self) -> bool {
        let Some(head) = self.buffer.first_chunk::<HEADER>() else { return true };
        Header::parse(head).is_ok_and(|header| header.offset == self.next)
    }

    /// Reads more of the segment. Returns false if there is nothing more.
    fn fill(&mut self, until: OutputOffset) -> io::Result<bool> {
        let Some((file, _)) = self.segment.as_ref().filter(|_| self.is_at_frame()) else { return Ok(false) };
        let announced = usize::try_from(until.since(self.offset)).unwrap_or(MAX_PAYLOAD);
        let room = announced.min(MAX_PAYLOAD) + HEADERS;
        let before = self.buffer.len();
        self.buffer = file.read_more(self.position, &self.buffer, room)?;
        let count = self.buffer.len() - before;
        self.position += count as u64;
        Ok(count > 0)
    }

    /// Opens the segment that contains the offset, or the first one after it. Returns false if that segment
    /// is open already, or if there is none.
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

/// Returns the offset of the first bad or missing frame in a spool whose writer has ended. All output before
/// it is intact.
///
/// # Errors
/// When the disk cannot be read.
pub fn intact_end(disk: &Disk, directory: &Path) -> io::Result<OutputOffset> {
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
    Ok(whole.unwrap_or(OutputOffset::START))
}

#[cfg(test)]
mod tests;
