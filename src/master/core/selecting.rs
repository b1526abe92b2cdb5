//! Whom a selection means, what is wrong with it, and the labels that operators set.

use std::collections::BTreeSet;

use super::{
    AgentRow, Core, Parked, audit,
    messages::{Effect, Now, Reply, ReplyTo},
    registry::Marked,
    runs::PendingOrder,
    stored::Write,
};
use crate::domain::{
    agent::{AgentState, Drain},
    bounded::Reason,
    name::{AgentName, LabelChange, nearest},
    target::{Candidate, fold::fold, selection::Selection},
};

/// Labels that a message names at most.
const LABELS_SHOWN: usize = 8;

impl AgentRow {
    /// Its state. A machine that is drained and well is draining; what is wrong with one is said first.
    pub(super) fn state(&self, now: Now) -> AgentState {
        let Some(session) = &self.session else { return AgentState::Offline };
        match AgentState::of_silence(now.monotonic.saturating_sub(session.heard)) {
            AgentState::Active if self.stored.drain.is_some() => AgentState::Draining,
            state => state,
        }
    }
}

impl Core {
    /// The agents that a selection means; at least one.
    ///
    /// # Errors
    /// The answer that the caller gets instead.
    pub(super) fn select(
        &self,
        selection: &Selection,
        at_once: bool,
        now: Now,
    ) -> Result<BTreeSet<AgentName>, Reply> {
        if selection.asks_for_state() && Self::is_fresh(now) && !at_once {
            let text = format!(
                "the master started {} s ago, and agents are still coming back: targets by state or link are taken after a minute, or with --now",
                now.monotonic.as_secs()
            );
            return Err(Reply::Refused(text));
        }
        let agents = self.matching(selection, now)?;
        if agents.is_empty() {
            return Err(Reply::NotFound(self.nothing_matches(selection)));
        }
        Ok(agents)
    }

    /// The agents that a selection means, none perhaps.
    fn matching(&self, selection: &Selection, now: Now) -> Result<BTreeSet<AgentName>, Reply> {
        let candidate = |(name, row): (&AgentName, &Marked)| (name.clone(), row.state(now));
        let states: Vec<(AgentName, AgentState)> = self.agents.iter().map(candidate).collect();
        let candidates: Vec<Candidate<'_>> = self
            .agents
            .values()
            .zip(&states)
            .map(|(row, (name, state))| Candidate {
                name,
                labels: &row.labels,
                state: *state,
                direct: row.session.as_ref().map(|session| session.direct),
            })
            .collect();
        let matched = selection.evaluate(&candidates);
        match matched.unknown.first() {
            None => Ok(matched.agents),
            Some(_) => Err(Reply::NotFound(self.unknown_agents(&matched.unknown))),
        }
    }

    fn unknown_agents(&self, unknown: &BTreeSet<AgentName>) -> String {
        if let ([name], _) | ([name, ..], true) =
            (unknown.iter().collect::<Vec<_>>().as_slice(), unknown.len() == 1)
        {
            return if self.waiting.iter().any(|key| key.name == **name) {
                format!("{name} is pending: its key waits for `sloth-runner agent approve {name}`")
            } else {
                self.no_such_agent(name)
            };
        }
        let folded = fold(unknown.iter().map(AgentName::as_str));
        format!("there are no agents {folded}; `sloth-runner agent list` shows all")
    }

    fn nothing_matches(&self, selection: &Selection) -> String {
        let labels: BTreeSet<String> = self
            .agents
            .values()
            .flat_map(|row| row.labels.iter().map(|(key, value)| format!("{key}={value}")))
            .collect();
        let asks_for_labels = selection.selector.is_some() || selection.target.labels().next().is_some();
        if !asks_for_labels || labels.is_empty() {
            let count = self.agents.len();
            return format!("no agent matches {selection}; `sloth-runner agent list` shows all {count}");
        }
        let wanted = selection.target.labels().next().unwrap_or_default().replacen(':', "=", 1);
        let near = nearest(&wanted, labels.iter().map(String::as_str));
        if !near.is_empty() {
            return format!("no agent matches {selection}; did you mean the label {}?", near.join(" or "));
        }
        let shown: Vec<&str> = labels.iter().map(String::as_str).take(LABELS_SHOWN).collect();
        let more = if labels.len() > LABELS_SHOWN { ", …" } else { "" };
        format!("no agent matches {selection}; labels are {}{more}", shown.join(", "))
    }

    pub(super) fn list_agents(&self, selection: Option<&Selection>, now: Now) -> Reply {
        // A list shows what is known, just after a start too: its states say that agents are not back yet.
        match selection.map(|selection| self.select(selection, true, now)).transpose() {
            Ok(wanted) => Reply::Agents(self.agent_views(wanted.as_ref(), now)),
            Err(answer) => answer,
        }
    }

    /// Lets agents take no new tasks, for a reason, or take them again.
    pub(super) fn on_drain(
        &mut self,
        selection: &Selection,
        at_once: bool,
        reason: Option<String>,
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        let names = match self.select(selection, at_once, now) {
            Ok(names) => names,
            Err(answer) => return self.reply(reply, answer),
        };
        let drain =
            reason.map(|reason| Drain { reason: reason.into(), by: by.into(), since_ms: now.unix_ms });
        let (mut agents, mut unchanged, mut writes, mut running) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut waits_for = BTreeSet::new();
        for name in names {
            if drain.is_some() {
                running += self.tasks_on(&name);
                waits_for.append(&mut self.starting_on(&name, now));
            }
            if self.agents.get(&name).is_some_and(|row| row.stored.drain.is_some() == drain.is_some()) {
                unchanged.push(name);
                continue;
            }
            let Some(row) = self.agents.change(&name) else { continue };
            row.stored.drain.clone_from(&drain);
            writes.push(Write::PutAgent(row.stored.clone()));
            agents.push(name);
        }
        let (action, said) = match drain {
            Some(drain) => ("drain", drain.reason),
            None => ("resume", Reason::default()),
        };
        writes.push(audit(now, by, action, &fold(agents.iter().map(AgentName::as_str)), said));
        self.effects.extend(waits_for.iter().map(|id| Effect::WithdrawStart(*id)));
        let answer = Reply::Drained { agents, unchanged, running };
        let order = PendingOrder::new(reply, answer, waits_for, now);
        self.persist(writes, Parked::Ordered(Box::new(order)));
    }

    pub(super) fn on_label(
        &mut self,
        selection: &Selection,
        at_once: bool,
        changes: &[LabelChange],
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        let names = match self.select(selection, at_once, now) {
            Ok(names) => names,
            Err(answer) => return self.reply(reply, answer),
        };
        let mut writes = Vec::new();
        let mut still_brought = Vec::new();
        for name in &names {
            let Some(row) = self.agents.change(name) else { continue };
            for change in changes {
                change.apply(&mut row.stored.set_labels);
            }
            row.merge_labels();
            let is_brought = |change: &LabelChange| match change {
                LabelChange::Remove(key) => row.labels.contains_key(key),
                LabelChange::Set(_) => false,
            };
            if changes.iter().any(is_brought) {
                still_brought.push(name.clone());
            }
            writes.push(Write::PutAgent(row.stored.clone()));
        }
        let said = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        writes.push(audit(now, by, "label", &fold(names.iter().map(AgentName::as_str)), said));
        let answer = Reply::Labelled { agents: names.into_iter().collect(), still_brought };
        self.persist(writes, Parked::Reply(reply, Box::new(answer)));
    }
}
