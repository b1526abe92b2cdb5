//! What readers return, and what opening a log accepts, when parts are dropped, damaged or unreadable.

use super::*;
use crate::domain::offset::OutputOffset;

/// Creates a log with frames of 40,000 bytes, two per file, and a reader that has read some frames and has
/// listed all files.
fn half_read(disk: &Disk, directory: &std::path::Path) -> (JobLog, LogReader, Vec<u64>, OutputOffset, u64) {
    let log = opening::open(disk, directory.to_owned(), 70_000).unwrap();
    let mut end = 0;
    for n in 0..24u64 {
        end = log.append_here(0, &[frame(n * 40_000, &vec![7; 40_000])]).unwrap().0;
    }
    log.sync_once().unwrap();
    assert!(log.write_indices(end));
    let firsts: Vec<u64> = log.state().contents.files.keys().copied().collect();
    let mut reader = LogReader::new(disk.clone(), directory.to_owned(), LogPosition::START);
    let read = reader.read(LogPosition(end)).unwrap().last().unwrap().1.end();
    assert!((1..400_000).contains(&read.0), "{read}");
    (log, reader, firsts, read, end)
}

#[test]
fn a_reader_continues_behind_files_that_were_dropped_since_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader, firsts, read, end) = half_read(&Disk::default(), dir.path());
    // One file is already gone, which must not keep the others from being dropped.
    fs::remove_file(file_path(dir.path(), firsts[6])).unwrap();
    log.drop_spare(LogPosition(firsts[8]), |_, _| true).unwrap();
    assert_eq!(Disk::default().numbers(dir.path(), LOG_EXTENSION).unwrap(), firsts[8..]);
    let mut offsets = Vec::new();
    loop {
        let frames = reader.read(LogPosition(end)).unwrap();
        if frames.is_empty() {
            break;
        }
        offsets.extend(frames.iter().map(|(_, frame)| frame.offset));
    }
    assert!(offsets.iter().all(|offset| *offset >= read));
    assert_eq!(offsets.last(), Some(&OutputOffset(920_000)), "{offsets:?}");
}

#[test]
fn a_reader_continues_behind_what_was_read_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, mut reader, firsts, read, end) = half_read(&Disk::default(), dir.path());
    // The rest of the current file is skipped too.
    assert!(read < OutputOffset(320_000));
    reader.skip_to(LogPosition(firsts[4]));
    assert_eq!(reader.read(LogPosition(end)).unwrap()[0].1.offset, OutputOffset(320_000));
    let mut reader = LogReader::new(Disk::default(), dir.path().to_owned(), LogPosition::START);
    reader.read(LogPosition(end)).unwrap();
    let mut elsewhere = LogReader::new(Disk::default(), dir.path().to_owned(), LogPosition::START);
    for _ in 0..2 {
        let read = elsewhere.read(LogPosition(end)).unwrap().last().unwrap().1.end();
        reader.skip_to(elsewhere.position());
        assert_eq!(reader.position(), elsewhere.position());
        let next = elsewhere.read(LogPosition(end)).unwrap();
        assert_eq!(next[0].1.offset, read);
        assert_eq!(reader.read(LogPosition(end)).unwrap(), next);
    }
}

#[test]
fn what_is_damaged_is_left_out_and_all_that_is_whole_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, firsts, _, end) = half_read(&Disk::default(), dir.path());
    // The second frame of a file in the middle, and of the last one.
    let last = firsts[firsts.len() - 1];
    for first in [firsts[4], last] {
        let file = fs::OpenOptions::new().write(true).open(file_path(dir.path(), first)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 60_000).unwrap();
    }
    drop(log);
    let mut reader = LogReader::new(Disk::default(), dir.path().to_owned(), LogPosition::START);
    let mut offsets = Vec::new();
    for _ in 0..100 {
        offsets.extend(reader.read(LogPosition(end)).unwrap().iter().map(|(_, frame)| frame.offset));
    }
    let damaged = [4, firsts.len() as u64 - 1].map(|file| file * 80_000 + 40_000);
    let whole = (0..24).map(|n| n * 40_000).filter(|offset| !damaged.contains(offset));
    let whole: Vec<OutputOffset> = whole.map(OutputOffset).collect();
    assert_eq!(offsets, whole);
}

#[test]
fn an_index_that_the_disk_does_not_give_is_not_taken_for_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, firsts, _, end) = half_read(&Disk::default(), dir.path());
    log.drop_spare(LogPosition(firsts[8]), |_, _| true).unwrap();
    drop(log);
    // A name that leads to itself cannot be opened.
    let path = index_path(dir.path(), firsts[3]);
    fs::rename(&path, dir.path().join("aside")).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(opening::open(&Disk::default(), dir.path().to_owned(), 70_000).is_err());
    fs::remove_file(&path).unwrap();
    fs::rename(dir.path().join("aside"), &path).unwrap();
    let log = opening::open(&Disk::default(), dir.path().to_owned(), 70_000).unwrap();
    assert_eq!((log.appended().borrow().0, log.task_end(0)), (end, OutputOffset(960_000)));
}

#[test]
fn what_the_disk_does_not_give_is_not_taken_for_dropped() {
    let model = crate::sys::disk::model::Model::new(1);
    let disk = Disk::model(model.clone());
    disk.make_directory(std::path::Path::new("/runs")).unwrap();
    let (_log, mut reader, _, mut read, end) = half_read(&disk, std::path::Path::new("/runs/run"));
    let mut failures = 0;
    while read < OutputOffset(960_000) {
        for fails in [1, 1, 0] {
            model.fail(fails);
            // Some frames have already been read from the disk.
            let Ok(frames) = reader.read(LogPosition(end)) else {
                failures += 1;
                continue;
            };
            for (_, frame) in frames {
                assert_eq!(frame.offset, read, "nothing is left out");
                read = frame.end();
            }
        }
    }
    assert!(failures > 0);
}
