//! The agent's memory of tasks on its disk: their directories, and the list of tasks that must never be
//! started again.
//!
//! Makes no decisions: the core decides what to do with a task.

use std::{io, sync::Arc};

use super::{
    core::{FinalRecord, Knowledge},
    emergency::is_disk_failure,
    finished::FinishedTasks,
    incarnation::DirectoryId,
    layout::Layout,
};
use crate::{
    domain::ids::{Incarnation, TaskId},
    sys::{clock, disk::Disk, paths::make_private},
};

/// The memory of tasks of the current incarnation. If it is removed, a new incarnation begins with a new
/// memory.
#[derive(Debug)]
pub(crate) struct TaskMemory {
    layout: Layout,
    directory: Arc<DirectoryId>,
    finished: FinishedTasks,
    /// The records in the emergency directory, which were written while the disk could not be written.
    emergency: Option<FinishedTasks>,
}

/// Returns the number of days since the Unix epoch.
fn today() -> u64 {
    clock::unix_ms() / 86_400_000
}

impl TaskMemory {
    /// Reads the memory from the disk.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub(crate) fn open(layout: Layout, directory: DirectoryId) -> io::Result<Self> {
        let finished = FinishedTasks::open(&Disk::default(), &layout.finished(), today())?;
        let emergency = layout.emergency_finished().filter(|path| path.exists());
        let open = |path: std::path::PathBuf| FinishedTasks::open(&Disk::default(), &path, today());
        Ok(Self {
            emergency: emergency.map(open).transpose()?,
            layout,
            directory: Arc::new(directory),
            finished,
        })
    }

    /// Returns the incarnation of this memory.
    ///
    /// # Errors
    /// When the kernel's boot id cannot be read.
    pub(crate) fn incarnation(&self) -> io::Result<Incarnation> {
        self.directory.incarnation()
    }

    /// Reports whether the opened directory is still in its place.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        self.directory.is_in_place(&self.layout)
    }

    /// Creates a new memory, after this one was removed. Returns its incarnation.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn begin_anew(&mut self) -> io::Result<Incarnation> {
        make_private(&self.layout.tasks()).map_err(io::Error::other)?;
        let directory = DirectoryId::open(&self.layout, false)?;
        let memory = Self::open(self.layout.clone(), directory)?;
        let incarnation = memory.incarnation()?;
        // Replaced at the end: a memory that fails to begin is found missing again.
        *self = memory;
        tracing::error!(
            directory = %self.layout.tasks().display(),
            "the directory with the agent's memory of tasks was removed; the tasks in it are lost to the master"
        );
        Ok(incarnation)
    }

    /// Returns what the disk knows of a task.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing about the task.
    pub(crate) fn knowledge(&self, id: TaskId) -> io::Result<Knowledge> {
        Ok(match self.get(id)? {
            Some(record) => Knowledge::Recorded(record),
            None if self.layout.task(id).root().try_exists()? => Knowledge::Spooled,
            None => Knowledge::Nothing,
        })
    }

    /// Writes the permanent record of a task; to the emergency directory if the disk cannot be written. A
    /// record that exists is kept.
    ///
    /// # Errors
    /// When the record can be written to neither, or is a promise never to start a task that has begun.
    pub(crate) fn record(&mut self, id: TaskId, record: FinalRecord) -> io::Result<()> {
        if self.is_finished(id) {
            return Ok(());
        }
        match record {
            FinalRecord::Ending(_) => self.insert(id, record),
            FinalRecord::NeverStarted(_) => {
                let directory = Arc::clone(&self.directory);
                directory.promise(|| {
                    // A shim that an earlier connector has sent the task may have begun it since the look-up.
                    if self.layout.task(id).root().try_exists()? {
                        return Err(io::Error::other("the task has begun"));
                    }
                    self.insert(id, record)
                })
            }
        }
    }

    fn insert(&mut self, id: TaskId, record: FinalRecord) -> io::Result<()> {
        match self.finished.insert(id, today(), record.clone()) {
            Err(error) if is_disk_failure(&error) => {
                if self.emergency.is_none() {
                    let path = self.layout.emergency().create()?.join("finished.log");
                    self.emergency = Some(FinishedTasks::open(&Disk::default(), &path, today())?);
                }
                self.emergency.as_mut().map_or(Err(error), |emergency| emergency.insert(id, today(), record))
            }
            inserted => inserted,
        }
    }

    /// Reports whether the task has a permanent record, so that nothing else of it is needed.
    #[must_use]
    pub(crate) fn is_finished(&self, id: TaskId) -> bool {
        self.finished.contains(id) || self.emergency.as_ref().is_some_and(|emergency| emergency.contains(id))
    }

    fn get(&self, id: TaskId) -> io::Result<Option<FinalRecord>> {
        match (self.finished.get(id)?, &self.emergency) {
            (None, Some(emergency)) => emergency.get(id),
            (found, _) => Ok(found),
        }
    }
}
