//! Estimates how long a message of the master was in transit, from the time on the master's clock at which it was sent.
//!
//! The two clocks are not synchronized. But an answer of the master is sent after the agent's message that it
//! answers, which gives a lower bound for the offset between the clocks. The highest bound is applied to
//! every message. It makes a message look slightly older than it is, by the shortest transit time of the
//! agent's messages, and never younger. So it does not matter where a message waited: in a network, in a
//! socket, or for a process that was frozen.
//!
//! A virtual machine may be stopped together with its clock. A message that was sent during the stop shows
//! this, since it seems to arrive before it was sent: the known offsets are discarded then. If a message was
//! sent before the stop, this machine cannot detect that it is old. Does not depend on the types of messages.

use std::time::Duration;

use super::Boottime;
use crate::domain::session::{Echo, SentAt};

/// The length of a window. Older offsets are discarded, since the clocks of two machines drift apart.
const WINDOW: Duration = Duration::from_mins(5);

/// How many milliseconds before it was sent a message may seem to arrive: clocks are read in milliseconds,
/// and drift between two messages.
const SLACK_MS: u64 = 20;

/// What is known of the clock of the master that the agent is connected to.
#[derive(Clone, Copy, Debug)]
pub struct MasterClock {
    clock: u64,
    /// The highest lower bounds of this machine's clock minus the master's: in this window, and in the one
    /// before.
    offsets: [Option<i64>; 2],
    /// When the window began.
    since: Boottime,
}

fn difference(own: Boottime, masters_ms: u64) -> i64 {
    i64::try_from(own).unwrap_or(i64::MAX).saturating_sub_unsigned(masters_ms)
}

impl MasterClock {
    /// Updates the knowledge of the clock with a received message and the message that it answers. `known` is
    /// the earlier knowledge.
    #[must_use]
    pub fn note(known: Option<Self>, sent: SentAt, echo: Option<Echo>, received: Boottime) -> Self {
        let fresh = Self { clock: sent.clock, offsets: [None, None], since: received };
        let mut clock = known.filter(|known| known.clock == sent.clock).unwrap_or(fresh);
        // With a larger offset this message would have arrived before it was sent: the machine was stopped,
        // and its clock too.
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

    /// Returns the earliest moment, on this machine's clock, at which a message that arrived at `arrived` can
    /// have been sent. `None` if nothing is known of the sender's clock, or if the message shows that the
    /// offset is not valid any more.
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
        /// The offset of the master's clock is constant; the messages of both sides have any transit time.
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
        // The agent's machine and its clock were stopped for a minute. Messages that were sent during the
        // stop and after it show that.
        assert_eq!(clock.sent_at(sent(30_000), 505_001), None);
        assert_eq!(clock.sent_at(sent(65_000), 505_001), None);
        // The echoed message was sent before the stop.
        let echo = Some(Echo { at_ms: 504_000, age_ms: 60_000 });
        let clock = MasterClock::note(Some(clock), sent(64_000), echo, 505_001);
        assert_eq!(clock.sent_at(sent(65_000), 505_001), None);
        assert_eq!(
            clock.sent_at(sent(65_000), 575_000),
            None,
            "not even a message that waited longer than the stop lasted"
        );
        let echo = Some(Echo { at_ms: 505_100, age_ms: 10 });
        let clock = MasterClock::note(Some(clock), sent(65_111), echo, 505_112);
        assert_eq!(clock.sent_at(sent(65_200), 505_205), Some(505_199));
    }

    #[test]
    fn an_old_answer_says_nothing_about_clocks_that_drift() {
        let mut clock = None;
        // A drift of a second a minute, which is more than that of any real clock.
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
