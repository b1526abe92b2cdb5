//! The core's state of one task: its Attaches, and the questions about it. Makes no decisions.

use std::collections::VecDeque;

use super::{Boottime, Cancelled, DiskError, OpenedAttach, Opener};
use crate::domain::{ids::Incarnation, outcome::TaskEnding, reply_to::ReplyTo};

/// A question about a task.
#[derive(Debug)]
pub(super) enum Question {
    Open {
        attach: Box<OpenedAttach>,
        reply: Opener,
        /// When a permission that cannot be dated counts as expired.
        date_by: Boottime,
    },
    Promise {
        attempt: u64,
        reply: ReplyTo<Result<Option<Incarnation>, DiskError>>,
    },
    Cancel(ReplyTo<Result<Cancelled, DiskError>>),
    Finish(TaskEnding, ReplyTo<Result<(), DiskError>>),
}

/// The progress of the decision on a question.
#[derive(Debug)]
pub(super) enum Progress {
    /// The disk is being read.
    LookingUp,
    /// The end of the task is being written.
    Finishing,
    /// The promise never to start the task is being written, for this incarnation.
    Promising(Incarnation),
    /// The task is being started.
    Starting,
    /// The disk is being read, since the start has failed for this reason.
    StartFailed(String),
}

/// The state of one task. It is removed when it is empty.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// The highest attempt of its Attaches; `None` when a record on the disk prevents the start permanently.
    pub(super) attempt: Option<u64>,
    /// The attempt of the Attach that has the task.
    pub(super) holder: Option<u64>,
    /// The question that is being decided. There is only one at a time, so that each decision is based on the result of the
    /// one before.
    pub(super) current: Option<(Question, Progress)>,
    /// The questions that wait for it, oldest first.
    pub(super) waiting: VecDeque<Question>,
}

impl Task {
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.current, Some((_, Progress::Starting)))
    }

    /// Reports whether the state can be removed.
    pub(super) fn is_empty(&self) -> bool {
        self.attempt.is_none() && self.holder.is_none() && self.current.is_none() && self.waiting.is_empty()
    }
}
