//! A task of a live job: its progress, and its part of the job's tally. Makes no decisions.

use std::time::Duration;

use derive_more::{AddAssign, SubAssign};

use super::held::Held;
use crate::{
    domain::{
        bounded::Word,
        fingerprint::Fingerprint,
        ids::Incarnation,
        job::{Task, TaskState},
        outcome::{Ending, Outcome},
        time::{UnixMs, format_duration},
    },
    master::core::{
        messages::{Now, SessionId, WriteId},
        stored::StoredTask,
    },
};

/// Maximum delay between two failed Attach calls.
const MAX_ATTACH_DELAY: Duration = Duration::from_secs(5);

/// The progress of a task. Operators see the state of [`Task`] instead.
///
/// ```text
/// Scheduled ─→ Eligible ⇄ Admitted ─→ Dispatched ─→ Settling ─→ Ended
///     └───────────┴──────────┴─→ Withheld ─┴───────────────────────┘
/// ```
/// A task of a returning agent becomes Dispatched from every state before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Progress {
    /// Its batch is not open.
    Scheduled,
    /// Its batch is open: it waits for its agent, or for its turn.
    Eligible {
        /// When it entered the job's queue, with its agent connected; `None` if it is not in the queue.
        queued_at: Option<Duration>,
    },
    /// Its turn has come. It counts for the fan-out, and was not sent to its agent.
    Admitted,
    /// It may have reached its agent with the permission to start.
    Dispatched {
        /// The connection over which it is attached.
        attached: Option<SessionId>,
    },
    /// It must not start any more. It ends when no permission of an earlier master can arrive any more.
    Withheld {
        /// The ending that it gets.
        ending: Ending,
        /// Whether its batch is open.
        in_open_batch: bool,
    },
    /// The master decided its outcome, which is being written. Followers are notified when it is on the disk:
    /// if the master crashes before that, the next one may decide differently.
    Settling(Outcome),
    /// It has ended, and followers were notified.
    Ended {
        /// Whether its outcome is on the disk.
        stored: bool,
    },
}

/// The incarnation of the agent that may start a task, and whether it is on the disk. The incarnation is on
/// the disk before the task is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StartLife {
    /// No incarnation is chosen yet.
    Unknown,
    /// It is being written.
    Writing(Incarnation, WriteId),
    /// It is on the disk, or in the transaction that begins the job.
    Recorded(Incarnation),
}

impl StartLife {
    pub(super) fn incarnation(&self) -> Option<&Incarnation> {
        match self {
            Self::Unknown => None,
            Self::Writing(incarnation, _) | Self::Recorded(incarnation) => Some(incarnation),
        }
    }

    /// Returns the recorded incarnation for a task from the store, or for a new task whose agent is
    /// connected.
    pub(super) fn recorded(incarnation: Option<Incarnation>) -> Self {
        incarnation.map_or(Self::Unknown, Self::Recorded)
    }
}

/// An operator's order to cancel a task.
#[derive(Clone, Debug)]
pub(super) struct Cancellation {
    /// The operator.
    pub(super) by: Word,
    /// Whether the agent has answered the order: it knows the task, and stops it.
    pub(super) is_acknowledged: bool,
}

/// Counts of tasks. A job's tally is the sum over its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, AddAssign, SubAssign)]
pub(super) struct Tally {
    /// Tasks without an outcome.
    pub(super) open: usize,
    /// Open tasks whose batch is open.
    pub(super) eligible: usize,
    /// Open tasks whose turn has come: they count for the fan-out.
    pub(super) admitted: usize,
    /// Tasks that may still have to be started: the values of variables are kept for them.
    pub(super) unstarted: usize,
    /// Tasks that failed.
    pub(super) failed: usize,
    /// Tasks whose outcome is being written before followers are notified.
    pub(super) settling: usize,
    /// Tasks whose outcome is not on the disk.
    pub(super) unstored: usize,
}

impl Tally {
    pub(super) fn of(row: &TaskRow) -> Self {
        let (is_open, progress) = (row.is_open(), &row.progress);
        Self {
            open: usize::from(is_open),
            eligible: usize::from(is_open && row.is_in_open_batch()),
            admitted: usize::from(row.is_admitted()),
            unstarted: usize::from(is_open && row.task.state != TaskState::Running),
            failed: usize::from(row.has_failed()),
            settling: usize::from(matches!(progress, Progress::Settling(_))),
            unstored: usize::from(*progress != Progress::Ended { stored: true }),
        }
    }
}

/// A task of a live job.
#[derive(Debug)]
pub(super) struct TaskRow {
    pub(super) task: Task,
    pub(super) progress: Progress,
    /// The key of the agent that it is for.
    pub(super) fingerprint: Fingerprint,
    pub(super) life: StartLife,
    /// The start deadline, on the core's clock and in milliseconds since the Unix epoch.
    pub(super) start_by: Duration,
    pub(super) start_by_ms: UnixMs,
    pub(super) cancellation: Option<Cancellation>,
    /// The number of its last Attach.
    pub(super) attempt: u64,
    /// Number of consecutive Attach calls that failed.
    pub(super) failures: u32,
    /// The reasons why it is held back since it began.
    pub(super) held: Held,
    /// Until when a permission of an earlier master may arrive, on the core's clock: a store that was
    /// restored from a backup does not contain the last permissions.
    pub(super) unsure_until: Duration,
}

impl TaskRow {
    /// Creates a task whose batch is not open. `attempt` is below the numbers of all its Attach calls.
    pub(super) fn new(task: Task, fingerprint: Fingerprint, attempt: u64) -> Self {
        Self {
            task,
            progress: Progress::Scheduled,
            fingerprint,
            life: StartLife::Unknown,
            start_by: Duration::ZERO,
            start_by_ms: UnixMs(0),
            cancellation: None,
            attempt,
            failures: 0,
            held: Held::default(),
            unsure_until: Duration::ZERO,
        }
    }

    /// Reports whether it has no outcome, not even one that the master has decided and not written yet.
    pub(super) fn is_open(&self) -> bool {
        self.outcome().is_none()
    }

    /// Whether its batch is open.
    pub(super) fn is_in_open_batch(&self) -> bool {
        !matches!(self.progress, Progress::Scheduled | Progress::Withheld { in_open_batch: false, .. })
    }

    /// Reports whether it counts for the fan-out.
    pub(super) fn is_admitted(&self) -> bool {
        matches!(self.progress, Progress::Admitted | Progress::Dispatched { .. })
    }

    /// Reports whether it may have reached its agent with the permission to start, and has no outcome.
    pub(super) fn is_dispatched(&self) -> bool {
        matches!(self.progress, Progress::Dispatched { .. })
    }

    /// Reports whether it is open, and this master has not sent it.
    pub(super) fn is_unsent(&self) -> bool {
        self.is_open() && !self.is_dispatched()
    }

    /// The connection over which it is attached.
    pub(super) fn attached(&self) -> Option<SessionId> {
        match self.progress {
            Progress::Dispatched { attached } => attached,
            _ => None,
        }
    }

    /// Notes that its Attach has ended.
    pub(super) fn detach(&mut self) {
        if let Progress::Dispatched { attached } = &mut self.progress {
            *attached = None;
        }
    }

    /// Reports whether a permission to start, of this master or of an earlier one, may be on its way.
    pub(super) fn may_be_starting(&self, now: Now) -> bool {
        let is_sent = self.is_dispatched() || now.monotonic < self.unsure_until;
        self.is_open() && is_sent && self.may_start()
    }

    /// Reports whether its agent may still start it: as far as this master knows, the agent has neither
    /// reported the start nor acknowledged a cancellation.
    pub(super) fn may_start(&self) -> bool {
        let is_acknowledged = self.cancellation.as_ref().is_some_and(|cancelled| cancelled.is_acknowledged);
        self.task.state != TaskState::Running && !is_acknowledged
    }

    /// Returns its outcome, even if followers were not notified of it yet.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.progress {
            Progress::Settling(outcome) => Some(outcome),
            _ => self.task.state.outcome(),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        let has_failed =
            |outcome: &Outcome| !outcome.is_success() && !matches!(outcome.ending, Ending::Skipped(_));
        self.outcome().is_some_and(has_failed)
    }

    /// Returns the operator who cancelled it.
    pub(super) fn cancelled_by(&self) -> Option<Word> {
        self.cancellation.as_ref().map(|cancelled| cancelled.by.clone())
    }

    pub(super) fn to_store(&self) -> StoredTask {
        let mut task = self.task.clone();
        if let Progress::Settling(outcome) = &self.progress {
            task.state = TaskState::Ended(outcome.clone());
        }
        StoredTask {
            task,
            fingerprint: self.fingerprint,
            incarnation: self.life.incarnation().cloned(),
            start_by_ms: self.start_by_ms,
            cancelled_by: self.cancelled_by(),
        }
    }

    /// Changes the state that operators see, if the transition is legal. Returns whether it is.
    pub(super) fn show(&mut self, next: TaskState) -> bool {
        let is_legal = self.task.state.may_become(&next);
        if is_legal {
            self.task.state = next;
        }
        is_legal
    }

    /// Ends it, and shows its outcome.
    pub(super) fn end(&mut self, outcome: Outcome, stored: bool) {
        self.wait_for_nothing();
        self.task.no_contact_since_ms = None;
        self.show(TaskState::Ended(outcome));
        self.progress = Progress::Ended { stored };
    }

    /// Returns the delay before its next Attach, which grows with the number of failed ones.
    pub(super) fn attach_delay(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            n => (Duration::from_millis(50) * 2u32.saturating_pow(n.min(10))).min(MAX_ATTACH_DELAY),
        }
    }

    /// Sets the start deadline.
    pub(super) fn set_deadline(&mut self, start_by: Duration, now: Now) {
        self.start_by = start_by;
        self.start_by_ms = now.unix_ms + start_by.saturating_sub(now.monotonic);
    }

    /// Clears all reasons to wait.
    pub(super) fn wait_for_nothing(&mut self) {
        self.held = Held::default();
        self.task.waiting.clear();
    }

    /// Shows that it waits for its agent.
    pub(super) fn wait_for_agent(&mut self, now: Now) {
        let left = self.start_by.saturating_sub(now.monotonic);
        self.task.waiting = format!("offline; waited for up to {}", format_duration(left)).into();
    }
}
