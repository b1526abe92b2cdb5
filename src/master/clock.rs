//! The clock by which agents measure the transit time of the master's messages. Makes no decisions.

use crate::{
    domain::session::{Echo, Ping, SentAt},
    sys::{clock::boottime_ms, random},
};

/// The clock of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendClock {
    /// Identifies this clock; each start of the master has its own. An agent must not compare the times of
    /// two clocks.
    name: u64,
}

impl SendClock {
    /// Returns a clock with a random name.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { name: u64::from_le_bytes(random::bytes::<8>()).max(1) }
    }

    /// Returns the current time, for a message that is sent now.
    #[must_use]
    pub(crate) fn now(self) -> SentAt {
        SentAt { clock: self.name, at_ms: boottime_ms() }
    }

    /// Returns a ping. It echoes the agent's last message with a send time, if there is one.
    #[must_use]
    pub(crate) fn ping(self, heard: Option<Heard>) -> Ping {
        Ping { sent: self.now(), echo: heard.map(Heard::echo), revision: None }
    }
}

/// The send time of an agent's message, and the time at which it was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    at_ms: u64,
    received_ms: u64,
}

impl Heard {
    /// Records a message that is received now. Returns `None` if the agent did not send its time (0).
    #[must_use]
    pub(crate) fn now(at_ms: u64) -> Option<Self> {
        (at_ms > 0).then(|| Self { at_ms, received_ms: boottime_ms() })
    }

    /// Returns the echo of this message, to be sent now.
    #[must_use]
    pub(crate) fn echo(self) -> Echo {
        Echo { at_ms: self.at_ms, age_ms: boottime_ms().saturating_sub(self.received_ms) }
    }
}

impl Default for SendClock {
    fn default() -> Self {
        Self::new()
    }
}
