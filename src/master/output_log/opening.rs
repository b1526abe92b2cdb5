//! Opens an existing log. After a crash any part of the unsynced data may exist.
//!
//! A file with an index was synced, and so was every file before it. The files after the last file with an
//! index are read: each is cut after its last complete frame, and counts only if it begins where the file
//! before it ended. Accepted data is written again before it is synced: if an earlier sync failed, the system
//! considers the data written although it exists only in memory.
//!
//! Data that is cut was never acknowledged: agents still have it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use super::{
    INDEX, JobLog, LOG_EXTENSION,
    contents::{Contents, FileContents},
    file::LogFile,
    file_path,
};
use crate::sys::disk::Disk;

/// Opens a log, and syncs its contents.
pub(super) fn open(disk: &Disk, directory: PathBuf, file_size: u64) -> io::Result<JobLog> {
    let mut opening = Opening {
        disk,
        directory: &directory,
        contents: Contents::default(),
        indexed: BTreeSet::new(),
        end: 0,
    };
    opening.read_indices()?;
    let files = disk.numbers(&directory, LOG_EXTENSION)?;
    opening.recover(&files)?;
    let (contents, indexed, end) = (opening.contents, opening.indexed, opening.end);
    let log = JobLog::new(disk.clone(), directory, file_size, contents, indexed, end);
    match disk.sync_names(log.directory()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(log),
        synced => synced?,
    }
    // The process that created the directory may have ended before it synced the name.
    log.directory().parent().map_or(Ok(()), |parent| disk.sync_names(parent))?;
    // An index that cannot be written now is written with the next one.
    let _ = log.write_indices(end);
    Ok(log)
}

struct Opening<'a> {
    disk: &'a Disk,
    directory: &'a std::path::Path,
    contents: Contents,
    indexed: BTreeSet<u64>,
    end: u64,
}

impl Opening<'_> {
    fn read_indices(&mut self) -> io::Result<()> {
        for first in self.disk.numbers(self.directory, INDEX)? {
            if let Some(known) = FileContents::read(self.disk, self.directory, first)? {
                self.end = self.end.max(known.end);
                self.contents.add(first, known);
                self.indexed.insert(first);
            }
        }
        Ok(())
    }

    /// Reads the files without an index. Cuts them, and removes those that do not count.
    fn recover(&mut self, files: &[u64]) -> io::Result<()> {
        let sure = self.indexed.last().copied();
        let heads: BTreeMap<u64, Option<u64>> = files
            .iter()
            .filter(|first| !self.indexed.contains(first))
            .map(|first| {
                let file = LogFile::read(self.disk, &file_path(self.directory, *first), *first)?;
                Ok((*first, file.previous()))
            })
            .collect::<io::Result<_>>()?;
        let mut continues = true;
        for first in heads.keys().copied() {
            let path = file_path(self.directory, first);
            let is_sure = sure.is_some_and(|sure| first < sure);
            if !continues && !is_sure {
                self.disk.remove(&path)?;
                continue;
            }
            let file = LogFile::open(self.disk, &path, first)?;
            // A file of version 0.1.0 does not name the file before it, and may follow a dropped file.
            let follows = if file.takes_frames() {
                file.previous() == self.contents.files.keys().next_back().copied() && first == self.end
            } else {
                first >= self.end
            };
            let next = files.iter().find(|next| **next > first);
            // After a failed write the next file begins at this position, whatever remains of the write.
            let follows_here = |next: &&u64| heads.get(next).is_some_and(|previous| *previous == Some(first));
            let until = next.filter(|next| is_sure || follows_here(next));
            let until = until.copied().unwrap_or(u64::MAX);
            let known = FileContents::scan(LogFile::read(self.disk, &path, first)?, until)?;
            if !is_sure && (!follows || known.parts.is_empty()) {
                self.disk.remove(&path)?;
                continues = false;
                continue;
            }
            if is_sure {
                self.contents.add(first, known);
                continue;
            }
            continues = known.end == until || known.end == file.end()?;
            file.cut(known.end)?;
            file.write_again(first, known.end)?;
            file.sync()?;
            self.end = self.end.max(known.end);
            self.contents.add(first, known);
        }
        Ok(())
    }
}
