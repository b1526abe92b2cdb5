//! The effects that the core returns.

use std::time::Duration;

use super::{Reply, SessionId, Ticket, WriteId};
use crate::{
    domain::{
        command::TaskSpec,
        fingerprint::Fingerprint,
        ids::{Incarnation, JobId, TaskId},
        job::{Overflow, Task},
        name::AgentName,
        outcome::Outcome,
        plan::Gate,
        revision::Revision,
    },
    master::core::stored::{KnownTask, Write},
};

/// What happens when the disk refuses a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDurability {
    /// The write fails, and whoever asked for the change is notified.
    FailOnError,
    /// The change has already happened: the write is retried until it succeeds.
    RetryUntilWritten,
    /// As `RetryUntilWritten`, but nobody waits for it, so it may wait to be written together with other changes.
    RetryBatched,
    /// The write is dropped: losing it does no harm.
    BestEffort,
}

impl WriteDurability {
    /// Returns whether the write is retried until it succeeds or the master ends.
    #[must_use]
    pub fn is_retried(self) -> bool {
        matches!(self, Self::RetryUntilWritten | Self::RetryBatched)
    }
}

/// What goes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this in one transaction, after all that was to be written before; answer with `Persisted`, `PersistFailed` or
    /// `PersistConflict`, and with `PersistDelayed` once where what is kept cannot be written at once.
    Persist(WriteId, Vec<Write>, WriteDurability),
    /// Answer somebody.
    Reply(Ticket, Box<Reply>),
    /// Attach a task on an agent's link.
    Attach(Box<AttachOrder>),
    /// The task's outcome is on the disk: its agent may forget it.
    OutcomeStored(TaskId),
    /// Stop a task.
    Signal {
        /// On which connection.
        session: SessionId,
        /// The id of the task.
        id: TaskId,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// TERM to KILL.
        grace_ms: u32,
    },
    /// A task is not to be started any more: an Attach of it that was not opened yet gives no permission.
    WithdrawStart(TaskId),
    /// Look up in the store what an agent has and what is not live; answer with `LookedUp`.
    LookUp(SessionId, AgentName, Vec<KnownTask>),
    /// Ask an agent for a sign of life.
    Ping(SessionId),
    /// Let all agents remember this revision of the store: somebody's rights ended with it.
    Remember(Revision),
    /// End an agent.
    StopAgent {
        /// On which connection.
        session: SessionId,
        /// How long its tasks may continue.
        grace_ms: u32,
    },
    /// The direct address of the agent on this connection is accepted: try it.
    DialDirect(SessionId),
    /// Close a connection.
    CloseSession(SessionId),
    /// Tell followers that a task is like this now.
    Publish(JobId, Box<Task>),
    /// Tell followers how a job's gate is now.
    PublishGate(JobId, Gate),
    /// Compare what a task printed with what others did; answer with `Compared`.
    Compare {
        /// The id of the task.
        id: TaskId,
        /// How it ended.
        outcome: Outcome,
        /// With which, and how they ended.
        accepted: Vec<(u32, Outcome)>,
    },
    /// Tell followers that a job has ended; nothing more is appended to its log.
    JobEnded(JobId, u64),
    /// Somebody's rights are others now: open connections ask again who they are.
    OperatorsChanged,
    /// A job's outcomes are all on the disk: nothing of it is needed in memory.
    JobStored(JobId),
}

/// How to attach a task.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachOrder {
    /// Which task.
    pub id: TaskId,
    /// The key of the agent that it is for.
    pub fingerprint: Fingerprint,
    /// On which connection.
    pub session: SessionId,
    /// Counts up.
    pub attempt: u64,
    /// What to start, and until when on the core's clock; `None` when nothing may be started.
    pub start: Option<(TaskSpec, Duration)>,
    /// The life for which that holds.
    pub incarnation: Incarnation,
    /// The store's revision, which holds this task.
    pub revision: Revision,
    /// How long to wait first, after attempts that came to nothing.
    pub delay: Duration,
    /// Most bytes of its output that are kept.
    pub output_cap: u64,
    /// What happens to more.
    pub overflow: Overflow,
    /// The task has ended, and is attached for what its agent still has of it.
    pub is_recall: bool,
    /// Nothing of its output is wanted.
    pub discard: bool,
    /// An operator feeds its command.
    pub is_fed: bool,
}
