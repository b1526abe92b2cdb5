//! The inputs of the core.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        denied::{Denied, JobDenied},
        jobs::HeldBy,
        snapshot::{Choice, Snapshot},
        stored::{KnownTask, StoredOperator, StoredTaskState, StoredToken},
        views::{FleetUpdate, JobsUpdate, StatusView},
    },
    answer::{
        AcceptedProposals, EndedJob, EnrollAnswer, InvitedOperator, JobStart, LabelledAgents, NewToken,
        OperatorIdentity, Principal, RepeatableJob, ReplyTo, SessionAccepted, SessionDenied,
    },
    ids::{SessionId, WriteId},
    request::{ConnectionIdentity, EnrollAsked, Invitation, JobAsked, Newcomer},
};
use crate::domain::{
    agent::{AgentView, Facts, LinkKind},
    bounded::Reason,
    code::KeyMark,
    control::{Approved, Cancelled, Drained, Promoted, StoppedJob},
    fingerprint::Fingerprint,
    ids::{Incarnation, JobId, JobReference, TaskId},
    job::Job,
    name::{AgentName, LabelChange, OperatorName},
    outcome::Outcome,
    proposal::Proposal,
    terms::Terms,
};

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    /// Somebody wants to be let in.
    Enroll(EnrollAsked, ReplyTo<EnrollAnswer>),
    /// An operator lets a waiting key in.
    Approve {
        /// Under which name.
        name: AgentName,
        /// Which of the keys under that name.
        mark: KeyMark,
        /// What the operator was shown of those keys; what the meant one proposes there counts from now on.
        shown: Vec<(Fingerprint, Proposal)>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<Approved, Denied>>,
    },
    /// An operator forgets waiting keys.
    Reject {
        /// Under which name; `None` for all keys that wait.
        name: Option<AgentName>,
        /// The first digits of one, or nothing for all.
        digits: String,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// An operator forgets an agent.
    Delete {
        /// The name of the agent.
        name: AgentName,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// An operator changes labels.
    Label {
        /// The agents that are chosen.
        choice: Box<Choice>,
        /// The changes, in order.
        changes: Vec<LabelChange>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<LabelledAgents, Denied>>,
    },
    /// An operator accepts what agents propose.
    Accept {
        /// The agents that are chosen.
        choice: Box<Choice>,
        /// What the operator was shown; whatever they propose where nothing was.
        shown: BTreeMap<AgentName, Proposal>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<AcceptedProposals, Denied>>,
    },
    /// An operator ends an agent.
    Stop {
        /// The name of the agent.
        name: AgentName,
        /// How long its tasks may continue.
        grace_ms: u32,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// An operator lets agents take no new tasks, or take them again.
    Drain {
        /// The agents that are chosen.
        choice: Box<Choice>,
        /// Why, in words; `None` lets them take tasks again.
        reason: Option<String>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<Drained, Denied>>,
    },
    /// An operator makes another one known, or gives it another login.
    Invite {
        /// The operator and the terms of the login.
        invitation: Box<Invitation>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<InvitedOperator, Denied>>,
    },
    /// An operator revokes another one.
    Revoke {
        /// The name of the operator.
        name: OperatorName,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// Somebody wants to see the operators.
    ListOperators(ReplyTo<Vec<StoredOperator>>),
    /// A key wants to be an operator's.
    LogIn {
        /// The hash of the login's secret.
        hash: String,
        /// The key.
        key: Fingerprint,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<OperatorIdentity, Denied>>,
    },
    /// A connection says who it is.
    Identify(ConnectionIdentity, ReplyTo<Option<Principal>>),
    /// Whether an agent of this name has this key: answered with a count.
    IsEnrolled(AgentName, Fingerprint, ReplyTo<bool>),
    /// Somebody wanted, or told, what is not its to want or to tell.
    Refused {
        /// The caller, as the audit log names it.
        who: String,
        /// What, in a word or a few: each kind is recorded at once, and then counted.
        what: String,
        /// Why not.
        reason: String,
    },
    /// An operator makes a token.
    CreateToken {
        /// The hash of its secret.
        hash: String,
        /// How long it holds.
        ttl_ms: u64,
        /// For how many agents.
        uses: u32,
        /// Who may join with it, and what counts of those who do.
        terms: Box<Terms>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<NewToken, Denied>>,
    },
    /// Somebody wants to see the tokens.
    ListTokens(ReplyTo<Vec<StoredToken>>),
    /// An operator takes a token back.
    RevokeToken {
        /// Which, as [`StoredToken::id`](crate::master::core::stored::StoredToken::id) says it.
        id: String,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// Resolves a selection for a caller.
    Snapshot(ReplyTo<Snapshot>),
    /// Somebody wants to see these agents.
    ShowAgents(Vec<AgentName>, ReplyTo<Vec<AgentView>>),
    /// Somebody wants to see the keys that wait.
    ShowWaiting(ReplyTo<Vec<AgentView>>),
    /// Somebody watches the registry.
    WatchFleet {
        /// The revision that it has seen; 0 for none.
        seen: u64,
        /// The revision up to which it has seen the numbers of machines.
        numbers_seen: u64,
        /// The last name of the part that it was told before; `None` for the first part.
        behind: Option<AgentName>,
        /// The caller that waits for the answer.
        reply: ReplyTo<Box<FleetUpdate>>,
    },
    /// Somebody watches the jobs.
    WatchJobs {
        /// The revision that it has seen; 0 for none.
        seen: u64,
        /// The caller that waits for the answer.
        reply: ReplyTo<JobsUpdate>,
    },
    /// Somebody wants to know how the master is.
    Status(ReplyTo<Box<StatusView>>),
    /// An agent is connected and has said hello.
    SessionOpened(Box<Newcomer>, ReplyTo<Result<SessionAccepted, SessionDenied>>),
    /// Something came over a session.
    Heard(SessionId),
    /// An agent told facts.
    FactsTold(SessionId, Facts),
    /// An agent told which tasks it still has.
    InventoryTold(SessionId, Vec<KnownTask>),
    /// What the store knows of tasks that an agent has and that are not live.
    LookedUp(SessionId, Vec<(KnownTask, StoredTaskState)>),
    /// Another link is used, or the same one for another reason.
    LinkChanged {
        /// The session of the agent.
        session: SessionId,
        /// The link that is used.
        link: LinkKind,
        /// Why, in words.
        reason: String,
    },
    /// An agent's connection has ended.
    SessionClosed(SessionId),
    /// Somebody wants to start a job.
    StartJob(Box<JobAsked>, ReplyTo<JobStart>),
    /// Somebody wants to cancel tasks; all of the job when none are named.
    Cancel {
        /// Which job.
        job: JobReference,
        /// Which tasks.
        tasks: BTreeSet<u32>,
        /// Time between TERM and KILL, where it is not to be the job's own.
        grace_ms: Option<u32>,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<Cancelled, JobDenied>>,
    },
    /// An operator lets a job that waits at a gate continue.
    Promote {
        /// The job that is meant.
        job: JobReference,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<Promoted, JobDenied>>,
    },
    /// An operator wants nothing more of a job to be started.
    StopJob {
        /// The job that is meant.
        job: JobReference,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<StoppedJob, JobDenied>>,
    },
    /// A task's output was compared with those that are accepted.
    Compared {
        /// The id of the task.
        id: TaskId,
        /// Whether one of them is the same.
        agrees: bool,
    },
    /// A job that is over is to be deleted.
    DeleteJob {
        /// The job that is meant.
        job: JobId,
        /// Why, for whoever asks for it later.
        reason: String,
        /// The operator who asks for it, as the audit log names them.
        by: String,
        /// The caller that waits for the answer.
        reply: ReplyTo<Result<(), Denied>>,
    },
    /// The volume has little room left, in words, or enough.
    Room(Option<String>),
    /// Ages of jobs were judged by this time.
    JudgedAt(u64, ReplyTo<Result<(), Denied>>),
    /// Somebody wants to look at a job.
    FindJob(JobReference, ReplyTo<Option<Box<Job>>>),
    /// Asks for a live job and what came with it, to run the same again.
    FindJobToRepeat(JobReference, ReplyTo<Option<Box<RepeatableJob>>>),
    /// Asks for the jobs that have ended and are not on the disk as such yet; which of them have a task on an agent, where
    /// one is named, and one that ended in a way, where that is.
    ListEnded {
        /// The agent.
        agent: Option<AgentName>,
        /// `ok`, `failed`, `running`, or the word of an outcome; empty for any.
        outcome: String,
        /// Who is answered.
        reply: ReplyTo<Vec<EndedJob>>,
    },
    /// An agent has a task.
    TaskStarted {
        /// The id of the task.
        id: TaskId,
        /// In which Attach.
        attempt: u64,
        /// Since when, in milliseconds.
        elapsed_ms: u64,
    },
    /// A task has ended.
    TaskEnded {
        /// The id of the task.
        id: TaskId,
        /// The outcome of the task.
        outcome: Outcome,
        /// What it printed in all.
        end_offset: u64,
        /// How long it ran.
        duration_ns: u64,
    },
    /// An agent does not know a task and did not start it.
    TaskUnknown {
        /// The id of the task.
        id: TaskId,
        /// In which Attach.
        attempt: u64,
        /// The agent's life now.
        incarnation: Incarnation,
    },
    /// An Attach has ended without the task being handed over.
    AttachLost {
        /// Which task.
        id: TaskId,
        /// Over which connection.
        session: SessionId,
        /// Which Attach.
        attempt: u64,
        /// The attempt that took its place.
        superseded_by: Option<u64>,
    },
    /// An agent has answered an order to stop a task.
    SignalAnswered {
        /// Which task.
        id: TaskId,
        /// Whether the agent knows it: it was started there, and is being stopped or has ended.
        known: bool,
        /// The incarnation that answers. It never starts a task that it does not know.
        incarnation: Incarnation,
    },
    /// What the master or the agent holds a task back for, or what becomes of its output; nothing when all is well.
    TaskWaits(TaskId, HeldBy, Reason),
    /// A write is on the disk; the store has this revision now.
    Persisted(WriteId, u64),
    /// A write is not on the disk yet; it is tried again until it is.
    PersistDelayed(WriteId, String),
    /// A write is not on the disk, and will not be.
    PersistFailed(WriteId, String),
    /// A write is not on the disk, because the same is there already.
    PersistConflict(WriteId),
}
