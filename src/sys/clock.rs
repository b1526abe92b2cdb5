//! The wall clock, for people, and the clock that counts suspension, for permissions to start. Timeouts within one process use
//! monotonic instants instead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, Utc};
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

fn utc(ms: u64) -> DateTime<Utc> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}

/// A moment in local time: the time alone on the day it was, else with its date.
#[must_use]
pub fn local_time(ms: u64, now_ms: u64) -> String {
    let moment = utc(ms).with_timezone(&Local);
    let now = utc(now_ms).with_timezone(&Local);
    let format = if moment.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%F %H:%M:%S" };
    moment.format(format).to_string()
}

/// A moment's local time of day, to the millisecond.
#[must_use]
pub fn clock_time(ms: u64) -> String {
    utc(ms).with_timezone(&Local).format("%H:%M:%S%.3f").to_string()
}

/// Seconds that local time is ahead of UTC now.
#[must_use]
pub fn zone_s() -> i32 {
    Local::now().offset().local_minus_utc()
}

/// A length of time as people say it: `12 ms`, `1.2 s`, `3 min 20 s`, `5 h 2 min`, `3 d 4 h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        for (ms, text) in [
            (12, "12 ms"),
            (1_249, "1.2 s"),
            (200_000, "3 min 20 s"),
            (18_120_000, "5 h 2 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }
}
