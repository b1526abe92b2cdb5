//! What watchers of the registry and of runs are told. Decides nothing.

use std::collections::VecDeque;

use super::{
    Core,
    messages::{Effect, Now},
    runs::LiveRun,
    views::{AgentView, FleetNews, RunsNews},
};
use crate::domain::{
    agent::AgentState,
    ids::RunId,
    name::AgentName,
    run::{LastRun, Run},
};

/// Runs that have ended, or were deleted, are remembered for watchers, so many of them.
const REMEMBERED: usize = 256;

/// What becomes of a run that is no longer live.
#[derive(Debug)]
enum Past {
    Ended(Box<Run>),
    Deleted(RunId),
}

/// Runs that have ended or were deleted, by the revision at which they did.
#[derive(Debug, Default)]
pub(super) struct PastRuns {
    runs: VecDeque<(u64, Past)>,
    /// What happened before this revision is no longer remembered.
    remembers_since: u64,
}

impl PastRuns {
    fn push(&mut self, revision: u64, past: Past) {
        self.runs.push_back((revision, past));
        if self.runs.len() > REMEMBERED {
            self.remembers_since = self.runs.pop_front().map_or(0, |(past, _)| past);
        }
    }
}

/// Agents that watchers are told of in one step.
const TOLD_AT_ONCE: usize = 200;

impl Core {
    /// Counts changes of all that is watched.
    #[must_use]
    pub fn watched_revision(&self) -> u64 {
        self.agents.revision()
    }

    /// Marks the runs and agents that a step's effects tell of.
    pub(super) fn mark_watched(&mut self) {
        let effects = std::mem::take(&mut self.effects);
        for effect in &effects {
            match effect {
                Effect::Publish(id, task) => {
                    self.mark_run(*id);
                    self.mark_last_run(*id, &task.agent, LastRun::new(task));
                }
                Effect::PublishGate(id, _) => self.mark_run(*id),
                _ => {}
            }
        }
        self.effects = effects;
    }

    /// Marks a run as changed.
    pub(super) fn mark_run(&mut self, id: RunId) {
        let revision = self.agents.next_revision();
        if let Some(run) = self.runs.get_mut(&id) {
            run.changed = revision;
        }
    }

    /// Remembers a run that has ended, for watchers that have not looked since.
    pub(super) fn mark_ended(&mut self, id: RunId) {
        let revision = self.agents.next_revision();
        if let Some(run) = self.runs.get_mut(&id) {
            run.changed = revision;
            let summary = run.summary();
            self.past.push(revision, Past::Ended(Box::new(summary)));
        }
    }

    /// Remembers that a run was deleted, for watchers that still show it.
    pub(super) fn mark_deleted(&mut self, id: RunId) {
        let revision = self.agents.next_revision();
        self.past.push(revision, Past::Deleted(id));
    }

    /// Notes what an agent did last, unless it does something newer.
    fn mark_last_run(&mut self, id: RunId, agent: &AgentName, last: LastRun) {
        let Some(run) = self.runs.get(&id) else { return };
        let (number, operator) = (run.number(), run.operator().to_owned());
        let known = self.agents.get(agent).and_then(|row| row.last_run.as_ref());
        if known.is_some_and(|known| known.number > number) {
            return;
        }
        if let Some(row) = self.agents.change(agent) {
            row.last_run = Some(LastRun { number, operator: operator.into(), ..last });
        }
    }

    /// Notes the last runs of all tasks of a run that has just begun.
    pub(super) fn mark_begun(&mut self, id: RunId) {
        self.mark_run(id);
        let Some(run) = self.runs.get(&id) else { return };
        let tasks: Vec<(AgentName, LastRun)> =
            run.tasks().map(|task| (task.agent.clone(), LastRun::new(task))).collect();
        for (agent, last) in tasks {
            self.mark_last_run(id, &agent, last);
        }
    }

    /// Marks agents whose state is another one only because time has passed.
    pub(super) fn mark_late(&mut self, now: Now) {
        let is_other =
            |name: &&AgentName| self.agents.get(*name).is_some_and(|row| row.shown != row.state(now));
        let other: Vec<AgentName> = self.agents.keys().filter(is_other).cloned().collect();
        for name in other {
            if let Some(row) = self.agents.change(&name) {
                row.shown = row.state(now);
            }
        }
    }

    /// What changed in the registry since a revision; everything for 0, or where that is no longer known.
    ///
    /// Told in parts by name: where there is more, ask again with the same revisions and the last name.
    pub(super) fn fleet_since(
        &self,
        seen: u64,
        numbers_seen: u64,
        behind: Option<&AgentName>,
        now: Now,
    ) -> FleetNews {
        let gone = if seen == 0 { None } else { self.agents.gone_since(seen) };
        // When they asked last is a number, too.
        let is_due = gone.is_none() || self.waiting_changed > seen || numbers_seen != u64::MAX;
        let tells_waiting = behind.is_none() && is_due;
        let (seen, numbers_seen) = if gone.is_some() { (seen, numbers_seen) } else { (0, 0) };
        let mut changed = self.agents.changed_since(seen, numbers_seen, behind).peekable();
        let part = changed.by_ref().take(TOLD_AT_ONCE);
        let agents: Vec<AgentView> = part.map(|(name, row)| Self::agent_view(name, row, now)).collect();
        let goes_on = changed.peek().is_some();
        FleetNews {
            revision: self.agents.revision(),
            is_whole: gone.is_none(),
            more_behind: agents.last().filter(|_| goes_on).map(|last| last.name.clone()),
            agents,
            gone: gone.filter(|_| behind.is_none()).unwrap_or_default(),
            waiting: tells_waiting.then(|| self.waiting_views().collect()),
        }
    }

    /// Live runs that changed since a revision, and those that have ended or were deleted since then.
    pub(super) fn runs_since(&self, seen: u64) -> RunsNews {
        let live = self.runs.values().filter(|run| run.changed > seen && run.begun()).map(LiveRun::summary);
        let mut runs: Vec<Run> = live.collect();
        let mut deleted = Vec::new();
        for (_, past) in self.past.runs.iter().filter(|(revision, _)| *revision > seen) {
            match past {
                Past::Ended(run) => runs.push(Run::clone(run)),
                Past::Deleted(id) => deleted.push(*id),
            }
        }
        runs.retain(|run| !deleted.contains(&run.id));
        let is_complete = seen >= self.past.remembers_since;
        RunsNews { revision: self.agents.revision(), is_complete, runs, deleted }
    }
}

/// The state that a row is shown with before anybody has looked.
pub(super) const UNSEEN: AgentState = AgentState::Offline;
