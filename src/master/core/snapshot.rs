//! The agents at one moment, with the data that selections need. The core creates a snapshot cheaply and the
//! caller evaluates it, so that no expression blocks the core.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use super::denied::Denied;
use crate::domain::{
    agent::{AgentState, LinkKind, START_WITHIN},
    bounded::Expression,
    name::{AgentName, Labels, nearest},
    proposal::acceptance,
    target::{
        Candidate,
        fold::{fold, fold_some},
        selection::Selection,
    },
    text::form,
};

/// Maximum number of labels that a message names.
const MAX_LABELS_SHOWN: usize = 8;
/// Maximum number of labels that are searched for a suggestion.
const MAX_LABELS_COMPARED: usize = 1_000;

/// The agents that a command is for, as resolved from a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The selection as it was typed.
    pub target: Expression,
    /// The agent, if the selection is one plain name. It is looked up in the registry when the command
    /// begins.
    pub plain_name: Option<AgentName>,
    /// The selected agents, at least one; or why there are none.
    pub agents: Result<Vec<AgentName>, Denied>,
    /// The selection itself, if it is not one plain name.
    pub selection: Option<Arc<Selection>>,
}

/// The registry at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub(super) agents: Vec<Known>,
    /// Names of pending keys.
    pub(super) waiting: BTreeSet<AgentName>,
    /// Time since the master's start.
    pub(super) age: Duration,
}

/// An agent of the registry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) name: AgentName,
    pub(super) labels: Arc<Labels>,
    /// Reported labels that are not accepted.
    pub(super) proposed: Option<Arc<Labels>>,
    pub(super) state: AgentState,
    pub(super) link: Option<LinkKind>,
}

impl Known {
    fn candidate(&self) -> Candidate<'_> {
        let Self { name, labels, state, link, .. } = self;
        Candidate { name, labels, state: *state, link: *link }
    }
}

impl Choice {
    /// Returns the choice of a selection that is one plain name, which needs no snapshot; `None` for any
    /// other.
    #[must_use]
    pub fn plain(selection: &Selection) -> Option<Self> {
        let name = selection.plain_name()?;
        Some(Self {
            target: selection.to_string().into(),
            plain_name: Some(name.clone()),
            agents: Ok(vec![name.clone()]),
            selection: None,
        })
    }
    /// Reports whether the selection spells out the name of this agent.
    #[must_use]
    pub fn spells(&self, name: &AgentName) -> bool {
        self.selection.as_ref().is_none_or(|selection| selection.target.spells(name))
    }
}

impl Snapshot {
    /// Returns the approximate cost of evaluating a selection, in comparisons.
    #[must_use]
    pub fn cost_of(&self, selection: &Selection) -> usize {
        self.agents.len() + selection.to_string().len()
    }

    /// Returns the state of each agent, and its link; `None` if it is not connected.
    pub fn states(&self) -> impl Iterator<Item = (AgentState, Option<LinkKind>)> {
        self.agents.iter().map(|agent| (agent.state, agent.link))
    }

    /// Returns the names of all agents, in order.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.agents.iter().map(|agent| &agent.name)
    }

    /// Returns the agents of a selection. With `at_once`, states and links are used as they are just after the master's start.
    #[must_use]
    pub fn choose(&self, selection: &Arc<Selection>, at_once: bool) -> Choice {
        Choice::plain(selection).unwrap_or_else(|| Choice {
            target: selection.to_string().into(),
            plain_name: None,
            agents: self.matching(selection, at_once),
            selection: Some(Arc::clone(selection)),
        })
    }

    /// Returns the agents of a selection, at least one. The selection may be a plain name too.
    ///
    /// # Errors
    /// When there are none, or it cannot be evaluated now.
    pub fn matching(&self, selection: &Selection, at_once: bool) -> Result<Vec<AgentName>, Denied> {
        if selection.asks_for_state() && self.age < START_WITHIN && !at_once {
            return Err(Denied::Refused(format!(
                "the master started {} s ago, and agents are still reconnecting: targets by state or link are accepted after a minute, or with --now",
                self.age.as_secs()
            )));
        }
        let candidates: Vec<Candidate<'_>> = self.agents.iter().map(Known::candidate).collect();
        let matched = selection.evaluate(&candidates);
        if !matched.unknown.is_empty() {
            return Err(Denied::NotFound(self.unknown(&matched.unknown)));
        }
        if matched.agents.is_empty() {
            return Err(Denied::NotFound(self.no_match_message(selection)));
        }
        Ok(matched.agents.into_iter().collect())
    }

    fn unknown(&self, unknown: &BTreeSet<AgentName>) -> String {
        if let (Some(name), 1) = (unknown.first(), unknown.len()) {
            return no_such_agent(name, self.waiting.contains(name), self.names());
        }
        let folded = fold(unknown.iter().map(AgentName::as_str));
        format!("no such agents: {folded}; `sloth-runner agent list` shows all")
    }

    fn no_match_message(&self, selection: &Selection) -> String {
        let labels = self.agents.iter().flat_map(|agent| agent.labels.iter());
        let labels: BTreeSet<String> =
            labels.map(|(key, value)| format!("{key}={value}")).take(MAX_LABELS_COMPARED).collect();
        let asks_for_labels = selection.selector.is_some() || selection.target.labels().next().is_some();
        if asks_for_labels && let Some(proposing) = self.proposal_message(selection) {
            return proposing;
        }
        if !asks_for_labels || labels.is_empty() {
            let count = self.agents.len();
            return format!("no agent matches {selection}; `sloth-runner agent list` shows all {count}");
        }
        let wanted = selection.target.labels().next().unwrap_or_default().replacen(':', "=", 1);
        let near = nearest(&wanted, labels.iter().map(String::as_str));
        if !near.is_empty() {
            return format!("no agent matches {selection}; did you mean the label {}?", near.join(" or "));
        }
        let shown: Vec<&str> = labels.iter().map(String::as_str).take(MAX_LABELS_SHOWN).collect();
        let more = if labels.len() > MAX_LABELS_SHOWN { ", …" } else { "" };
        format!("no agent matches {selection}; labels are {}{more}", shown.join(", "))
    }

    /// Returns the message for a selection that would have agents if their proposed labels were accepted.
    fn proposal_message(&self, selection: &Selection) -> Option<String> {
        let with_proposed = |agent: &Known| {
            let mut labels = Labels::clone(&agent.labels);
            labels.extend(agent.proposed.as_deref().cloned().unwrap_or_default());
            labels
        };
        let believed: Vec<Labels> = self.agents.iter().map(with_proposed).collect();
        let agents = self.agents.iter().zip(&believed);
        let candidates: Vec<Candidate<'_>> =
            agents.map(|(agent, labels)| Candidate { labels, ..agent.candidate() }).collect();
        let names = selection.evaluate(&candidates).agents;
        if names.is_empty() {
            return None;
        }
        let asked: HashSet<&str> = selection.label_keys().collect();
        let agents = self.agents.iter().filter(|agent| names.contains(&agent.name));
        let proposed = agents.filter_map(|agent| agent.proposed.as_deref()).flatten();
        let wanted = proposed.filter(|(key, _)| asked.contains(key.as_str()));
        let labels: BTreeSet<String> = wanted.map(|(key, value)| format!("{key}={value}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).take(MAX_LABELS_SHOWN).collect();
        let (labels, shown) = (labels.join(", "), fold_some(names.iter().map(AgentName::as_str)));
        let propose = form(names.len(), "proposes", "propose");
        // Folded names are a target only if none was left out.
        let whole = fold(names.iter().map(AgentName::as_str));
        let target = if shown == whole { whole.as_str() } else { "TARGET" };
        Some(format!(
            "no agent matches {selection}: {shown} {propose} {labels}, which does not count before it is accepted: `{}`",
            acceptance(target)
        ))
    }
}

/// Returns the message for a name that no agent has.
pub(super) fn no_such_agent<'a>(
    name: &AgentName,
    is_waiting: bool,
    known: impl Iterator<Item = &'a AgentName>,
) -> String {
    if is_waiting {
        return format!("{name} is pending: its key waits for `sloth-runner agent approve {name}`");
    }
    match nearest(name.as_str(), known.map(AgentName::as_str)).as_slice() {
        [] => format!("no such agent: {name}; `sloth-runner agent list` shows all"),
        near => format!("no such agent: {name}; did you mean {}?", near.join(" or ")),
    }
}

/// Returns the message for a selection whose agents are all draining.
pub(super) fn all_draining(names: &[AgentName]) -> String {
    format!(
        "all agents that match are draining: {}; `sloth-runner agent resume` ends that",
        fold_some(names.iter().map(AgentName::as_str))
    )
}
