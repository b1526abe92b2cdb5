//! The jobs in memory, by id and by number, and which of them have changed in this step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
};

use super::{LiveJob, task::TaskRow};
use crate::domain::ids::{JobId, TaskId};

/// The jobs that are in memory.
#[derive(Debug, Default)]
pub(in crate::master::core) struct LiveJobs {
    by_id: BTreeMap<JobId, LiveJob>,
    ids: HashMap<u64, JobId>,
    /// Jobs that the core must process before the step ends.
    changed: BTreeSet<JobId>,
}

impl LiveJobs {
    pub(in crate::master::core) fn insert(&mut self, job: LiveJob) {
        self.ids.insert(job.job.number, job.job.id);
        self.by_id.insert(job.job.id, job);
    }

    pub(in crate::master::core) fn remove(&mut self, id: &JobId) -> Option<LiveJob> {
        let job = self.by_id.remove(id)?;
        self.ids.remove(&job.job.number);
        Some(job)
    }

    pub(in crate::master::core) fn get_mut(&mut self, id: &JobId) -> Option<&mut LiveJob> {
        self.by_id.get_mut(id)
    }

    /// Returns the job with a number.
    pub(in crate::master::core) fn numbered(&self, number: u64) -> Option<&LiveJob> {
        self.by_id.get(self.ids.get(&number)?)
    }

    /// Returns a task of a live job.
    pub(super) fn row(&self, id: TaskId) -> Option<&TaskRow> {
        self.get(&id.job)?.row(id.index)
    }

    /// Returns a task of a live job, unless it has an outcome.
    pub(super) fn open_row(&self, id: TaskId) -> Option<&TaskRow> {
        self.row(id).filter(|row| row.is_open())
    }

    /// Changes a task of a live job.
    pub(super) fn change<R>(&mut self, id: TaskId, change: impl FnOnce(&mut TaskRow) -> R) -> Option<R> {
        self.get_mut(&id.job)?.change(id.index, change)
    }

    /// Changes a task of a live job, unless it has an outcome.
    pub(super) fn change_open<R>(&mut self, id: TaskId, change: impl FnOnce(&mut TaskRow) -> R) -> Option<R> {
        self.open_row(id)?;
        self.change(id, change)
    }

    /// Marks a job as changed: the core processes it before the step ends.
    pub(super) fn mark_changed(&mut self, id: JobId) {
        self.changed.insert(id);
    }

    /// Takes a job that the core must process.
    pub(super) fn take_changed(&mut self) -> Option<JobId> {
        self.changed.pop_first()
    }
}

impl Deref for LiveJobs {
    type Target = BTreeMap<JobId, LiveJob>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}
