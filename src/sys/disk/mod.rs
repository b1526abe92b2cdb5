//! The file operations of all code that promises durability. Tests replace the disk by a model that crashes, fails and loses
//! whatever a disk may lose. Knows nothing of the contents.

#[cfg(test)]
pub mod model;

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, IoSlice},
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use bytes::Bytes;
use rustix::fs::Advice;

use super::file::{read_more, sync_directory, write_pieces_at};

/// Bytes that are asked for at least: a file may be longer than it says, and where it says nothing.
const LEAST_READ: usize = 4096;

/// Where files lie. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Disk(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    System,
    #[cfg(test)]
    Model(model::Model),
}

/// An open file. What is written to it is the owner's alone to read.
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
    /// One that is there.
    Existing,
    /// One that is there, or a new one.
    OrNew,
    /// An empty one, whether it was there or not.
    Empty,
    /// One that was not there.
    New,
}

impl Disk {
    /// A disk of the model.
    #[cfg(test)]
    #[must_use]
    pub fn model(model: model::Model) -> Self {
        Self(Kind::Model(model))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// When the disk does not give it.
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
    /// When the disk does not give it.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        match &self.0 {
            Kind::System => fs::File::open(path).map(Handle::System).map(File),
            #[cfg(test)]
            Kind::Model(model) => model.open(path, Open::Existing).map(Handle::Model).map(File),
        }
    }

    /// Makes a directory that is its owner's alone, with those above it. True when it was not there.
    ///
    /// # Errors
    /// When the disk does not take it.
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

    /// The names in a directory; none where there is no directory.
    ///
    /// # Errors
    /// When the disk does not give them.
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

    /// The numbers of the files in a directory whose names [`numbered`](super::file::numbered) made, ascending.
    ///
    /// # Errors
    /// As [`Self::names`].
    pub fn numbers(&self, directory: &Path, ending: &str) -> io::Result<Vec<u64>> {
        let number = |name: &String| name.strip_suffix(ending)?.strip_suffix('.')?.parse().ok();
        let mut numbers: Vec<u64> = self.names(directory)?.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Gives a file another name, in the place of whatever has that name.
    ///
    /// # Errors
    /// When the disk does not take it.
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
    /// When it is not there, or the disk does not take it.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Kind::System => fs::remove_file(path),
            #[cfg(test)]
            Kind::Model(model) => model.remove(path),
        }
    }

    /// What a file holds; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
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

    /// Writes a small file so that every reader, now or after a crash of the program, sees the old or the new contents. With
    /// `durable` that holds for a crash of the machine too, and the new contents stay once this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
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

    /// Brings the names in a directory to the disk.
    ///
    /// # Errors
    /// When it is not there, or the disk does not take them.
    pub fn sync_names(&self, directory: &Path) -> io::Result<()> {
        match &self.0 {
            Kind::System => sync_directory(directory),
            #[cfg(test)]
            Kind::Model(model) => model.sync_names(directory),
        }
    }
}

impl File {
    /// Bytes in it.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn length(&self) -> io::Result<u64> {
        match &self.0 {
            Handle::System(file) => Ok(file.metadata()?.len()),
            #[cfg(test)]
            Handle::Model(file) => file.length(),
        }
    }

    /// Cuts it, or fills it up with zeros.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_length(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => file.set_len(length),
            #[cfg(test)]
            Handle::Model(file) => file.set_length(length),
        }
    }

    /// Writes pieces as one at a position, all of them whole.
    ///
    /// # Errors
    /// When the disk does not take them; a part of them may be there then.
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

    /// Fills a buffer from a position.
    ///
    /// # Errors
    /// When there is less, or the disk does not give it.
    pub fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => file.read_exact_at(buffer, position),
            #[cfg(test)]
            Handle::Model(file) => file.read_exact_at(position, buffer),
        }
    }

    /// What `before` holds and what comes at `position`, at most `room` bytes more.
    ///
    /// # Errors
    /// When the disk does not give them.
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

    /// Brings what was written to the disk.
    ///
    /// # Errors
    /// When the disk does not take it. From then on nobody knows what of it is on the disk, and the next call may say that
    /// all of it is.
    pub fn sync(&self) -> io::Result<()> {
        match &self.0 {
            Handle::System(file) => file.sync_data(),
            #[cfg(test)]
            Handle::Model(file) => file.sync(),
        }
    }

    /// Lets the machine forget its copy in memory of a part of the file, which has to be synced.
    pub fn forget(&self, from: u64, length: NonZeroU64) {
        match &self.0 {
            Handle::System(file) => {
                // Where the system does not take the advice the bytes merely stay longer.
                let _ = rustix::fs::fadvise(file, from, Some(length), Advice::DontNeed);
            }
            #[cfg(test)]
            Handle::Model(_) => {}
        }
    }
}
