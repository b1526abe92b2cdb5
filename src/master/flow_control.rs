//! Decides whether a command waits for a client that reads its output. Knows offsets and times, but no links and no logs.
//!
//! A client that keeps up is fed from memory; one that a flood has run away from has to be fed from the disk, which
//! takes longer for everybody. So a command waits for a client that is brisk, and for no other: a slow client never
//! slows a command.

use std::time::{Duration, Instant};

/// How far the log may be ahead of a brisk client, in bytes. Smaller than what the log keeps in memory.
const NEAR: u64 = 4 * 1024 * 1024;
/// How long a client is watched before it is judged.
pub const WATCHED: Duration = Duration::from_millis(100);
/// What a brisk client takes in that time: 32 MiB a second.
const BRISK: u64 = 32 * 1024 * 1024 / 10;
/// How long a client that is not brisk is left alone, so that the command loses no more than a fiftieth of its time.
const UNWATCHED: Duration = Duration::from_secs(5);

/// What is known of the slowest client.
#[derive(Debug, Default)]
pub struct FlowControl {
    /// Since when the command waits for it, and where it was then.
    waits: Option<(Instant, u64)>,
    is_slow_until: Option<Instant>,
}

impl FlowControl {
    /// How much further the command may continue, in bytes: `ahead` and `slowest` are positions in the log. Where this is
    /// nothing it is asked again when the client has moved, or after [`WATCHED`].
    pub fn room(&mut self, ahead: u64, slowest: u64, now: Instant) -> u64 {
        if self.is_slow_until.is_some_and(|until| now < until) {
            return u64::MAX;
        }
        let room = NEAR.saturating_sub(ahead.saturating_sub(slowest));
        self.waits = match self.waits {
            _ if room > 0 => None,
            None => Some((now, slowest)),
            Some((since, from)) if now < since + WATCHED => Some((since, from)),
            Some((_, from)) if slowest >= from + BRISK => Some((now, slowest)),
            Some(_) => {
                self.is_slow_until = Some(now + UNWATCHED);
                self.waits = None;
                return u64::MAX;
            }
        };
        room
    }

    /// Whether the command waits.
    #[must_use]
    pub fn waits(&self) -> bool {
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
        assert_eq!(pace.room(MIB, 0, at(0)), 3 * MIB);
        assert!(!pace.waits());
        for step in 0..100 {
            let slowest = step * 4 * MIB;
            assert_eq!(pace.room(slowest + 5 * MIB, slowest, at(step * 100)), 0, "step {step}");
            assert!(pace.waits());
        }
        assert_eq!(pace.room(500 * MIB, 498 * MIB, at(10_000)), 2 * MIB);
        assert!(!pace.waits());
    }

    #[test]
    fn a_slow_client_costs_a_fiftieth_at_most() {
        let (mut pace, begun) = (FlowControl::default(), Instant::now());
        let waited = (0..100_000u64)
            .filter(|ms| {
                let _ = pace.room(100 * MIB + ms * 1024, ms * 1024, begun + Duration::from_millis(*ms));
                pace.waits()
            })
            .count();
        assert!((1_000..2_100).contains(&waited), "{waited} of 100,000 ms");
    }
}
