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
    ReplyTo,
    answer::{
        AcceptedProposals, EndedJob, EnrollAnswer, InvitedOperator, JobStart, LabelledAgents, NewToken,
        OperatorIdentity, Principal, RepeatableJob, SessionAccepted, SessionDenied,
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
    offset::OutputOffset,
    outcome::Outcome,
    proposal::Proposal,
    terms::Terms,
    time::UnixMs,
};

/// An input of the core: a question, a report of an agent or of the store, or the time.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    /// A peer asks to be enrolled.
    Enroll(EnrollAsked, ReplyTo<EnrollAnswer>),
    /// An operator approves a pending key.
    Approve {
        /// The name of the agent.
        name: AgentName,
        /// Identifies one of the keys that are pending under the name.
        mark: KeyMark,
        /// The pending keys as the operator was shown them. The proposal of the approved key is accepted with it.
        shown: Vec<(Fingerprint, Proposal)>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<Approved, Denied>>,
    },
    /// An operator rejects pending keys.
    Reject {
        /// The name of the agent; `None` for all pending keys.
        name: Option<AgentName>,
        /// The first digits of a fingerprint; empty for all keys of the name.
        digits: String,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// An operator deletes an agent.
    Delete {
        /// The name of the agent.
        name: AgentName,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// An operator changes labels.
    Label {
        /// The agents that are chosen.
        choice: Box<Choice>,
        /// The changes, in order.
        changes: Vec<LabelChange>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<LabelledAgents, Denied>>,
    },
    /// An operator accepts the proposals of agents.
    Accept {
        /// The agents that are chosen.
        choice: Box<Choice>,
        /// The proposals as the operator was shown them; empty to accept them as they are.
        shown: BTreeMap<AgentName, Proposal>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<AcceptedProposals, Denied>>,
    },
    /// An operator stops an agent.
    Stop {
        /// The name of the agent.
        name: AgentName,
        /// How long its tasks may continue, in milliseconds.
        grace_ms: u32,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// An operator drains agents, or resumes them.
    Drain {
        /// The agents that are chosen.
        choice: Box<Choice>,
        /// The reason for a drain; `None` resumes the agents.
        reason: Option<String>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<Drained, Denied>>,
    },
    /// An operator adds another operator, or gives one a new login.
    Invite {
        /// The operator and the terms of the login.
        invitation: Box<Invitation>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<InvitedOperator, Denied>>,
    },
    /// An operator revokes another operator.
    Revoke {
        /// The name of the operator.
        name: OperatorName,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// Lists the operators.
    ListOperators(ReplyTo<Vec<StoredOperator>>),
    /// A client logs in as an operator.
    LogIn {
        /// The hash of the login's secret.
        hash: String,
        /// The client's key.
        key: Fingerprint,
        /// The caller.
        reply: ReplyTo<Result<OperatorIdentity, Denied>>,
    },
    /// Asks which operator a connection belongs to.
    Identify(ConnectionIdentity, ReplyTo<Option<Principal>>),
    /// Asks whether an agent of this name has this key.
    IsEnrolled(AgentName, Fingerprint, ReplyTo<bool>),
    /// A call was refused, or a report ignored. Each kind is recorded once, and then counted.
    Refused {
        /// The caller, as the audit log names it.
        who: String,
        /// The kind, in a few words.
        what: String,
        /// The reason.
        reason: String,
    },
    /// An operator creates a join token.
    CreateToken {
        /// The hash of its secret.
        hash: String,
        /// How long it is valid, in milliseconds.
        ttl_ms: u64,
        /// The number of agents that can join with it.
        uses: u32,
        /// Its terms.
        terms: Box<Terms>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<NewToken, Denied>>,
    },
    /// Lists the valid tokens.
    ListTokens(ReplyTo<Vec<StoredToken>>),
    /// An operator revokes a token.
    RevokeToken {
        /// The id of the token; see [`StoredToken::id`](crate::master::core::stored::StoredToken::id).
        id: String,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<u32, Denied>>,
    },
    /// Asks for the registry at this moment, to evaluate a selection.
    Snapshot(ReplyTo<Snapshot>),
    /// Asks for these agents, as they are shown.
    ShowAgents(Vec<AgentName>, ReplyTo<Vec<AgentView>>),
    /// Asks for the pending keys, as they are shown.
    ShowWaiting(ReplyTo<Vec<AgentView>>),
    /// Asks for changes of the registry.
    WatchFleet {
        /// The last revision that the caller has seen; 0 for none.
        seen: u64,
        /// The last revision whose metrics of machines the caller has seen.
        numbers_seen: u64,
        /// The last name of the previous part; `None` for the first part.
        behind: Option<AgentName>,
        /// The caller.
        reply: ReplyTo<Box<FleetUpdate>>,
    },
    /// Asks for changes of the jobs.
    WatchJobs {
        /// The last revision that the caller has seen; 0 for none.
        seen: u64,
        /// The caller.
        reply: ReplyTo<JobsUpdate>,
    },
    /// Asks for the master's state.
    Status(ReplyTo<Box<StatusView>>),
    /// An agent has opened a session.
    SessionOpened(Box<Newcomer>, ReplyTo<Result<SessionAccepted, SessionDenied>>),
    /// A message arrived in a session.
    Heard(SessionId),
    /// An agent reported facts of its machine.
    FactsTold(SessionId, Facts),
    /// An agent reported the tasks that it still has.
    InventoryTold(SessionId, Vec<KnownTask>),
    /// The state in the store of tasks that an agent has and that are not live.
    LookedUp(SessionId, Vec<(KnownTask, StoredTaskState)>),
    /// An agent uses another link, or the same link for another reason.
    LinkChanged {
        /// The session of the agent.
        session: SessionId,
        /// The link that is used.
        link: LinkKind,
        /// The reason, for people.
        reason: String,
    },
    /// An agent's connection has ended.
    SessionClosed(SessionId),
    /// A client starts a job.
    StartJob(Box<JobAsked>, ReplyTo<JobStart>),
    /// A client cancels tasks of a job; all of them if none are named.
    Cancel {
        /// The job.
        job: JobReference,
        /// The indices of the tasks.
        tasks: BTreeSet<u32>,
        /// The time between TERM and KILL, in milliseconds; `None` for the job's own.
        grace_ms: Option<u32>,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<Cancelled, JobDenied>>,
    },
    /// An operator lets a job that waits at a gate continue.
    Promote {
        /// The job.
        job: JobReference,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<Promoted, JobDenied>>,
    },
    /// An operator stops a job: no more of its tasks start.
    StopJob {
        /// The job.
        job: JobReference,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<StoppedJob, JobDenied>>,
    },
    /// A task's output was compared with the accepted outputs.
    Compared {
        /// The id of the task.
        id: TaskId,
        /// Whether it equals one of them.
        agrees: bool,
    },
    /// Deletes a job that is over.
    DeleteJob {
        /// The job.
        job: JobId,
        /// The reason, which later requests for the job get.
        reason: String,
        /// The operator, as the audit log has it.
        by: String,
        /// The caller.
        reply: ReplyTo<Result<(), Denied>>,
    },
    /// The reason why the volume has no space for the output of new jobs; `None` if it has space.
    Room(Option<String>),
    /// Retention compared the ages of jobs with this time.
    JudgedAt(UnixMs, ReplyTo<Result<(), Denied>>),
    /// Asks for a live job.
    FindJob(JobReference, ReplyTo<Option<Box<Job>>>),
    /// Asks for a live job with its options, to start a copy of it.
    FindJobToRepeat(JobReference, ReplyTo<Option<Box<RepeatableJob>>>),
    /// Asks for the jobs that have ended and that the store may not have as ended yet, and which of them fit a filter.
    ListEnded {
        /// The agent of which the job must have a task; `None` for any.
        agent: Option<AgentName>,
        /// `ok`, `failed`, `running`, or the word of an outcome; empty for any.
        outcome: String,
        /// The caller.
        reply: ReplyTo<Vec<EndedJob>>,
    },
    /// An agent has started a task.
    TaskStarted {
        /// The id of the task.
        id: TaskId,
        /// The number of the Attach.
        attempt: u64,
        /// How long it has been running, in milliseconds.
        elapsed_ms: u64,
    },
    /// A task has ended.
    TaskEnded {
        /// The id of the task.
        id: TaskId,
        /// The outcome of the task.
        outcome: Outcome,
        /// The number of bytes that it printed.
        end_offset: OutputOffset,
        /// How long it ran, in nanoseconds.
        duration_ns: u64,
    },
    /// An agent does not know a task and did not start it.
    TaskUnknown {
        /// The id of the task.
        id: TaskId,
        /// The number of the Attach.
        attempt: u64,
        /// The agent's incarnation.
        incarnation: Incarnation,
    },
    /// An Attach has ended before the task was handed over.
    AttachLost {
        /// The task.
        id: TaskId,
        /// The session of the agent.
        session: SessionId,
        /// The number of the Attach.
        attempt: u64,
        /// The attempt that replaced it.
        superseded_by: Option<u64>,
    },
    /// An agent has answered an order to stop a task.
    SignalAnswered {
        /// The task.
        id: TaskId,
        /// Whether the agent knows it: then it was started there, and is being stopped or has ended.
        known: bool,
        /// The incarnation of the agent that answers. It never starts a task that it does not know.
        incarnation: Incarnation,
    },
    /// The reason why the master or the agent holds a task back, or a note on its output; empty if there is
    /// none.
    TaskWaits(TaskId, HeldBy, Reason),
    /// A write is on the disk, and the store has this revision.
    Persisted(WriteId, u64),
    /// A write is not on the disk yet, for this reason. It is retried until it is.
    PersistDelayed(WriteId, String),
    /// A write has failed, for this reason.
    PersistFailed(WriteId, String),
    /// A write has failed because the store has the same row already.
    PersistConflict(WriteId),
}
