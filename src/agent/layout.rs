//! What lies where in an agent's data directory. Knows no contents.

use std::path::{Path, PathBuf};

use crate::domain::ids::TaskId;

/// How the names of directories begin that are no task's yet.
const SPARE: &str = "spare-";

/// An agent's data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
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

    /// Where version 0.1.0 had that id.
    #[must_use]
    pub fn directory_id_of_0_1_0(&self) -> PathBuf {
        self.root.join("id")
    }

    /// Held by the keeper as long as it lives; holds its process id.
    #[must_use]
    pub fn keeper_lock(&self) -> PathBuf {
        self.root.join("keeper.lock")
    }

    /// Where the keeper listens.
    #[must_use]
    pub fn keeper_socket(&self) -> PathBuf {
        self.root.join("keeper.sock")
    }

    /// Held by the network half as long as it lives; holds its process id.
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

    /// Where a worker waits for a task: this directory becomes the task's.
    #[must_use]
    pub fn spare(&self, worker: i32) -> TaskLayout {
        TaskLayout { root: self.tasks().join(format!("{SPARE}{worker}")) }
    }

    /// The worker whose directory below [`Self::tasks`] has this name.
    #[must_use]
    pub fn worker_of_spare(name: &str) -> Option<i32> {
        name.strip_prefix(SPARE)?.parse().ok()
    }

    /// One task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> TaskLayout {
        TaskLayout { root: self.tasks().join(id.to_string()) }
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

    /// What was to be run, for whom.
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
