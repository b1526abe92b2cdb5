//! One file of a log: its header and its frames. Knows nothing of the other files.
//!
//! The head has 32 bytes, little endian: `SLG2`, a CRC-32 of all that follows, a random number with which the
//! checksums of the frames begin, the position at which the file begins, and that of the file before it.
//! Positions include the head. Files of version 0.1.0 have no head.

use std::{
    io::{self, IoSlice},
    num::NonZeroU64,
    path::Path,
};

use bytes::Bytes;

use crate::{
    domain::frame::{Frame, HEADERS, MAX_PAYLOAD, UNBOUND, take_frame},
    sys::{
        disk::{Disk, File, Open},
        random,
    },
};

/// Size of a head, in bytes.
const HEAD: usize = 32;
const MAGIC: [u8; 4] = *b"SLG2";
/// The value for the previous file if there is none.
const NO_PREVIOUS: u64 = u64::MAX;

/// An open file of a log.
#[derive(Debug)]
pub(super) struct LogFile {
    /// The position at which it begins.
    pub(super) first: u64,
    file: File,
    /// `None` in files of version 0.1.0.
    head: Option<Head>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    salt: u64,
    previous: Option<u64>,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

impl Head {
    fn to_bytes(self, first: u64) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous.unwrap_or(NO_PREVIOUS).to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEAD], first: u64) -> Option<Self> {
        let head = Self {
            salt: number(bytes, 8),
            previous: Some(number(bytes, 24)).filter(|previous| *previous != NO_PREVIOUS),
        };
        (head.to_bytes(first) == *bytes).then_some(head)
    }
}

impl LogFile {
    /// Creates an empty file that follows the file at `previous`.
    pub(super) fn create(disk: &Disk, path: &Path, first: u64, previous: Option<u64>) -> io::Result<Self> {
        let file = match disk.open(path, Open::New) {
            // It is left over from a failed write. A running sync may still hold it, and must not write to
            // the new file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(path)?;
                disk.open(path, Open::New)?
            }
            opened => opened?,
        };
        let head = Head { salt: u64::from_le_bytes(random::bytes()), previous };
        file.write_at(0, &mut [IoSlice::new(&head.to_bytes(first))])?;
        Ok(Self { first, file, head: Some(head) })
    }

    /// Opens an existing file for reading and writing.
    pub(super) fn open(disk: &Disk, path: &Path, first: u64) -> io::Result<Self> {
        Self::with(disk.open(path, Open::Existing)?, first)
    }

    /// Opens an existing file for reading only.
    pub(super) fn read(disk: &Disk, path: &Path, first: u64) -> io::Result<Self> {
        Self::with(disk.read(path)?, first)
    }

    fn with(file: File, first: u64) -> io::Result<Self> {
        let mut bytes = [0; HEAD];
        let head = match file.read_exact_at(0, &mut bytes) {
            Ok(()) => Head::parse(&bytes, first),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok(Self { first, file, head })
    }

    /// Reports whether frames can be added. Frames of version 0.1.0 do not record where they belong, so such
    /// a file is closed.
    pub(super) fn takes_frames(&self) -> bool {
        self.head.is_some()
    }

    /// Returns the position of the previous file; `None` for the first file, and if the file does not record
    /// it.
    pub(super) fn previous(&self) -> Option<u64> {
        self.head.and_then(|head| head.previous)
    }

    /// Returns the position of the first frame.
    pub(super) fn frames_from(&self) -> u64 {
        self.first + self.head.map_or(0, |_| HEAD as u64)
    }

    /// Returns the initial value for the checksum of the frame at a position.
    pub(super) fn seed(&self, position: u64) -> u32 {
        let Some(head) = self.head else { return UNBOUND };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head.salt.to_le_bytes());
        hasher.update(&position.to_le_bytes());
        hasher.finalize()
    }

    /// Writes pieces at a position.
    pub(super) fn write(&self, position: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_at(position - self.first, pieces)
    }

    /// Returns the position at which the file ends.
    pub(super) fn end(&self) -> io::Result<u64> {
        Ok(self.first + self.file.length()?)
    }

    /// Truncates the file at a position.
    pub(super) fn cut(&self, position: u64) -> io::Result<()> {
        self.file.set_length(position - self.first)
    }

    /// Syncs the file.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Drops the data between two positions from the page cache.
    pub(super) fn forget(&self, from: u64, end: u64) {
        if let Some(length) = end.checked_sub(from).and_then(NonZeroU64::new) {
            self.file.forget(from - self.first, length);
        }
    }

    /// Writes the data between two positions again, as the page cache has it. If the range includes the head,
    /// that is written from memory.
    pub(super) fn write_again(&self, from: u64, end: u64) -> io::Result<()> {
        if let Some(head) = self.head.filter(|_| from <= self.first) {
            self.file.write_at(0, &mut [IoSlice::new(&head.to_bytes(self.first))])?;
        }
        let mut piece = vec![0; 1024 * 1024];
        let mut at = from.max(self.frames_from());
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(piece.len()).min(piece.len());
            self.file.read_exact_at(at - self.first, &mut piece[..count])?;
            self.write(at, &mut [IoSlice::new(&piece[..count])])?;
            at += count as u64;
        }
        Ok(())
    }
}

/// The result of reading at a position of a file.
#[derive(Debug)]
pub(super) enum Next {
    /// A frame of a task.
    Frame(u32, Frame),
    /// The end of the data, or an incomplete frame.
    Unfinished,
    /// Data that was not written there as a frame.
    Damaged,
}

/// Reads a file's frames, and verifies their checksums.
#[derive(Debug)]
pub(super) struct Frames {
    file: LogFile,
    position: u64,
    buffer: Bytes,
}

impl Frames {
    /// Starts at a position, or at the first frame if the position is in the head.
    pub(super) fn new(file: LogFile, position: u64) -> Self {
        let position = position.max(file.frames_from());
        Self { file, position, buffer: Bytes::new() }
    }

    /// Returns the position of the next frame.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the position at which the file begins.
    pub(super) fn first(&self) -> u64 {
        self.file.first
    }

    /// Continues at another position, and discards what was read ahead.
    pub(super) fn go_to(&mut self, position: u64) {
        (self.position, self.buffer) = (position.max(self.file.frames_from()), Bytes::new());
    }

    /// Reads the next frame before `until`.
    pub(super) fn next(&mut self, until: u64) -> io::Result<Next> {
        loop {
            let before = self.buffer.len();
            match take_frame(&mut self.buffer, Some(self.file.seed(self.position))) {
                Ok(Some((task, frame))) => {
                    self.position += (before - self.buffer.len()) as u64;
                    return Ok(Next::Frame(task, frame));
                }
                Ok(None) if self.fill(until)? => {}
                Ok(None) => return Ok(Next::Unfinished),
                Err(_) => return Ok(Next::Damaged),
            }
        }
    }

    fn fill(&mut self, until: u64) -> io::Result<bool> {
        let before = self.buffer.len();
        let wanted = usize::try_from(until.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(MAX_PAYLOAD + HEADERS).saturating_sub(before);
        if wanted > 0 {
            let at = self.position + before as u64 - self.file.first;
            self.buffer = self.file.file.read_more(at, &self.buffer, wanted)?;
        }
        Ok(self.buffer.len() > before)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::{
        frame::{Header, Stream},
        offset::OutputOffset,
    };

    fn frame(offset: u64) -> Frame {
        Frame { stream: Stream::Stdout, offset: OutputOffset(offset), time_ns: 1, data: vec![7; 100].into() }
    }

    /// Writes a valid frame.
    fn write(file: &LogFile, position: u64, frame: &Frame) -> u64 {
        let Frame { stream, offset, time_ns, ref data } = *frame;
        let head = Header::new(0, stream, offset, time_ns, data, file.seed(position));
        file.write(position, &mut [IoSlice::new(&head.to_bytes()), IoSlice::new(data)]).unwrap();
        position + head.size()
    }

    #[test]
    fn a_frame_is_believed_in_its_own_place_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let make = |name: &str| LogFile::create(&Disk::default(), &path(name), 0, None).unwrap();
        let (here, elsewhere) = (make("here"), make("elsewhere"));
        let begin = here.frames_from();
        let end = write(&here, begin, &frame(0));
        let bytes = fs::read(path("here")).unwrap();
        let moved = &bytes[HEAD..];
        here.write(end, &mut [IoSlice::new(moved)]).unwrap();
        elsewhere.write(begin, &mut [IoSlice::new(moved)]).unwrap();
        let mut frames = Frames::new(here, 0);
        assert!(matches!(frames.next(u64::MAX).unwrap(), Next::Frame(0, _)));
        assert!(matches!(frames.next(u64::MAX).unwrap(), Next::Damaged), "the same frame, further on");
        let mut frames = Frames::new(elsewhere, 0);
        assert!(matches!(frames.next(u64::MAX).unwrap(), Next::Damaged), "the same place of another file");
    }

    #[test]
    fn a_file_that_is_created_again_does_not_change_the_open_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let old = LogFile::create(&Disk::default(), &path, 0, None).unwrap();
        let new = LogFile::create(&Disk::default(), &path, 0, Some(7)).unwrap();
        let end = write(&new, new.frames_from(), &frame(0));
        old.write_again(0, 0).unwrap();
        old.cut(0).unwrap();
        let file = LogFile::open(&Disk::default(), &path, 0).unwrap();
        assert_eq!((file.previous(), file.end().unwrap()), (Some(7), end));
        assert!(matches!(Frames::new(file, 0).next(u64::MAX).unwrap(), Next::Frame(0, _)));
    }

    #[test]
    fn a_file_of_0_1_0_is_read_and_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = crate::master::output_log::file_path(dir.path(), 0);
        fs::write(&path, []).unwrap();
        let old = LogFile::open(&Disk::default(), &path, 0).unwrap();
        assert!(!old.takes_frames());
        let end = write(&old, 0, &frame(0));
        let size = crate::master::output_log::FILE_SIZE;
        let log =
            crate::master::output_log::opening::open(&Disk::default(), dir.path().to_owned(), size).unwrap();
        assert_eq!((log.task_end(0), log.appended().borrow().0), (OutputOffset(100), end));
        log.append_here(0, &[frame(100)]).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().len(),
            end,
            "new frames are in a file that records where they belong"
        );
        assert_eq!(Disk::default().numbers(dir.path(), "log").unwrap(), [0, end]);
    }
}
