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
        time::UnixMs,
    },
    master::core::stored::{KnownTask, Write},
};

/// What happens when the disk refuses a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDurability {
    /// The write fails, and the caller is refused.
    FailOnError,
    /// The change has already happened: the write is retried until it succeeds.
    RetryUntilWritten,
    /// As `RetryUntilWritten`, but no caller waits for it, so it may be delayed and written together with
    /// other changes.
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

/// An effect of the core, for the actor to perform.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this in one transaction, after all earlier writes; answer with `Persisted`, `PersistFailed` or
    /// `PersistConflict`, and once before with `PersistDelayed` if a retried write cannot be made at once.
    Persist(WriteId, Vec<Write>, WriteDurability),
    /// Answer a caller.
    Reply(Ticket, Box<Reply>),
    /// Attach a task on an agent's link.
    Attach(Box<AttachOrder>),
    /// Notify the agent that the task's outcome is on the disk, so that it can forget the task.
    OutcomeStored(TaskId),
    /// Stop a task.
    Signal {
        /// The session of the agent.
        session: SessionId,
        /// The id of the task.
        id: TaskId,
        /// The operator, as the audit log has it.
        by: String,
        /// The time between TERM and KILL, in milliseconds.
        grace_ms: u32,
    },
    /// Withdraw the permission to start a task from each Attach that has not been opened yet.
    WithdrawStart(TaskId),
    /// Look up tasks in the store that an agent has and that are not live; answer with `LookedUp`.
    LookUp(SessionId, AgentName, Vec<KnownTask>),
    /// Ask an agent for an answer.
    Ping(SessionId),
    /// Have all agents remember this revision of the store: it ended the rights of an operator or agent.
    Remember(Revision),
    /// Stop an agent.
    StopAgent {
        /// The session of the agent.
        session: SessionId,
        /// How long its tasks may continue, in milliseconds.
        grace_ms: u32,
    },
    /// Dial the direct address of the agent in this session, which was accepted.
    DialDirect(SessionId),
    /// Close a session.
    CloseSession(SessionId),
    /// Notify followers of the new state of a task.
    Publish(JobId, Box<Task>),
    /// Notify followers of the new state of a job's gate.
    PublishGate(JobId, Gate),
    /// Compare a task's output with accepted outputs; answer with `Compared`.
    Compare {
        /// The id of the task.
        id: TaskId,
        /// Its outcome.
        outcome: Outcome,
        /// The tasks with accepted outputs, and their outcomes.
        accepted: Vec<(u32, Outcome)>,
    },
    /// Notify followers that a job has ended. Nothing more is appended to its log.
    JobEnded(JobId, UnixMs),
    /// Make open connections check their rights again, because rights of operators have changed.
    OperatorsChanged,
    /// Free the memory of a job: all of its outcomes are on the disk.
    JobStored(JobId),
}

/// An order to attach a task.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachOrder {
    /// The task.
    pub id: TaskId,
    /// The key of the agent that it is for.
    pub fingerprint: Fingerprint,
    /// The session of the agent.
    pub session: SessionId,
    /// The number of the Attach, higher than that of every earlier one of the task.
    pub attempt: u64,
    /// The task to start, and its deadline on the core's clock; `None` if it must not be started.
    pub start: Option<(TaskSpec, Duration)>,
    /// The incarnation that may start it.
    pub incarnation: Incarnation,
    /// The revision of the store that contains this task.
    pub revision: Revision,
    /// How long to wait first, after failed attempts.
    pub delay: Duration,
    /// Maximum number of bytes of its output that are kept.
    pub output_cap: u64,
    /// What happens to output over the cap.
    pub overflow: Overflow,
    /// Whether the task has ended, and only its late facts and its remaining output are requested.
    pub is_recall: bool,
    /// Whether its output is discarded.
    pub discard: bool,
    /// Whether an operator sends the standard input of its command.
    pub is_fed: bool,
}
