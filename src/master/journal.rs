//! Publishes the newest state of a live job's tasks and gate to its followers, and the end of the job.
//!
//! Its size is bounded by the number of tasks: a follower that falls behind receives the newest states, and
//! not every intermediate one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::domain::{job::Task, plan::Gate, time::UnixMs};

#[derive(Debug, Default)]
struct Tasks {
    newest: HashMap<u32, (u64, Task)>,
    order: BTreeMap<u64, u32>,
    gate: Option<(u64, Gate)>,
    ended_ms: Option<UnixMs>,
}

/// A job's journal: one writer, any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    tasks: Mutex<Tasks>,
    changes: watch::Sender<u64>,
}

/// The changes since a reader's last call of [`Journal::since`].
#[derive(Debug)]
pub(crate) struct Changes {
    /// The argument for the next call.
    pub seen: u64,
    /// Tasks that changed, in the order of their last change.
    pub tasks: Vec<Task>,
    /// The job's gate, if it has changed.
    pub gate: Option<Gate>,
    /// When the job ended, in milliseconds since the Unix epoch; `None` if it has not.
    pub ended_ms: Option<UnixMs>,
}

impl Journal {
    fn change(&self, change: impl FnOnce(&mut Tasks, u64)) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *self.changes.borrow() + 1;
        change(&mut tasks, next);
        self.changes.send_replace(next);
    }

    /// Records a task's new state.
    pub(crate) fn put(&self, task: Task) {
        self.change(|tasks, next| {
            tasks.order.insert(next, task.index);
            if let Some((before, _)) = tasks.newest.insert(task.index, (next, task)) {
                tasks.order.remove(&before);
            }
        });
    }

    /// Records the job's new gate.
    pub(crate) fn put_gate(&self, gate: Gate) {
        self.change(|tasks, next| tasks.gate = Some((next, gate)));
    }

    /// Records the job's end.
    pub(crate) fn end(&self, ended_ms: UnixMs) {
        self.change(|tasks, _| tasks.ended_ms = Some(ended_ms));
    }

    /// Returns a receiver that is notified of each change.
    #[must_use]
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns the changes after `seen`; all of them for 0.
    #[must_use]
    pub(crate) fn since(&self, seen: u64) -> Changes {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = tasks.order.range(seen + 1..).filter_map(|(_, index)| tasks.newest.get(index));
        Changes {
            seen: *self.changes.borrow(),
            tasks: changed.map(|(_, task)| task.clone()).collect(),
            gate: tasks.gate.as_ref().filter(|(changed, _)| *changed > seen).map(|(_, gate)| gate.clone()),
            ended_ms: tasks.ended_ms,
        }
    }
}
