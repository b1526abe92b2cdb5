//! Requests of operators to a master and the master's answers: one type for each.
//!
//! Does not depend on the transport or on the code that answers. Times are in milliseconds since the Unix
//! epoch, by the master's clock.

mod access;
mod agents;
mod input;
mod jobs;

pub use self::{
    access::{CreateToken, CreatedToken, InviteOperator, Invited, RevokeOperator, RevokeToken, TokenView},
    agents::{
        ApproveAgent, Approved, ChangeLabels, DeleteAgent, DrainAgents, Drained, FleetChange, FleetCursor,
        LabelAgents, Labelled, ListAgents, NamedProposal, RejectAgents, ShownAgent, ShownKey, StopAgent,
        WatchAgents,
    },
    input::{InputProgress, InputRequest, InputTaken, Stdin, WindowSize},
    jobs::{
        CancelJob, Cancelled, DeleteJob, FollowJob, JobDigest, JobEvent, JobsChange, ListJobs, PromoteJob,
        Promoted, RerunJob, StartJob, StopJob, StoppedJob, TaskGap, TaskOffset, WatchJob, WatchJobs,
    },
};

use super::fingerprint::Fingerprint;

/// The state of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The master's software version.
    pub version: String,
    /// The fingerprint of the CA's certificate.
    pub ca_fingerprint: Fingerprint,
    /// The address on which it listens.
    pub address: String,
    /// The number of agents in the registry.
    pub agents: u32,
    /// The number of connected agents.
    pub connected: u32,
    /// The number of keys that wait for approval.
    pub pending: u32,
    /// The number of jobs that have not ended.
    pub active_jobs: u32,
    /// Why new jobs are refused, for people; `None` when they are accepted.
    pub refusing_jobs: Option<String>,
    /// Whether every agent that reaches the port is enrolled without approval.
    pub enroll_any: bool,
    /// The number of enrollment requests of unauthenticated peers that were refused since the master started.
    pub refused_unauthenticated: u64,
    /// Seconds since the master started.
    pub uptime_s: u64,
    /// The master's process id.
    pub pid: u32,
    /// The name of the machine that it runs on.
    pub hostname: String,
    /// The operator who sent the request, as the master knows them.
    pub operator: String,
    /// A warning about agents that have seen a later revision of the master's store, for people. No task
    /// starts on them.
    pub restore_warning: Option<String>,
    /// A message about running tasks whose output the master cannot write and therefore holds back, for
    /// people.
    pub holding_back: Option<String>,
}

/// The reason why a stream ends early, and when to reconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Why, for people.
    pub reason: String,
    /// How long to wait before the next attempt, in milliseconds.
    pub retry_after_ms: u32,
}
