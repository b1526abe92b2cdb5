//! Agents, as clients see them: states, links and facts.

use super::{
    InvalidProposal,
    label::{labels_in, labels_out},
    proposal::{address_in, fingerprint_in, fingerprint_out, proposal_in},
};
use crate::{
    domain::{
        agent::{AgentState, AgentView, Drain, Facts, LastSeen, LinkKind, LinkPreference, MOST_TROUBLES},
        name::InvalidName,
        time::UnixMs,
    },
    wire::proto,
};

/// The error for an agent that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAgent {
    /// The agent's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The fingerprint of the agent's key is not valid.
    #[error(transparent)]
    Key(#[from] InvalidProposal),
}

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

fn link_out(link: Option<LinkKind>) -> proto::LinkKind {
    match link {
        Some(LinkKind::Direct) => proto::LinkKind::Direct,
        Some(LinkKind::Tunnel) => proto::LinkKind::Tunnel,
        None => proto::LinkKind::Unspecified,
    }
}

fn link_in(link: proto::LinkKind) -> Option<LinkKind> {
    match link {
        proto::LinkKind::Direct => Some(LinkKind::Direct),
        proto::LinkKind::Tunnel => Some(LinkKind::Tunnel),
        proto::LinkKind::Unspecified => None,
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

/// Converts an agent's state. A state that this version does not know becomes offline.
impl From<proto::AgentState> for AgentState {
    fn from(state: proto::AgentState) -> Self {
        match state {
            proto::AgentState::Pending => Self::Pending,
            proto::AgentState::Active => Self::Active,
            proto::AgentState::Late => Self::Late,
            proto::AgentState::Draining => Self::Draining,
            proto::AgentState::Offline | proto::AgentState::Unspecified => Self::Offline,
        }
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

/// Converts facts. A number outside its plausible range is replaced by the nearest limit of the range.
impl From<proto::Facts> for Facts {
    fn from(facts: proto::Facts) -> Self {
        Self {
            os: facts.os.into(),
            kernel: facts.kernel.into(),
            architecture: facts.architecture.into(),
            cpus: facts.cpus,
            cpu_percent: number_in(facts.cpu_percent, 100.0),
            memory_total: facts.memory_total.min(MAX_BYTES),
            memory_available: facts.memory_available.min(MAX_BYTES),
            load1: number_in(facts.load1, MAX_LOAD),
            uptime_s: facts.uptime_s.min(MAX_UPTIME_S),
            hostname: facts.hostname.into(),
            running_tasks: facts.running_tasks,
            troubles: facts.troubles.into_iter().take(MOST_TROUBLES).map(Into::into).collect(),
        }
    }
}

/// Maximum amount of memory in facts, in bytes: an exbibyte, more than any machine has.
const MAX_BYTES: u64 = 1 << 60;
/// Maximum load average in facts, higher than on any machine.
const MAX_LOAD: f32 = 1e6;
/// Maximum uptime in facts, in seconds: a thousand years.
const MAX_UPTIME_S: u64 = 1_000 * 366 * 86_400;

/// Limits a number to the range from 0 to `limit`; NaN becomes 0.
fn number_in(number: f32, limit: f32) -> f32 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, limit) }
}

impl From<Drain> for proto::Drain {
    fn from(drain: Drain) -> Self {
        Self { reason: drain.reason.into(), by: drain.by.into(), since_ms: drain.since_ms.0 }
    }
}

impl From<proto::Drain> for Drain {
    fn from(drain: proto::Drain) -> Self {
        Self { reason: drain.reason.into(), by: drain.by.into(), since_ms: UnixMs(drain.since_ms) }
    }
}

impl From<AgentView> for proto::Agent {
    fn from(agent: AgentView) -> Self {
        let last_seen = |LastSeen { at_ms: UnixMs(at_ms), ago_ms }| proto::LastSeen { at_ms, ago_ms };
        Self {
            name: agent.name.into(),
            state: proto::AgentState::from(agent.state).into(),
            link: link_out(agent.link).into(),
            link_reason: agent.link_reason,
            address: agent.address,
            direct_address: agent.direct_address.map(Into::into),
            version: agent.version.into(),
            labels: labels_out(agent.labels),
            set_labels: labels_out(agent.set_labels),
            reported_labels: labels_out(agent.reported_labels),
            proposed: Some(agent.proposed.into()),
            last_seen: agent.last_seen.map(last_seen),
            fingerprint: fingerprint_out(agent.fingerprint),
            hint: agent.hint,
            enrolled_ms: agent.enrolled_ms.0,
            trust: agent.trust.into(),
            facts: agent.facts.map(Into::into),
            key_changed: agent.key_changed,
            has_code: agent.has_code,
            offline_since_ms: agent.offline_since_ms.map(|moment| moment.0),
            last_job: agent.last_job.map(Into::into),
            drain: agent.drain.map(Into::into),
        }
    }
}

impl TryFrom<proto::Agent> for AgentView {
    type Error = InvalidAgent;

    fn try_from(agent: proto::Agent) -> Result<Self, InvalidAgent> {
        let last_seen = |proto::LastSeen { at_ms, ago_ms }| LastSeen { at_ms: UnixMs(at_ms), ago_ms };
        Ok(Self {
            state: agent.state().into(),
            link: link_in(agent.link()),
            name: agent.name.try_into()?,
            link_reason: agent.link_reason,
            address: agent.address,
            direct_address: address_in(agent.direct_address),
            version: agent.version.into(),
            labels: labels_in(agent.labels),
            set_labels: labels_in(agent.set_labels),
            reported_labels: labels_in(agent.reported_labels),
            proposed: proposal_in(agent.proposed),
            last_seen: agent.last_seen.map(last_seen),
            fingerprint: fingerprint_in(&agent.fingerprint)?,
            hint: agent.hint,
            enrolled_ms: UnixMs(agent.enrolled_ms),
            trust: agent.trust.into(),
            facts: agent.facts.map(Into::into),
            key_changed: agent.key_changed,
            has_code: agent.has_code,
            offline_since_ms: agent.offline_since_ms.map(UnixMs),
            // A newer master can send a last job of an unknown kind. The agent is shown without it.
            last_job: agent.last_job.and_then(|last| last.try_into().ok()),
            drain: agent.drain.map(Into::into),
        })
    }
}
