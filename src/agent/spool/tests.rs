//! What is spooled is read as it was written, whatever is written over, cut or damaged.

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_spool_that_is_written_over_gives_every_byte_once(
        steps in proptest::collection::vec((1usize..MAX_PAYLOAD, 0usize..4, any::<bool>()), 60..120),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(dir.path().to_owned());
        let mut reader = SpoolReader::new(dir.path().to_owned(), 0);
        let (mut written, mut read) = (0u64, 0u64);
        // Each byte tells its offset, modulo a prime.
        let byte = |offset: u64| u8::try_from(offset % 251).unwrap();
        for (size, behind, is_tight) in steps {
            let payload: Vec<u8> = (written..written + size as u64).map(byte).collect();
            writer.append(Stream::Stdout, 0, &payload).unwrap();
            written += size as u64;
            if behind > 0 {
                for offset in read_all(&mut reader, written) {
                    prop_assert_eq!(offset, byte(read));
                    read += 1;
                }
                prop_assert_eq!(read, written);
                writer.acknowledge(read.saturating_sub(behind as u64 * 1_000_000), is_tight).unwrap();
            }
            if is_tight {
                prop_assert_eq!(whole_end(dir.path()).unwrap(), written);
            }
        }
        let unacknowledged = written - writer.acknowledged();
        let bound = unacknowledged / SEGMENT + 2 + KEPT as u64 + 1;
        prop_assert!(segments(dir.path()).unwrap().len() as u64 <= bound);
    }
}

#[test]
fn bytes_read_before_they_were_announced_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(dir.path().to_owned());
    writer.append(Stream::Stdout, 0, b"announced").unwrap();
    let announced = writer.end();
    // Half of what is being written shows already.
    let header = Header::new(0, Stream::Stdout, announced, 0, b"later", UNBOUND);
    let path = segment_path(dir.path(), 0);
    let size = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let head = header.to_bytes();
    write_pieces_at(&file, size, &mut [IoSlice::new(&head), IoSlice::new(b"late?")]).unwrap();
    let mut reader = SpoolReader::new(dir.path().to_owned(), 0);
    assert_eq!(read_all(&mut reader, announced), b"announced");
    writer.append(Stream::Stdout, 0, b"later").unwrap();
    assert_eq!(read_all(&mut reader, writer.end()), b"later");
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

#[test]
fn a_damaged_frame_ends_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::new(dir.path().to_owned());
    for text in [b"whole", b"wrong", b"later"] {
        writer.append(Stream::Stdout, 0, text).unwrap();
    }
    let path = segment_path(dir.path(), 0);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"wrong").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut reader = SpoolReader::new(dir.path().to_owned(), 0).checked();
    assert_eq!(read_all(&mut reader, writer.end()), b"whole");
    assert_eq!(reader.read(writer.end()).unwrap(), Read::Nothing);
    assert_eq!(reader.offset(), 5);
    assert_eq!(whole_end(dir.path()).unwrap(), 5);
}
