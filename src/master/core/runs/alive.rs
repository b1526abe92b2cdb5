//! The runs in memory, found by their id or by their number.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
};

use super::LiveRun;
use crate::domain::ids::RunId;

/// The runs that are in memory.
#[derive(Debug, Default)]
pub(in crate::master::core) struct LiveRuns {
    by_id: BTreeMap<RunId, LiveRun>,
    ids: HashMap<u64, RunId>,
}

impl LiveRuns {
    pub(in crate::master::core) fn insert(&mut self, run: LiveRun) {
        self.ids.insert(run.run.number, run.run.id);
        self.by_id.insert(run.run.id, run);
    }

    pub(in crate::master::core) fn remove(&mut self, id: &RunId) -> Option<LiveRun> {
        let run = self.by_id.remove(id)?;
        self.ids.remove(&run.run.number);
        Some(run)
    }

    pub(in crate::master::core) fn get_mut(&mut self, id: &RunId) -> Option<&mut LiveRun> {
        self.by_id.get_mut(id)
    }

    pub(in crate::master::core) fn values_mut(&mut self) -> impl Iterator<Item = &mut LiveRun> {
        self.by_id.values_mut()
    }

    /// The run with a number.
    pub(in crate::master::core) fn numbered(&self, number: u64) -> Option<&LiveRun> {
        self.by_id.get(self.ids.get(&number)?)
    }
}

impl Deref for LiveRuns {
    type Target = BTreeMap<RunId, LiveRun>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}
