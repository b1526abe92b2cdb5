//! A task's directory, made by the worker that will run the task before there is one. Knows no processes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
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
    agent::layout::TaskLayout,
    sys::{lock::Lock, socket},
};

/// A directory with its lock taken and its socket bound; no task's yet.
#[derive(Debug)]
pub(super) struct Place {
    layout: TaskLayout,
    record: File,
    /// Written when the task ends.
    ending: File,
    /// Held until this process ends or is done with the task.
    _lock: Lock,
    /// Bound to the task's socket.
    pub(super) listener: UnixListener,
}

impl Place {
    /// Makes one, in place of whatever an earlier process of the same id left.
    ///
    /// # Errors
    /// When the disk does not give it; nothing of it stays then.
    pub(super) fn make(layout: TaskLayout) -> io::Result<Self> {
        remove(&layout)?;
        DirBuilder::new().mode(0o700).create(layout.root())?;
        Self::fill(&layout).inspect_err(|_| {
            let _ = remove(&layout);
        })
    }

    fn fill(layout: &TaskLayout) -> io::Result<Self> {
        let create = |path| OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let record = create(layout.record())?;
        let ending = create(layout.unfinished_ending())?;
        let mut lock = Lock::try_take(&layout.lock())?.ok_or(io::ErrorKind::WouldBlock)?;
        lock.write_pid()?;
        let listener = socket::listen(&layout.socket(), 0o600)?;
        listener.set_nonblocking(true)?;
        Ok(Self { layout: layout.clone(), record, ending, _lock: lock, listener })
    }

    /// Makes it the directory of a task, at once and with its record in it. False when the task has one already.
    ///
    /// # Errors
    /// When the disk does not take it; there is no such task then.
    pub(super) fn become_task(&mut self, task: &TaskLayout, record: &[u8]) -> io::Result<bool> {
        self.record.write_all(record)?;
        let renamed = match renameat_with(CWD, self.layout.root(), CWD, task.root(), RenameFlags::NOREPLACE) {
            // Not every file system knows the flag (NFS, 9p, OpenZFS before 2.2). Without it a directory can take
            // an empty one's place, and no task's directory is empty.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename(self.layout.root(), task.root()),
            renamed => renamed,
        };
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes how the task ended, whole or not at all. May be tried again with the same bytes. Where the directory is gone
    /// the master has it already.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn write_ending(&self, task: &TaskLayout, ending: &[u8]) -> io::Result<()> {
        self.ending.write_all_at(ending, 0)?;
        match fs::rename(task.unfinished_ending(), task.ending()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }

    /// Whether somebody has removed it.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.layout.root().try_exists(), Ok(false))
    }

    /// Removes it, before it has become a task's.
    pub(super) fn remove(self) {
        // What stays is removed by the next keeper.
        let _ = remove(&self.layout);
    }
}

/// Removes a directory that is no task's, where there is one.
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
    use crate::{
        agent::layout::Layout,
        domain::ids::{RunId, TaskId},
    };

    #[test]
    fn one_task_gets_one_place_and_its_record_is_there_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir(layout.tasks()).unwrap();
        let task = layout.task(TaskId { run: RunId::from_parts(1, 1), index: 0 });
        let mut first = Place::make(layout.spare(1)).unwrap();
        let mut second = Place::make(layout.spare(2)).unwrap();
        assert!(first.become_task(&task, b"first\n").unwrap());
        assert!(!second.become_task(&task, b"second\n").unwrap());
        assert_eq!(fs::read(task.record()).unwrap(), b"first\n");
        assert!(!layout.spare(1).root().exists() && layout.spare(2).root().exists());
        second.remove();
        assert!(!layout.spare(2).root().exists());
        socket::connect(&task.socket()).unwrap();
    }

    #[test]
    fn an_ending_is_there_whole_or_not_at_all_and_a_task_that_the_master_has_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir(layout.tasks()).unwrap();
        let task = layout.task(TaskId { run: RunId::from_parts(1, 1), index: 0 });
        let mut place = Place::make(layout.spare(1)).unwrap();
        assert!(!place.is_gone());
        assert!(place.become_task(&task, b"record\n").unwrap());
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
    fn what_is_not_there_is_removed_and_what_cannot_be_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        remove(&layout.spare(1)).unwrap();
        fs::create_dir(layout.tasks()).unwrap();
        fs::write(layout.spare(1).root(), "no directory").unwrap();
        assert!(remove(&layout.spare(1)).is_err());
    }
}
