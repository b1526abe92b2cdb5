//! Agents, and keys that wait for approval.

use serde::Serialize;

use super::some;
use crate::domain::{
    agent::{AgentState, AgentView, Drain, Facts, LinkKind},
    fingerprint::Fingerprint,
    name::{AgentName, Labels},
    proposal::DirectAddress,
    time::UnixMs,
};

/// `agent list` and `agent get`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct AgentList<'a> {
    agents: Vec<AgentObject<'a>>,
}

impl<'a> AgentList<'a> {
    pub(in crate::cli) fn new(agents: impl IntoIterator<Item = &'a AgentView>) -> Self {
        Self { agents: agents.into_iter().map(AgentObject::new).collect() }
    }
}

/// An agent, or a key that waits for approval. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct AgentObject<'a> {
    name: &'a AgentName,
    state: AgentState,
    hint: Option<&'a str>,
    link: Option<&'static str>,
    link_reason: Option<&'a str>,
    address: Option<&'a str>,
    direct_address: Option<String>,
    version: Option<&'a str>,
    labels: &'a Labels,
    set_labels: &'a Labels,
    reported_labels: &'a Labels,
    proposed_labels: &'a Labels,
    proposed_address: Option<String>,
    last_seen_ms: Option<UnixMs>,
    enrolled_ms: UnixMs,
    fingerprint: &'a Fingerprint,
    trust: Option<&'a str>,
    key_changed: bool,
    drain: Option<DrainObject<'a>>,
    facts: Option<&'a Facts>,
}

/// Why an agent takes no new tasks.
#[derive(Debug, Serialize)]
struct DrainObject<'a> {
    reason: Option<&'a str>,
    by: &'a str,
    since_ms: UnixMs,
}

impl<'a> AgentObject<'a> {
    fn new(agent: &'a AgentView) -> Self {
        let drain = |drain: &'a Drain| DrainObject {
            reason: some(drain.reason.as_str()),
            by: drain.by.as_str(),
            since_ms: drain.since_ms,
        };
        Self {
            name: &agent.name,
            state: agent.state,
            hint: some(agent.hint()),
            link: agent.link.map(LinkKind::word),
            link_reason: some(&agent.link_reason),
            address: some(&agent.address),
            direct_address: agent.direct_address.as_ref().map(DirectAddress::to_string),
            version: some(agent.version.as_str()),
            labels: &agent.labels,
            set_labels: &agent.set_labels,
            reported_labels: &agent.reported_labels,
            proposed_labels: &agent.proposed.labels,
            proposed_address: agent.proposed.direct.as_ref().map(DirectAddress::to_string),
            last_seen_ms: agent.last_seen.map(|seen| seen.at_ms),
            enrolled_ms: agent.enrolled_ms,
            fingerprint: &agent.fingerprint,
            trust: some(agent.trust.as_str()),
            key_changed: agent.key_changed,
            drain: agent.drain.as_ref().map(drain),
            facts: agent.facts.as_ref(),
        }
    }
}
