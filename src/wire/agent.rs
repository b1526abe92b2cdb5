//! Converts facts, link preferences and states of agents.

use super::{
    InvalidMessage,
    proposal::{address_in, address_out, proposal_in},
    proto,
};
use crate::{
    domain::{
        agent::{AgentState, AgentView, Drain, Facts, LastSeen, LinkKind, LinkPreference, MOST_TROUBLES},
        fingerprint::Fingerprint,
        name::{LabelWord, Labels, MAX_LABELS},
    },
    sys::process::machine_id,
};

impl From<LinkPreference> for proto::LinkPreference {
    fn from(preference: LinkPreference) -> Self {
        match preference {
            LinkPreference::Auto => Self::Auto,
            LinkPreference::Direct => Self::Direct,
            LinkPreference::Tunnel => Self::Tunnel,
        }
    }
}

impl From<proto::LinkPreference> for LinkPreference {
    fn from(preference: proto::LinkPreference) -> Self {
        match preference {
            proto::LinkPreference::Unspecified | proto::LinkPreference::Auto => Self::Auto,
            proto::LinkPreference::Direct => Self::Direct,
            proto::LinkPreference::Tunnel => Self::Tunnel,
        }
    }
}

impl From<AgentState> for proto::AgentState {
    fn from(state: AgentState) -> Self {
        match state {
            AgentState::Pending => Self::Pending,
            AgentState::Active => Self::Active,
            AgentState::Late => Self::Late,
            AgentState::Offline => Self::Offline,
            AgentState::Draining => Self::Draining,
        }
    }
}

/// The state, or offline for what this version does not know.
#[must_use]
pub fn state_in(state: proto::AgentState) -> AgentState {
    match state {
        proto::AgentState::Pending => AgentState::Pending,
        proto::AgentState::Active => AgentState::Active,
        proto::AgentState::Late => AgentState::Late,
        proto::AgentState::Draining => AgentState::Draining,
        proto::AgentState::Offline | proto::AgentState::Unspecified => AgentState::Offline,
    }
}

impl From<Facts> for proto::Facts {
    fn from(facts: Facts) -> Self {
        Self {
            os: facts.os.into(),
            kernel: facts.kernel.into(),
            architecture: facts.architecture.into(),
            cpus: facts.cpus,
            cpu_percent: facts.cpu_percent,
            memory_total: facts.memory_total,
            memory_available: facts.memory_available,
            load1: facts.load1,
            uptime_s: facts.uptime_s,
            hostname: facts.hostname.into(),
            running_tasks: facts.running_tasks,
            troubles: facts.troubles.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<proto::Facts> for Facts {
    fn from(facts: proto::Facts) -> Self {
        Self {
            os: facts.os.into(),
            kernel: facts.kernel.into(),
            architecture: facts.architecture.into(),
            cpus: facts.cpus,
            cpu_percent: share_in(facts.cpu_percent, 100.0),
            memory_total: facts.memory_total.min(MAX_BYTES),
            memory_available: facts.memory_available.min(MAX_BYTES),
            load1: share_in(facts.load1, MAX_LOAD),
            uptime_s: facts.uptime_s.min(MAX_UPTIME_S),
            hostname: facts.hostname.into(),
            running_tasks: facts.running_tasks,
            troubles: facts.troubles.into_iter().take(MOST_TROUBLES).map(Into::into).collect(),
        }
    }
}

/// More memory than any machine has: an exbibyte.
const MAX_BYTES: u64 = 1 << 60;
/// A higher load than any machine has.
const MAX_LOAD: f32 = 1e6;
/// A longer time than any machine was up: a thousand years.
const MAX_UPTIME_S: u64 = 1_000 * 366 * 86_400;

/// A number between 0 and a limit; 0 for what is no number.
fn share_in(number: f32, limit: f32) -> f32 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, limit) }
}

impl From<Drain> for proto::Drain {
    fn from(drain: Drain) -> Self {
        Self { reason: drain.reason.into(), by: drain.by.into(), since_ms: drain.since_ms }
    }
}

impl From<proto::Drain> for Drain {
    fn from(drain: proto::Drain) -> Self {
        Self { reason: drain.reason.into(), by: drain.by.into(), since_ms: drain.since_ms }
    }
}

impl From<AgentView> for proto::Agent {
    fn from(agent: AgentView) -> Self {
        Self {
            name: agent.name.into(),
            state: proto::AgentState::from(agent.state).into(),
            link: agent.link.map_or_else(String::new, |link| link.word().to_owned()),
            link_reason: agent.link_reason,
            address: agent.address,
            direct_address: agent.direct_address.map_or_else(String::new, |direct| direct.to_string()),
            version: agent.version.into(),
            labels: labels_out(agent.labels),
            last_seen_ms: agent.last_seen.map_or(0, |seen| seen.at_ms),
            last_seen_ago_ms: agent.last_seen.map(|seen| seen.ago_ms),
            fingerprint: agent.fingerprint.to_string(),
            hint: agent.hint,
            enrolled_ms: agent.enrolled_ms,
            trust: agent.trust.into(),
            facts: agent.facts.map(Into::into),
            key_changed: agent.key_changed,
            has_code: agent.has_code,
            offline_since_ms: agent.offline_since_ms.unwrap_or(0),
            last_job: agent.last_job.map(Into::into),
            drain: agent.drain.map(Into::into),
            set_labels: labels_out(agent.set_labels),
            brought_labels: labels_out(agent.brought_labels),
            proposed_address: address_out(&agent.proposed),
            proposed_labels: labels_out(agent.proposed.labels),
        }
    }
}

impl TryFrom<proto::Agent> for AgentView {
    type Error = InvalidMessage;

    fn try_from(agent: proto::Agent) -> Result<Self, InvalidMessage> {
        Ok(Self {
            state: state_in(agent.state()),
            name: agent.name.try_into().map_err(InvalidMessage::because)?,
            link: match agent.link.as_str() {
                "direct" => Some(LinkKind::Direct),
                "tunnel" => Some(LinkKind::Tunnel),
                _ => None,
            },
            link_reason: agent.link_reason,
            address: agent.address,
            direct_address: address_in(&agent.direct_address),
            version: agent.version.into(),
            labels: labels_in(agent.labels),
            set_labels: labels_in(agent.set_labels),
            proposed: proposal_in(agent.proposed_labels, &agent.proposed_address),
            brought_labels: labels_in(agent.brought_labels),
            last_seen: (agent.last_seen_ms > 0).then(|| LastSeen {
                at_ms: agent.last_seen_ms,
                ago_ms: agent.last_seen_ago_ms.unwrap_or_default(),
            }),
            fingerprint: agent.fingerprint.parse().map_err(InvalidMessage::because)?,
            enrolled_ms: agent.enrolled_ms,
            hint: agent.hint,
            trust: agent.trust.into(),
            facts: agent.facts.map(Into::into),
            key_changed: agent.key_changed,
            has_code: agent.has_code,
            offline_since_ms: Some(agent.offline_since_ms).filter(|ms| *ms > 0),
            last_job: agent.last_job.map(TryInto::try_into).transpose()?,
            drain: agent.drain.map(Into::into),
        })
    }
}

/// Returns the well-formed labels, at most [`MAX_LABELS`] by key. The others are dropped: no target can name them.
pub fn labels_in(labels: impl IntoIterator<Item = (String, String)>) -> Labels {
    let word = |text: String| LabelWord::try_from(text).ok();
    let mut labels: Labels =
        labels.into_iter().filter_map(|(key, value)| Some((word(key)?, word(value)?))).collect();
    while labels.len() > MAX_LABELS {
        labels.pop_last();
    }
    labels
}

/// Labels as text.
#[must_use]
pub fn labels_out(labels: Labels) -> std::collections::HashMap<String, String> {
    labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// The machine that this process runs on, as it is told to others: a digest, and empty where the machine does not say.
#[must_use]
pub fn this_machine() -> String {
    machine_id().map_or_else(|_| String::new(), |id| Fingerprint::of(id.as_bytes()).to_string())
}
