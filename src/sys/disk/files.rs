//! File operations for durable data, on the real disk or on a model of a failing one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, IoSlice},
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use bytes::Bytes;
use rustix::fs::Advice;

#[cfg(test)]
use super::model;
use crate::sys::file::{read_more, sync_directory, write_pieces_at};

/// Minimum number of bytes to request: a file may be longer than its reported length, which may be 0.
const LEAST_READ: usize = 4096;

/// A disk: the system's, or a model in tests. A clone refers to the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    System,
    #[cfg(test)]
    Model(model::Model),
}

/// An open file. If it was created by [`Disk::open`], only its owner can read it.
#[derive(Debug)]
pub struct File(Handle);

#[derive(Debug)]
enum Handle {
    System(fs::File),
    #[cfg(test)]
    Model(model::Handle),
}

/// How a file is opened, for reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file.
    Existing,
    /// An existing file, or else a new one.
    OrNew,
    /// An empty file: an existing one is truncated, or else a new one is created.
    Empty,
    /// A new file. Fails if it exists.
    New,
}

impl Disk {
    /// Creates a disk that is a model.
    #[cfg(test)]
    #[must_use]
    pub fn model(model: model::Model) -> Self {
        Self(Kind::Model(model))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        match &self.0 {
            Kind::System => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).mode(0o600);
                match how {
                    Open::Existing => &mut options,
                    Open::OrNew => options.create(true),
                    Open::Empty => options.create(true).truncate(true),
                    Open::New => options.create_new(true),
                };
                options.open(path).map(Handle::System).map(File)
            }
            #[cfg(test)]
            Kind::Model(model) => model.open(path, how).map(Handle::Model).map(File),
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        match &self.0 {
            Kind::System => fs::File::open(path).map(Handle::System).map(File),
            #[cfg(test)]
            Kind::Model(model) => model.open(path, Open::Existing).map(Handle::Model).map(File),
        }
    }

    /// Creates a directory that only its owner can use, and its missing parents. Returns whether the
    /// directory is new.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn make_directory(&self, path: &Path) -> io::Result<bool> {
        match &self.0 {
            Kind::System => {
                let is_new = !path.try_exists()?;
                DirBuilder::new().recursive(true).mode(0o700).create(path).map(|()| is_new)
            }
            #[cfg(test)]
            Kind::Model(model) => model.make_directory(path),
        }
    }

    /// Returns the names in a directory; none if it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        match &self.0 {
            Kind::System => match fs::read_dir(directory) {
                Ok(entries) => entries
                    .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
                    .collect(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            },
            #[cfg(test)]
            Kind::Model(model) => model.names(directory),
        }
    }

    /// Returns the numbers of the files that [`numbered`](crate::sys::file::numbered) named in a directory, in
    /// ascending order.
    ///
    /// # Errors
    /// As [`Self::names`].
    pub fn numbers(&self, directory: &Path, ending: &str) -> io::Result<Vec<u64>> {
        let number = |name: &String| name.strip_suffix(ending)?.strip_suffix('.')?.parse().ok();
        let mut numbers: Vec<u64> = self.names(directory)?.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Renames a file, and replaces a file that has the new name.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            Kind::System => fs::rename(from, to),
            #[cfg(test)]
            Kind::Model(model) => model.rename(from, to),
        }
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When the file does not exist, or cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Kind::System => fs::remove_file(path),
            #[cfg(test)]
            Kind::Model(model) => model.remove(path),
        }
    }

    /// Returns the contents of a file; `None` if it does not exist.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn contents(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
        let mut contents = Bytes::new();
        loop {
            let before = contents.len();
            let room = length.saturating_sub(before).max(LEAST_READ);
            contents = file.read_more(before as u64, &contents, room)?;
            if contents.len() == before {
                return Ok(Some(contents.into()));
            }
        }
    }

    /// Replaces a small file atomically: every reader, even after a crash of the program, sees the old or the
    /// new contents. With `durable` this also holds for a crash of the machine, and the new contents are on
    /// the disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn replace(&self, path: &Path, contents: &[u8], durable: bool) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let file = self.open(&temporary, Open::Empty)?;
        file.write_at(0, &mut [IoSlice::new(contents)])?;
        if durable {
            file.sync()?;
        }
        self.rename(&temporary, path)?;
        if let (true, Some(parent)) = (durable, path.parent()) {
            self.sync_names(parent)?;
        }
        Ok(())
    }

    /// Syncs the names in a directory to the disk.
    ///
    /// # Errors
    /// When the directory does not exist, or the sync fails.
    pub fn sync_names(&self, directory: &Path) -> io::Result<()> {
        match &self.0 {
            Kind::System => sync_directory(directory),
            #[cfg(test)]
            Kind::Model(model) => model.sync_names(directory),
        }
    }
}

impl File {
    /// Returns the length of the file in bytes.
    ///
    /// # Errors
    /// When the length cannot be read.
    pub fn length(&self) -> io::Result<u64> {
        match &self.0 {
            Handle::System(file) => Ok(file.metadata()?.len()),
            #[cfg(test)]
            Handle::Model(file) => file.length(),
        }
    }

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// When the length cannot be changed.
    pub fn set_length(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => file.set_len(length),
            #[cfg(test)]
            Handle::Model(file) => file.set_length(length),
        }
    }

    /// Writes all pieces completely, one after the other, beginning at a position.
    ///
    /// # Errors
    /// When the write fails. A part of the pieces may be written then.
    pub fn write_at(&self, position: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => write_pieces_at(file, position, pieces),
            #[cfg(test)]
            Handle::Model(file) => {
                let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                file.write_at(position, &bytes)
            }
        }
    }

    /// Fills a buffer with the bytes at a position.
    ///
    /// # Errors
    /// When the file has fewer bytes, or cannot be read.
    pub fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => file.read_exact_at(buffer, position),
            #[cfg(test)]
            Handle::Model(file) => file.read_exact_at(position, buffer),
        }
    }

    /// Returns the bytes of `before`, followed by at most `room` bytes that are read at `position`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_more(&self, position: u64, before: &Bytes, room: usize) -> io::Result<Bytes> {
        match &self.0 {
            Handle::System(file) => read_more(file, position, before, room),
            #[cfg(test)]
            Handle::Model(file) => {
                let length = file.length()?.saturating_sub(position);
                let count = usize::try_from(length).unwrap_or(room).min(room);
                let mut buffer = before.to_vec();
                buffer.resize(before.len() + count, 0);
                file.read_exact_at(position, &mut buffer[before.len()..])?;
                Ok(buffer.into())
            }
        }
    }

    /// Syncs the written data to the disk.
    ///
    /// # Errors
    /// When the sync fails. From then on it is unknown which part of the data is on the disk, and the next
    /// call may succeed although data is missing.
    pub fn sync(&self) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => file.sync_data(),
            #[cfg(test)]
            Handle::Model(file) => file.sync(),
        }
    }

    /// Drops a part of the file from the page cache. The part must have been synced.
    pub fn forget(&self, from: u64, length: NonZeroU64) {
        match &self.0 {
            Handle::System(file) => {
                // If the system ignores the advice, the bytes only stay in the cache longer.
                let _ = rustix::fs::fadvise(file, from, Some(length), Advice::DontNeed);
            }
            #[cfg(test)]
            Handle::Model(_) => {}
        }
    }
}
