//! Agents, as clients see them.

use super::{
    agent::{AgentState, Drain, Facts},
    job::LastJob,
    name::{AgentName, Labels},
    proposal::Proposal,
    target::Candidate,
};

/// One agent, or a key that waits to become one.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentEntry {
    /// Its name.
    pub name: AgentName,
    /// Its state.
    pub state: AgentState,
    /// True for a direct link, false for the tunnel; `None` when it is not connected.
    pub direct: Option<bool>,
    /// Why that link is used, in words.
    pub link_reason: String,
    /// Its address as the master sees it, or saw it last.
    pub address: String,
    /// Where a direct link goes, or would go; empty for none.
    pub direct_address: String,
    /// Its software version.
    pub version: String,
    /// Its labels, as they count.
    pub labels: Labels,
    /// Those that operators set.
    pub set_labels: Labels,
    /// What it says of itself and what does not count, or not yet.
    pub proposed: Proposal,
    /// When it was last heard of, in milliseconds since the Unix epoch; 0 for never.
    pub last_seen_ms: u64,
    /// Its key.
    pub fingerprint: String,
    /// What to know or to do about it; empty when it is well.
    pub hint: String,
    /// How it came to believe in the CA.
    pub trust: String,
    /// Its machine.
    pub facts: Option<Facts>,
    /// For a waiting key: another one is known under its name.
    pub key_changed: bool,
    /// For a waiting key: it is approved by the code that its agent printed.
    pub has_code: bool,
    /// Since when it is offline, in milliseconds since the Unix epoch.
    pub offline_since_ms: Option<u64>,
    /// What it did last.
    pub last_job: Option<LastJob>,
    /// It takes no new tasks.
    pub drain: Option<Drain>,
}

impl AgentEntry {
    /// What a target expression may ask of it.
    #[must_use]
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate { name: &self.name, labels: &self.labels, state: self.state, direct: self.direct }
    }

    /// The word for its link: `direct`, `tunnel`, or `tunnel!` where direct was wanted and failed.
    #[must_use]
    pub fn link_word(&self) -> &'static str {
        match self.direct {
            Some(true) => "direct",
            Some(false) if !self.direct_address.is_empty() => "tunnel!",
            Some(false) => "tunnel",
            None => "-",
        }
    }

    /// Whether its last task ended badly, or has no contact.
    #[must_use]
    pub fn last_job_failed(&self) -> bool {
        self.last_job.as_ref().is_some_and(|last| {
            last.no_contact || last.state.outcome().is_some_and(|outcome| !outcome.is_success())
        })
    }

    /// Whether a task is under way on it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.last_job.as_ref().is_some_and(|last| last.state.outcome().is_none())
    }
}
