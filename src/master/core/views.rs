//! What the core shows of itself. Plain data.

use crate::domain::{agent::AgentView, ids::JobId, job::Job, name::AgentName};

/// What changed in the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetUpdate {
    /// Ask from here the next time.
    pub revision: u64,
    /// It is all there is, not only what changed.
    pub is_whole: bool,
    /// Agents that changed, some of them where they are many.
    pub agents: Vec<AgentView>,
    /// Behind this name there are more.
    pub more_behind: Option<AgentName>,
    /// Agents that are gone.
    pub gone: Vec<AgentName>,
    /// All keys that wait for an operator; `None` where nothing new is to be told of them.
    pub waiting: Option<Vec<AgentView>>,
}

/// What changed in the jobs; without their tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct JobsUpdate {
    /// Ask from here the next time.
    pub revision: u64,
    /// False where jobs may have ended that are no longer remembered: the store has them.
    pub is_complete: bool,
    /// Jobs that changed.
    pub jobs: Vec<Job>,
    /// Jobs that were deleted.
    pub deleted: Vec<JobId>,
}

/// How the master is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusView {
    /// Agents in the registry.
    pub agents: u32,
    /// Agents that are connected.
    pub connected: u32,
    /// Keys that wait.
    pub pending: u32,
    /// Jobs that have not ended.
    pub active_jobs: u32,
    /// Why new jobs are refused.
    pub refusing_jobs: String,
    /// How many running tasks the master holds back, and that and why in words; `None` when it holds none back.
    pub held_back: Option<(u32, String)>,
    /// Which agents have seen a later state of the store than there is, and what to do; empty when none has.
    pub ahead: String,
    /// Unauthenticated peers that were refused.
    pub refused_unauthenticated: u64,
}
