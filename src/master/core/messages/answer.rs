//! The core's answers. Each question carries a [`ReplyTo`] of the type that answers it, so that no other answer can be given.
//!
//! [`Reply`] carries an answer from the core to its caller, through effects that know no types of answers. Only the caller's
//! handle opens it.

use derive_more::{From, TryInto};

use crate::{
    domain::{
        agent::AgentView,
        control::{Approved, Cancelled, Drained, Promoted, StoppedJob},
        job::{Job, JobOptions, LeftOut},
        name::{AgentName, OperatorName},
        operator::Role,
        proposal::Proposal,
        reply_to::{ReplyTo, Ticket},
        revision::Revision,
        seal::Seal,
        terms::Terms,
        time::UnixMs,
    },
    master::core::{
        denied::{Denied, JobDenied},
        snapshot::Snapshot,
        stored::{StoredOperator, StoredToken},
        views::{FleetUpdate, JobsUpdate, StatusView},
    },
};

/// A type that answers a question.
pub trait Answer: Into<Reply> + TryFrom<Reply> {}

impl<A: Into<Reply> + TryFrom<Reply>> Answer for A {}

/// An answer that can be a refusal: to a question that changes something, which the disk may not take.
pub trait Refusable: Answer {
    /// Returns the answer for a change that is not made.
    fn refused(reason: String) -> Self;
}

/// An answer that is decided, and given when a change is on the disk.
#[derive(Clone, Debug)]
pub struct PendingAnswer {
    ticket: Ticket,
    answer: Box<Reply>,
    refused: fn(String) -> Reply,
}

impl PendingAnswer {
    /// Creates an answer for a caller.
    pub fn new<A: Refusable>(reply: ReplyTo<A>, answer: A) -> Self {
        Self {
            ticket: reply.ticket(),
            answer: Box::new(answer.into()),
            refused: |reason| A::refused(reason).into(),
        }
    }

    /// Returns the caller's number, and its answer.
    #[must_use]
    pub fn give(self) -> (Ticket, Box<Reply>) {
        (self.ticket, self.answer)
    }

    /// Replaces the answer by a refusal.
    #[must_use]
    pub fn refuse(self, reason: String) -> Self {
        Self { answer: Box::new((self.refused)(reason)), ..self }
    }
}

/// An answer of any type, on its way to its caller.
#[derive(Clone, Debug, PartialEq, From, TryInto)]
#[expect(missing_docs, reason = "each variant is named as its question or its answer")]
pub enum Reply {
    Enroll(EnrollAnswer),
    Approve(Result<Approved, Denied>),
    Count(Result<u32, Denied>),
    Done(Result<(), Denied>),
    Label(Result<LabelledAgents, Denied>),
    Accept(Result<AcceptedProposals, Denied>),
    Drain(Result<Drained, Denied>),
    Invite(Result<InvitedOperator, Denied>),
    CreateToken(Result<NewToken, Denied>),
    Tokens(Vec<StoredToken>),
    Operators(Vec<StoredOperator>),
    LogIn(Result<OperatorIdentity, Denied>),
    Identify(Option<Principal>),
    IsEnrolled(bool),
    Snapshot(Snapshot),
    Agents(Vec<AgentView>),
    Fleet(Box<FleetUpdate>),
    Jobs(JobsUpdate),
    Status(Box<StatusView>),
    Session(Result<SessionAccepted, SessionDenied>),
    Start(JobStart),
    Find(Option<Box<Job>>),
    Repeat(Option<Box<RepeatableJob>>),
    Ended(Vec<EndedJob>),
    Cancel(Result<Cancelled, JobDenied>),
    Promote(Result<Promoted, JobDenied>),
    Stop(Result<StoppedJob, JobDenied>),
}

impl<T> Refusable for Result<T, Denied>
where
    Self: Answer,
{
    fn refused(reason: String) -> Self {
        Err(Denied::Refused(reason))
    }
}

impl<T> Refusable for Result<T, JobDenied>
where
    Self: Answer,
{
    fn refused(reason: String) -> Self {
        Err(JobDenied::Refused(reason))
    }
}

/// The answer to a request for enrollment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollAnswer {
    /// The key is enrolled; with the master's proof of the one-time code that an operator typed.
    Enrolled(Option<Seal>),
    /// The key waits for an operator.
    Pending {
        /// Whether another key is enrolled under the name.
        key_changed: bool,
    },
    /// The key is refused.
    Refused {
        /// The reason, as text for operators.
        reason: String,
        /// Whether a later request may succeed.
        retry: bool,
    },
}

impl Refusable for EnrollAnswer {
    fn refused(reason: String) -> Self {
        Self::Refused { reason, retry: true }
    }
}

/// Labels were changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledAgents {
    /// The agents whose labels were changed.
    pub agents: Vec<AgentName>,
    /// Agents that still have a removed key, because all labels that they report are in effect.
    pub still_reported: Vec<AgentName>,
}

/// Proposals were accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedProposals {
    /// The accepted part of each agent's proposal, which can be empty.
    pub accepted: Vec<(AgentName, Proposal)>,
    /// Agents whose proposals were not accepted, because they differ from what the operator was shown.
    pub changed: Vec<AgentName>,
}

/// A join token was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// The id by which it is listed and revoked.
    pub id: String,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: UnixMs,
    /// Its terms.
    pub terms: Box<Terms>,
}

/// An operator was added, or has another login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvitedOperator {
    /// When the login expires, in milliseconds since the Unix epoch; `None` if there is no login.
    pub login_expires_ms: Option<UnixMs>,
}

/// The operator that a login is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorIdentity {
    /// The operator's name.
    pub name: OperatorName,
    /// What the operator may do.
    pub role: Role,
}

/// The operator behind a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The operator's name, as the audit log has it.
    pub name: String,
    /// What the operator may do.
    pub role: Role,
}

/// An agent's session is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAccepted {
    /// The store's revision.
    pub revision: Revision,
    /// The labels and the direct address that the agent reports and that are not in effect.
    pub proposed: Proposal,
}

/// An agent's session is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDenied {
    /// The kind of reason.
    pub kind: SessionRefusal,
    /// The reason, as text for operators.
    pub reason: String,
}

/// Why a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRefusal {
    /// The key is not in the registry.
    UnknownKey,
    /// Another agent with this key answers.
    Duplicate,
}

/// The answer to a request to start a job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobStart {
    /// The job has begun, now or by an earlier request with the same id.
    Live(Box<Job>),
    /// The job of an earlier request with the same id has ended. The store has it.
    Ended,
    /// The agents have changed since a person was shown them.
    TargetChanged {
        /// Agents that were deleted, or have another key.
        gone: Vec<LeftOut>,
        /// Agents that match now and were not shown.
        more: Vec<AgentName>,
    },
    /// The job does not begin.
    Denied(Denied),
}

impl Refusable for JobStart {
    fn refused(reason: String) -> Self {
        Self::Denied(Denied::Refused(reason))
    }
}

/// A live job with the options that a copy of it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct RepeatableJob {
    /// The job, with its tasks.
    pub job: Job,
    /// Its options.
    pub options: JobOptions,
}

/// A job that has ended, and that the store may not have as ended yet.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedJob {
    /// The job, without its tasks.
    pub job: Job,
    /// Whether it fits the filter of the question.
    pub fits: bool,
}
