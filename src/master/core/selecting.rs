//! Commands for a selection of agents: drains, and labels set by operators.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AgentRow, Continuation, Core, audit,
    jobs::PendingOrder,
    messages::{AcceptedProposals, Choice, Denied, Effect, LabelledAgents, Now, ReplyTo},
    stored::Write,
};
use crate::domain::{
    agent::{AgentState, Drain},
    bounded::Reason,
    control::Drained,
    name::{AgentName, LabelChange},
    proposal::Proposal,
    target::fold::fold,
};

impl AgentRow {
    /// Returns the agent's state. A drained agent is `Draining` only while it is active: late and offline
    /// come first.
    pub(super) fn state(&self, now: Now) -> AgentState {
        let Some(session) = &self.session else { return AgentState::Offline };
        match AgentState::of_silence(now.monotonic.saturating_sub(session.heard)) {
            AgentState::Active if self.stored.drain.is_some() => AgentState::Draining,
            state => state,
        }
    }
}

impl Core {
    /// Returns the chosen agents that still exist, at least one.
    ///
    /// # Errors
    /// The reply to the caller if there are none.
    pub(super) fn chosen(&self, choice: &Choice) -> Result<BTreeSet<AgentName>, Denied> {
        let names = choice.agents.as_ref().map_err(Denied::clone)?;
        let there: BTreeSet<AgentName> =
            names.iter().filter(|name| self.agents.contains_key(name)).cloned().collect();
        match (&choice.plain_name, there.is_empty()) {
            (_, false) => Ok(there),
            (Some(name), true) => Err(Denied::NotFound(self.no_such_agent(name))),
            (None, true) => {
                Err(Denied::NotFound(format!("no agent that matches {} is still there", choice.target)))
            }
        }
    }

    /// Drains agents for a reason, or resumes them if there is none.
    pub(super) fn on_drain(
        &mut self,
        choice: &Choice,
        reason: Option<String>,
        by: &str,
        reply: ReplyTo<Result<Drained, Denied>>,
        now: Now,
    ) {
        let names = match self.chosen(choice) {
            Ok(names) => names,
            Err(denied) => return self.reply(reply, Err(denied)),
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
        let answer = Drained { agents, unchanged, running };
        let order = PendingOrder::new(reply, Ok(answer), waits_for, now);
        self.persist(writes, Continuation::Ordered(Box::new(order)));
    }

    pub(super) fn on_label(
        &mut self,
        choice: &Choice,
        changes: &[LabelChange],
        by: &str,
        reply: ReplyTo<Result<LabelledAgents, Denied>>,
        now: Now,
    ) {
        let names = match self.chosen(choice) {
            Ok(names) => names,
            Err(denied) => return self.reply(reply, Err(denied)),
        };
        let mut writes = Vec::new();
        let mut still_reported = Vec::new();
        for name in &names {
            let Some(row) = self.agents.change(name) else { continue };
            for change in changes {
                // A label that an operator set is removed first. The agent's own value is in effect again
                // then, and can be removed as well.
                if let LabelChange::Remove(key) = change
                    && !row.stored.set_labels.contains_key(key)
                {
                    row.stored.accepted.forget_label(key.as_str());
                }
                change.apply(&mut row.stored.set_labels);
            }
            row.merge_labels();
            let is_brought = |change: &LabelChange| match change {
                LabelChange::Remove(key) => row.labels.contains_key(key),
                LabelChange::Set(_) => false,
            };
            if changes.iter().any(is_brought) {
                still_reported.push(name.clone());
            }
            writes.push(Write::PutAgent(row.stored.clone()));
        }
        let said = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        writes.push(audit(now, by, "label", &fold(names.iter().map(AgentName::as_str)), said));
        let answer = LabelledAgents { agents: names.into_iter().collect(), still_reported };
        self.persist(writes, Continuation::answer(reply, Ok(answer)));
    }

    /// Accepts the proposals of agents, which take effect at once.
    pub(super) fn on_accept(
        &mut self,
        choice: &Choice,
        shown: &BTreeMap<AgentName, Proposal>,
        by: &str,
        reply: ReplyTo<Result<AcceptedProposals, Denied>>,
        now: Now,
    ) {
        let names = match self.chosen(choice) {
            Ok(names) => names,
            Err(denied) => return self.reply(reply, Err(denied)),
        };
        let (mut accepted, mut changed, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let Some(proposal) = self.agents.get(&name).map(|row| row.proposal()) else { continue };
            if !shown.is_empty() && shown.get(&name).is_none_or(|shown| *shown != proposal) {
                changed.push(name);
                continue;
            }
            if !proposal.is_empty()
                && let Some(row) = self.agents.change(&name)
            {
                row.stored.accepted.accept(proposal.clone());
                row.merge_labels();
                writes.push(Write::PutAgent(row.stored.clone()));
                writes.push(audit(now, by, "accept", name.as_str(), proposal.to_string()));
                if let (Some(session), true) = (&row.session, proposal.direct.is_some()) {
                    self.effects.push(Effect::DialDirect(session.id));
                }
            }
            accepted.push((name, proposal));
        }
        let answer = AcceptedProposals { accepted, changed };
        self.persist(writes, Continuation::answer(reply, Ok(answer)));
    }
}
