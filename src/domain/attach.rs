//! The messages of an Attach, which is the stream for one task, and of an order to stop a task.
//!
//! Knows neither how they travel nor what follows from them. Frames and input keep their [`Bytes`](bytes::Bytes): nothing
//! is copied.

use std::time::Duration;

use super::{
    command::TaskSpec,
    control::{Closing, InputTaken, Stdin, TaskGap, WindowSize},
    frame::Frame,
    ids::{Incarnation, TaskId},
    outcome::Outcome,
    revision::SealedRevision,
    seal::Seal,
    session::SentAt,
};

/// A message from the master about one task.
#[derive(Clone, Debug, PartialEq)]
pub enum AttachRequest {
    /// The first message.
    Open(Box<Open>),
    /// The agent can send output before this offset.
    Grant(u64),
    /// The master has stored all output before this offset.
    Acknowledge(u64),
    /// The master has stored the outcome: the agent can forget all but the task's id.
    OutcomeStored,
    /// Bytes for the command's standard input.
    Stdin(Stdin),
    /// The operator's terminal has a new size.
    WindowSize(WindowSize),
}

/// The first message of an Attach.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// The task.
    pub id: TaskId,
    /// Counts the Attach calls for this task; of two, the one with the higher number wins.
    pub attempt: u64,
    /// What the agent may start if it does not know the task; `None` if it may not.
    pub start: Option<StartPermission>,
    /// The first offset of output that is wanted. The master has stored everything before it.
    pub from_offset: u64,
    /// The incarnation of the agent that the master recorded before it first sent this task.
    pub incarnation: Incarnation,
    /// The agent can send output before this offset.
    pub grant_to: u64,
    /// A revision of the master's store that contains this task.
    pub revision: SealedRevision,
    /// When it was sent.
    pub sent: Option<SentAt>,
}

/// The permission to start a task.
#[derive(Clone, Debug, PartialEq)]
pub struct StartPermission {
    /// The task.
    pub spec: TaskSpec,
    /// How long after it was sent the permission is valid.
    pub within: Duration,
}

/// A message from the agent about one task.
#[derive(Clone, Debug, PartialEq)]
pub enum AttachResponse {
    /// The task was started, now or earlier. Left out where the end follows at once.
    Started {
        /// Nanoseconds since it was started, on the agent's monotonic clock.
        elapsed_ns: u64,
    },
    /// What the task has printed next.
    Output(Vec<Frame>),
    /// The task has ended, and all of its output was sent before this.
    Ended(EndedTask),
    /// The agent does not know the task and did not start it.
    Unknown {
        /// The incarnation that does not know it. If it is the one that the master recorded, the agent has written down that
        /// it did not start the task and never will.
        incarnation: Incarnation,
        /// Why it was not started, for people.
        reason: String,
    },
    /// An Attach with a higher attempt took this one's place.
    Superseded {
        /// That attempt.
        by: u64,
    },
    /// The agent's connector ends; the task does not.
    Closing(Closing),
    /// A part of the output no longer exists.
    Gap(TaskGap),
    /// How far the command has read its input: once at the beginning, and whenever it reads on.
    InputTaken(InputTaken),
    /// Why the agent's disk holds the command back; `None` when it does not any more.
    Held(Option<String>),
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedTask {
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes that it printed in all.
    pub end_offset: u64,
    /// How long it ran, in nanoseconds on the agent's monotonic clock.
    pub duration_ns: u64,
}

/// Stops a task. An agent that does not know it never starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalTask {
    /// The task.
    pub id: TaskId,
    /// Who asked for it.
    pub by: String,
    /// The time between TERM and KILL, in milliseconds.
    pub grace_ms: u32,
    /// The master's seal on who asked for it; it becomes part of the outcome.
    pub seal: Option<Seal>,
}

/// The answer to [`SignalTask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signalled {
    /// The agent knows the task: it was started there.
    pub known: bool,
    /// The agent's incarnation; of a task that is not known, the one that does not know it.
    pub incarnation: Incarnation,
}
