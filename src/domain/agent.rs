//! Agents: their states, links and facts, the view that clients get, and the time limits that determine the
//! state. Does not depend on the registry or the wire.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Reason, Word},
    fingerprint::Fingerprint,
    job::LastJob,
    name::{AgentName, LabelWord, Labels},
    proposal::{DirectAddress, Proposal},
    time::UnixMs,
};

/// The longest interval between two messages of an agent.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// An agent is late after two missed heartbeats, plus half an interval for jitter and network delay.
pub const LATE_AFTER: Duration = Duration::from_millis(12_500);
/// A connection that is silent for six heartbeat intervals is closed.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(30);
/// The default time that a task waits for an agent without contact.
pub const START_WITHIN: Duration = Duration::from_mins(1);

/// How long a permission to start a task is valid after the master sends it. A permission that arrives later
/// starts nothing: the agent asks again, and the master decides again.
pub const START_PERMISSION: Duration = Duration::from_secs(10);

/// An agent's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Its key waits for approval by an operator.
    Pending,
    /// Connected, with a recent heartbeat.
    Active,
    /// Connected, but two heartbeats are missing.
    Late,
    /// Not connected.
    Offline,
    /// Takes no new tasks.
    Draining,
}

impl AgentState {
    /// Returns the state's name, as in targets, tables and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Late => "late",
            Self::Offline => "offline",
            Self::Draining => "draining",
        }
    }

    /// Returns the state of a connected agent after this time without a message, on the master's monotonic
    /// clock.
    #[must_use]
    pub fn of_silence(silent: Duration) -> Self {
        if silent < LATE_AFTER { Self::Active } else { Self::Late }
    }
}

/// Why an agent takes no new tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The operator's reason; may be empty.
    pub reason: Reason,
    /// The operator who drained the agent.
    pub by: Word,
    /// When the agent was drained, in milliseconds since the Unix epoch.
    pub since_ms: UnixMs,
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "draining, by {}", self.by)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// The link that an agent prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkPreference {
    /// A direct link if it works, otherwise the tunnel.
    #[default]
    Auto,
    /// Only a direct link.
    Direct,
    /// Only the tunnel.
    Tunnel,
}

/// The link over which the master reaches a connected agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// A connection that the master opened to an address that the agent reports.
    Direct,
    /// The connection that the agent opened.
    Tunnel,
}

impl LinkKind {
    /// Returns the link's name, as in targets and tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
        }
    }
}

/// The time at which the master last received something from an agent, by the master's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// The time, in milliseconds since the Unix epoch.
    pub at_ms: UnixMs,
    /// How long before this answer that was, in milliseconds.
    pub ago_ms: u64,
}

/// An agent, or a key that waits for approval, as clients see it. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// Its state.
    pub state: AgentState,
    /// Its link; `None` when it is not connected.
    pub link: Option<LinkKind>,
    /// Why that link is used, for people.
    pub link_reason: String,
    /// Its address as the master sees it, or last saw it.
    pub address: String,
    /// The address of a direct link, whether the link is open or not.
    pub direct_address: Option<DirectAddress>,
    /// Its software version.
    pub version: Word,
    /// The labels that are in effect.
    pub labels: Labels,
    /// The labels in effect that operators set. They override the agent's own.
    pub set_labels: Labels,
    /// The labels that the agent reports, whether they are in effect or not.
    pub reported_labels: Labels,
    /// What the agent reports and an operator has not accepted yet.
    pub proposed: Proposal,
    /// When it was last seen; `None` for an agent that never connected.
    pub last_seen: Option<LastSeen>,
    /// Its key.
    pub fingerprint: Fingerprint,
    /// A problem with the agent, or the next step for an operator; empty if there is none.
    pub hint: String,
    /// When its key was approved; for a pending key, when the agent first asked.
    pub enrolled_ms: UnixMs,
    /// How the agent came to trust the CA.
    pub trust: Word,
    /// Its machine.
    pub facts: Option<Facts>,
    /// For a pending key: whether another key is already enrolled under its name.
    pub key_changed: bool,
    /// For a pending key: whether the code that its agent printed approves it.
    pub has_code: bool,
    /// When the agent went offline; `None` while it is connected.
    pub offline_since_ms: Option<UnixMs>,
    /// The drain, in any state; `None` while the agent takes new tasks.
    pub drain: Option<Drain>,
    /// Its most recent job.
    pub last_job: Option<LastJob>,
}

#[cfg(test)]
impl AgentView {
    /// Returns an active agent that is connected over the tunnel.
    pub(crate) fn for_tests(name: &str) -> Self {
        Self {
            name: name.parse().unwrap(),
            state: AgentState::Active,
            link: Some(LinkKind::Tunnel),
            link_reason: String::new(),
            address: String::new(),
            direct_address: None,
            version: Word::default(),
            labels: Labels::new(),
            set_labels: Labels::new(),
            reported_labels: Labels::new(),
            proposed: Proposal::default(),
            last_seen: None,
            fingerprint: Fingerprint::of(name.as_bytes()),
            hint: String::new(),
            enrolled_ms: UnixMs(0),
            trust: Word::default(),
            facts: None,
            key_changed: false,
            has_code: false,
            offline_since_ms: None,
            drain: None,
            last_job: None,
        }
    }
}

impl AgentView {
    /// Returns the approximate size in a message, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        /// The size of the names, the numbers, the key and the short texts.
        const FIXED: usize = 512;
        let labels = [&self.labels, &self.set_labels, &self.reported_labels, &self.proposed.labels];
        let label = |(key, value): (&LabelWord, &LabelWord)| key.as_str().len() + value.as_str().len() + 8;
        let troubles = self.facts.iter().flat_map(|facts| &facts.troubles);
        FIXED
            + labels.into_iter().flatten().map(label).sum::<usize>()
            + troubles.map(|trouble| trouble.len()).sum::<usize>()
            + self.hint.len()
            + self.link_reason.len()
    }

    /// Returns the name of its link: `direct`, `tunnel`, `tunnel!` if a direct link was wanted and failed, or
    /// `-`.
    #[must_use]
    pub fn link_word(&self) -> &'static str {
        match self.link {
            Some(LinkKind::Tunnel) if self.direct_address.is_some() => "tunnel!",
            Some(link) => link.word(),
            None => "-",
        }
    }

    /// Returns the hint. If it is empty and a direct link failed, returns the reason for the link.
    #[must_use]
    pub fn hint(&self) -> &str {
        let wants_direct = self.link == Some(LinkKind::Tunnel) && self.direct_address.is_some();
        if self.hint.is_empty() && wants_direct { &self.link_reason } else { &self.hint }
    }

    /// Reports whether its last task failed or is without contact.
    #[must_use]
    pub fn last_job_failed(&self) -> bool {
        self.last_job.as_ref().is_some_and(|last| {
            last.no_contact || last.state.outcome().is_some_and(|outcome| !outcome.is_success())
        })
    }

    /// Reports whether its last task has not ended yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.last_job.as_ref().is_some_and(|last| last.state.outcome().is_none())
    }
}

/// Facts that an agent reports about its machine. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// The operating system, as in os-release.
    pub os: Word,
    /// The kernel release.
    pub kernel: Word,
    /// The machine architecture.
    pub architecture: Word,
    /// The number of online processors.
    pub cpus: u32,
    /// The CPU usage of all processors since the last report, in per cent.
    pub cpu_percent: f32,
    /// The total memory.
    pub memory_total: u64,
    /// The memory that is available to programs.
    pub memory_available: u64,
    /// The load average over one minute.
    pub load1: f32,
    /// The seconds since the machine was booted.
    pub uptime_s: u64,
    /// The host name.
    pub hostname: Word,
    /// The number of running tasks.
    pub running_tasks: u32,
    /// Problems on the machine that do not stop the agent, for people.
    pub troubles: Vec<Reason>,
}

/// Maximum number of problems that one agent reports.
pub const MOST_TROUBLES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_missed_heartbeats_make_an_agent_late() {
        assert_eq!(AgentState::of_silence(Duration::ZERO), AgentState::Active);
        assert_eq!(AgentState::of_silence(HEARTBEAT * 2), AgentState::Active);
        assert_eq!(AgentState::of_silence(LATE_AFTER), AgentState::Late);
    }
}
