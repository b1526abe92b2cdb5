//! The index of a log: for each file the offsets of its tasks, and the positions of their frames at regular distances.
//!
//! A file that is closed and synced has its index beside it, in a file whose name ends with `index`, so that
//! opening the log does not read the whole file. Such an index also states that its file, and every file
//! before it, was synced. It stays when the file itself is dropped.
//!
//! It contains `SLI1`, a CRC-32 of all that follows, the position after the last frame of the file, and for
//! each task its index, its first offset, its end offset, the number of its places, and the offset and
//! position of each place. These numbers have 64 bits, little endian.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, IoSlice},
    path::Path,
};

use super::{
    LOG_EXTENSION,
    file::{Frames, LogFile, Next},
    file_path, index_path,
};
use crate::{
    domain::{frame::Frame, offset::OutputOffset},
    sys::disk::{Disk, Open},
};

/// Minimum distance of two places of a task, in bytes of its output.
const PLACE_INTERVAL: u64 = 1024 * 1024;
const MAGIC: [u8; 4] = *b"SLI1";

/// The part of a task's output in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Its first offset.
    pub(super) from: OutputOffset,
    /// The offset after its last byte.
    pub(super) to: OutputOffset,
    /// Offsets, and the positions of the frames that begin there.
    places: Vec<(OutputOffset, u64)>,
}

/// The contents of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileContents {
    /// The position after its last frame.
    pub(super) end: u64,
    pub(super) parts: BTreeMap<u32, Part>,
}

impl FileContents {
    /// Adds a frame that lies between two positions.
    pub(super) fn note(&mut self, position: u64, end: u64, task: u32, frame: &Frame) {
        let fresh = || Part { from: frame.offset, ..Part::default() };
        let part = self.parts.entry(task).or_insert_with(fresh);
        if part.places.last().is_none_or(|(offset, _)| frame.offset >= *offset + PLACE_INTERVAL) {
            part.places.push((frame.offset, position));
        }
        part.to = part.to.max(frame.end());
        self.end = end;
    }

    /// Reads a file up to its first invalid frame, or to `until`. A file without a frame ends where it
    /// begins.
    pub(super) fn scan(file: LogFile, until: u64) -> io::Result<Self> {
        let mut contents = Self { end: file.first, ..Self::default() };
        let mut frames = Frames::new(file, 0);
        loop {
            let position = frames.position();
            match frames.next(until)? {
                Next::Frame(task, frame) => contents.note(position, frames.position(), task, &frame),
                Next::Unfinished | Next::Damaged => return Ok(contents),
            }
        }
    }

    /// Returns the bytes of an index file.
    fn to_bytes(&self) -> Vec<u8> {
        let mut numbers = vec![self.end];
        for (task, part) in &self.parts {
            numbers.extend([u64::from(*task), part.from.0, part.to.0, part.places.len() as u64]);
            numbers.extend(part.places.iter().flat_map(|(offset, position)| [offset.0, *position]));
        }
        let body: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        [&MAGIC[..], &crc32fast::hash(&body).to_le_bytes(), &body].concat()
    }

    /// Parses an index file. Returns `None` if it is incomplete or damaged.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&MAGIC)?;
        let (crc, body) = body.split_first_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (chunks, []) = body.as_chunks::<8>() else { return None };
        let mut numbers = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
        let mut contents = Self { end: numbers.next()?, ..Self::default() };
        while let Some(task) = numbers.next() {
            let (from, to, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            let mut places = Vec::new();
            for _ in 0..count {
                places.push((OutputOffset(numbers.next()?), numbers.next()?));
            }
            contents.parts.insert(
                u32::try_from(task).ok()?,
                Part { from: OutputOffset(from), to: OutputOffset(to), places },
            );
        }
        Some(contents)
    }

    /// Writes the index of a file and syncs it, but not its name. An existing index stays complete until the
    /// new one is: if it were emptied, it would count as missing, its file would be appended to, and a power
    /// failure could restore the old index.
    pub(super) fn write(&self, disk: &Disk, directory: &Path, first: u64) -> io::Result<()> {
        let path = index_path(directory, first);
        let temporary = path.with_extension("new");
        let file = disk.open(&temporary, Open::Empty)?;
        file.write_at(0, &mut [IoSlice::new(&self.to_bytes())])?;
        file.sync()?;
        disk.rename(&temporary, &path)
    }

    /// Reads the index of a file. Returns `None` if there is no complete one.
    pub(super) fn read(disk: &Disk, directory: &Path, first: u64) -> io::Result<Option<Self>> {
        let file = match disk.read(&index_path(directory, first)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(0)];
        file.read_exact_at(0, &mut bytes)?;
        Ok(Self::parse(&bytes))
    }
}

/// The contents of a log.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The contents of all files, also of dropped ones, by the positions at which the files begin.
    pub(super) files: BTreeMap<u64, FileContents>,
    /// The end offset of each task's output.
    ends: HashMap<u32, OutputOffset>,
}

impl Contents {
    /// Reads the contents of a log that nothing is appended to.
    pub(super) fn scan(disk: &Disk, directory: &Path) -> io::Result<Self> {
        let mut contents = Self::default();
        let files = disk.numbers(directory, LOG_EXTENSION)?;
        for (index, first) in files.iter().enumerate() {
            let known = if let Some(known) = FileContents::read(disk, directory, *first)? {
                known
            } else {
                let file = LogFile::read(disk, &file_path(directory, *first), *first)?;
                FileContents::scan(file, files.get(index + 1).copied().unwrap_or(u64::MAX))?
            };
            contents.add(*first, known);
        }
        Ok(contents)
    }

    /// Returns the position after the last frame of the log.
    pub(super) fn end(&self) -> u64 {
        self.files.values().next_back().map_or(0, |file| file.end)
    }

    /// Adds the contents of a file.
    pub(super) fn add(&mut self, first: u64, file: FileContents) {
        for (task, part) in &file.parts {
            let end = self.ends.entry(*task).or_default();
            *end = part.to.max(*end);
        }
        self.files.insert(first, file);
    }

    /// Adds a frame that lies between two positions of the file that begins at `first`.
    pub(super) fn note(&mut self, first: u64, position: u64, end: u64, task: u32, frame: &Frame) {
        self.files.entry(first).or_default().note(position, end, task, frame);
        let known = self.ends.entry(task).or_default();
        *known = frame.end().max(*known);
    }

    /// Returns the end offset of a task's output.
    pub(super) fn task_end(&self, task: u32) -> OutputOffset {
        self.ends.get(&task).copied().unwrap_or_default()
    }

    /// Returns a position at or before the frame that holds this offset of a task; `None` if the task has not
    /// printed it yet.
    pub(super) fn position_of(&self, task: u32, offset: OutputOffset) -> Option<u64> {
        if offset >= self.task_end(task) {
            return None;
        }
        let mut parts = self.files.values().rev().filter_map(|file| file.parts.get(&task));
        let part = parts.find(|part| part.from <= offset);
        let after = part.map_or(0, |part| part.places.partition_point(|(first, _)| *first <= offset));
        Some(after.checked_sub(1).and_then(|at| part?.places.get(at)).map_or(0, |(_, position)| *position))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{domain::frame::Stream, sys::disk::model::Model};

    #[test]
    fn an_index_that_is_there_is_whole_whatever_becomes_of_the_next_one() {
        let directory = Path::new("/run");
        let contents = FileContents { end: 1_000, ..FileContents::default() };
        let mut failed = 0;
        for seed in 0..300 {
            let model = Model::new(seed);
            let disk = Disk::model(model.clone());
            disk.make_directory(directory).unwrap();
            contents.write(&disk, directory, 0).unwrap();
            disk.sync_names(directory).unwrap();
            disk.sync_names(Path::new("/")).unwrap();
            model.fail(2);
            failed += u32::from(contents.write(&disk, directory, 0).is_err());
            model.fail(0);
            for end in [Model::restart, Model::crash] {
                end(&model);
                let found = FileContents::read(&disk, directory, 0).unwrap();
                assert_eq!(found.as_ref(), Some(&contents), "seed {seed}");
            }
        }
        assert!(failed > 100);
    }

    #[test]
    fn places_of_a_task_are_a_step_apart_and_begin_where_its_part_does() {
        let mut contents = Contents::default();
        let frame = |offset| Frame {
            stream: Stream::Stdout,
            offset,
            time_ns: 0,
            data: Bytes::from_static(&[0; 1024]),
        };
        // Ten steps of frames of 1 KiB each, after another file.
        let from = OutputOffset(7 * PLACE_INTERVAL);
        for n in 0..10 * 1024 {
            contents.note(1_000, 1_000 + n * 2_000, 1_000 + (n + 1) * 2_000, 3, &frame(from + n * 1024));
        }
        let part = &contents.files[&1_000].parts[&3];
        assert_eq!((part.from, part.to), (from, OutputOffset(17 * PLACE_INTERVAL)));
        let places = (0..10).map(|n| (from + n * PLACE_INTERVAL, 1_000 + n * 1024 * 2_000));
        assert_eq!(part.places, places.collect::<Vec<_>>());
        assert_eq!(contents.position_of(3, from + 5 * PLACE_INTERVAL + 77), Some(1_000 + 5 * 1024 * 2_000));
    }

    #[test]
    fn an_index_comes_back_whole_or_not_at_all() {
        let mut contents = FileContents::default();
        for (n, task) in [(0, 0), (1, 7), (2, 0)] {
            let data = Bytes::from(vec![0; 100_000]);
            let frame =
                Frame { stream: Stream::Stdout, offset: OutputOffset(n * PLACE_INTERVAL), time_ns: 0, data };
            contents.note(n * 200_000, (n + 1) * 200_000, task, &frame);
        }
        let bytes = contents.to_bytes();
        assert_eq!(FileContents::parse(&bytes), Some(contents));
        for cut in 0..bytes.len() {
            assert_eq!(FileContents::parse(&bytes[..cut]), None, "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(FileContents::parse(&bytes), None, "{at}");
        }
    }
}
