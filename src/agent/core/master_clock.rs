//! Estimates how long a message of the master was in transit, from the time on the master's clock at which it was sent.
//!
//! Nobody sets that clock by this machine's. But a message that answers one of the agent's was not sent before that one, and
//! so shows how far the two clocks are apart at least. By the best such answer every message is judged: it is taken for a
//! little older than it is, by what the agent's quickest message needs on its way, and never for younger. So it does not
//! matter where a message waited: in a network, in a socket, or for a process that was frozen.
//!
//! A virtual machine may be stopped together with its clock. That shows as soon as something comes that was sent meanwhile,
//! since it seems to come before it was sent: then nothing is believed that was known before. Of a message that was sent
//! before the stop nobody on this machine can tell that it is old. Knows no messages.

use std::time::Duration;

use super::Boottime;
use crate::domain::session::{Echo, SentAt};

/// The clocks of two machines drift apart, so that an answer from long ago says nothing about a message of today.
const WINDOW: Duration = Duration::from_mins(5);

/// How many milliseconds before its sending a message may seem to arrive: clocks are read in milliseconds, and drift between
/// two messages.
const SLACK_MS: u64 = 20;

/// What is known of the clock of the master that the agent is connected to.
#[derive(Clone, Copy, Debug)]
pub struct MasterClock {
    clock: u64,
    /// This machine's clock minus the master's, at least: in this window, and in the one before.
    offsets: [Option<i64>; 2],
    /// When the window began.
    since: Boottime,
}

fn difference(own: Boottime, masters_ms: u64) -> i64 {
    i64::try_from(own).unwrap_or(i64::MAX).saturating_sub_unsigned(masters_ms)
}

impl MasterClock {
    /// Notes a message that was received, and what it answers; `known` is what was known before.
    #[must_use]
    pub fn note(known: Option<Self>, sent: SentAt, echo: Option<Echo>, received: Boottime) -> Self {
        let fresh = Self { clock: sent.clock, offsets: [None, None], since: received };
        let mut clock = known.filter(|known| known.clock == sent.clock).unwrap_or(fresh);
        // By a larger one this message would have come before it was sent: the machine was stopped, and its clock with it.
        let largest = difference(received, sent.at_ms);
        if clock.offset().is_some_and(|offset| offset > largest) {
            clock.offsets = [None, None];
        }
        if u128::from(received.saturating_sub(clock.since)) >= WINDOW.as_millis() {
            clock.offsets = [None, clock.offsets[0]];
            clock.since = received;
        }
        let offset = echo.map(|echo| difference(echo.at_ms, sent.at_ms.saturating_sub(echo.age_ms)));
        if offset.is_some_and(|offset| offset <= largest) {
            clock.offsets[0] = clock.offsets[0].max(offset);
        }
        clock
    }

    fn offset(&self) -> Option<i64> {
        self.offsets[0].max(self.offsets[1])
    }

    /// The earliest moment, on this machine's clock, at which a message that `arrived` then can have been sent. `None` when
    /// nothing is known of the sender's clock, or the message shows that what was known is no longer true.
    #[must_use]
    pub fn sent_at(&self, sent: SentAt, arrived: Boottime) -> Option<Boottime> {
        let offset = self.offset().filter(|_| sent.clock == self.clock)?;
        let earliest = sent.at_ms.saturating_add_signed(offset);
        (earliest <= arrived.saturating_add(SLACK_MS)).then_some(earliest.min(arrived))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: u64 = 7;

    fn sent(at_ms: u64) -> SentAt {
        SentAt { clock: CLOCK, at_ms }
    }

    proptest! {
        /// The master's clock is a constant apart from the agent's; both send messages that take any time.
        #[test]
        fn no_message_is_taken_for_younger_than_it_is(
            apart in 0u64..2_000_000,
            ways in proptest::collection::vec((1u64..20_000, 0u64..20_000, 0u64..5_000, 0u64..20_000), 1..40),
            last in 0u64..100_000,
        ) {
            let (mut clock, mut now, mut quickest) = (None, 3_000_000, u64::MAX);
            for (pause, way_there, thinks, way_back) in ways {
                now += pause;
                let (received, answers) = (now + way_there, now + way_there + thinks);
                let echo = Echo { at_ms: now, age_ms: answers - received };
                clock = Some(MasterClock::note(clock, sent(answers - apart), Some(echo), answers + way_back));
                quickest = quickest.min(way_there);
                now = answers + way_back;
            }
            let believed = clock.unwrap().sent_at(sent(now + last - apart), now + last).unwrap();
            prop_assert!(believed <= now + last, "never younger");
            if now < 3_000_000 + 300_000 {
                prop_assert_eq!(now + last - believed, quickest, "and older by the quickest way only");
            }
        }
    }

    #[test]
    fn another_process_of_the_master_has_another_clock() {
        let echo = |at_ms| Some(Echo { at_ms, age_ms: 0 });
        let clock = MasterClock::note(None, sent(90_000_000), echo(1_000), 1_001);
        let other = SentAt { clock: 8, at_ms: 5 };
        assert_eq!(clock.sent_at(other, 2_000), None);
        let clock = MasterClock::note(Some(clock), other, echo(2_000), 2_001);
        assert_eq!(clock.sent_at(SentAt { clock: 8, at_ms: 10 }, 2_006), Some(2_005));
        assert_eq!(clock.sent_at(sent(90_000_000), 90_000_000), None);
    }

    #[test]
    fn a_machine_whose_clock_was_stopped_believes_nothing_that_it_knew_before() {
        let clock = MasterClock::note(None, sent(1_000), Some(Echo { at_ms: 501_000, age_ms: 0 }), 501_001);
        assert_eq!(clock.sent_at(sent(5_000), 505_000), Some(505_000));
        assert_eq!(clock.sent_at(sent(5_010), 505_000), Some(505_000), "it was not sent after it came");
        // For a minute the agent's machine did not run, and its clock neither: what was sent meanwhile shows it, and so
        // does what is sent later.
        assert_eq!(clock.sent_at(sent(30_000), 505_001), None);
        assert_eq!(clock.sent_at(sent(65_000), 505_001), None);
        // What the master echoes is from before the stop.
        let echo = Some(Echo { at_ms: 504_000, age_ms: 60_000 });
        let clock = MasterClock::note(Some(clock), sent(64_000), echo, 505_001);
        assert_eq!(clock.sent_at(sent(65_000), 505_001), None);
        assert_eq!(
            clock.sent_at(sent(65_000), 575_000),
            None,
            "nor is what waited longer than the stop lasted"
        );
        let echo = Some(Echo { at_ms: 505_100, age_ms: 10 });
        let clock = MasterClock::note(Some(clock), sent(65_111), echo, 505_112);
        assert_eq!(clock.sent_at(sent(65_200), 505_205), Some(505_199));
    }

    #[test]
    fn an_old_answer_says_nothing_about_clocks_that_drift() {
        let mut clock = None;
        // A second a minute, which no clock drifts.
        for minute in 0..=60u64 {
            let (own, masters) = (600_000 + minute * 59_000, minute * 60_000);
            clock = Some(MasterClock::note(clock, sent(masters), Some(Echo { at_ms: own, age_ms: 0 }), own));
        }
        let error = clock
            .unwrap()
            .sent_at(sent(3_600_000), 600_000 + 60 * 59_000 + 11_000)
            .unwrap()
            .abs_diff(600_000 + 60 * 59_000);
        assert!(error <= 11_000, "{error} ms");
    }
}
