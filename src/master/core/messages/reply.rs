//! The core's answers to questions.

use crate::{
    domain::{
        agent::AgentView,
        fingerprint::Fingerprint,
        job::{Job, JobOptions, LeftOut},
        name::AgentName,
        operator::Role,
        proposal::Proposal,
        revision::Revision,
        seal::Seal,
        terms::Terms,
    },
    master::core::{
        snapshot::Snapshot,
        stored::{StoredOperator, StoredToken},
        views::{FleetNews, JobsNews, StatusView},
    },
};

/// An answer of the core to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `Enroll`: the key is known; with the master's proof by the code that an operator typed.
    Enrolled(Option<Seal>),
    /// To `Enroll`: the key waits.
    EnrollPending {
        /// Whether another key is known under the name.
        key_changed: bool,
    },
    /// To `Enroll`: no.
    EnrollRefused {
        /// The reason, as text for operators.
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
        /// What was accepted of what it proposes.
        accepted: Proposal,
    },
    /// To `Reject`, `Delete`, `Stop`, `RevokeToken`: how many.
    Count(u32),
    /// To `Label`.
    Labelled {
        /// Whose labels were set.
        agents: Vec<AgentName>,
        /// Those that still have a removed key, since everything that they bring counts.
        still_brought: Vec<AgentName>,
    },
    /// To `Accept`.
    Accepted {
        /// What was accepted of each agent; those without a proposal among them.
        accepted: Vec<(AgentName, Proposal)>,
        /// Those that propose something else than was shown.
        changed: Vec<AgentName>,
    },
    /// To `CreateToken`.
    TokenCreated {
        /// What it is called.
        id: String,
        /// When it ends, in milliseconds since the Unix epoch.
        expires_ms: u64,
        /// Its terms.
        terms: Box<Terms>,
    },
    /// To `ListTokens`.
    Tokens(Vec<StoredToken>),
    /// To `Drain`.
    Drained {
        /// The agents whose state has changed.
        agents: Vec<AgentName>,
        /// Whose was this one before.
        unchanged: Vec<AgentName>,
        /// Tasks that still run on those that are drained.
        running: u32,
    },
    /// To `Invite`: when the login ends.
    Invited {
        /// In milliseconds since the Unix epoch; 0 where there is none.
        expires_ms: u64,
    },
    /// To `ListOperators`.
    Operators(Vec<StoredOperator>),
    /// To `LogIn`.
    LoggedIn {
        /// The operator.
        name: AgentName,
        /// What it may do.
        role: Role,
    },
    /// To `Identify`: name and role of an operator.
    Identified(Option<(String, Role)>),
    /// To `Snapshot`.
    Snapshot(Snapshot),
    /// To `ShowAgents` and `ShowWaiting`.
    Agents(Vec<AgentView>),
    /// To `WatchFleet`.
    Fleet(Box<FleetNews>),
    /// To `WatchJobs`.
    Jobs(JobsNews),
    /// To `Status`.
    Status(StatusView),
    /// To `SessionOpened`: yes.
    Welcome {
        /// The store's revision.
        revision: Revision,
        /// What the agent says of itself and what does not count, or not yet.
        proposed: Proposal,
    },
    /// To `SessionOpened`: no.
    SessionRefused(SessionRefusal, String),
    /// To `StartJob` and `FindJob`: a job that is live.
    Live(Box<Job>),
    /// To `FindJobToRepeat`: a job that is live, and what came with it.
    ToRepeat(Box<Job>, Box<JobOptions>),
    /// To `ListEnded`: the jobs, without their tasks, and whether they are asked for.
    Ended(Vec<(Job, bool)>),
    /// To `FindJob`: not in memory. To `StartJob`: it has ended long since.
    NotLive,
    /// To `StartJob`: what was shown is no longer true.
    TargetChanged {
        /// Agents that are gone or have a new key.
        gone: Vec<LeftOut>,
        /// New matches.
        more: Vec<AgentName>,
    },
    /// To `Cancel`.
    Cancelled {
        /// Tasks that were told.
        told: u32,
        /// Tasks whose agent has no contact.
        stored: u32,
        /// The job's number.
        number: u64,
        /// The time between TERM and KILL, in milliseconds.
        grace_ms: u32,
    },
    /// To `Promote`.
    Promoted {
        /// The job's number.
        number: u64,
        /// The batch that is open, from 1.
        batch: u32,
    },
    /// To `StopJob`.
    JobStopped {
        /// The job's number.
        number: u64,
        /// Tasks that were not started, and are not any more.
        skipped: u32,
    },
    /// To anything: no, for this reason.
    Refused(String),
    /// To anything: there is no such thing.
    NotFound(String),
    /// To what concerns a job that continues: no such job does. The store tells whether it is over.
    NotRunning,
}

/// Why a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRefusal {
    /// The key is not in the registry.
    UnknownKey,
    /// Another agent with this key answers.
    Duplicate,
}
