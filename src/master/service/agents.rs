//! Changes of labels, and the acceptance of proposals.

use tonic::Status;

use super::{Master, refusal};
use crate::{
    domain::{
        control::{Labelled, NamedProposal},
        name::LabelChange,
    },
    master::core::messages::{Choice, Input, Reply},
};

impl Master {
    /// Sets and removes labels.
    pub(super) async fn label(
        &self,
        choice: Box<Choice>,
        changes: Vec<LabelChange>,
        by: String,
    ) -> Result<Labelled, Status> {
        match self.handle.ask(move |reply| Input::Label { choice, changes, by, reply }).await? {
            Reply::Labelled { agents, still_brought } => {
                Ok(Labelled { agents, still_brought, ..Labelled::default() })
            }
            other => Err(refusal(other)),
        }
    }

    /// Accepts what agents propose.
    pub(super) async fn accept_proposals(
        &self,
        choice: Box<Choice>,
        shown: Vec<NamedProposal>,
        by: String,
    ) -> Result<Labelled, Status> {
        let shown = shown.into_iter().map(|shown| (shown.name, shown.proposal)).collect();
        match self.handle.ask(move |reply| Input::Accept { choice, shown, by, reply }).await? {
            Reply::Accepted { accepted: all, changed } => {
                let agents = all.iter().map(|(name, _)| name.clone()).collect();
                let accepted = all.into_iter().filter(|(_, proposal)| !proposal.is_empty());
                let accepted = accepted.map(|(name, proposal)| NamedProposal { name, proposal }).collect();
                Ok(Labelled { agents, accepted, changed, ..Labelled::default() })
            }
            other => Err(refusal(other)),
        }
    }
}
