//! Changes labels, and accepts proposals.

use tonic::Status;

use super::Master;
use crate::{
    domain::{
        control::{Labelled, NamedProposal},
        name::LabelChange,
    },
    master::core::messages::{AcceptedProposals, Choice, Input, LabelledAgents},
};

impl Master {
    /// Sets and removes labels.
    pub(super) async fn label(
        &self,
        choice: Box<Choice>,
        changes: Vec<LabelChange>,
        by: String,
    ) -> Result<Labelled, Status> {
        let labelled = self.handle.ask(move |reply| Input::Label { choice, changes, by, reply }).await??;
        let LabelledAgents { agents, still_reported } = labelled;
        Ok(Labelled { agents, still_reported, ..Labelled::default() })
    }

    /// Accepts the proposals of agents.
    pub(super) async fn accept_proposals(
        &self,
        choice: Box<Choice>,
        shown: Vec<NamedProposal>,
        by: String,
    ) -> Result<Labelled, Status> {
        let shown = shown.into_iter().map(|shown| (shown.name, shown.proposal)).collect();
        let answer = self.handle.ask(move |reply| Input::Accept { choice, shown, by, reply }).await??;
        let AcceptedProposals { accepted, changed } = answer;
        let agents = accepted.iter().map(|(name, _)| name.clone()).collect();
        let accepted = accepted.into_iter().filter(|(_, proposal)| !proposal.is_empty());
        let accepted = accepted.map(|(name, proposal)| NamedProposal { name, proposal }).collect();
        Ok(Labelled { agents, accepted, changed, ..Labelled::default() })
    }
}
