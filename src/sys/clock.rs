//! The wall clock, for people, and the clock that counts suspension, for permissions to start. Timeouts within one process use
//! monotonic instants instead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{FixedOffset, Local};
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the Unix epoch; 0 on a clock that stands before it.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the machine was started, with the time that it was suspended (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The same in milliseconds.
#[must_use]
pub fn boottime_ms() -> u64 {
    boottime_ns() / 1_000_000
}

/// A moment on the clock that counts suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(u64);

impl BootInstant {
    /// The current time.
    #[must_use]
    pub fn now() -> Self {
        Self(boottime_ns())
    }

    /// The time since, with that during which the machine was suspended.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(boottime_ns().saturating_sub(self.0))
    }
}

/// The zone of local time, as it is now.
#[must_use]
pub fn zone() -> FixedOffset {
    *Local::now().offset()
}
