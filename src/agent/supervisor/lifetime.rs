//! Decides when the supervisor ends: when there is neither a connector nor a task, or after an order to stop. Pure.
//!
//! Must not know which tasks there are, nor ask a clock.

use std::time::{Duration, Instant};

/// A supervisor with no tasks and no connector ends after this.
const IDLE: Duration = Duration::from_mins(1);
/// How often a supervisor that stops the agent without a connector checks whether tasks are left.
const STOPPING_STEP: Duration = Duration::from_millis(200);
/// How long the supervisor waits before it sends the kill order again. Longer than the order's grace plus the time that killing
/// takes, because a second order would shorten the grace of the first.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// Whether tasks may come, and when the supervisor ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// Since when there is no connector.
    alone_since: Option<Instant>,
    /// When the tasks are killed, where no connector sees to it.
    kill_at: Option<Instant>,
}

impl Lifetime {
    pub(super) fn begin(now: Instant) -> Self {
        Self { alone_since: Some(now), kill_at: None }
    }

    /// A connector has come, or the last one has gone.
    pub(super) fn note_connector(&mut self, is_there: bool, now: Instant) {
        if is_there {
            self.alone_since = None;
        } else {
            self.alone_since.get_or_insert(now);
        }
    }

    /// The agent is to end, and there is no connector that would see to it.
    pub(super) fn stop(&mut self, grace: Duration, now: Instant) {
        self.kill_at = Some(now + grace);
    }

    /// Whether tasks may come.
    pub(super) fn may_come(&self) -> bool {
        self.kill_at.is_none() && self.alone_since.is_none()
    }

    /// Whether the tasks that are left are killed now. They are given time for it then.
    pub(super) fn kills(&mut self, now: Instant) -> bool {
        let is_due = self.kill_at.is_some_and(|kill_at| now >= kill_at);
        if is_due {
            self.kill_at = Some(now + KILL_AGAIN);
        }
        is_due
    }

    /// Whether the supervisor ends if no task is left.
    pub(super) fn may_end(&self, now: Instant) -> bool {
        self.kill_at.is_some() || self.alone_since.is_some_and(|since| now >= since + IDLE)
    }

    /// After what time that is asked again though nothing has happened; `None` when it need not be.
    pub(super) fn next_look(&self, now: Instant) -> Option<Duration> {
        if self.kill_at.is_some() {
            return Some(STOPPING_STEP);
        }
        self.alone_since.map(|since| (since + IDLE).saturating_duration_since(now) + STOPPING_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_nobody_wants_ends_in_the_end_and_one_with_a_connector_never() {
        let now = Instant::now();
        let mut lifetime = Lifetime::begin(now);
        let almost = now + IDLE * 99 / 100;
        assert!(!lifetime.may_come());
        assert!(!lifetime.may_end(almost));
        assert!(lifetime.may_end(now + IDLE));
        assert_eq!(lifetime.next_look(now), Some(IDLE + STOPPING_STEP));
        assert_eq!(lifetime.next_look(now + 2 * IDLE), Some(STOPPING_STEP));
        lifetime.note_connector(true, now);
        assert!(lifetime.may_come());
        assert!(!lifetime.may_end(now + 9 * IDLE));
        assert_eq!(lifetime.next_look(now), None);
        lifetime.note_connector(false, now + IDLE);
        lifetime.note_connector(false, now + IDLE + IDLE / 2);
        assert!(!lifetime.may_end(almost + IDLE), "since the last one has gone");
        assert!(lifetime.may_end(now + 2 * IDLE), "counted from the first time that there was none");
        assert!(!lifetime.kills(now + 9 * IDLE), "tasks live without a connector");
    }

    #[test]
    fn tasks_get_their_grace_and_then_the_time_to_end_before_they_are_told_again() {
        let now = Instant::now();
        let grace = Duration::from_secs(3);
        let mut lifetime = Lifetime::begin(now);
        lifetime.note_connector(true, now);
        lifetime.stop(grace, now);
        assert!(!lifetime.may_come());
        assert!(lifetime.may_end(now), "as soon as no task is left");
        assert_eq!(lifetime.next_look(now), Some(STOPPING_STEP));
        assert!(!lifetime.kills(now + grace * 99 / 100));
        assert!(lifetime.kills(now + grace));
        assert!(!lifetime.kills(now + grace + KILL_AGAIN * 99 / 100));
        assert!(lifetime.kills(now + grace + KILL_AGAIN));
    }
}
