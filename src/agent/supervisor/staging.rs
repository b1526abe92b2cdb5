//! The directory of a future task, which a shim prepares in advance and renames when the task arrives. Does
//! not depend on processes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
        net::UnixListener,
    },
};

use rustix::{
    fs::{CWD, RenameFlags, rename, renameat_with},
    io::Errno,
};

use crate::{
    agent::{
        emergency::{is_disk_failure, problem_of},
        layout::{Area, Layout, TaskLayout},
    },
    domain::ids::TaskId,
    sys::{lock::Lock, socket},
};

/// A directory without a task, with its lock taken and its socket bound.
#[derive(Debug)]
pub(super) struct StagingDirectory {
    area: Area,
    layout: TaskLayout,
    record: File,
    /// Written when the task ends.
    ending: File,
    /// Held until this process ends or has finished the task.
    _lock: Lock,
    /// Bound to the task's socket.
    pub(super) listener: UnixListener,
}

impl StagingDirectory {
    /// Creates the directory of a shim, and removes one that an earlier process with the same id has left. It
    /// is in memory while the disk cannot be written.
    ///
    /// # Errors
    /// When it can be created neither on the disk nor in memory. Nothing is left of it then.
    pub(super) fn make(layout: &Layout, shim: i32) -> io::Result<Self> {
        if problem_of(&layout.tasks()).is_some()
            && let Ok(place) = Self::make_in(layout, Area::Memory, shim)
        {
            return Ok(place);
        }
        Self::make_in(layout, Area::Disk, shim).or_else(|error| {
            if !is_disk_failure(&error) {
                return Err(error);
            }
            Self::make_in(layout, Area::Memory, shim).map_err(|_| error)
        })
    }

    fn make_in(layout: &Layout, area: Area, shim: i32) -> io::Result<Self> {
        if area == Area::Memory {
            // The machine needs the remaining memory.
            if let Some(trouble) = problem_of(&layout.emergency().create()?) {
                return Err(io::Error::other(format!("the memory file system is {trouble}")));
            }
        }
        let spare = layout.spare_in(area, shim).ok_or(io::ErrorKind::NotFound)?;
        remove(&spare)?;
        DirBuilder::new().mode(0o700).create(spare.root())?;
        Self::fill(area, &spare).inspect_err(|_| {
            let _ = remove(&spare);
        })
    }

    fn fill(area: Area, layout: &TaskLayout) -> io::Result<Self> {
        let create = |path| OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let record = create(layout.record())?;
        let ending = create(layout.unfinished_ending())?;
        let mut lock = Lock::try_take(&layout.lock())?.ok_or(io::ErrorKind::WouldBlock)?;
        lock.write_pid()?;
        let listener = socket::listen(&layout.socket(), 0o600)?;
        listener.set_nonblocking(true)?;
        Ok(Self { area, layout: layout.clone(), record, ending, _lock: lock, listener })
    }

    /// Makes this the directory of a task, atomically and with the task's record in it. Returns `None` if the
    /// task already has a directory. If the disk cannot be written, uses a new directory in memory instead.
    ///
    /// # Errors
    /// When neither is possible. The task has no directory then.
    pub(super) fn claim(
        &mut self,
        layout: &Layout,
        id: TaskId,
        record: &[u8],
    ) -> io::Result<Option<TaskLayout>> {
        match self.try_claim(layout, id, record) {
            Err(error) if self.area == Area::Disk && is_disk_failure(&error) => {
                let shim = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
                let Ok(place) = Self::make_in(layout, Area::Memory, shim) else { return Err(error) };
                std::mem::replace(self, place).remove();
                self.try_claim(layout, id, record)
            }
            claimed => claimed,
        }
    }

    fn try_claim(&mut self, layout: &Layout, id: TaskId, record: &[u8]) -> io::Result<Option<TaskLayout>> {
        let task = layout.task_in(self.area, id).ok_or(io::ErrorKind::NotFound)?;
        self.record.write_all_at(record, 0)?;
        let renamed = match renameat_with(CWD, self.layout.root(), CWD, task.root(), RenameFlags::NOREPLACE) {
            // Not every file system supports the flag (not NFS, 9p, OpenZFS before 2.2). Without it, rename
            // can only replace an empty directory, and the directory of a task is never empty.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename(self.layout.root(), task.root()),
            renamed => renamed,
        };
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Checked after the rename: if two shims begin the same task in both areas, at least one of them sees
        // the other directory, and removes its own. Nothing was started in it. A disk that cannot be read may
        // contain the task: it begins only if the other directory is certainly absent.
        let other = layout.task_in(self.area.other(), id).map(|other| other.root().symlink_metadata());
        match other {
            None => Ok(Some(task)),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Some(task)),
            Some(Err(error)) => {
                remove(&task)?;
                Err(io::Error::other(format!("whether it has begun already cannot be told: {error}")))
            }
            Some(Ok(_)) => {
                remove(&task)?;
                Ok(None)
            }
        }
    }

    /// Reports whether the directory is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        self.area == Area::Memory
    }

    /// Writes the task's ending atomically. May be repeated with the same bytes. If the directory is gone,
    /// the master has already stored the ending.
    ///
    /// # Errors
    /// When the write fails.
    pub(super) fn write_ending(&self, task: &TaskLayout, ending: &[u8]) -> io::Result<()> {
        self.ending.write_all_at(ending, 0)?;
        match fs::rename(task.unfinished_ending(), task.ending()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }

    /// Reports whether another program has removed the directory.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.layout.root().try_exists(), Ok(false))
    }

    /// Removes the directory, before it belongs to a task.
    pub(super) fn remove(self) {
        // If that fails, the next supervisor removes it.
        let _ = remove(&self.layout);
    }
}

/// Removes a directory, if it exists.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn remove(layout: &TaskLayout) -> io::Result<()> {
    match fs::remove_dir_all(layout.root()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::JobId;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::with_emergency(dir.path(), dir.path().join("memory"));
        fs::create_dir(layout.tasks()).unwrap();
        (dir, layout)
    }

    fn id() -> TaskId {
        TaskId { job: JobId::from_parts(1, 1), index: 0 }
    }

    #[test]
    fn one_task_gets_one_place_and_its_record_is_there_with_it() {
        let (_dir, layout) = layout();
        let mut first = StagingDirectory::make(&layout, 1).unwrap();
        let mut second = StagingDirectory::make(&layout, 2).unwrap();
        let task = first.claim(&layout, id(), b"first\n").unwrap().unwrap();
        assert!(second.claim(&layout, id(), b"second\n").unwrap().is_none());
        assert_eq!(fs::read(task.record()).unwrap(), b"first\n");
        assert!(!layout.spare(1).root().exists() && layout.spare(2).root().exists());
        second.remove();
        assert!(!layout.spare(2).root().exists());
        socket::connect(&task.socket()).unwrap();
    }

    #[test]
    fn a_task_that_lies_in_one_area_begins_in_no_other_one() {
        for (first, second) in [(Area::Disk, Area::Memory), (Area::Memory, Area::Disk)] {
            let (_dir, layout) = layout();
            let mut has_it = StagingDirectory::make_in(&layout, first, 1).unwrap();
            let mut comes_late = StagingDirectory::make_in(&layout, second, 2).unwrap();
            let task = has_it.claim(&layout, id(), b"first\n").unwrap().unwrap();
            assert!(comes_late.claim(&layout, id(), b"second\n").unwrap().is_none(), "{first:?}");
            assert_eq!(layout.task(id()).root(), task.root(), "{first:?}: found where it lies");
            assert!(!layout.task_in(second, id()).unwrap().root().exists(), "{first:?}");
            assert_eq!((has_it.is_in_memory(), task.record().exists()), (first == Area::Memory, true));
        }
    }

    #[test]
    fn an_ending_is_there_whole_or_not_at_all_and_a_task_that_the_master_has_needs_none() {
        let (_dir, layout) = layout();
        let mut place = StagingDirectory::make(&layout, 1).unwrap();
        assert!(!place.is_gone());
        let task = place.claim(&layout, id(), b"record\n").unwrap().unwrap();
        assert!(place.is_gone(), "it is the task's now");
        fs::create_dir(task.ending()).unwrap();
        assert!(place.write_ending(&task, b"ended\n").is_err(), "something is in its place");
        fs::remove_dir(task.ending()).unwrap();
        place.write_ending(&task, b"ended\n").unwrap();
        assert_eq!(fs::read(task.ending()).unwrap(), b"ended\n");
        fs::remove_dir_all(task.root()).unwrap();
        place.write_ending(&task, b"ended\n").unwrap();
    }

    #[test]
    fn removing_a_missing_directory_succeeds_and_a_failure_is_reported() {
        let (_dir, layout) = layout();
        remove(&layout.spare(1)).unwrap();
        fs::write(layout.spare(1).root(), "no directory").unwrap();
        assert!(remove(&layout.spare(1)).is_err());
    }
}
