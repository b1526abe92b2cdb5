//! Spooled output is read as it was written, even if segments are reused, cut or damaged.

use std::fs::{self, OpenOptions};

use proptest::prelude::*;

use super::*;
use crate::domain::offset::OutputOffset;
use crate::sys::{disk::model::Model, file::write_pieces_at};

fn read_all(reader: &mut SpoolReader, until: OutputOffset) -> Vec<u8> {
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
        let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
        let mut all = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let payload = vec![u8::try_from(index % 251).unwrap(); *size];
            writer.append(Stream::Stdout, index as u64, &payload).unwrap();
            all.extend_from_slice(&payload);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a test's share")]
        let from = (all.len() as f64 * from_share) as usize;
        let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset(from as u64));
        prop_assert!(read_all(&mut reader, writer.end()) == all[from..]);
        prop_assert_eq!(intact_end(&Disk::default(), dir.path()).unwrap(), OutputOffset(all.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_spool_that_is_written_over_gives_every_byte_once(
        steps in proptest::collection::vec((1usize..MAX_PAYLOAD, 0usize..4, any::<bool>()), 60..120),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
        let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset::START);
        let (mut written, mut read) = (0u64, 0u64);
        // Each byte is its offset modulo a prime.
        let byte = |offset: u64| u8::try_from(offset % 251).unwrap();
        for (size, behind, is_tight) in steps {
            let payload: Vec<u8> = (written..written + size as u64).map(byte).collect();
            writer.append(Stream::Stdout, 0, &payload).unwrap();
            written += size as u64;
            if behind > 0 {
                for offset in read_all(&mut reader, OutputOffset(written)) {
                    prop_assert_eq!(offset, byte(read));
                    read += 1;
                }
                prop_assert_eq!(read, written);
                writer.acknowledge(OutputOffset(read.saturating_sub(behind as u64 * 1_000_000)), is_tight).unwrap();
            }
            if is_tight {
                prop_assert_eq!(intact_end(&Disk::default(), dir.path()).unwrap(), OutputOffset(written));
            }
        }
        let unacknowledged = writer.end().since(writer.acknowledged());
        let bound = unacknowledged / SEGMENT + 2 + MAX_SPARE_SEGMENTS as u64 + 1;
        prop_assert!(segments(&Disk::default(), dir.path()).unwrap().len() as u64 <= bound);
    }
}

#[test]
fn bytes_read_before_they_were_announced_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    writer.append(Stream::Stdout, 0, b"announced").unwrap();
    let announced = writer.end();
    // A part of the next frame is visible before it is reported.
    let header = Header::new(0, Stream::Stdout, announced, 0, b"later", UNBOUND);
    let path = segment_path(dir.path(), OutputOffset::START);
    let size = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let head = header.to_bytes();
    write_pieces_at(&file, size, &mut [IoSlice::new(&head), IoSlice::new(b"late?")]).unwrap();
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset::START);
    assert_eq!(read_all(&mut reader, announced), b"announced");
    writer.append(Stream::Stdout, 0, b"later").unwrap();
    assert_eq!(read_all(&mut reader, writer.end()), b"later");
}

#[test]
fn a_reader_follows_a_writer_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset::START);
    assert_eq!(reader.read(OutputOffset::START).unwrap(), Read::Nothing);
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
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    writer.append(Stream::Stdout, 0, b"abcdef").unwrap();
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset(1));
    for (until, part) in [(3, "bc"), (3, ""), (5, "de"), (6, "f")] {
        assert_eq!(read_all(&mut reader, OutputOffset(until)), part.as_bytes(), "until {until}");
        assert_eq!(reader.offset(), OutputOffset(until));
    }
}

#[test]
fn a_spool_whose_master_keeps_up_takes_a_few_segments_and_one_on_a_tight_volume_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    let there = || segments(&Disk::default(), dir.path()).unwrap().len();
    let chunk = vec![7; MAX_PAYLOAD];
    for _ in 0..2 {
        for _ in 0..70 {
            writer.append(Stream::Stdout, 0, &chunk).unwrap();
        }
        assert!(there() > MAX_SPARE_SEGMENTS + 1);
        writer.acknowledge(writer.end(), false).unwrap();
        assert_eq!((writer.acknowledged(), there()), (writer.end(), MAX_SPARE_SEGMENTS + 1));
    }
    writer.acknowledge(writer.end(), true).unwrap();
    assert_eq!(there(), 1);
}

#[test]
fn segments_that_somebody_else_removed_hold_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    let chunk = vec![7; MAX_PAYLOAD];
    for is_tight in [false, true] {
        for _ in 0..60 {
            writer.append(Stream::Stdout, 0, &chunk).unwrap();
        }
        let all = segments(&Disk::default(), dir.path()).unwrap();
        for first in &all[..all.len() - 1] {
            fs::remove_file(segment_path(dir.path(), *first)).unwrap();
        }
        writer.acknowledge(writer.end(), is_tight).unwrap();
    }
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), writer.end());
    writer.append(Stream::Stdout, 0, b"on it goes").unwrap();
    assert_eq!(read_all(&mut reader, writer.end()), b"on it goes");
}

#[test]
fn a_reader_gives_up_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    writer.append(Stream::Stdout, 0, b"abcdef").unwrap();
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset::START);
    reader.skip_to(OutputOffset(4));
    reader.skip_to(OutputOffset(2));
    assert_eq!(reader.offset(), OutputOffset(4));
    assert_eq!(read_all(&mut reader, writer.end()), b"ef");
}

#[test]
fn what_was_dropped_shows_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    let chunk = vec![1; MAX_PAYLOAD];
    for _ in 0..70 {
        writer.append(Stream::Stdout, 0, &chunk).unwrap();
    }
    drop_before(&Disk::default(), dir.path(), OutputOffset(10 * 1024 * 1024)).unwrap();
    let first = *segments(&Disk::default(), dir.path()).unwrap().first().unwrap();
    assert!(first > OutputOffset::START && first <= OutputOffset(10 * 1024 * 1024));
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset::START);
    assert_eq!(reader.read(writer.end()).unwrap(), Read::Gap { from: OutputOffset::START, to: first });
    assert_eq!(read_all(&mut reader, writer.end()).len() as u64, writer.end().since(first));
}

#[test]
fn a_torn_end_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    writer.append(Stream::Stdout, 0, b"whole").unwrap();
    writer.append(Stream::Stdout, 0, b"torn").unwrap();
    let path = segment_path(dir.path(), OutputOffset::START);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert_eq!(intact_end(&Disk::default(), dir.path()).unwrap(), OutputOffset(5));
}

#[test]
fn a_damaged_frame_ends_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(Disk::default(), dir.path().to_owned());
    for text in [b"whole", b"wrong", b"later"] {
        writer.append(Stream::Stdout, 0, text).unwrap();
    }
    let path = segment_path(dir.path(), OutputOffset::START);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"wrong").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut reader = SpoolReader::new(Disk::default(), dir.path().to_owned(), OutputOffset::START).checked();
    assert_eq!(read_all(&mut reader, writer.end()), b"whole");
    assert_eq!(reader.read(writer.end()).unwrap(), Read::Nothing);
    assert_eq!(reader.offset(), OutputOffset(5));
    assert_eq!(intact_end(&Disk::default(), dir.path()).unwrap(), OutputOffset(5));
}

/// A spool on a disk that fails at any call.
struct History {
    model: Model,
    disk: Disk,
    directory: PathBuf,
    writer: SpoolWriter,
    reader: SpoolReader,
    written: OutputOffset,
    /// The offset of the reader. The next field is the offset up to which the master has stored the output.
    read: OutputOffset,
    acknowledged: OutputOffset,
}

impl History {
    fn new(seed: u64) -> Self {
        let model = Model::new(seed);
        let disk = Disk::model(model.clone());
        disk.make_directory(Path::new("/tasks/task")).unwrap();
        let directory = PathBuf::from("/tasks/task/spool");
        // Small, so that a history has many segments.
        let writer = SpoolWriter { segment_size: 700, ..SpoolWriter::new(disk.clone(), directory.clone()) };
        let reader = SpoolReader::new(disk.clone(), directory.clone(), OutputOffset::START);
        Self {
            model,
            disk,
            directory,
            writer,
            reader,
            written: OutputOffset::START,
            read: OutputOffset::START,
            acknowledged: OutputOffset::START,
        }
    }

    fn byte(offset: u64) -> u8 {
        (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
    }

    /// Reads the output before `until`, and checks it: every byte is correct, and only acknowledged bytes are
    /// missing.
    fn read_on(&mut self, until: OutputOffset) -> io::Result<()> {
        loop {
            match self.reader.read(until)? {
                Read::Nothing => return Ok(()),
                Read::Gap { from, to } => {
                    assert_eq!(from, self.read);
                    assert!(to <= self.acknowledged, "{from} to {to} is missing, and not acknowledged");
                    self.read = to;
                }
                Read::Frames(frames) => {
                    for frame in frames {
                        assert_eq!(frame.offset, self.read);
                        let expected: Vec<u8> = (frame.offset.0..frame.end().0).map(Self::byte).collect();
                        assert_eq!(frame.data, expected, "at {}", self.read);
                        self.read = frame.end();
                    }
                }
            }
        }
    }

    fn step(&mut self) {
        match self.model.roll(10) {
            0..=5 => {
                let size = [1, 40, 170, 170][usize::try_from(self.model.roll(4)).unwrap()];
                let payload: Vec<u8> = (self.written.0..self.written.0 + size).map(Self::byte).collect();
                if self.writer.append(Stream::Stdout, 0, &payload).is_ok() {
                    self.written += size;
                }
                assert_eq!(self.writer.end(), self.written);
            }
            6 => {
                let offset = OutputOffset(self.model.roll(self.read.0 + 1));
                self.acknowledged = self.acknowledged.max(offset);
                let is_tight = self.model.roll(4) == 0;
                // Segments that could not be removed are removed by the next call.
                let _ = self.writer.acknowledge(offset, is_tight);
            }
            7 => {
                let _ = drop_before(&self.disk, &self.directory, self.acknowledged);
            }
            8 => self.model.fail([0, 0, 4, 12][usize::try_from(self.model.roll(4)).unwrap()]),
            _ => {
                let _ = self.read_on(self.written);
            }
        }
    }

    fn start_reading_anew(&mut self, is_checked: bool) {
        self.model.fail(0);
        let reader = SpoolReader::new(self.disk.clone(), self.directory.clone(), self.acknowledged);
        self.reader = if is_checked { reader.checked() } else { reader };
        self.read = self.acknowledged;
    }
}

#[test]
fn a_spool_on_a_failing_disk_loses_nothing_with_its_processes_and_invents_nothing_with_the_power() {
    let mut shortened = 0;
    for seed in 0..2_000 {
        let mut history = History::new(seed);
        (0..history.model.roll(120)).for_each(|_| history.step());
        if seed % 2 == 0 {
            history.model.restart();
            history.start_reading_anew(false);
            let whole = intact_end(&history.disk, &history.directory).unwrap();
            // The last write may have failed although all of it was written.
            assert!(whole >= history.written, "seed {seed}");
            history.read_on(whole).unwrap();
            assert_eq!(history.read, whole, "seed {seed}");
        } else {
            history.model.crash();
            history.start_reading_anew(true);
            let whole = intact_end(&history.disk, &history.directory).unwrap();
            assert!(whole <= history.written, "seed {seed}");
            shortened += u32::from(whole < history.written);
            // Missing output is allowed at the end, even though it was not acknowledged.
            history.acknowledged = history.written;
            history.read_on(history.written).unwrap();
        }
    }
    assert!(shortened > 100, "the power took something");
}
