//! A task's output on the agent's disk, until the master has it: segments of frames, addressed by offset.
//!
//! The task's process appends; the network half reads. Knows nothing of processes or the wire.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::domain::frame::{Frame, HEADER, Header, MAX_PAYLOAD, Stream, take_frame};
use crate::sys::file::{numbered, numbers, read_more, write_both};

/// A segment is closed when it has grown to this many bytes.
pub const SEGMENT: u64 = 8 * 1024 * 1024;

/// How segments' names end.
const ENDING: &str = "frames";

fn segment_path(directory: &Path, first_offset: u64) -> PathBuf {
    numbered(directory, first_offset, ENDING)
}

/// The first offsets of a spool's segments; none before the first byte, since many commands print nothing.
fn segments(directory: &Path) -> io::Result<VecDeque<u64>> {
    numbers(directory, ENDING)
}

/// Unlinks the segments that hold nothing at or behind `offset`. The newest one stays.
///
/// # Errors
/// When the directory cannot be read or a file not be unlinked.
pub fn drop_before(directory: &Path, offset: u64) -> io::Result<()> {
    let all = segments(directory)?;
    for (first, next) in all.iter().zip(all.iter().skip(1)) {
        if *next <= offset {
            fs::remove_file(segment_path(directory, *first))?;
        }
    }
    Ok(())
}

/// The writing side; one a task.
#[derive(Debug)]
pub struct SpoolWriter {
    directory: PathBuf,
    segment: Option<(File, u64)>,
    end: u64,
}

impl SpoolWriter {
    /// A new, empty spool; its directory is made with the first byte.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, segment: None, end: 0 }
    }

    /// Payload bytes that were appended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends one frame of at most [`MAX_PAYLOAD`] bytes.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it counts then, and the same call may be made again.
    pub fn append(&mut self, stream: Stream, time_ns: u64, payload: &[u8]) -> io::Result<()> {
        let (file, mut size) = match self.segment.take() {
            Some((file, size)) if size < SEGMENT => (file, size),
            _ => (self.create_segment()?, 0),
        };
        let header = Header::new(0, stream, self.end, time_ns, payload);
        let written = write_both(&file, &header.to_bytes(), payload);
        if written.is_ok() {
            size += header.size();
            self.end += payload.len() as u64;
        } else {
            // Half a frame would hide every later one from a reader.
            file.set_len(size)?;
        }
        self.segment = Some((file, size));
        written
    }

    fn create_segment(&self) -> io::Result<File> {
        if self.end == 0 {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(segment_path(&self.directory, self.end))
    }
}

/// The reading side, from any offset that is still there.
#[derive(Debug)]
pub struct SpoolReader {
    directory: PathBuf,
    file: Option<File>,
    /// Where in the file the next read goes.
    position: u64,
    buffer: Bytes,
    /// Read before, but to be given only with the next call.
    kept: Option<Frame>,
    offset: u64,
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
    pub fn new(directory: PathBuf, offset: u64) -> Self {
        Self { directory, file: None, position: 0, buffer: Bytes::new(), kept: None, offset }
    }

    /// The first offset that was not read yet.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads bytes before `until`, an offset that the writer has announced; about [`MAX_PAYLOAD`] at a time.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn read(&mut self, until: u64) -> io::Result<Read> {
        let mut frames = Vec::new();
        loop {
            while self.offset < until
                && let Some(mut frame) = self.next_frame()?
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
            if !frames.is_empty() {
                return Ok(Read::Frames(frames));
            }
            if self.offset >= until || !self.fill(until)? {
                return Ok(Read::Nothing);
            }
        }
    }

    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        if let Some(kept) = self.kept.take() {
            return Ok(Some(kept));
        }
        let taken = take_frame(&mut self.buffer);
        let damaged = |bad| io::Error::new(io::ErrorKind::InvalidData, bad);
        Ok(taken.map_err(damaged)?.map(|(_, frame)| frame))
    }

    /// Reads more of the current segment, or opens the next one. False when there is nothing more.
    fn fill(&mut self, until: u64) -> io::Result<bool> {
        if let Some(file) = &self.file {
            let announced = usize::try_from(until - self.offset).unwrap_or(MAX_PAYLOAD);
            let room = announced.min(MAX_PAYLOAD) + 64 * HEADER;
            let before = self.buffer.len();
            self.buffer = read_more(file, self.position, &self.buffer, room)?;
            let count = self.buffer.len() - before;
            if count > 0 {
                self.position += count as u64;
                return Ok(true);
            }
        }
        let all = segments(&self.directory)?;
        let next = match all.iter().rposition(|first| *first <= self.offset) {
            Some(index) => Some(all[index]),
            None => all.front().copied(),
        };
        let Some(first) = next else { return Ok(false) };
        if self.file.is_some() && first < self.offset {
            // The same segment again: its end is not written yet.
            return Ok(false);
        }
        let file = File::open(segment_path(&self.directory, first))?;
        let empty = file.metadata()?.len() == 0;
        self.file = Some(file);
        self.position = 0;
        self.buffer = Bytes::new();
        Ok(!empty)
    }
}

/// The end of what is whole in a spool whose writer is gone: everything up to the first bad frame.
///
/// # Errors
/// When the disk does not give it.
pub fn whole_end(directory: &Path) -> io::Result<u64> {
    let mut end = 0;
    for first in segments(directory)? {
        let mut content = Bytes::from(fs::read(segment_path(directory, first))?);
        end = end.max(first);
        while let Some(head) = content.first_chunk::<HEADER>() {
            let Ok(header) = Header::parse(head) else { return Ok(end) };
            let whole = content.clone();
            let Ok(Some((_, frame))) = take_frame(&mut content) else { return Ok(end) };
            let payload = HEADER..HEADER + header.length as usize;
            if header.check(&whole[payload]).is_err() {
                return Ok(end);
            }
            end = frame.end();
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(reader: &mut SpoolReader, until: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while let Read::Frames(frames) = reader.read(until).unwrap() {
            for frame in frames {
                all.extend_from_slice(&frame.data);
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_offset_gives_exactly_what_follows_it(
            sizes in proptest::collection::vec(1usize..MAX_PAYLOAD, 1..90), from_share in 0.0..1.0f64,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = SpoolWriter::new(dir.path().to_owned());
            let mut all = Vec::new();
            for (index, size) in sizes.iter().enumerate() {
                let payload = vec![u8::try_from(index % 251).unwrap(); *size];
                writer.append(Stream::Stdout, index as u64, &payload).unwrap();
                all.extend_from_slice(&payload);
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a test's share")]
            let from = (all.len() as f64 * from_share) as usize;
            let mut reader = SpoolReader::new(dir.path().to_owned(), from as u64);
            prop_assert!(read_all(&mut reader, writer.end()) == all[from..]);
            prop_assert_eq!(whole_end(dir.path()).unwrap(), all.len() as u64);
        }
    }

    #[test]
    fn a_reader_follows_a_writer_over_segments() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(dir.path().to_owned());
        let mut reader = SpoolReader::new(dir.path().to_owned(), 0);
        assert_eq!(reader.read(0).unwrap(), Read::Nothing);
        let chunk = vec![7; MAX_PAYLOAD];
        for round in 1..=100u64 {
            writer.append(Stream::Stderr, 0, &chunk).unwrap();
            assert_eq!(read_all(&mut reader, writer.end()).len(), MAX_PAYLOAD, "round {round}");
            assert_eq!(reader.read(writer.end()).unwrap(), Read::Nothing);
        }
    }

    #[test]
    fn a_limit_inside_a_frame_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(dir.path().to_owned());
        writer.append(Stream::Stdout, 0, b"abcdef").unwrap();
        let mut reader = SpoolReader::new(dir.path().to_owned(), 1);
        for (until, part) in [(3, "bc"), (3, ""), (5, "de"), (6, "f")] {
            assert_eq!(read_all(&mut reader, until), part.as_bytes(), "until {until}");
            assert_eq!(reader.offset(), until);
        }
    }

    #[test]
    fn what_was_dropped_shows_as_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(dir.path().to_owned());
        let chunk = vec![1; MAX_PAYLOAD];
        for _ in 0..70 {
            writer.append(Stream::Stdout, 0, &chunk).unwrap();
        }
        drop_before(dir.path(), 10 * 1024 * 1024).unwrap();
        let first = *segments(dir.path()).unwrap().front().unwrap();
        assert!(first > 0 && first <= 10 * 1024 * 1024);
        let mut reader = SpoolReader::new(dir.path().to_owned(), 0);
        assert_eq!(reader.read(writer.end()).unwrap(), Read::Gap { from: 0, to: first });
        assert_eq!(read_all(&mut reader, writer.end()).len() as u64, writer.end() - first);
    }

    #[test]
    fn a_torn_end_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(dir.path().to_owned());
        writer.append(Stream::Stdout, 0, b"whole").unwrap();
        writer.append(Stream::Stdout, 0, b"torn").unwrap();
        let path = segment_path(dir.path(), 0);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        assert_eq!(whole_end(dir.path()).unwrap(), 5);
    }
}
