//! The paths in an agent's data directory. Knows nothing about the contents.

use std::path::{Path, PathBuf};

use super::emergency::Emergency;
use crate::domain::ids::TaskId;

/// How the names of directories begin that are no task's yet.
const SPARE: &str = "spare-";
/// The supervisor's socket.
pub const SUPERVISOR_SOCKET: &str = "keeper.sock";

/// An agent's data directory, and the directory that stands in for it while the disk takes nothing.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    emergency: Emergency,
    is_of_many: bool,
}

/// Where a task lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// In the data directory.
    Disk,
    /// In the emergency directory.
    Memory,
}

impl Area {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Disk => Self::Memory,
            Self::Memory => Self::Disk,
        }
    }
}

impl Layout {
    /// The layout below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { emergency: Emergency::of(&root), root, is_of_many: false }
    }

    /// The layout of an agent of many on this machine, which together must not take what each would hold in reserve.
    #[must_use]
    pub fn of_many(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { emergency: Emergency::below(None, &root), root, is_of_many: true }
    }

    /// Whether it is one of those.
    #[must_use]
    pub fn is_of_many(&self) -> bool {
        self.is_of_many
    }

    /// Returns this layout with its emergency directory below another directory.
    #[cfg(test)]
    #[must_use]
    pub fn with_emergency(root: impl Into<PathBuf>, base: PathBuf) -> Self {
        let root = root.into();
        Self { emergency: Emergency::below(Some(base), &root), root, is_of_many: false }
    }

    /// The directory that stands in for this one while the disk takes nothing.
    #[must_use]
    pub fn emergency(&self) -> &Emergency {
        &self.emergency
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The id of the tasks directory, half of an incarnation. It lies in the directory that it speaks of, so that nobody
    /// can remove the agent's memory of tasks and leave its id.
    #[must_use]
    pub fn directory_id(&self) -> PathBuf {
        self.tasks().join("id")
    }

    /// As above, for the emergency directory, if it exists.
    #[must_use]
    pub fn emergency_id(&self) -> Option<PathBuf> {
        self.tasks_in(Area::Memory).map(|tasks| tasks.join("id"))
    }

    /// Where version 0.1.0 had that id.
    #[must_use]
    pub fn directory_id_of_0_1_0(&self) -> PathBuf {
        self.root.join("id")
    }

    /// Held by the supervisor as long as it lives; holds its process id.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("keeper.lock")
    }

    /// Where the supervisor listens.
    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.root.join(SUPERVISOR_SOCKET)
    }

    /// Where it listens while the disk takes no socket.
    #[must_use]
    pub fn emergency_socket(&self) -> Option<PathBuf> {
        self.emergency.path().map(|path| path.join(SUPERVISOR_SOCKET))
    }

    /// Held by the connector as long as it lives; holds its process id.
    #[must_use]
    pub fn network_lock(&self) -> PathBuf {
        self.root.join("agent.pid")
    }

    /// Ids of tasks that must never be started (again): those that ended and were handed over, and those that the agent
    /// promised never to start.
    #[must_use]
    pub fn finished(&self) -> PathBuf {
        self.tasks().join("finished.log")
    }

    /// As above, for tasks that were recorded while the disk failed, if there are any.
    #[must_use]
    pub fn emergency_finished(&self) -> Option<PathBuf> {
        self.tasks_in(Area::Memory).map(|tasks| tasks.join("finished.log"))
    }

    /// Where version 0.1.0 had those ids.
    #[must_use]
    pub fn finished_of_0_1_0(&self) -> PathBuf {
        self.root.join("finished.log")
    }

    /// The highest revision of the master's store that was seen.
    #[must_use]
    pub fn seen_revision(&self) -> PathBuf {
        self.root.join("seen-revision")
    }

    /// The agent's key, certificate and the CA that it believes in.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The agent's memory of tasks: one directory for each task, and the files above.
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

    /// Returns the path of a name in the area where it exists, or else its path on the disk.
    fn found(&self, name: &str) -> TaskLayout {
        let in_memory = self.tasks_in(Area::Memory).map(|tasks| tasks.join(name));
        let in_memory = in_memory.filter(|root| root.symlink_metadata().is_ok());
        TaskLayout { root: in_memory.unwrap_or_else(|| self.tasks().join(name)) }
    }

    /// Where a shim waits for a task: this directory becomes the task's.
    #[must_use]
    pub fn spare(&self, shim: i32) -> TaskLayout {
        self.found(&format!("{SPARE}{shim}"))
    }

    /// The same in an area.
    #[must_use]
    pub fn spare_in(&self, area: Area, shim: i32) -> Option<TaskLayout> {
        Some(TaskLayout { root: self.tasks_in(area)?.join(format!("{SPARE}{shim}")) })
    }

    /// The shim whose directory below [`Self::tasks`] has this name.
    #[must_use]
    pub fn shim_of_spare(name: &str) -> Option<i32> {
        name.strip_prefix(SPARE)?.parse().ok()
    }

    /// One task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> TaskLayout {
        self.found(&id.to_string())
    }

    /// One task in an area.
    #[must_use]
    pub fn task_in(&self, area: Area, id: TaskId) -> Option<TaskLayout> {
        Some(TaskLayout { root: self.tasks_in(area)?.join(id.to_string()) })
    }
}

/// One task's directory. That it exists is what makes the task known.
#[derive(Clone, Debug)]
pub struct TaskLayout {
    root: PathBuf,
}

impl TaskLayout {
    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The command that was to be run, and its task.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.root.join("record.json")
    }

    /// Held by the task's process as long as it lives.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Where the task's process listens. The version is that of what is spoken there.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("v1.sock")
    }

    /// How it ended; there once it has.
    #[must_use]
    pub fn ending(&self) -> PathBuf {
        self.root.join("ending.json")
    }

    /// The same, before it is whole.
    #[must_use]
    pub fn unfinished_ending(&self) -> PathBuf {
        self.ending().with_extension("new")
    }

    /// What it printed.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }
}
