//! The clock by which agents measure the transit time of the master's messages. Makes no decisions.

use crate::{
    domain::session::{Echo, Ping, SentAt},
    sys::{clock::boottime_ms, random},
};

/// The clock of this process.
#[derive(Clone, Copy, Debug)]
pub struct SendClock {
    /// Names it among those of all processes of the master: an agent must not compare two of them.
    name: u64,
}

impl SendClock {
    /// A clock with a name of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { name: u64::from_le_bytes(random::bytes::<8>()).max(1) }
    }

    /// The time at which something is sent now.
    #[must_use]
    pub fn now(self) -> SentAt {
        SentAt { clock: self.name, at_ms: boottime_ms() }
    }

    /// A message that asks for a sign of life.
    #[must_use]
    pub fn ping(self, heard: Option<Heard>) -> Ping {
        Ping { sent: self.now(), echo: heard.map(Heard::echo), revision: None }
    }
}

/// A message of an agent's that said when it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    at_ms: u64,
    received_ms: u64,
}

impl Heard {
    /// One that was received now. `None` from an agent that does not say when it sent it.
    #[must_use]
    pub fn now(at_ms: u64) -> Option<Self> {
        (at_ms > 0).then(|| Self { at_ms, received_ms: boottime_ms() })
    }

    /// The same, to be sent back now.
    #[must_use]
    pub fn echo(self) -> Echo {
        Echo { at_ms: self.at_ms, age_ms: boottime_ms().saturating_sub(self.received_ms) }
    }
}

impl Default for SendClock {
    fn default() -> Self {
        Self::new()
    }
}
