//! Reads a job's log: frames in the order in which they were appended, from any position.

use std::{io, path::PathBuf};

use super::{
    LOG_EXTENSION, LogPosition,
    file::{Frames, LogFile, Next},
    file_path,
};
use crate::{
    domain::frame::{Frame, HEADER, MAX_PAYLOAD},
    sys::disk::Disk,
};

/// Reads a log from a position. Any number of readers can read a log; they do not affect the writer.
#[derive(Debug, Default)]
pub struct LogReader {
    disk: Disk,
    directory: PathBuf,
    frames: Option<Frames>,
    position: u64,
    /// The first positions of the files, complete for positions before `listed`.
    files: Vec<u64>,
    listed: u64,
}

impl LogReader {
    pub(super) fn new(disk: Disk, directory: PathBuf, position: LogPosition) -> Self {
        Self { disk, directory, position: position.0, ..Self::default() }
    }

    /// Returns the position of the next frame.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition(self.position)
    }

    /// Continues at a position, after frames that were read elsewhere.
    pub fn skip_to(&mut self, LogPosition(position): LogPosition) {
        self.position = position;
        if let Some(frames) = &mut self.frames {
            frames.go_to(position);
        }
    }

    /// Returns the next frames before `until`, a position that the writer has announced: about
    /// [`MAX_PAYLOAD`] bytes at a time, or none if there are none yet. Reads on a thread that may block. If
    /// this future is dropped before it completes, the reader must not be used again.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn next(&mut self, until: LogPosition) -> io::Result<Vec<(u32, Frame)>> {
        if self.position() >= until {
            return Ok(Vec::new());
        }
        let mut reader = std::mem::take(self);
        let read = move || {
            let frames = reader.read(until);
            (reader, frames)
        };
        let (reader, frames) = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
        *self = reader;
        frames
    }

    /// Like [`Self::next`], on this thread. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn read(&mut self, LogPosition(until): LogPosition) -> io::Result<Vec<(u32, Frame)>> {
        if until > self.listed {
            (self.files, self.listed) = (self.disk.numbers(&self.directory, LOG_EXTENSION)?, until);
        }
        let mut read = Vec::new();
        match self.read_more(until, &mut read) {
            // Frames that were read before the error are returned first. The next call fails again.
            Err(error) if read.is_empty() => Err(error),
            _ => Ok(read),
        }
    }

    fn read_more(&mut self, until: u64, read: &mut Vec<(u32, Frame)>) -> io::Result<()> {
        let mut bytes = 0;
        while self.position < until && bytes < MAX_PAYLOAD {
            let next = match &mut self.frames {
                // A file ends where the next one begins, even if remains of a failed write follow.
                Some(frames) => {
                    let next = self.files.iter().find(|next| **next > frames.first());
                    frames.next(next.map_or(until, |next| until.min(*next)))?
                }
                None => Next::Unfinished,
            };
            match next {
                Next::Frame(task, frame) => {
                    self.position = self.frames.as_ref().map_or(self.position, Frames::position);
                    // The size of many small frames is mostly their headers.
                    bytes += HEADER + frame.data.len();
                    read.push((task, frame));
                }
                Next::Unfinished if self.open_next(until)? => {}
                Next::Unfinished => break,
                Next::Damaged => {
                    let log = self.directory.display();
                    tracing::error!(%log, position = self.position, "skipped damage in an output log");
                    if !self.open_next(until)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Continues with the file that holds the position, or else with the first file after it: the data
    /// between was dropped or is damaged. Returns false if there is no such file.
    fn open_next(&mut self, until: u64) -> io::Result<bool> {
        let open = self.frames.as_ref().map(Frames::first);
        let holding = self.files.iter().rposition(|first| *first <= self.position).unwrap_or(0);
        for first in &self.files[holding.min(self.files.len())..] {
            if open.is_some_and(|open| *first <= open) || *first >= until {
                continue;
            }
            match LogFile::read(&self.disk, &file_path(&self.directory, *first), *first) {
                Ok(file) => {
                    self.position = self.position.max(*first);
                    self.frames = Some(Frames::new(file, self.position));
                    return Ok(true);
                }
                // It was dropped in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
