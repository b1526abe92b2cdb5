//! Decides whether a command waits for a client that reads its output. Knows positions and times, but no
//! links and no logs.
//!
//! A client that keeps up is served from memory. A client that falls behind must be served from the disk,
//! which slows down every client. So a command waits for a fast client only; a slow client costs the command
//! at most a fiftieth of its time.

use super::output_log::LogPosition;
use std::time::{Duration, Instant};

/// How far the log may be ahead of a fast client, in bytes. Less than the part of the log that is kept in
/// memory.
const MAX_LEAD_BYTES: u64 = 4 * 1024 * 1024;
/// How long the speed of a client is measured before it is judged.
pub(crate) const MEASURE_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that a fast client reads in [`MEASURE_INTERVAL`]: 32 MiB per second.
const FAST_CLIENT_BYTES: u64 = 32 * 1024 * 1024 / 10;
/// How long commands do not wait for a client that was slow, so that a command loses at most a fiftieth of
/// its time.
const SLOW_CLIENT_PAUSE: Duration = Duration::from_secs(5);

/// Flow control for the slowest client.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    /// Start of the measurement, and the position of the client then; `None` while the command does not wait.
    waits: Option<(Instant, LogPosition)>,
    is_slow_until: Option<Instant>,
}

impl FlowControl {
    /// Returns how many more bytes the command may output. `ahead` is the end of the log and `slowest` the
    /// position of the slowest client. If the result is 0, call it again when the client has moved, or after
    /// [`MEASURE_INTERVAL`].
    pub(crate) fn room(&mut self, ahead: LogPosition, slowest: LogPosition, now: Instant) -> u64 {
        if self.is_slow_until.is_some_and(|until| now < until) {
            return u64::MAX;
        }
        let room = MAX_LEAD_BYTES.saturating_sub(ahead.bytes_since(slowest));
        self.waits = match self.waits {
            _ if room > 0 => None,
            None => Some((now, slowest)),
            Some((since, from)) if now < since + MEASURE_INTERVAL => Some((since, from)),
            Some((_, from)) if slowest.bytes_since(from) >= FAST_CLIENT_BYTES => Some((now, slowest)),
            Some(_) => {
                self.is_slow_until = Some(now + SLOW_CLIENT_PAUSE);
                self.waits = None;
                return u64::MAX;
            }
        };
        room
    }

    /// Reports whether the command waits.
    #[must_use]
    pub(crate) fn waits(&self) -> bool {
        self.waits.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_brisk_client_is_waited_for_as_long_as_it_moves() {
        let (mut pace, begun) = (FlowControl::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(pace.room(LogPosition(MIB), LogPosition(0), at(0)), 3 * MIB);
        assert!(!pace.waits());
        for step in 0..100 {
            let slowest = step * 4 * MIB;
            assert_eq!(
                pace.room(LogPosition(slowest + 5 * MIB), LogPosition(slowest), at(step * 100)),
                0,
                "step {step}"
            );
            assert!(pace.waits());
        }
        assert_eq!(pace.room(LogPosition(500 * MIB), LogPosition(498 * MIB), at(10_000)), 2 * MIB);
        assert!(!pace.waits());
    }

    #[test]
    fn a_slow_client_costs_a_fiftieth_at_most() {
        let (mut pace, begun) = (FlowControl::default(), Instant::now());
        let waited = (0..100_000u64)
            .filter(|ms| {
                let _ = pace.room(
                    LogPosition(100 * MIB + ms * 1024),
                    LogPosition(ms * 1024),
                    begun + Duration::from_millis(*ms),
                );
                pace.waits()
            })
            .count();
        assert!((1_000..2_100).contains(&waited), "{waited} of 100,000 ms");
    }
}
