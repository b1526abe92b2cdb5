//! A task's directory that is made while the keeper has nothing to do: on many disks making its files takes longer than
//! starting the command. Knows no tasks.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        net::UnixListener,
    },
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    agent::layout::{Layout, TaskLayout},
    sys::{lock::Lock, socket},
};

/// Such a directory, with its lock taken and its socket bound.
#[derive(Debug)]
pub(super) struct Spare {
    place: TaskLayout,
    record: File,
    lock: Lock,
    listener: UnixListener,
}

impl Spare {
    /// Makes one, in place of whatever another keeper left.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub(super) fn make(layout: &Layout) -> io::Result<Self> {
        let place = layout.spare();
        match fs::remove_dir_all(place.root()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(place.root())?;
        let create = |path| OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let record = create(place.record())?;
        // Written when the task ends.
        create(place.unfinished_ending())?;
        let lock = Lock::try_take(&place.lock())?.ok_or(io::ErrorKind::WouldBlock)?;
        let listener = socket::listen(&place.socket(), 0o600)?;
        Ok(Self { place, record, lock, listener })
    }

    /// Makes it the directory of a task, at once and with its record in it. `None` when the task has one already.
    ///
    /// # Errors
    /// When the disk does not take it; there is no such task then.
    pub(super) fn become_task(
        mut self,
        task: &TaskLayout,
        record: &[u8],
    ) -> io::Result<Option<(Lock, UnixListener)>> {
        self.record.write_all(record)?;
        match renameat_with(CWD, self.place.root(), CWD, task.root(), RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Some((self.lock, self.listener))),
            Err(rustix::io::Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
