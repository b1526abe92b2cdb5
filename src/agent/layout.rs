//! The paths in an agent's data directory. Does not depend on the contents of the files.

use std::path::{Path, PathBuf};

use super::emergency::Emergency;
use crate::domain::ids::TaskId;

/// The prefix of the names of directories that do not belong to a task yet.
const SPARE: &str = "spare-";
/// The file name of the supervisor's socket.
pub const SUPERVISOR_SOCKET: &str = "keeper.sock";

/// An agent's data directory, and the emergency directory that replaces it while the disk cannot be written.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    emergency: Emergency,
    is_one_of_many: bool,
}

/// The area in which a task's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// In the data directory.
    Disk,
    /// In the emergency directory.
    Memory,
}

impl Area {
    /// Returns the other area.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Disk => Self::Memory,
            Self::Memory => Self::Disk,
        }
    }
}

impl Layout {
    /// Returns the layout below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { emergency: Emergency::of(&root), root, is_one_of_many: false }
    }

    /// Returns the layout of one of many agents in one process. Such an agent has no emergency directory and
    /// reserves no processes, since the reserves of all agents together would be too large.
    #[must_use]
    pub fn of_many(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { emergency: Emergency::below(None, &root), root, is_one_of_many: true }
    }

    /// Reports whether the agent is one of many in one process.
    #[must_use]
    pub fn is_one_of_many(&self) -> bool {
        self.is_one_of_many
    }

    /// Returns the layout below `root`, with its emergency directory below `base`.
    #[cfg(test)]
    #[must_use]
    pub fn with_emergency(root: impl Into<PathBuf>, base: PathBuf) -> Self {
        let root = root.into();
        Self { emergency: Emergency::below(Some(base), &root), root, is_one_of_many: false }
    }

    /// Returns the emergency directory, which replaces this directory while the disk cannot be written.
    #[must_use]
    pub fn emergency(&self) -> &Emergency {
        &self.emergency
    }

    /// Returns the data directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the file with the id of the tasks directory, which is a part of the incarnation. It is inside
    /// that directory, so that the agent's memory of tasks cannot be removed without its id.
    #[must_use]
    pub fn directory_id(&self) -> PathBuf {
        self.tasks().join("id")
    }

    /// Returns the file with the id of the emergency directory, if that directory exists.
    #[must_use]
    pub fn emergency_id(&self) -> Option<PathBuf> {
        self.tasks_in(Area::Memory).map(|tasks| tasks.join("id"))
    }

    /// Returns the file in which version 0.1.0 stored the id of the tasks directory.
    #[must_use]
    pub fn directory_id_of_0_1_0(&self) -> PathBuf {
        self.root.join("id")
    }

    /// Returns the lock file that the supervisor holds while it runs. It contains the supervisor's process
    /// id.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("keeper.lock")
    }

    /// Returns the supervisor's socket.
    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.root.join(SUPERVISOR_SOCKET)
    }

    /// Returns the supervisor's socket in the emergency directory, which is used if none can be created on
    /// the disk.
    #[must_use]
    pub fn emergency_socket(&self) -> Option<PathBuf> {
        self.emergency.path().map(|path| path.join(SUPERVISOR_SOCKET))
    }

    /// Returns the lock file that the connector holds while it runs. It contains the connector's process id.
    #[must_use]
    pub fn connector_lock(&self) -> PathBuf {
        self.root.join("agent.pid")
    }

    /// Returns the list of tasks that must never be started again: tasks whose ending the master has stored,
    /// and tasks that the agent has promised never to start.
    #[must_use]
    pub fn finished(&self) -> PathBuf {
        self.tasks().join("finished.log")
    }

    /// Returns the same list for tasks that were recorded while the disk failed, if the emergency directory
    /// exists.
    #[must_use]
    pub fn emergency_finished(&self) -> Option<PathBuf> {
        self.tasks_in(Area::Memory).map(|tasks| tasks.join("finished.log"))
    }

    /// Returns the file in which version 0.1.0 stored the list of finished tasks.
    #[must_use]
    pub fn finished_of_0_1_0(&self) -> PathBuf {
        self.root.join("finished.log")
    }

    /// Returns the file with the highest revision of the master's store that the agent has seen.
    #[must_use]
    pub fn seen_revision(&self) -> PathBuf {
        self.root.join("seen-revision")
    }

    /// Returns the directory with the agent's key, its certificate and the CA that it trusts.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Returns the tasks directory: the agent's memory of tasks, with one directory for each task, the id and
    /// the list of finished tasks.
    #[must_use]
    pub fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    /// Returns the directory of tasks of an area; `None` if the area does not exist.
    #[must_use]
    pub fn tasks_in(&self, area: Area) -> Option<PathBuf> {
        match area {
            Area::Disk => Some(self.tasks()),
            Area::Memory => self.emergency.path(),
        }
    }

    /// Returns the directory with this name in the emergency directory if it exists there, or else on the
    /// disk.
    fn found(&self, name: &str) -> TaskLayout {
        let in_memory = self.tasks_in(Area::Memory).map(|tasks| tasks.join(name));
        let in_memory = in_memory.filter(|root| root.symlink_metadata().is_ok());
        TaskLayout { root: in_memory.unwrap_or_else(|| self.tasks().join(name)) }
    }

    /// Returns the directory in which a shim waits for a task. It becomes the task's directory.
    #[must_use]
    pub fn spare(&self, shim: i32) -> TaskLayout {
        self.found(&format!("{SPARE}{shim}"))
    }

    /// Returns the directory in which a shim waits for a task, in this area; `None` if the area does not
    /// exist.
    #[must_use]
    pub fn spare_in(&self, area: Area, shim: i32) -> Option<TaskLayout> {
        Some(TaskLayout { root: self.tasks_in(area)?.join(format!("{SPARE}{shim}")) })
    }

    /// Returns the process id of the shim that waits in the directory with this name.
    #[must_use]
    pub fn shim_of_spare(name: &str) -> Option<i32> {
        name.strip_prefix(SPARE)?.parse().ok()
    }

    /// Returns the directory of a task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> TaskLayout {
        self.found(&id.to_string())
    }

    /// Returns the directory of a task in this area; `None` if the area does not exist.
    #[must_use]
    pub fn task_in(&self, area: Area, id: TaskId) -> Option<TaskLayout> {
        Some(TaskLayout { root: self.tasks_in(area)?.join(id.to_string()) })
    }
}

/// The directory of one task. A task is known if its directory exists.
#[derive(Clone, Debug)]
pub struct TaskLayout {
    root: PathBuf,
}

impl TaskLayout {
    /// Returns the directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the file with the record of the task and its command.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.root.join("record.json")
    }

    /// Returns the lock file that the task's shim holds while it runs.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Returns the socket of the task's shim. The name contains the version of its protocol.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("v1.sock")
    }

    /// Returns the file with the task's ending. It exists after the task has ended.
    #[must_use]
    pub fn ending(&self) -> PathBuf {
        self.root.join("ending.json")
    }

    /// Returns the temporary file to which the ending is written before it is renamed.
    #[must_use]
    pub fn unfinished_ending(&self) -> PathBuf {
        self.ending().with_extension("new")
    }

    /// Returns the spool directory with the task's output.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }
}
