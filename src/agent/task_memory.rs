//! What the agent's disk remembers of tasks: their directories, and the list of tasks that must never be started again.
//!
//! Decides nothing: what is to be done with a task of which this is known is the core's business.

use std::io;

use super::{
    core::Knowledge,
    emergency::is_of_disk,
    finished::{Finished, Memory},
    incarnation::DirectoryId,
    layout::Layout,
    supervisor::protocol::TaskEnding,
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

    /// What is known of a task.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing about the task.
    pub fn knowledge(&self, id: TaskId) -> io::Result<Knowledge> {
        Ok(match self.get(id)? {
            Some(Memory::Ending(_)) => Knowledge::Finished,
            Some(Memory::NeverStarted(_)) => Knowledge::NeverStarted,
            None if self.layout.task(id).root().try_exists()? => Knowledge::Spooled,
            None => Knowledge::Nothing,
        })
    }

    /// Writes down that a task was not started in an incarnation, and never will be.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn promise(&mut self, id: TaskId, incarnation: Incarnation) -> io::Result<()> {
        self.insert(id, Memory::NeverStarted(incarnation))
    }

    /// The incarnation in which the agent promised never to start a task. Asked of a task of which that is known.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn promised_in(&self, id: TaskId) -> io::Result<Incarnation> {
        match self.get(id)? {
            Some(Memory::NeverStarted(incarnation)) => Ok(incarnation),
            Some(Memory::Ending(_)) | None => Err(io::Error::other("a promise that was not written down")),
        }
    }

    /// Writes down how a task ended that the master has stored.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(&mut self, id: TaskId, ending: TaskEnding) -> io::Result<()> {
        self.insert(id, Memory::Ending(ending))
    }

    /// How a finished task ended.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn recall(&self, id: TaskId) -> io::Result<Option<TaskEnding>> {
        Ok(match self.get(id)? {
            Some(Memory::Ending(ending)) => Some(ending),
            Some(Memory::NeverStarted(_)) | None => None,
        })
    }

    /// Whether nothing of the task is needed but what was written down.
    #[must_use]
    pub fn is_finished(&self, id: TaskId) -> bool {
        self.finished.contains(id) || self.emergency.as_ref().is_some_and(|emergency| emergency.contains(id))
    }

    fn get(&self, id: TaskId) -> io::Result<Option<Memory>> {
        match (self.finished.get(id)?, &self.emergency) {
            (None, Some(emergency)) => emergency.get(id),
            (found, _) => Ok(found),
        }
    }

    /// Writes something down, in memory where the disk does not take it.
    fn insert(&mut self, id: TaskId, memory: Memory) -> io::Result<()> {
        if self.is_finished(id) {
            return Ok(());
        }
        match self.finished.insert(id, today(), memory.clone()) {
            Err(error) if is_of_disk(&error) => {
                if self.emergency.is_none() {
                    let path = self.layout.emergency().make()?.join("finished.log");
                    self.emergency = Some(Finished::open(&Disk::default(), &path, today())?);
                }
                self.emergency.as_mut().map_or(Err(error), |emergency| emergency.insert(id, today(), memory))
            }
            inserted => inserted,
        }
    }
}
