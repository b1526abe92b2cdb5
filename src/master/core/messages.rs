//! What comes into the core and what goes out of it. Plain data: no channel, no clock, nothing of the wire.

use std::{net::IpAddr, time::Duration};

use super::{
    stored::{InStore, KnownTask, Write},
    views::{AgentView, FleetNews, RunsNews, StatusView},
};
use crate::{
    domain::{
        agent::{Facts, LinkPreference},
        command::{Command, TaskSpec},
        ids::{Incarnation, RunId, RunReference, TaskId},
        name::{AgentName, LabelChange, Labels},
        outcome::Outcome,
        plan::Gate,
        run::{LeftOut, Overflow, Run, RunOptions, Task},
        target::selection::Selection,
    },
    trust::fingerprint::Fingerprint,
};

/// The moment of a step: monotonic for every judgement, Unix time for what people read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the master's start, on its monotonic clock.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// Names one connection of an agent.
pub type SessionId = u64;
/// Names who waits for an answer.
pub type ReplyTo = u64;
/// Names a write that is under way.
pub type WriteToken = u64;

/// What an agent said first, and where it came from.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Its connection.
    pub session: SessionId,
    /// The name in its certificate.
    pub name: AgentName,
    /// Its certificate's key.
    pub fingerprint: Fingerprint,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its labels.
    pub labels: Labels,
    /// Its software version.
    pub version: String,
    /// Its address as the master sees it.
    pub address: String,
    /// Which link it wants.
    pub link: LinkPreference,
    /// Where a direct link would go, in words, or nothing.
    pub direct_address: Option<String>,
    /// The highest epoch and revision of the store that it has seen.
    pub seen: (u64, u64),
    /// How it came to believe in the CA.
    pub trust: String,
}

/// A request to be let in.
#[derive(Clone, Debug)]
pub struct EnrollAsked {
    /// The wanted name.
    pub name: AgentName,
    /// The key.
    pub fingerprint: Fingerprint,
    /// Where it came from; `None` over the master's own socket.
    pub source: Option<IpAddr>,
    /// True for the master's own user, or root, on the master's own socket.
    pub trusted_locally: bool,
    /// The hash of the token's secret.
    pub token: Option<String>,
    /// The caller's software version.
    pub version: String,
}

/// A wish to start a run.
#[derive(Clone, Debug)]
pub struct RunAsked {
    /// The client's id for it.
    pub id: RunId,
    /// Who wants it.
    pub operator: String,
    /// Whom it means.
    pub selection: Selection,
    /// What to run.
    pub command: Command,
    /// The rest.
    pub options: RunOptions,
    /// What a person was shown: names and fingerprints; empty when nobody was shown anything.
    pub shown: Vec<(String, String)>,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    /// Somebody wants to be let in.
    Enroll(EnrollAsked, ReplyTo),
    /// An operator lets a waiting key in.
    Approve {
        /// Under which name.
        name: AgentName,
        /// The first digits of its fingerprint.
        digits: String,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator forgets waiting keys.
    Reject {
        /// Under which name.
        name: AgentName,
        /// The first digits of one, or nothing for all.
        digits: String,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator forgets an agent.
    Delete {
        /// Which.
        name: AgentName,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator changes labels.
    Label {
        /// Whose.
        selection: Box<Selection>,
        /// Taken even just after the master's start.
        now: bool,
        /// The changes, in order.
        changes: Vec<LabelChange>,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator ends an agent.
    Stop {
        /// Which.
        name: AgentName,
        /// How long its tasks may go on.
        grace_ms: u32,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator makes a token.
    CreateToken {
        /// The hash of its secret.
        hash: String,
        /// How long it holds.
        ttl_ms: u64,
        /// For how many agents.
        uses: u32,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// Somebody wants to see the agents.
    ListAgents(Option<Box<Selection>>, ReplyTo),
    /// Somebody watches the registry.
    WatchFleet {
        /// The revision that it has seen; 0 for none.
        seen: u64,
        /// The revision up to which it has seen the numbers of machines.
        numbers_seen: u64,
        /// Who waits.
        reply: ReplyTo,
    },
    /// Somebody watches the runs.
    WatchRuns {
        /// The revision that it has seen; 0 for none.
        seen: u64,
        /// Who waits.
        reply: ReplyTo,
    },
    /// Somebody wants to know how the master is.
    Status(ReplyTo),
    /// An agent is connected and has said hello.
    SessionOpened(Box<Newcomer>, ReplyTo),
    /// Something came over a session.
    Heard(SessionId),
    /// An agent told facts.
    FactsTold(SessionId, Facts),
    /// An agent told which tasks it still has.
    InventoryTold(SessionId, Vec<KnownTask>),
    /// What the store knows of tasks that an agent has and that are not live.
    LookedUp(SessionId, Vec<(KnownTask, InStore)>),
    /// Another link is used, or the same one for another reason.
    LinkChanged {
        /// Whose.
        session: SessionId,
        /// True for direct.
        direct: bool,
        /// Why, in words.
        reason: String,
    },
    /// An agent's connection has ended.
    SessionClosed(SessionId),
    /// Somebody wants to start a run.
    StartRun(Box<RunAsked>, ReplyTo),
    /// Somebody wants to cancel tasks; all of the run when none are named.
    Cancel {
        /// Which run.
        run: RunReference,
        /// Which tasks.
        tasks: Vec<u32>,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator lets a run that waits at a gate go on.
    Promote {
        /// Which.
        run: RunReference,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// An operator wants nothing more of a run to be started.
    StopRun {
        /// Which.
        run: RunReference,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// A task's output was compared with those that are accepted.
    Compared {
        /// Which.
        id: TaskId,
        /// Whether one of them is the same.
        agrees: bool,
    },
    /// A run that is over is to be deleted.
    DeleteRun {
        /// Which.
        run: RunId,
        /// Why, for whoever asks for it later.
        reason: String,
        /// Who.
        by: String,
        /// Who waits.
        reply: ReplyTo,
    },
    /// The volume has little room left, in words, or enough.
    Room(Option<String>),
    /// Ages of runs were judged by this time.
    JudgedAt(u64, ReplyTo),
    /// Somebody wants to look at a run.
    FindRun(RunReference, ReplyTo),
    /// An agent has a task.
    TaskStarted {
        /// Which.
        id: TaskId,
        /// In which Attach.
        attempt: u64,
        /// Since when, in milliseconds.
        elapsed_ms: u64,
    },
    /// A task has ended.
    TaskEnded {
        /// Which.
        id: TaskId,
        /// How.
        outcome: Outcome,
        /// What it printed in all.
        end_offset: u64,
        /// How long it ran.
        duration_ns: u64,
    },
    /// An agent does not know a task and did not start it.
    TaskUnknown {
        /// Which.
        id: TaskId,
        /// In which Attach.
        attempt: u64,
        /// The agent's life now.
        incarnation: Incarnation,
    },
    /// An Attach has ended without the task's end.
    AttachLost {
        /// Which task.
        id: TaskId,
        /// Which Attach.
        attempt: u64,
        /// The attempt that took its place.
        superseded_by: Option<u64>,
    },
    /// What a task's output waits for, or what becomes of it; nothing when all is well.
    TaskWaits(TaskId, String),
    /// A write is on the disk; the store has this revision now.
    Persisted(WriteToken, u64),
    /// A write is not on the disk.
    PersistFailed(WriteToken, String),
    /// A write is not on the disk, because the same is there already.
    PersistConflict(WriteToken),
}

/// What goes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this in one transaction; answer with `Persisted` or `PersistFailed`.
    Persist(WriteToken, Vec<Write>),
    /// Answer somebody.
    Reply(ReplyTo, Box<Reply>),
    /// Attach a task on an agent's link.
    Attach(Box<AttachOrder>),
    /// The task's outcome is on the disk: its agent may forget it.
    OutcomeStored(TaskId),
    /// Stop a task.
    Signal {
        /// On which connection.
        session: SessionId,
        /// Which.
        id: TaskId,
        /// Who.
        by: String,
        /// TERM to KILL.
        grace_ms: u32,
    },
    /// Look up in the store what an agent has and what is not live; answer with `LookedUp`.
    LookUp(SessionId, AgentName, Vec<KnownTask>),
    /// Ask an agent for a sign of life.
    Ping(SessionId),
    /// End an agent.
    StopAgent {
        /// On which connection.
        session: SessionId,
        /// How long its tasks may go on.
        grace_ms: u32,
    },
    /// Close a connection.
    CloseSession(SessionId),
    /// Tell followers that a task is like this now.
    Publish(RunId, Box<Task>),
    /// Tell followers how a run's gate is now.
    PublishGate(RunId, Gate),
    /// Compare what a task printed with what others did; answer with `Compared`.
    Compare {
        /// Which.
        id: TaskId,
        /// How it ended.
        outcome: Outcome,
        /// With which, and how they ended.
        accepted: Vec<(u32, Outcome)>,
    },
    /// Tell followers that a run has ended; nothing more is appended to its log.
    RunEnded(RunId, u64),
    /// A run's outcomes are all on the disk: nothing of it is needed in memory.
    RunStored(RunId),
}

/// How to attach a task.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachOrder {
    /// Which task.
    pub id: TaskId,
    /// On which connection.
    pub session: SessionId,
    /// Counts up.
    pub attempt: u64,
    /// What to start; `None` when nothing may be started.
    pub spec: Option<TaskSpec>,
    /// The life for which that holds.
    pub incarnation: Incarnation,
    /// The store's revision, which holds this task.
    pub revision: (u64, u64),
    /// How long to wait first, after attempts that came to nothing.
    pub delay: Duration,
    /// Most bytes of its output that are kept.
    pub output_cap: u64,
    /// What happens to more.
    pub overflow: Overflow,
    /// Nothing of its output is wanted.
    pub discard: bool,
}

/// Answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `Enroll`: the key is known.
    Enrolled,
    /// To `Enroll`: the key waits.
    EnrollPending {
        /// Whether another key is known under the name.
        key_changed: bool,
    },
    /// To `Enroll`: no.
    EnrollRefused {
        /// Why.
        reason: String,
        /// Whether asking again may help.
        retry: bool,
    },
    /// To `Approve`.
    Approved {
        /// The key.
        fingerprint: Fingerprint,
        /// Whether another key was replaced.
        replaced: bool,
    },
    /// To `Reject`, `Delete`, `Stop`: how many.
    Count(u32),
    /// To `Label`.
    Labelled {
        /// Whose labels were set.
        agents: Vec<AgentName>,
        /// Those that still have a removed key, since they bring it themselves.
        still_brought: Vec<AgentName>,
    },
    /// To `CreateToken`: when it ends.
    TokenCreated {
        /// In milliseconds since the Unix epoch.
        expires_ms: u64,
    },
    /// To `ListAgents`.
    Agents(Vec<AgentView>),
    /// To `WatchFleet`.
    Fleet(Box<FleetNews>),
    /// To `WatchRuns`.
    Runs(RunsNews),
    /// To `Status`.
    Status(StatusView),
    /// To `SessionOpened`: yes; the store's epoch and revision.
    Welcome(u64, u64),
    /// To `SessionOpened`: no.
    SessionRefused(SessionRefusal, String),
    /// To `StartRun` and `FindRun`: a run that is live.
    Live(Box<Run>),
    /// To `FindRun`: not in memory. To `StartRun`: it has ended long since.
    NotLive,
    /// To `StartRun`: what was shown is no longer true.
    TargetChanged {
        /// Agents that are gone or have a new key.
        gone: Vec<LeftOut>,
        /// New matches.
        more: Vec<String>,
    },
    /// To `Cancel`.
    Cancelled {
        /// Tasks that were told.
        told: u32,
        /// Tasks whose agent has no contact.
        stored: u32,
        /// The run's number.
        number: u64,
    },
    /// To `Promote`.
    Promoted {
        /// The run's number.
        number: u64,
        /// The batch that is open, from 1.
        batch: u32,
    },
    /// To `StopRun`.
    RunStopped {
        /// The run's number.
        number: u64,
        /// Tasks that were not started, and are not any more.
        skipped: u32,
    },
    /// To anything: no, for this reason.
    Refused(String),
    /// To anything: there is no such thing.
    NotFound(String),
}

/// Why a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRefusal {
    /// The key is not in the registry.
    UnknownKey,
    /// Another agent with this key answers.
    Duplicate,
}
