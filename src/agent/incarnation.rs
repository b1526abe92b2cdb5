//! The incarnation of an agent's memory: the ids of its directories and the kernel's boot id.
//!
//! Does not depend on the contents of the directories besides their ids.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
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

/// The id of a directory, and the file in which it was found.
#[derive(Debug)]
struct Id {
    id: String,
    /// Kept open, so that no other file gets its inode number.
    file: File,
}

impl Id {
    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut id = String::new();
        file.read_to_string(&mut id)?;
        Ok(Self { id: id.trim().to_owned(), file })
    }

    /// Reports whether the file is still at this path.
    fn exists_at(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(found) => {
                let own = self.file.metadata()?;
                Ok((found.dev(), found.ino()) == (own.dev(), own.ino()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Waits until no connector writes a promise to the directory that has this id file. It writes none until the
/// returned file is closed.
///
/// # Errors
/// When the file cannot be opened or locked.
pub(crate) fn keep_promises_out(id_file: &Path) -> io::Result<File> {
    let file = File::open(id_file)?;
    file.lock_shared()?;
    Ok(file)
}

/// The id of the tasks directory, and that of the emergency directory if it exists. The agent remembers tasks
/// in both.
#[derive(Debug)]
pub(crate) struct DirectoryId {
    tasks: Id,
    emergency: Option<Id>,
}

fn new_id(path: &Path) -> io::Result<()> {
    write_private(path, random::hex(&random::bytes::<8>()).as_bytes(), true)
}

impl DirectoryId {
    /// Writes a promise while no shim looks for one, see [`keep_promises_out`].
    ///
    /// # Errors
    /// When a shim is looking for promises, or the promise cannot be written.
    pub(crate) fn promise(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.tasks.file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "a process that starts a task reads the promises at the moment",
                ));
            }
            // Some network file systems have no such locks. The order of the steps has to suffice there.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let written = write();
        let _ = self.tasks.file.unlock();
        written
    }

    /// Reads the ids of the directories, and gives a new id to a directory that has none. `had_tasks` is
    /// whether the tasks directory existed before this start: version 0.1.0 stored its id beside it, and that
    /// id is not valid for a new directory.
    ///
    /// # Errors
    /// When the id of the tasks directory can neither be read nor written.
    pub(crate) fn open(layout: &Layout, had_tasks: bool) -> io::Result<Self> {
        let path = layout.directory_id();
        if read_optional(&path)?.is_none() {
            if had_tasks && layout.directory_id_of_0_1_0().try_exists()? {
                adopt(layout)?;
            } else {
                new_id(&path)?;
            }
        }
        let emergency = Self::open_emergency(layout).inspect_err(|error| {
            tracing::debug!(%error, "no emergency directory; tasks cannot start on a full disk");
        });
        Ok(Self { tasks: Id::read(&path)?, emergency: emergency.ok() })
    }

    /// Creates the emergency directory before a task needs it. If it was lost, for example at the restart of
    /// a container, the new one has a new id.
    fn open_emergency(layout: &Layout) -> io::Result<Id> {
        layout.emergency().create()?;
        let path = layout.emergency_id().ok_or(io::ErrorKind::NotFound)?;
        if read_optional(&path)?.is_none() {
            new_id(&path)?;
        }
        Id::read(&path)
    }

    /// Returns the incarnation in this boot of the machine.
    ///
    /// # Errors
    /// When the kernel's boot id cannot be read.
    pub(crate) fn incarnation(&self) -> io::Result<Incarnation> {
        let directories = match &self.emergency {
            Some(emergency) => format!("{}+{}", self.tasks.id, emergency.id),
            None => self.tasks.id.clone(),
        };
        Ok(Incarnation::new(&directories, &boot_id()?))
    }

    /// Reports whether the opened directories are still in their places. Nothing may be started in other
    /// directories, since these do not contain the agent's memory of tasks.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) fn is_in_place(&self, layout: &Layout) -> io::Result<bool> {
        let Some(emergency) = &self.emergency else { return self.tasks.exists_at(&layout.directory_id()) };
        let has_emergency = match layout.emergency_id() {
            Some(path) => emergency.exists_at(&path)?,
            None => false,
        };
        Ok(has_emergency && self.tasks.exists_at(&layout.directory_id())?)
    }
}

/// Moves the files of version 0.1.0 into the tasks directory. Moves the id last, so that an interrupted move
/// is repeated.
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
        let layout = Layout::with_emergency(dir.path(), dir.path().join("memory"));
        fs::create_dir(layout.tasks()).unwrap();
        (dir, layout)
    }

    #[test]
    fn an_emptied_directory_has_another_id_and_is_noticed_at_once() {
        let (_dir, layout) = layout();
        let first = DirectoryId::open(&layout, false).unwrap();
        assert_eq!(
            DirectoryId::open(&layout, true).unwrap().incarnation().unwrap(),
            first.incarnation().unwrap()
        );
        assert!(first.is_in_place(&layout).unwrap());
        fs::remove_dir_all(layout.tasks()).unwrap();
        assert!(!first.is_in_place(&layout).unwrap());
        fs::create_dir(layout.tasks()).unwrap();
        let second = DirectoryId::open(&layout, true).unwrap();
        assert_ne!(second.incarnation().unwrap(), first.incarnation().unwrap());
        assert!(!first.is_in_place(&layout).unwrap());
        // The emergency directory is a part of the agent's memory of tasks, too.
        fs::remove_dir_all(layout.emergency().path().unwrap()).unwrap();
        assert!(!second.is_in_place(&layout).unwrap());
        let third = DirectoryId::open(&layout, true).unwrap();
        assert_ne!(third.incarnation().unwrap(), second.incarnation().unwrap());
        assert!(third.is_in_place(&layout).unwrap());
    }

    #[test]
    fn the_files_of_0_1_0_are_adopted_unless_their_tasks_are_gone() {
        for had_tasks in [true, false] {
            let (_dir, layout) = layout();
            fs::write(layout.directory_id_of_0_1_0(), "0123456789abcdef").unwrap();
            fs::write(layout.finished_of_0_1_0(), "{}\n").unwrap();
            let opened = DirectoryId::open(&layout, had_tasks).unwrap();
            assert_eq!(opened.tasks.id == "0123456789abcdef", had_tasks);
            assert_eq!(layout.finished().exists(), had_tasks);
        }
    }
}
