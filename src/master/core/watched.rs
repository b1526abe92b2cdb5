//! The updates for watchers of the registry and of jobs. Makes no decisions.

use std::collections::VecDeque;

use super::{
    Core,
    jobs::LiveJob,
    messages::{Effect, Now},
    views::{FleetUpdate, JobsUpdate},
};
use crate::domain::{
    agent::{AgentState, AgentView},
    ids::JobId,
    job::{Job, LastJob},
    name::AgentName,
};

/// Maximum number of ended or deleted jobs that are remembered for watchers.
const MAX_REMEMBERED_JOBS: usize = 256;

/// A job that is no longer live.
#[derive(Debug)]
enum Past {
    Ended(Box<Job>),
    Deleted(JobId),
}

/// Jobs that have ended or were deleted, by the revision at which they did.
#[derive(Debug, Default)]
pub(super) struct PastJobs {
    jobs: VecDeque<(u64, Past)>,
    /// Changes up to this revision are no longer remembered.
    remembers_since: u64,
}

impl PastJobs {
    fn push(&mut self, revision: u64, past: Past) {
        self.jobs.push_back((revision, past));
        if self.jobs.len() > MAX_REMEMBERED_JOBS {
            self.remembers_since = self.jobs.pop_front().map_or(0, |(past, _)| past);
        }
    }
}

/// Maximum number of agents in one part of an update.
const AGENTS_PER_UPDATE: usize = 200;

impl Core {
    /// Returns the revision of all that is watched. It increases with each change.
    #[must_use]
    pub fn watched_revision(&self) -> u64 {
        self.agents.revision()
    }

    /// Marks the jobs and agents that a step's effects report as changed.
    pub(super) fn mark_watched(&mut self) {
        let effects = std::mem::take(&mut self.effects);
        for effect in &effects {
            match effect {
                Effect::Publish(id, task) => {
                    self.mark_job(*id);
                    self.mark_last_job(*id, &task.agent, LastJob::new(task));
                }
                Effect::PublishGate(id, _) => self.mark_job(*id),
                _ => {}
            }
        }
        self.effects = effects;
    }

    /// Marks a job as changed.
    pub(super) fn mark_job(&mut self, id: JobId) {
        let revision = self.agents.next_revision();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.changed = revision;
        }
    }

    /// Remembers a job that has ended, for watchers that have not asked since.
    pub(super) fn mark_ended(&mut self, id: JobId) {
        let revision = self.agents.next_revision();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.changed = revision;
            let summary = job.summary();
            self.past.push(revision, Past::Ended(Box::new(summary)));
        }
    }

    /// Remembers that a job was deleted, for watchers that still show it.
    pub(super) fn mark_deleted(&mut self, id: JobId) {
        let revision = self.agents.next_revision();
        self.past.push(revision, Past::Deleted(id));
    }

    /// Records the last job of an agent, unless the agent has a newer one.
    fn mark_last_job(&mut self, id: JobId, agent: &AgentName, last: LastJob) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (number, operator) = (job.number(), job.operator().to_owned());
        let known = self.agents.get(agent).and_then(|row| row.last_job.as_ref());
        if known.is_some_and(|known| known.number > number) {
            return;
        }
        if let Some(row) = self.agents.change(agent) {
            row.last_job = Some(LastJob { number, operator: operator.into(), ..last });
        }
    }

    /// Records a job that has just begun as the last job of its agents.
    pub(super) fn mark_begun(&mut self, id: JobId) {
        self.mark_job(id);
        let Some(job) = self.jobs.get(&id) else { return };
        let tasks: Vec<(AgentName, LastJob)> =
            job.tasks().map(|task| (task.agent.clone(), LastJob::new(task))).collect();
        for (agent, last) in tasks {
            self.mark_last_job(id, &agent, last);
        }
    }

    /// Marks agents whose state has changed because time has passed.
    pub(super) fn mark_state_changes(&mut self, now: Now) {
        let is_other =
            |name: &&AgentName| self.agents.get(*name).is_some_and(|row| row.shown != row.state(now));
        let other: Vec<AgentName> = self.agents.keys().filter(is_other).cloned().collect();
        for name in other {
            if let Some(row) = self.agents.change(&name) {
                row.shown = row.state(now);
            }
        }
    }

    /// Returns what changed in the registry since a revision; everything for 0, or if the changes are no
    /// longer known.
    ///
    /// The update comes in parts, in the order of names: for more, ask with the same revisions and the last
    /// name.
    pub(super) fn fleet_since(
        &self,
        seen: u64,
        numbers_seen: u64,
        behind: Option<&AgentName>,
        now: Now,
    ) -> FleetUpdate {
        let gone = if seen == 0 { None } else { self.agents.deleted_since(seen) };
        // The time when a pending key last asked is one of the numbers, too.
        let is_due = gone.is_none() || self.waiting_changed > seen || numbers_seen != u64::MAX;
        let tells_waiting = behind.is_none() && is_due;
        let (seen, numbers_seen) = if gone.is_some() { (seen, numbers_seen) } else { (0, 0) };
        let mut changed = self.agents.changed_since(seen, numbers_seen, behind).peekable();
        let part = changed.by_ref().take(AGENTS_PER_UPDATE);
        let agents: Vec<AgentView> = part.map(|(name, row)| Self::agent_view(name, row, now)).collect();
        let continues = changed.peek().is_some();
        FleetUpdate {
            revision: self.agents.revision(),
            is_whole: gone.is_none(),
            more_behind: agents.last().filter(|_| continues).map(|last| last.name.clone()),
            agents,
            deleted: gone.filter(|_| behind.is_none()).unwrap_or_default(),
            waiting: tells_waiting.then(|| self.pending_views(now).collect()),
        }
    }

    /// Returns the live jobs that changed since a revision, and those that have ended or were deleted since
    /// then.
    pub(super) fn jobs_since(&self, seen: u64) -> JobsUpdate {
        let live =
            self.jobs.values().filter(|job| job.changed > seen && job.has_begun()).map(LiveJob::summary);
        let mut jobs: Vec<Job> = live.collect();
        let mut deleted = Vec::new();
        for (_, past) in self.past.jobs.iter().filter(|(revision, _)| *revision > seen) {
            match past {
                Past::Ended(job) => jobs.push(Job::clone(job)),
                Past::Deleted(id) => deleted.push(*id),
            }
        }
        jobs.retain(|job| !deleted.contains(&job.id));
        let is_complete = seen >= self.past.remembers_since;
        JobsUpdate { revision: self.agents.revision(), is_complete, jobs, deleted }
    }
}

/// The state of a new row until [`Core::mark_state_changes`] first compares it.
pub(super) const INITIAL_STATE: AgentState = AgentState::Offline;
