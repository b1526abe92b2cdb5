//! Decides when the supervisor ends: when there is neither a connector nor a task, or after an order to stop. Pure.
//!
//! Must not depend on the set of tasks, or read a clock.

use std::time::{Duration, Instant};

/// How long a supervisor without tasks and without a connector continues to run.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// How often a supervisor that stops the agent without a connector checks whether tasks are left.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// How long to wait before the kill order is sent again. Longer than the grace of the order and the kill
/// itself, because a second order would shorten the grace of the first.
const KILL_RETRY_INTERVAL: Duration = Duration::from_secs(5);

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
    pub(super) fn accepts_tasks(&self) -> bool {
        self.kill_at.is_none() && self.alone_since.is_none()
    }

    /// Reports whether to kill the remaining tasks now. If so, the next kill is due after [`KILL_RETRY_INTERVAL`].
    pub(super) fn take_due_kill(&mut self, now: Instant) -> bool {
        let is_due = self.kill_at.is_some_and(|kill_at| now >= kill_at);
        if is_due {
            self.kill_at = Some(now + KILL_RETRY_INTERVAL);
        }
        is_due
    }

    /// Reports whether the supervisor has to end when no task is left.
    pub(super) fn may_end(&self, now: Instant) -> bool {
        self.kill_at.is_some() || self.alone_since.is_some_and(|since| now >= since + IDLE_TIMEOUT)
    }

    /// Returns the time until the next check, if nothing else happens; `None` if no check is needed.
    pub(super) fn next_check(&self, now: Instant) -> Option<Duration> {
        if self.kill_at.is_some() {
            return Some(STOP_CHECK_INTERVAL);
        }
        self.alone_since
            .map(|since| (since + IDLE_TIMEOUT).saturating_duration_since(now) + STOP_CHECK_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_ends_when_it_is_idle_unless_it_has_a_connector() {
        let now = Instant::now();
        let mut lifetime = Lifetime::begin(now);
        let almost = now + IDLE_TIMEOUT * 99 / 100;
        assert!(!lifetime.accepts_tasks());
        assert!(!lifetime.may_end(almost));
        assert!(lifetime.may_end(now + IDLE_TIMEOUT));
        assert_eq!(lifetime.next_check(now), Some(IDLE_TIMEOUT + STOP_CHECK_INTERVAL));
        assert_eq!(lifetime.next_check(now + 2 * IDLE_TIMEOUT), Some(STOP_CHECK_INTERVAL));
        lifetime.note_connector(true, now);
        assert!(lifetime.accepts_tasks());
        assert!(!lifetime.may_end(now + 9 * IDLE_TIMEOUT));
        assert_eq!(lifetime.next_check(now), None);
        lifetime.note_connector(false, now + IDLE_TIMEOUT);
        lifetime.note_connector(false, now + IDLE_TIMEOUT + IDLE_TIMEOUT / 2);
        assert!(!lifetime.may_end(almost + IDLE_TIMEOUT), "since the last one has gone");
        assert!(lifetime.may_end(now + 2 * IDLE_TIMEOUT), "counted from the first time that there was none");
        assert!(!lifetime.take_due_kill(now + 9 * IDLE_TIMEOUT), "tasks live without a connector");
    }

    #[test]
    fn tasks_get_their_grace_and_the_kill_order_is_repeated() {
        let now = Instant::now();
        let grace = Duration::from_secs(3);
        let mut lifetime = Lifetime::begin(now);
        lifetime.note_connector(true, now);
        lifetime.stop(grace, now);
        assert!(!lifetime.accepts_tasks());
        assert!(lifetime.may_end(now), "as soon as no task is left");
        assert_eq!(lifetime.next_check(now), Some(STOP_CHECK_INTERVAL));
        assert!(!lifetime.take_due_kill(now + grace * 99 / 100));
        assert!(lifetime.take_due_kill(now + grace));
        assert!(!lifetime.take_due_kill(now + grace + KILL_RETRY_INTERVAL * 99 / 100));
        assert!(lifetime.take_due_kill(now + grace + KILL_RETRY_INTERVAL));
    }
}
