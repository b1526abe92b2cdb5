//! The wall clock, for times that people read, and the boot clock, which includes suspension, for permissions
//! to start. Timeouts within one process use monotonic instants instead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{FixedOffset, Local};
use rustix::time::{ClockId, clock_gettime};

/// Returns the current time in milliseconds since the Unix epoch; 0 if the clock is set before the epoch.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the nanoseconds since the machine booted, including the time of suspension (`CLOCK_BOOTTIME`).
#[must_use]
pub(crate) fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Returns [`boottime_ns`] in milliseconds.
#[must_use]
pub(crate) fn boottime_ms() -> u64 {
    boottime_ns() / 1_000_000
}

/// A point in time on the boot clock, which includes suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootInstant(u64);

impl BootInstant {
    /// Returns the current time.
    #[must_use]
    pub(crate) fn now() -> Self {
        Self(boottime_ns())
    }

    /// Returns the time since this instant, including the time of suspension.
    #[must_use]
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(boottime_ns().saturating_sub(self.0))
    }
}

/// Returns the current offset of local time from UTC.
#[must_use]
pub(crate) fn zone() -> FixedOffset {
    *Local::now().offset()
}
