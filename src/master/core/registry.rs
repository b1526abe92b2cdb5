//! The registry in memory, and what has changed since a revision. Changing a row marks it, so that every watcher sees the change.
//! Makes no decisions.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Bound, Deref},
};

use super::AgentRow;
use crate::domain::name::AgentName;

/// Maximum number of deleted agents that are remembered for watchers.
const MAX_REMEMBERED_DELETIONS: usize = 1_000;

/// The agents, by name.
#[derive(Debug, Default)]
pub(super) struct Registry {
    rows: BTreeMap<AgentName, Marked>,
    revision: u64,
    gone: VecDeque<(u64, AgentName)>,
    /// Deletions up to this revision are no longer remembered.
    remembers_since: u64,
}

/// A row, and when it changed.
#[derive(Debug)]
pub(super) struct Marked {
    row: AgentRow,
    /// The revision of its last change.
    changed: u64,
    /// The revision of its last report of facts.
    told: u64,
}

impl Deref for Marked {
    type Target = AgentRow;

    fn deref(&self) -> &AgentRow {
        &self.row
    }
}

impl Registry {
    pub(super) fn new(rows: impl IntoIterator<Item = AgentRow>) -> Self {
        let mut registry = Self::default();
        for row in rows {
            registry.insert(row);
        }
        registry
    }

    /// Counts one more change of anything that is watched.
    pub(super) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns a row that is about to change, and marks it as changed.
    pub(super) fn change(&mut self, name: &AgentName) -> Option<&mut AgentRow> {
        let revision = self.next_revision();
        let marked = self.rows.get_mut(name)?;
        marked.changed = revision;
        Some(&mut marked.row)
    }

    /// Returns a row without marking it, for changes that watchers do not see: heartbeats, second
    /// connections.
    pub(super) fn get_mut_unmarked(&mut self, name: &AgentName) -> Option<&mut AgentRow> {
        self.rows.get_mut(name).map(|marked| &mut marked.row)
    }

    /// Returns a row whose agent has reported facts, and marks its facts as changed.
    pub(super) fn tell(&mut self, name: &AgentName) -> Option<&mut AgentRow> {
        let revision = self.next_revision();
        let marked = self.rows.get_mut(name)?;
        marked.told = revision;
        Some(&mut marked.row)
    }

    pub(super) fn iter_mut_unmarked(&mut self) -> impl Iterator<Item = &mut AgentRow> {
        self.rows.values_mut().map(|marked| &mut marked.row)
    }

    pub(super) fn insert(&mut self, row: AgentRow) {
        let changed = self.next_revision();
        self.rows.insert(row.stored.name.clone(), Marked { row, changed, told: changed });
    }

    pub(super) fn remove(&mut self, name: &AgentName) {
        if self.rows.remove(name).is_none() {
            return;
        }
        let revision = self.next_revision();
        self.gone.push_back((revision, name.clone()));
        if self.gone.len() > MAX_REMEMBERED_DELETIONS {
            self.remembers_since = self.gone.pop_front().map_or(0, |(gone, _)| gone);
        }
    }

    /// Returns the rows after the name `behind` that changed after `seen`, or whose facts changed after
    /// `numbers_seen`.
    pub(super) fn changed_since(
        &self,
        seen: u64,
        numbers_seen: u64,
        behind: Option<&AgentName>,
    ) -> impl Iterator<Item = (&AgentName, &AgentRow)> {
        let is_new = move |marked: &Marked| marked.changed > seen || marked.told > numbers_seen;
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.range::<AgentName, _>((from, Bound::Unbounded));
        rows.filter(move |(_, marked)| is_new(marked)).map(|(name, marked)| (name, &marked.row))
    }

    /// Returns the agents that were deleted after a revision; `None` if that is no longer known.
    pub(super) fn deleted_since(&self, seen: u64) -> Option<Vec<AgentName>> {
        let gone = self.gone.iter().filter(|(revision, _)| *revision > seen).map(|(_, name)| name.clone());
        (seen >= self.remembers_since).then(|| gone.collect())
    }
}

impl Deref for Registry {
    type Target = BTreeMap<AgentName, Marked>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}
