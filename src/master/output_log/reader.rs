//! The reading side of a run's log: frames in the order in which they were appended, from any position.

use std::{fs::File, io, path::PathBuf};

use bytes::Bytes;

use super::{file_path, files};
use crate::domain::frame::{Frame, HEADER, HEADERS, MAX_PAYLOAD, take_frame};
use crate::sys::file::read_more;

/// Reads a log from a position. Many may read one log, and none of them matters to whoever appends.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    file: Option<(File, u64)>,
    buffer: Bytes,
    position: u64,
}

impl LogReader {
    pub(super) fn new(directory: PathBuf, position: u64) -> Self {
        Self { directory, file: None, buffer: Bytes::new(), position }
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on behind frames that were read elsewhere.
    pub fn skip_to(&mut self, position: u64) {
        self.position = position;
        self.buffer = Bytes::new();
    }

    /// The next frames before `until`, a position that the writer has announced; about [`MAX_PAYLOAD`] bytes at a
    /// time, and none when there are none yet.
    ///
    /// # Errors
    /// When the disk does not give them, or what it gives is no frame.
    pub fn read(&mut self, until: u64) -> io::Result<Vec<(u32, Frame)>> {
        let mut frames = Vec::new();
        while self.position < until {
            let before = self.buffer.len();
            match take_frame(&mut self.buffer) {
                Ok(Some(frame)) => {
                    self.position += (before - self.buffer.len()) as u64;
                    frames.push(frame);
                }
                Ok(None) if !frames.is_empty() => break,
                Ok(None) => {
                    if !self.fill(until)? {
                        break;
                    }
                }
                Err(bad) => {
                    let text = format!("the output log is damaged at position {}: {bad}", self.position);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(frames)
    }

    fn fill(&mut self, until: u64) -> io::Result<bool> {
        let at = self.position + self.buffer.len() as u64;
        if let Some((file, first)) = &self.file {
            let wanted = usize::try_from(until - self.position).unwrap_or(usize::MAX);
            let wanted = wanted.min(MAX_PAYLOAD + HEADERS).saturating_sub(self.buffer.len()).max(HEADER);
            let before = self.buffer.len();
            self.buffer = read_more(file, at - first, &self.buffer, wanted)?;
            if self.buffer.len() > before {
                return Ok(true);
            }
        }
        let all = files(&self.directory)?;
        let holding = all.iter().rposition(|first| *first <= at).map(|index| all[index]);
        let is_open = |first: u64| self.file.as_ref().is_some_and(|(_, open)| *open == first);
        let first = if let Some(first) = holding.filter(|first| !is_open(*first)) {
            first
        } else {
            // The file that held this position is gone: reading goes on with the next one.
            let Some(next) = all.iter().find(|first| **first > at && **first < until) else {
                return Ok(false);
            };
            self.position = *next;
            self.buffer = Bytes::new();
            *next
        };
        self.file = Some((File::open(file_path(&self.directory, first))?, first));
        Ok(true)
    }
}
