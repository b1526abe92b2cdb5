//! The jobs in memory, by id and by number.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
};

use super::LiveJob;
use crate::domain::ids::JobId;

/// The jobs that are in memory.
#[derive(Debug, Default)]
pub(in crate::master::core) struct LiveJobs {
    by_id: BTreeMap<JobId, LiveJob>,
    ids: HashMap<u64, JobId>,
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

    pub(in crate::master::core) fn values_mut(&mut self) -> impl Iterator<Item = &mut LiveJob> {
        self.by_id.values_mut()
    }

    /// The job with a number.
    pub(in crate::master::core) fn numbered(&self, number: u64) -> Option<&LiveJob> {
        self.by_id.get(self.ids.get(&number)?)
    }
}

impl Deref for LiveJobs {
    type Target = BTreeMap<JobId, LiveJob>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}
