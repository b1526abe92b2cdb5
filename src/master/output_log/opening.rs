//! Opens an existing log: after a crash any part of the unsynced data may be there.
//!
//! A file that has an index was on the disk, and so was every file before it. The files behind the last such one are
//! read: each is cut behind its last whole frame, and counts only when it begins where the file before it ended. What is
//! believed is written again before it is synced, since an earlier sync may have failed: the system takes such bytes for
//! written then, and they are in its memory alone.
//!
//! What is cut was never acknowledged. Agents still have it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use super::{
    ENDING, INDEX, JobLog,
    contents::{Contents, FileContents},
    file::LogFile,
    file_path,
};
use crate::sys::disk::Disk;

/// Opens a log, and brings what is in it to the disk.
pub(super) fn open(disk: &Disk, directory: PathBuf, file_size: u64) -> io::Result<JobLog> {
    let mut opening = Opening {
        disk,
        directory: &directory,
        contents: Contents::default(),
        indexed: BTreeSet::new(),
        end: 0,
    };
    opening.read_indices()?;
    let files = disk.numbers(&directory, ENDING)?;
    opening.believe(&files)?;
    let (contents, indexed, end) = (opening.contents, opening.indexed, opening.end);
    let log = JobLog::new(disk.clone(), directory, file_size, contents, indexed, end);
    match disk.sync_names(log.directory()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(log),
        synced => synced?,
    }
    // Who made the directory may not have come to bring its name to the disk.
    log.directory().parent().map_or(Ok(()), |parent| disk.sync_names(parent))?;
    // One that cannot be written is written with the next one.
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

    /// Goes through the files that have no index.
    fn believe(&mut self, files: &[u64]) -> io::Result<()> {
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
            // A file of version 0.1.0 does not tell what comes before it, and may follow one that was dropped.
            let follows = if file.takes_frames() {
                file.previous() == self.contents.files.keys().next_back().copied() && first == self.end
            } else {
                first >= self.end
            };
            let next = files.iter().find(|next| **next > first);
            // Where a write has failed the next file begins, whatever is left of that write.
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
