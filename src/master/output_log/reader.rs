//! Reads a job's log: frames in the order in which they were appended, from any position.

use std::{io, path::PathBuf};

use super::{
    ENDING,
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
    /// The files, and before which position there are no others.
    files: Vec<u64>,
    listed: u64,
}

impl LogReader {
    pub(super) fn new(disk: Disk, directory: PathBuf, position: u64) -> Self {
        Self { disk, directory, position, ..Self::default() }
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Continues behind frames that were read elsewhere.
    pub fn skip_to(&mut self, position: u64) {
        self.position = position;
        if let Some(frames) = &mut self.frames {
            frames.go_to(position);
        }
    }

    /// The next frames before `until`, a position that the writer has announced; about [`MAX_PAYLOAD`] bytes at a time,
    /// and none when there are none yet. It is read on a thread that may wait for a disk. The reader is not to be used
    /// again when this is dropped before it is done.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub async fn next(&mut self, until: u64) -> io::Result<Vec<(u32, Frame)>> {
        if self.position >= until {
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

    /// The same, on this thread, which has to be one that may wait for a disk.
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, until: u64) -> io::Result<Vec<(u32, Frame)>> {
        if until > self.listed {
            (self.files, self.listed) = (self.disk.numbers(&self.directory, ENDING)?, until);
        }
        let mut read = Vec::new();
        match self.read_more(until, &mut read) {
            // What was read before comes first; the error comes again.
            Err(error) if read.is_empty() => Err(error),
            _ => Ok(read),
        }
    }

    fn read_more(&mut self, until: u64, read: &mut Vec<(u32, Frame)>) -> io::Result<()> {
        let mut bytes = 0;
        while self.position < until && bytes < MAX_PAYLOAD {
            let next = match &mut self.frames {
                // A file ends where the next one begins, whatever is left in it of a write that failed.
                Some(frames) => {
                    let next = self.files.iter().find(|next| **next > frames.first());
                    frames.next(next.map_or(until, |next| until.min(*next)))?
                }
                None => Next::Unfinished,
            };
            match next {
                Next::Frame(task, frame) => {
                    self.position = self.frames.as_ref().map_or(self.position, Frames::position);
                    // Of many small frames it is the headers that count.
                    bytes += HEADER + frame.data.len();
                    read.push((task, frame));
                }
                Next::Unfinished if self.open_next(until)? => {}
                Next::Unfinished => break,
                Next::Damaged => {
                    let log = self.directory.display();
                    tracing::error!(%log, position = self.position, "a part of an output log is damaged; left out");
                    if !self.open_next(until)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Continues with the file that holds the position, or with the first one behind it: what lies between was dropped, or
    /// is damaged. False when there is none.
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
                // It was dropped since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
