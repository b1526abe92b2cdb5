//! The messages of an Attach, which is the stream for one task, and of a request to stop a task.
//!
//! Does not depend on the transport or on the code that handles the messages. Frames and input keep their
//! [`Bytes`](bytes::Bytes) and are not copied.

use std::time::Duration;

use super::{
    command::TaskSpec,
    control::{Closing, InputTaken, Stdin, TaskGap, WindowSize},
    frame::Frame,
    ids::{Incarnation, TaskId},
    offset::OutputOffset,
    outcome::TaskEnding,
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
    Grant(OutputOffset),
    /// The master has stored all output before this offset.
    Acknowledge(OutputOffset),
    /// The master has stored the outcome. The agent can delete everything about the task except its id.
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
    /// The number of this Attach among those for the task. Of two, the one with the higher number wins.
    pub attempt: u64,
    /// The permission to start the task if the agent does not know it; `None` if the agent must not start it.
    pub start: Option<StartPermission>,
    /// The first offset of output that the agent sends. The master has stored everything before it.
    pub from_offset: OutputOffset,
    /// The incarnation of the agent that the master recorded before it first sent this task.
    pub incarnation: Incarnation,
    /// The agent can send output before this offset.
    pub grant_to: OutputOffset,
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
    /// How long the permission is valid after it was sent.
    pub within: Duration,
}

/// A message from the agent about one task.
#[derive(Clone, Debug, PartialEq)]
pub enum AttachResponse {
    /// The task was started, now or earlier. Not sent if the end follows immediately.
    Started {
        /// Nanoseconds since it was started, on the agent's monotonic clock.
        elapsed_ns: u64,
    },
    /// The next output of the task.
    Output(Vec<Frame>),
    /// The task has ended, and all of its output was sent before this.
    Ended(TaskEnding),
    /// The agent does not know the task and did not start it.
    Unknown {
        /// The incarnation that does not know it. If it is the one that the master recorded, the agent has
        /// stored that it did not start the task and never will.
        incarnation: Incarnation,
        /// The reason why it was not started, for people.
        reason: String,
    },
    /// Another Attach with a higher attempt has replaced this one.
    Superseded {
        /// The attempt of the other Attach.
        by: u64,
    },
    /// The agent's connector stops. The task continues.
    Closing(Closing),
    /// A part of the output no longer exists.
    Gap(TaskGap),
    /// How far the command has read its input. Sent at the beginning, and whenever the command has read more.
    InputTaken(InputTaken),
    /// The reason why the agent's disk blocks the command's output; `None` when it no longer does.
    Held(Option<String>),
}

/// Stops a task. An agent that does not know it never starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalTask {
    /// The task.
    pub id: TaskId,
    /// The operator who cancelled it.
    pub by: String,
    /// The time between SIGTERM and SIGKILL, in milliseconds.
    pub grace_ms: u32,
    /// The master's seal on `by`. It becomes part of the outcome.
    pub seal: Option<Seal>,
}

/// The answer to [`SignalTask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signalled {
    /// Whether the agent knows the task, because it was started there.
    pub known: bool,
    /// The agent's incarnation, also if it does not know the task.
    pub incarnation: Incarnation,
}
