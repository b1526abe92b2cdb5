//! Requests about agents.

use crate::domain::{
    agent::AgentView,
    code::KeyMark,
    fingerprint::Fingerprint,
    name::{AgentName, LabelChange},
    proposal::Proposal,
    target::selection::Selection,
};

/// Lists agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAgents {
    /// All agents and all keys that wait for approval.
    All,
    /// The agents of a selection.
    Selected(Selection),
    /// Only the keys that wait for approval.
    Pending,
}

/// Watches the agents: all of them first, then what changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchAgents {
    /// Where the last complete answer ended; the stream continues there if the master is still the same process.
    pub since: Option<FleetCursor>,
}

/// A moment of the registry in one process of a master. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetCursor {
    /// The master's process.
    pub instance: u64,
    /// The revision of the registry in that process.
    pub revision: u64,
}

/// A part of what has changed in the registry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetChange {
    /// This part begins a complete list: agents known before are to be forgotten.
    pub begins: bool,
    /// Where the answer ends, which this part completes; `None` when more parts follow.
    pub complete: Option<FleetCursor>,
    /// Agents that have changed, as they are now.
    pub agents: Vec<AgentView>,
    /// Agents that were deleted.
    pub deleted: Vec<AgentName>,
    /// All keys that wait for approval, if they have changed.
    pub waiting: Option<Vec<AgentView>>,
}

/// A key that waits for approval, as an operator was shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownKey {
    /// The key.
    pub fingerprint: Fingerprint,
    /// What its agent proposes.
    pub proposal: Proposal,
}

/// An agent, as an operator was shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownAgent {
    /// Its name.
    pub name: AgentName,
    /// Its key.
    pub fingerprint: Fingerprint,
}

/// What an agent proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedProposal {
    /// The agent's name.
    pub name: AgentName,
    /// What it proposes.
    pub proposal: Proposal,
}

/// Approves a key that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproveAgent {
    /// The name under which it waits.
    pub name: AgentName,
    /// Which of the keys under that name.
    pub mark: KeyMark,
    /// What the operator was shown of these keys. What the approved one proposes there takes effect; if it proposes
    /// something else by now, it is not approved. If this is empty, nothing that it proposes takes effect.
    pub shown: Vec<ShownKey>,
}

/// A key was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// The key.
    pub fingerprint: Fingerprint,
    /// It replaces another key.
    pub replaced_key: bool,
    /// What was accepted of its proposal.
    pub accepted: Proposal,
}

/// Rejects keys that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectAgents {
    /// All of them.
    All,
    /// Those of one name.
    Named {
        /// The name under which they wait.
        name: AgentName,
        /// The first digits of the fingerprint; empty for all keys of that name.
        digits: String,
    },
}

/// Deletes an agent's key and closes its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteAgent {
    /// The agent's name.
    pub name: AgentName,
}

/// Changes labels, or accepts those that agents propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelAgents {
    /// The agents.
    pub selection: Selection,
    /// Targets by state or link are evaluated even just after the master's start.
    pub now: bool,
    /// What changes.
    pub change: ChangeLabels,
}

/// A change of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeLabels {
    /// Sets and removes labels, in this order.
    Set(Vec<LabelChange>),
    /// Accepts what agents propose, as an operator was shown it. Of an agent that proposes something else by now, nothing is
    /// accepted. If this is empty, everything that is proposed is accepted.
    Accept(Vec<NamedProposal>),
}

/// Labels were changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The agents that were selected.
    pub agents: Vec<AgentName>,
    /// Agents that still have a removed key, because all labels that they report are in effect.
    pub still_reported: Vec<AgentName>,
    /// What was accepted of the agents that proposed something.
    pub accepted: Vec<NamedProposal>,
    /// Agents of which nothing was accepted, because they propose something else than was shown.
    pub changed: Vec<AgentName>,
}

/// Ends an agent on its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopAgent {
    /// The agent's name.
    pub name: AgentName,
    /// How long its tasks can continue, in milliseconds.
    pub grace_ms: u32,
}

/// Drains agents, or lets them take tasks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainAgents {
    /// The agents.
    pub selection: Selection,
    /// Targets by state or link are evaluated even just after the master's start.
    pub now: bool,
    /// Why they are drained; `None` lets them take tasks again.
    pub reason: Option<String>,
}

/// Agents were drained, or take tasks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Agents whose state has changed.
    pub agents: Vec<AgentName>,
    /// Agents that were in this state before.
    pub unchanged: Vec<AgentName>,
    /// Tasks that still run on drained agents.
    pub running: u32,
}
