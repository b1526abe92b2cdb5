//! Answers queries, which change nothing.

use std::sync::Arc;

use super::{
    AgentRow, Core,
    messages::{ConnectionIdentity, EndedJob, Now, Principal, ReplyTo, Snapshot},
    registry::Marked,
    snapshot::Known,
    stored::{StoredOperator, StoredToken},
    views::{FleetUpdate, JobsUpdate, StatusView},
};
use crate::domain::{agent::AgentView, fingerprint::Fingerprint, name::AgentName};

impl Core {
    pub(super) fn snapshot(&self, now: Now) -> Snapshot {
        let known = |(name, row): (&AgentName, &Marked)| {
            let row: &AgentRow = row;
            Known {
                name: name.clone(),
                labels: Arc::clone(&row.labels),
                proposed: row.proposed.clone(),
                state: row.state(now),
                link: row.session.as_ref().map(|session| session.link),
            }
        };
        Snapshot {
            agents: self.agents.iter().map(known).collect(),
            waiting: self.waiting.iter().map(|key| key.name.clone()).collect(),
            age: now.monotonic,
        }
    }

    pub(super) fn show_tokens(&mut self, reply: ReplyTo<Vec<StoredToken>>, now: Now) {
        let good = self.good_tokens(now);
        self.reply(reply, good);
    }

    pub(super) fn show_operators(&mut self, reply: ReplyTo<Vec<StoredOperator>>) {
        let all = self.operators.values().cloned().collect();
        self.reply(reply, all);
    }

    pub(super) fn show_operator(&mut self, who: &ConnectionIdentity, reply: ReplyTo<Option<Principal>>) {
        let found = self.identify(who);
        self.reply(reply, found);
    }

    pub(super) fn show_enrollment(&mut self, name: &AgentName, key: Fingerprint, reply: ReplyTo<bool>) {
        let is_known = self.agents.get(name).is_some_and(|row| row.stored.fingerprint == key);
        self.reply(reply, is_known);
    }

    pub(super) fn show_snapshot(&mut self, reply: ReplyTo<Snapshot>, now: Now) {
        let snapshot = self.snapshot(now);
        self.reply(reply, snapshot);
    }

    pub(super) fn show_agents(&mut self, names: &[AgentName], reply: ReplyTo<Vec<AgentView>>, now: Now) {
        let views = self.agent_views(names, now);
        self.reply(reply, views);
    }

    pub(super) fn show_waiting(&mut self, reply: ReplyTo<Vec<AgentView>>, now: Now) {
        let views = self.pending_views(now).collect();
        self.reply(reply, views);
    }

    /// Answers with changes of the registry. `since` is the revision that was seen, the revision up to which
    /// facts were seen, and the last name of the previous part.
    pub(super) fn show_fleet(
        &mut self,
        since: (u64, u64, Option<&AgentName>),
        reply: ReplyTo<Box<FleetUpdate>>,
        now: Now,
    ) {
        let (seen, numbers_seen, behind) = since;
        let news = self.fleet_since(seen, numbers_seen, behind, now);
        self.reply(reply, Box::new(news));
    }

    pub(super) fn show_jobs(&mut self, seen: u64, reply: ReplyTo<JobsUpdate>) {
        let news = self.jobs_since(seen);
        self.reply(reply, news);
    }

    pub(super) fn show_status(&mut self, reply: ReplyTo<Box<StatusView>>) {
        let status = self.status();
        self.reply(reply, Box::new(status));
    }

    pub(super) fn show_ended_jobs(
        &mut self,
        agent: Option<&AgentName>,
        outcome: &str,
        reply: ReplyTo<Vec<EndedJob>>,
    ) {
        self.reply(reply, self.ended_jobs(agent, outcome));
    }
}
