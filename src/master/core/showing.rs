//! Answers questions that change nothing.

use super::{
    Core,
    messages::{ConnectionIdentity, Now, Reply, ReplyTo},
};
use crate::domain::{fingerprint::Fingerprint, name::AgentName};

impl Core {
    pub(super) fn show_tokens(&mut self, reply: ReplyTo, now: Now) {
        let good = self.good_tokens(now);
        self.reply(reply, Reply::Tokens(good));
    }

    pub(super) fn show_operators(&mut self, reply: ReplyTo) {
        let all = self.operators.values().cloned().collect();
        self.reply(reply, Reply::Operators(all));
    }

    pub(super) fn show_operator(&mut self, who: &ConnectionIdentity, reply: ReplyTo) {
        let found = self.identify(who);
        self.reply(reply, Reply::Identified(found));
    }

    pub(super) fn show_whether_enrolled(&mut self, name: &AgentName, key: Fingerprint, reply: ReplyTo) {
        let is_known = self.agents.get(name).is_some_and(|row| row.stored.fingerprint == key);
        self.reply(reply, Reply::Count(u32::from(is_known)));
    }

    pub(super) fn show_snapshot(&mut self, reply: ReplyTo, now: Now) {
        let snapshot = self.snapshot(now);
        self.reply(reply, Reply::Snapshot(snapshot));
    }

    pub(super) fn show_agents(&mut self, names: &[AgentName], reply: ReplyTo, now: Now) {
        let views = self.agent_views(names, now);
        self.reply(reply, Reply::Agents(views));
    }

    pub(super) fn show_waiting(&mut self, reply: ReplyTo, now: Now) {
        let views = self.waiting_views(now).collect();
        self.reply(reply, Reply::Agents(views));
    }

    /// `since` is the revision that was seen, that of the numbers of machines, and the last name of the part before.
    pub(super) fn show_fleet(&mut self, since: (u64, u64, Option<&AgentName>), reply: ReplyTo, now: Now) {
        let (seen, numbers_seen, behind) = since;
        let news = self.fleet_since(seen, numbers_seen, behind, now);
        self.reply(reply, Reply::Fleet(Box::new(news)));
    }

    pub(super) fn show_jobs(&mut self, seen: u64, reply: ReplyTo) {
        let news = self.jobs_since(seen);
        self.reply(reply, Reply::Jobs(news));
    }

    pub(super) fn show_status(&mut self, reply: ReplyTo) {
        let status = self.status();
        self.reply(reply, Reply::Status(status));
    }

    pub(super) fn show_ended_jobs(&mut self, agent: Option<&AgentName>, outcome: &str, reply: ReplyTo) {
        self.reply(reply, Reply::Ended(self.ended_jobs(agent, outcome)));
    }
}
