//! What the core shows of itself. Plain data.

use crate::{
    domain::{
        agent::{AgentState, Drain, Facts},
        bounded::Word,
        ids::JobId,
        job::{Job, LastJob},
        name::{AgentName, Labels},
        proposal::{DirectAddress, Proposal},
    },
    trust::fingerprint::Fingerprint,
};

/// An agent as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// Its state.
    pub state: AgentState,
    /// True for direct, false for the tunnel; `None` when it is not connected.
    pub direct: Option<bool>,
    /// Why that link is used.
    pub link_reason: String,
    /// Its address.
    pub address: String,
    /// Where a direct link would go.
    pub direct_address: Option<DirectAddress>,
    /// Its version.
    pub version: Word,
    /// Its labels, as they count.
    pub labels: Labels,
    /// Those that operators set.
    pub set_labels: Labels,
    /// Those that it brings.
    pub brought_labels: Labels,
    /// What it says of itself and what does not count, or not yet.
    pub proposed: Proposal,
    /// When it was last heard of.
    pub last_seen_ms: u64,
    /// Its key.
    pub fingerprint: Fingerprint,
    /// What to know or do.
    pub hint: String,
    /// When it was let in.
    pub enrolled_ms: u64,
    /// How it came to believe in the CA.
    pub trust: Word,
    /// Its machine.
    pub facts: Option<Facts>,
    /// For a waiting key: another one is known under its name.
    pub key_changed: bool,
    /// For a waiting key: it is approved by a code.
    pub has_code: bool,
    /// Since when it is offline.
    pub offline_since_ms: Option<u64>,
    /// It takes no new tasks.
    pub drain: Option<Drain>,
    /// What it did last.
    pub last_job: Option<LastJob>,
}

/// What changed in the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetNews {
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
pub struct JobsNews {
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
