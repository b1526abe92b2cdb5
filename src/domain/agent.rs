//! Agents: their states, links and facts, what clients see of them, and the time limits by which their state is determined.
//! Knows neither the registry nor the wire.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Reason, Word},
    fingerprint::Fingerprint,
    job::LastJob,
    name::{AgentName, LabelWord, Labels},
    proposal::{DirectAddress, Proposal},
};

/// How often an agent speaks at least.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// An agent is late after two missed heartbeats. Half of one more is allowed for jitter and the road.
pub const LATE_AFTER: Duration = Duration::from_millis(12_500);
/// A connection that was silent for six heartbeats is closed.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(30);
/// How long a task waits for an agent that went silent, unless the operator says otherwise.
pub const START_WITHIN: Duration = Duration::from_mins(1);

/// How long a permission to start a task is good, from when the master sends it. What was held up for longer on its way starts
/// nothing: the agent asks again, and the master judges anew.
pub const START_PERMISSION: Duration = Duration::from_secs(10);

/// An agent's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Its key waits for an operator.
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
    /// The word for it.
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

    /// The state of a connected agent that was silent for so long, on the master's monotonic clock.
    #[must_use]
    pub fn of_silence(silent: Duration) -> Self {
        if silent < LATE_AFTER { Self::Active } else { Self::Late }
    }
}

/// Why an agent takes no new tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// In an operator's words; may be empty.
    pub reason: Reason,
    /// Who wanted it.
    pub by: Word,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "draining, by {}", self.by)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// Which link an agent wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkPreference {
    /// Direct where it works, else the tunnel.
    #[default]
    Auto,
    /// Direct only.
    Direct,
    /// The tunnel only.
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
    /// The word for it, as targets and tables use it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
        }
    }
}

/// When the master received something from an agent last, both by the master's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// The time, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long before the answer that was, in milliseconds.
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
    /// Its address as the master sees it, or saw it last.
    pub address: String,
    /// Where a direct link goes, or would go.
    pub direct_address: Option<DirectAddress>,
    /// Its software version.
    pub version: Word,
    /// The labels that are in effect.
    pub labels: Labels,
    /// Those of them that operators set; they override the agent's own.
    pub set_labels: Labels,
    /// The labels that the agent reports, whether they are in effect or not.
    pub reported_labels: Labels,
    /// What it reports and what is not in effect before an operator has accepted it.
    pub proposed: Proposal,
    /// When it was last seen; `None` for an agent that never connected.
    pub last_seen: Option<LastSeen>,
    /// Its key.
    pub fingerprint: Fingerprint,
    /// What to know or to do about it; empty when all is well.
    pub hint: String,
    /// When its key was approved, or, of a key that waits, when it first asked.
    pub enrolled_ms: u64,
    /// How the agent came to trust the CA.
    pub trust: Word,
    /// Its machine.
    pub facts: Option<Facts>,
    /// Of a key that waits: another key is known under its name.
    pub key_changed: bool,
    /// Of a key that waits: it is approved by the code that its agent printed.
    pub has_code: bool,
    /// Since when it is offline.
    pub offline_since_ms: Option<u64>,
    /// Set while it takes no new tasks, whatever its state.
    pub drain: Option<Drain>,
    /// Its most recent job.
    pub last_job: Option<LastJob>,
}

#[cfg(test)]
impl AgentView {
    /// One that is connected over the tunnel.
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
            enrolled_ms: 0,
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
    /// The number of bytes that it takes in a message, about.
    #[must_use]
    pub fn size(&self) -> usize {
        /// Names, numbers, a key and short texts.
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

    /// The word for its link: `direct`, `tunnel`, or `tunnel!` where direct was wanted and failed.
    #[must_use]
    pub fn link_word(&self) -> &'static str {
        match self.link {
            Some(LinkKind::Tunnel) if self.direct_address.is_some() => "tunnel!",
            Some(link) => link.word(),
            None => "-",
        }
    }

    /// The hint, or, where there is none, why the link is not the wanted one.
    #[must_use]
    pub fn hint(&self) -> &str {
        let wants_direct = self.link == Some(LinkKind::Tunnel) && self.direct_address.is_some();
        if self.hint.is_empty() && wants_direct { &self.link_reason } else { &self.hint }
    }

    /// Whether its last task failed or is without contact.
    #[must_use]
    pub fn last_job_failed(&self) -> bool {
        self.last_job.as_ref().is_some_and(|last| {
            last.no_contact || last.state.outcome().is_some_and(|outcome| !outcome.is_success())
        })
    }

    /// Whether a task is under way on it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.last_job.as_ref().is_some_and(|last| last.state.outcome().is_none())
    }
}

/// What an agent knows of its machine. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Operating system as its os-release calls it.
    pub os: Word,
    /// Kernel release.
    pub kernel: Word,
    /// Machine architecture.
    pub architecture: Word,
    /// Processors that are online.
    pub cpus: u32,
    /// Busy share of all processors since the last facts, in per cent.
    pub cpu_percent: f32,
    /// Memory in all.
    pub memory_total: u64,
    /// Memory that programs could still get.
    pub memory_available: u64,
    /// Load average of one minute.
    pub load1: f32,
    /// Seconds since the machine was started.
    pub uptime_s: u64,
    /// Host name.
    pub hostname: Word,
    /// Tasks that run now.
    pub running_tasks: u32,
    /// What does not work there, in words, while the agent does.
    pub troubles: Vec<Reason>,
}

/// Most troubles of one agent.
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
