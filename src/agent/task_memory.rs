//! What the agent's disk remembers of tasks: their directories, and the list of tasks that must never be started again.
//!
//! Decides nothing: what is to be done with a task of which this is known is the core's business.

use std::io;

use super::{
    core::{FinalRecord, Knowledge},
    emergency::is_of_disk,
    finished::Finished,
    incarnation::DirectoryId,
    layout::Layout,
};
use crate::{
    domain::ids::{Incarnation, TaskId},
    sys::{clock, disk::Disk, paths::make_private},
};

/// The memory of one incarnation, or of the one that follows it when it is removed.
#[derive(Debug)]
pub struct TaskMemory {
    layout: Layout,
    directory: DirectoryId,
    finished: Finished,
    /// What was written down in memory, while the disk took nothing.
    emergency: Option<Finished>,
}

/// Days since the Unix epoch.
fn today() -> u64 {
    clock::unix_ms() / 86_400_000
}

impl TaskMemory {
    /// Reads what the disk remembers.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(layout: Layout, directory: DirectoryId) -> io::Result<Self> {
        let finished = Finished::open(&Disk::default(), &layout.finished(), today())?;
        let emergency = layout.emergency_finished().filter(|path| path.exists());
        let open = |path: std::path::PathBuf| Finished::open(&Disk::default(), &path, today());
        Ok(Self { emergency: emergency.map(open).transpose()?, layout, directory, finished })
    }

    /// The incarnation whose memory this is.
    ///
    /// # Errors
    /// When the kernel does not give its boot id.
    pub fn incarnation(&self) -> io::Result<Incarnation> {
        self.directory.incarnation()
    }

    /// Reports whether the opened directory is still in its place.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn is_in_place(&self) -> io::Result<bool> {
        self.directory.is_in_place(&self.layout)
    }

    /// Begins another memory, since this one was removed. The incarnation whose memory that is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin_anew(&mut self) -> io::Result<Incarnation> {
        make_private(&self.layout.tasks()).map_err(io::Error::other)?;
        let directory = DirectoryId::open(&self.layout, false)?;
        *self = Self::open(self.layout.clone(), directory)?;
        tracing::error!(
            directory = %self.layout.tasks().display(),
            "the directory with the agent's memory of tasks was removed; what ran there is lost to the master"
        );
        self.incarnation()
    }

    /// Returns what the disk knows of a task.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing about the task.
    pub fn knowledge(&self, id: TaskId) -> io::Result<Knowledge> {
        Ok(match self.get(id)? {
            Some(record) => Knowledge::Recorded(record),
            None if self.layout.task(id).root().try_exists()? => Knowledge::Spooled,
            None => Knowledge::Nothing,
        })
    }

    /// Writes the permanent record of a task, in memory if the disk refuses it. A record that exists is kept.
    ///
    /// # Errors
    /// When neither takes it.
    pub fn record(&mut self, id: TaskId, record: FinalRecord) -> io::Result<()> {
        if self.is_finished(id) {
            return Ok(());
        }
        match self.finished.insert(id, today(), record.clone()) {
            Err(error) if is_of_disk(&error) => {
                if self.emergency.is_none() {
                    let path = self.layout.emergency().make()?.join("finished.log");
                    self.emergency = Some(Finished::open(&Disk::default(), &path, today())?);
                }
                self.emergency.as_mut().map_or(Err(error), |emergency| emergency.insert(id, today(), record))
            }
            inserted => inserted,
        }
    }

    /// Whether nothing of the task is needed but what was written down.
    #[must_use]
    pub fn is_finished(&self, id: TaskId) -> bool {
        self.finished.contains(id) || self.emergency.as_ref().is_some_and(|emergency| emergency.contains(id))
    }

    fn get(&self, id: TaskId) -> io::Result<Option<FinalRecord>> {
        match (self.finished.get(id)?, &self.emergency) {
            (None, Some(emergency)) => emergency.get(id),
            (found, _) => Ok(found),
        }
    }
}
