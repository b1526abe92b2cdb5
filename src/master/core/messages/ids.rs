//! The moment of a step, and the numbers by which inputs and effects refer to sessions and writes.

use std::time::Duration;

use crate::domain::time::UnixMs;

/// The moment of a step: monotonic time for decisions, Unix time for people.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the master's start, on its monotonic clock.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: UnixMs,
}

/// The number of one connection of an agent; each connection has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The number of a write that is under way. A later write has a higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

impl WriteId {
    /// Returns the number of the next write.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
