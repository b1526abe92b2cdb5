//! Agents, as the registry describes them, and the time limits by which their state is determined.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::bounded::{Reason, Word};

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
    /// Connected, and heard of lately.
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

    /// The sign for it.
    #[must_use]
    pub fn glyph(self) -> char {
        match self {
            Self::Pending => '◇',
            Self::Active => '●',
            Self::Late => '◐',
            Self::Offline => '○',
            Self::Draining => '▽',
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
