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

/// Watches the agents: the answer is a complete list, and then every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchAgents {
    /// The cursor of the last complete answer. The stream continues there if the master is still the same
    /// process.
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
    /// Whether this part begins a complete list. The client then drops all agents that it had before.
    pub begins: bool,
    /// The cursor at the end of the answer; `None` if more parts follow.
    pub complete: Option<FleetCursor>,
    /// Agents that have changed, as they are now.
    pub agents: Vec<AgentView>,
    /// Agents that were deleted.
    pub deleted: Vec<AgentName>,
    /// All pending keys; `None` if they have not changed.
    pub waiting: Option<Vec<AgentView>>,
}

/// A pending key, as an operator was shown it.
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

/// Approves a pending key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproveAgent {
    /// The name for which the key is pending.
    pub name: AgentName,
    /// Selects one of the keys with that name.
    pub mark: KeyMark,
    /// The keys as the operator was shown them. The proposal of the approved key takes effect. If the key has
    /// another proposal now, it is not approved. If this is empty, no proposal takes effect.
    pub shown: Vec<ShownKey>,
}

/// A key was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// The key.
    pub fingerprint: Fingerprint,
    /// Whether it replaces another key.
    pub replaced_key: bool,
    /// The accepted part of its proposal.
    pub accepted: Proposal,
}

/// Rejects pending keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectAgents {
    /// All of them.
    All,
    /// The pending keys with one name.
    Named {
        /// The name.
        name: AgentName,
        /// The first digits of the fingerprint; empty for all keys with that name.
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
    /// Whether targets by state or link are evaluated even just after the master's start.
    pub now: bool,
    /// The change.
    pub change: ChangeLabels,
}

/// A change of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeLabels {
    /// Sets and removes labels, in this order.
    Set(Vec<LabelChange>),
    /// Accepts proposals as an operator was shown them. Nothing is accepted from an agent with another
    /// proposal now. If this is empty, all current proposals are accepted.
    Accept(Vec<NamedProposal>),
}

/// Labels were changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The agents that were selected.
    pub agents: Vec<AgentName>,
    /// Agents that still have a removed key, because all labels that they report are in effect.
    pub still_reported: Vec<AgentName>,
    /// The proposals that were accepted, by agent.
    pub accepted: Vec<NamedProposal>,
    /// Agents whose proposal was not accepted, because it has changed since it was shown.
    pub changed: Vec<AgentName>,
}

/// Stops an agent on its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopAgent {
    /// The agent's name.
    pub name: AgentName,
    /// How long its tasks can continue to run, in milliseconds.
    pub grace_ms: u32,
}

/// Drains agents, or lets them take tasks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainAgents {
    /// The agents.
    pub selection: Selection,
    /// Whether targets by state or link are evaluated even just after the master's start.
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
