//! The inputs, answers and effects of the agent's core. Plain data: no channel, no clock, no file.

use derive_more::{Display, From, TryInto};
use serde::{Deserialize, Serialize};

use crate::domain::{
    attach::StartPermission,
    command::TaskSpec,
    fingerprint::Fingerprint,
    ids::{Incarnation, TaskId},
    outcome::TaskEnding,
    reply_to::{ReplyTo, Ticket},
    revision::SealedRevision,
    session::{Echo, SentAt},
};

/// A moment on `CLOCK_BOOTTIME`, which includes the time during which the machine was suspended, in milliseconds.
pub type Boottime = u64;

/// The reason why the disk failed. A failed read says nothing about the task.
#[derive(Clone, Debug, PartialEq, Eq, Display)]
pub struct DiskError(pub String);

impl std::error::Error for DiskError {}

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The first message of an Attach.
#[derive(Clone, Debug)]
pub struct OpenedAttach {
    /// The task.
    pub id: TaskId,
    /// The number of the Attach. Of two for one task the higher one wins.
    pub attempt: u64,
    /// The incarnation for which the permission is valid.
    pub incarnation: Incarnation,
    /// The permission to start the task; `None` if it may not be started.
    pub start: Option<StartPermission>,
    /// When the message was sent; `None` if the master does not say.
    pub sent: Option<SentAt>,
    /// When the message was read from the connection.
    pub arrived: Boottime,
    /// The revision of the master's store.
    pub revision: SealedRevision,
}

/// A permanent record of a task that must never be started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalRecord {
    /// The task ended in this way, and the master has stored that.
    Ending(TaskEnding),
    /// The task was not started in this incarnation, and never will be.
    NeverStarted(Incarnation),
}

/// What the agent's disk knows of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// The task has a directory: it was started.
    Spooled,
    /// The task has a permanent record.
    Recorded(FinalRecord),
    /// The agent knows nothing of the task.
    Nothing,
}

/// What an Attach does with its task.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Stream the task, which has just been started.
    Started,
    /// Stream the task, which was started before.
    Resume,
    /// Answer with the end of the task, which the master has stored before.
    Recall(TaskEnding),
    /// Answer that the task was not started in this incarnation, and never will be.
    NeverStarted(Incarnation),
    /// Report that the promise never to start the task could not be written, and ask for it again.
    Unwritten(DiskError),
    /// Answer that another incarnation does not know the task.
    OtherIncarnation {
        /// The agent's incarnation.
        incarnation: Incarnation,
        /// What the agent has lost since the other one.
        reason: &'static str,
    },
    /// Answer that the permission has expired. The master may send a new one.
    Expired,
    /// Answer that the agent's memory of tasks was removed before the task started. The master asks again.
    MemoryRemoved,
    /// Answer that the task is not started, for this reason.
    Refuse(String),
    /// An Attach with this higher attempt has the task.
    Superseded(u64),
}

/// The answer to an order to stop a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The task was started, and its process must be killed. The incarnation is the agent's.
    Spooled(Incarnation),
    /// The task has ended, and the master has stored that. The incarnation is the agent's.
    Ended(Incarnation),
    /// The task was not started in this incarnation, and never will be.
    NeverStarted(Incarnation),
    /// A later order to stop the task waits in the place of this one.
    Replaced,
}

/// The result of starting a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartEnd {
    /// The task runs.
    Started,
    /// The task was started before.
    Known,
    /// The permission expired before a process could begin; nothing was started.
    Expired,
    /// No process has confirmed the start, for this reason. The task may have begun nevertheless.
    Failed(String),
}

/// What the agent reports about itself when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The agent's incarnation.
    pub incarnation: Incarnation,
    /// The highest revision of the master's store that the agent has seen.
    pub seen: SealedRevision,
    /// Whether the agent is stopping.
    pub is_stopping: bool,
}

/// An input of the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// An Attach was opened.
    Open(Box<OpenedAttach>, ReplyTo<Result<Decision, DiskError>>),
    /// An Attach has ended.
    AttachEnded {
        /// Its task.
        id: TaskId,
        /// Its number.
        attempt: u64,
    },
    /// An Attach promises again never to start its task. `None` as the answer: another Attach has the task, or the task is
    /// known by now.
    Promise {
        /// The task.
        id: TaskId,
        /// The number of the Attach.
        attempt: u64,
        /// The caller.
        reply: ReplyTo<Result<Option<Incarnation>, DiskError>>,
    },
    /// The master stops a task.
    Cancel(TaskId, ReplyTo<Result<Cancelled, DiskError>>),
    /// The master has stored the end of a task.
    Finish(TaskId, TaskEnding, ReplyTo<Result<(), DiskError>>),
    /// The answer to [`Effect::LookUp`].
    LookedUp(TaskId, Result<Knowledge, DiskError>),
    /// The answer to [`Effect::Record`].
    Recorded(TaskId, Result<(), DiskError>),
    /// The answer to [`Effect::Start`].
    StartEnded(TaskId, StartEnd),
    /// The directory with the agent's memory of tasks was replaced. Comes before the answer of the look-up that found it.
    MemoryReplaced(Incarnation),
    /// It is time to check whether the directory with the agent's memory of tasks is in its place.
    CheckMemory,
    /// The agent trusts this CA.
    BelongTo(Fingerprint),
    /// The master has accepted the session.
    Welcomed {
        /// Whether only administrators may run commands, since the agent is on the master's machine.
        admins_only: bool,
        /// The revision of the master's store.
        revision: SealedRevision,
        /// When the message was sent.
        sent: SentAt,
        /// The agent's newest message, if there was one.
        echo: Option<Echo>,
    },
    /// The master has sent a ping.
    Pinged {
        /// The revision of the master's store, if it must be remembered.
        revision: Option<SealedRevision>,
        /// When the message was sent.
        sent: SentAt,
        /// The agent's newest message, if there was one.
        echo: Option<Echo>,
    },
    /// The agent stops: it starts no further task.
    Stop,
    /// The directories of finished tasks are to be removed now.
    RemoveLeftOver(ReplyTo<()>),
    /// The answer to [`Effect::RemoveDirectories`].
    Removed,
    /// A caller asks what the agent reports when it connects.
    Introduce(ReplyTo<Introduction>),
    /// A caller asks which tasks are being started.
    ListStarting(ReplyTo<Vec<TaskId>>),
    /// The time that [`super::Core::due`] returned has come.
    Tick,
}

/// An effect of the core, for the actor to perform in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read what the disk knows of a task. Before the answer "nothing", check that the memory is in its place.
    LookUp(TaskId),
    /// Write the permanent record of a task.
    Record(TaskId, FinalRecord),
    /// Start a task.
    Start {
        /// The task.
        id: TaskId,
        /// What to run.
        spec: Box<TaskSpec>,
        /// The latest moment at which it may be started.
        start_until: Boottime,
    },
    /// Notify the Attach that has a task that the one with this attempt takes its place.
    Supersede(TaskId, u64),
    /// The Attach that had a task has ended.
    Release(TaskId),
    /// Answer an Attach. Unless the decision is `Superseded`, the Attach has the task from now on.
    Opened(TaskId, Ticket, Result<Decision, DiskError>),
    /// Answer a caller.
    Reply(Ticket, Reply),
    /// Write the highest revision that was seen, and the CA of the master whose store that is.
    SaveSeen(Option<Fingerprint>, SealedRevision),
    /// Check whether the directory with the agent's memory of tasks is in its place.
    CheckMemory,
    /// Report the new incarnation to the master.
    ReportIncarnation,
    /// Report to the master that the agent stops.
    ReportStopping,
    /// Remove the directories of finished tasks; answer with `Removed`.
    RemoveDirectories(Vec<TaskId>),
}

/// An answer of any type, on its way to its caller.
#[derive(Clone, Debug, PartialEq, From, TryInto)]
#[expect(missing_docs, reason = "each variant is named as its question or its answer")]
pub enum Reply {
    Promised(Result<Option<Incarnation>, DiskError>),
    Cancelled(Result<Cancelled, DiskError>),
    Done(Result<(), DiskError>),
    Removed(()),
    Introduction(Introduction),
    Starting(Vec<TaskId>),
}
