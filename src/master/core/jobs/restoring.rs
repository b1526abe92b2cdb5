//! Creates live jobs from the stored jobs when the master starts. Makes no other decisions.

use std::time::Duration;

use super::{
    live::{LiveJob, Phase},
    task::{Cancellation, Progress, StartLife, TaskRow},
};
use crate::{
    domain::{
        agent::{START_PERMISSION, START_WITHIN},
        plan::GateState,
        time::UnixMs,
    },
    master::core::{
        messages::Now,
        stored::{StoredJob, StoredTask},
    },
};

/// The values that all tasks of a restored job share.
struct Restored {
    /// The last batch that is open.
    open_batch: u32,
    /// The requested time within which a task must start; `None` if none was requested.
    within: Option<Duration>,
    /// Whether unsent tasks wait for their turn, and not only for their agents.
    waits_for_turn: bool,
    first_attempt: u64,
    now: Now,
}

impl LiveJob {
    /// Creates a job that continues after the master's start. Attempts of its tasks are above
    /// `first_attempt`.
    pub(in crate::master::core) fn from_store(stored: StoredJob, first_attempt: u64, now: Now) -> Self {
        let is_under_way = |stored: &&StoredTask| stored.incarnation.is_some() && stored.is_open();
        let under_way = stored.tasks.iter().filter(is_under_way).count();
        let restored = Restored {
            open_batch: stored.job.gate.open_batch,
            within: stored.options.start_within_ms.map(Duration::from_millis),
            waits_for_turn: under_way >= stored.options.plan.most_at_once()
                || matches!(stored.job.gate.state, GateState::Held(_)),
            first_attempt,
            now,
        };
        let rows = stored.tasks.into_iter().map(|stored| restored.row(stored)).collect();
        let mut live = Self::new(stored.job, stored.options, rows);
        live.phase = Phase::Resumed;
        live
    }
}

impl StoredTask {
    fn is_open(&self) -> bool {
        self.task.state.outcome().is_none()
    }
}

impl Restored {
    fn row(&self, stored: StoredTask) -> TaskRow {
        let (is_open, is_sent) = (stored.is_open(), stored.incarnation.is_some());
        let mut task = stored.task;
        if is_sent && is_open {
            task.no_contact_since_ms = Some(self.now.unix_ms);
        }
        let progress = match (is_open, is_sent) {
            (false, _) => Progress::Ended { stored: true },
            (true, true) => Progress::Dispatched { attached: None },
            (true, false) if task.batch <= self.open_batch => Progress::Eligible { queued_at: None },
            (true, false) => Progress::Scheduled,
        };
        let cancelled = |by| Cancellation { by, is_acknowledged: false };
        TaskRow {
            progress,
            life: StartLife::recorded(stored.incarnation),
            start_by: self.now.monotonic + self.remaining(stored.start_by_ms, is_sent),
            start_by_ms: stored.start_by_ms,
            cancellation: stored.cancelled_by.map(cancelled),
            unsure_until: self.now.monotonic + START_PERMISSION,
            ..TaskRow::new(task, stored.fingerprint, self.first_attempt)
        }
    }

    /// Returns how long a task may still be started. If the clock was set back, this is at most the requested
    /// time.
    fn remaining(&self, start_by_ms: UnixMs, is_sent: bool) -> Duration {
        let longest = self.within.unwrap_or(START_WITHIN);
        let remaining = start_by_ms.since(self.now.unix_ms).min(longest);
        if !is_sent && self.waits_for_turn {
            // The time in the queue does not count against the deadline, which is extended by it later.
            remaining.max(START_WITHIN)
        } else if !is_sent && self.within.is_none() {
            // Unless a time was requested, the agent also gets time to connect again to the restarted master.
            (start_by_ms + START_WITHIN).since(self.now.unix_ms).min(longest)
        } else {
            remaining
        }
    }
}
