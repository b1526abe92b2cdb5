//! The incarnation of an agent's memory: the id of its tasks directory and the kernel's boot id.
//!
//! Must not know what is in the directory besides its id.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
};

use super::layout::Layout;
use crate::{
    domain::ids::Incarnation,
    sys::{
        paths::{read_optional, write_private},
        process::boot_id,
        random,
    },
};

/// The id of the tasks directory, and the file in which it was found.
#[derive(Debug)]
pub struct DirectoryId {
    id: String,
    /// Held open, so that no other file gets its inode.
    file: File,
}

impl DirectoryId {
    /// Reads the id of a tasks directory, and gives the directory one when it has none. `had_tasks` says whether the
    /// directory was there before this start: the id of version 0.1.0 lay beside it, and says nothing about a new one.
    ///
    /// # Errors
    /// When the id can neither be read nor written.
    pub fn open(layout: &Layout, had_tasks: bool) -> io::Result<Self> {
        let path = layout.directory_id();
        if read_optional(&path)?.is_none() {
            if had_tasks && layout.directory_id_of_0_1_0().try_exists()? {
                adopt(layout)?;
            } else {
                write_private(&path, random::hex(&random::bytes::<8>()).as_bytes(), true)?;
            }
        }
        let mut file = File::open(&path)?;
        let mut id = String::new();
        file.read_to_string(&mut id)?;
        Ok(Self { id: id.trim().to_owned(), file })
    }

    /// The incarnation in this boot of the machine.
    ///
    /// # Errors
    /// When the kernel does not give its boot id.
    pub fn incarnation(&self) -> io::Result<Incarnation> {
        Ok(Incarnation::new(&self.id, &boot_id()?))
    }

    /// Whether the directory still is the one that was opened. Nothing may be started in another one: it does not know
    /// what this one knew.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn is_in_place(&self, layout: &Layout) -> io::Result<bool> {
        match fs::metadata(layout.directory_id()) {
            Ok(found) => {
                let own = self.file.metadata()?;
                Ok((found.dev(), found.ino()) == (own.dev(), own.ino()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Moves the files of version 0.1.0 into the directory that they speak of. The id goes last: without it this is done
/// again.
fn adopt(layout: &Layout) -> io::Result<()> {
    if layout.finished_of_0_1_0().try_exists()? {
        fs::rename(layout.finished_of_0_1_0(), layout.finished())?;
    }
    fs::rename(layout.directory_id_of_0_1_0(), layout.directory_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir(layout.tasks()).unwrap();
        (dir, layout)
    }

    #[test]
    fn an_emptied_directory_has_another_id_and_is_noticed_at_once() {
        let (_dir, layout) = layout();
        let first = DirectoryId::open(&layout, false).unwrap();
        assert_eq!(DirectoryId::open(&layout, true).unwrap().id, first.id);
        assert!(first.is_in_place(&layout).unwrap());
        fs::remove_dir_all(layout.tasks()).unwrap();
        assert!(!first.is_in_place(&layout).unwrap());
        fs::create_dir(layout.tasks()).unwrap();
        let second = DirectoryId::open(&layout, true).unwrap();
        assert_ne!(second.id, first.id);
        assert!(!first.is_in_place(&layout).unwrap());
    }

    #[test]
    fn the_files_of_0_1_0_are_adopted_unless_their_tasks_are_gone() {
        for had_tasks in [true, false] {
            let (_dir, layout) = layout();
            fs::write(layout.directory_id_of_0_1_0(), "0123456789abcdef").unwrap();
            fs::write(layout.finished_of_0_1_0(), "{}\n").unwrap();
            let opened = DirectoryId::open(&layout, had_tasks).unwrap();
            assert_eq!(opened.id == "0123456789abcdef", had_tasks);
            assert_eq!(layout.finished().exists(), had_tasks);
        }
    }
}
