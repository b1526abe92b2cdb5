//! Views of the core's state. Plain data.

use crate::domain::{agent::AgentView, ids::JobId, job::Job, name::AgentName};

/// Changes of the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetUpdate {
    /// The revision to ask from the next time.
    pub revision: u64,
    /// Whether this is the whole registry, not only the changes.
    pub is_whole: bool,
    /// Agents that changed; a part of them if there are many.
    pub agents: Vec<AgentView>,
    /// The last name of this part if there are more.
    pub more_behind: Option<AgentName>,
    /// Agents that were deleted.
    pub deleted: Vec<AgentName>,
    /// All pending keys; `None` if there is nothing new about them.
    pub waiting: Option<Vec<AgentView>>,
}

/// Changes of the jobs, without their tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct JobsUpdate {
    /// The revision to ask from the next time.
    pub revision: u64,
    /// Whether all jobs that ended are included. If not, those that are no longer remembered are in the
    /// store.
    pub is_complete: bool,
    /// Jobs that changed.
    pub jobs: Vec<Job>,
    /// Jobs that were deleted.
    pub deleted: Vec<JobId>,
}

/// The master's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusView {
    /// Number of agents in the registry.
    pub agents: u32,
    /// Number of connected agents.
    pub connected: u32,
    /// Number of pending keys.
    pub pending: u32,
    /// Number of jobs that have not ended.
    pub active_jobs: u32,
    /// Why new jobs are refused; empty if they are not.
    pub refusing_jobs: String,
    /// How many running tasks the master holds back, with a message that says why; `None` if it holds none
    /// back.
    pub held_back: Option<(u32, String)>,
    /// A warning that names the agents that have seen a later state of the store; empty if there are none.
    pub restore_warning: String,
    /// Number of unauthenticated peers that were refused.
    pub refused_unauthenticated: u64,
}
