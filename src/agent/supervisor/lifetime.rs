//! Decides when the supervisor ends: when there is neither a connector nor a task, or after an order to stop. Pure.
//!
//! Must not depend on the set of tasks, or read a clock.

use std::time::{Duration, Instant};

/// How long a supervisor without tasks and without a connector continues to run.
const IDLE: Duration = Duration::from_mins(1);
/// How often a supervisor that stops the agent without a connector checks whether tasks are left.
const STOPPING_STEP: Duration = Duration::from_millis(200);
/// How long to wait before the kill order is sent again. Longer than the grace of the order and the kill
/// itself, because a second order would shorten the grace of the first.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// The state that determines whether new tasks can arrive, and when the supervisor ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// The time since which there is no connector; `None` while there is one.
    alone_since: Option<Instant>,
    /// When to kill the tasks, after an order to stop that no connector handles.
    kill_at: Option<Instant>,
}

impl Lifetime {
    pub(super) fn begin(now: Instant) -> Self {
        Self { alone_since: Some(now), kill_at: None }
    }

    /// Notes whether there is a connector.
    pub(super) fn note_connector(&mut self, is_there: bool, now: Instant) {
        if is_there {
            self.alone_since = None;
        } else {
            self.alone_since.get_or_insert(now);
        }
    }

    /// Begins to stop the agent without a connector: the tasks are killed after the grace.
    pub(super) fn stop(&mut self, grace: Duration, now: Instant) {
        self.kill_at = Some(now + grace);
    }

    /// Reports whether new tasks can arrive.
    pub(super) fn may_come(&self) -> bool {
        self.kill_at.is_none() && self.alone_since.is_none()
    }

    /// Reports whether to kill the remaining tasks now. If so, the next kill is due after [`KILL_AGAIN`].
    pub(super) fn kills(&mut self, now: Instant) -> bool {
        let is_due = self.kill_at.is_some_and(|kill_at| now >= kill_at);
        if is_due {
            self.kill_at = Some(now + KILL_AGAIN);
        }
        is_due
    }

    /// Reports whether the supervisor has to end when no task is left.
    pub(super) fn may_end(&self, now: Instant) -> bool {
        self.kill_at.is_some() || self.alone_since.is_some_and(|since| now >= since + IDLE)
    }

    /// Returns the time until the next check, if nothing else happens; `None` if no check is needed.
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
