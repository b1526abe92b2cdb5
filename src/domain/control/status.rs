//! How the master stands, and why it closes a connection.

use crate::domain::fingerprint::Fingerprint;

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
