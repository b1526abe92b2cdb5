//! The calls of operators on agents: approval, labels, proposals, drains.

use tonic::{Response, Status};

use super::{
    Master,
    control::{invalid, name},
    refusal,
};
use crate::{
    domain::{
        name::{AgentName, MAX_LABELS},
        proposal::Proposal,
    },
    master::core::messages::{Choice, Input, Reply},
    trust::code::KeyMark,
    wire::{
        bounds::{list_of, per_task, short_text},
        proposal::{proposal_out, shown_in},
        proto,
    },
};

fn texts(names: Vec<AgentName>) -> Vec<String> {
    names.into_iter().map(Into::into).collect()
}

impl Master {
    /// Lets the waiting key in that is meant.
    pub(super) async fn approve(
        &self,
        request: proto::ApproveAgentRequest,
        by: String,
    ) -> Result<Response<proto::ApproveAgentResponse>, Status> {
        let name = name(&request.name)?;
        let mark = if request.code.is_empty() {
            KeyMark::Digits(short_text(request.fingerprint, "a fingerprint")?)
        } else {
            KeyMark::Code(request.code.parse().map_err(invalid)?)
        };
        let (shown, approved) = (shown_in(request.shown)?, name.clone());
        match self.handle.ask(move |reply| Input::Approve { name, mark, shown, by, reply }).await? {
            Reply::Approved { fingerprint, replaced, accepted } => {
                Ok(Response::new(proto::ApproveAgentResponse {
                    fingerprint: fingerprint.to_string(),
                    replaced_key: replaced,
                    accepted: Some(proposal_out(&approved, accepted)),
                }))
            }
            other => Err(refusal(other)),
        }
    }

    /// Sets and removes labels.
    pub(super) async fn label(
        &self,
        choice: Box<Choice>,
        changes: Vec<String>,
        by: String,
    ) -> Result<Response<proto::LabelAgentsResponse>, Status> {
        let changes = list_of(changes, 2 * MAX_LABELS, "changes of labels")?;
        let changes = changes.iter().map(|text| text.parse().map_err(invalid));
        let changes = changes.collect::<Result<_, Status>>()?;
        match self.handle.ask(move |reply| Input::Label { choice, changes, by, reply }).await? {
            Reply::Labelled { agents, still_brought } => Ok(Response::new(proto::LabelAgentsResponse {
                agents: texts(agents),
                still_brought: texts(still_brought),
                accepted: Vec::new(),
                changed: Vec::new(),
            })),
            other => Err(refusal(other)),
        }
    }

    /// Accepts what agents propose.
    pub(super) async fn accept_proposals(
        &self,
        choice: Box<Choice>,
        shown: Vec<proto::Proposal>,
        by: String,
    ) -> Result<Response<proto::LabelAgentsResponse>, Status> {
        let seen = |shown: proto::Proposal| Ok((name(&shown.name)?, Proposal::from(shown)));
        let shown = per_task(shown, "proposals")?.into_iter().map(seen).collect::<Result<_, Status>>()?;
        match self.handle.ask(move |reply| Input::Accept { choice, shown, by, reply }).await? {
            Reply::Accepted { accepted: all, changed } => {
                let agents = all.iter().map(|(name, _)| name.to_string()).collect();
                let accepted = all.into_iter().filter(|(_, proposal)| !proposal.is_empty());
                let accepted = accepted.map(|(name, proposal)| proposal_out(&name, proposal)).collect();
                Ok(Response::new(proto::LabelAgentsResponse {
                    agents,
                    still_brought: Vec::new(),
                    accepted,
                    changed: texts(changed),
                }))
            }
            other => Err(refusal(other)),
        }
    }

    /// Lets agents take no new tasks, for a reason, or take them again.
    pub(super) async fn drain(
        &self,
        choice: Box<Choice>,
        reason: Option<String>,
        by: String,
    ) -> Result<Response<proto::DrainAgentsResponse>, Status> {
        match self.handle.ask(move |reply| Input::Drain { choice, reason, by, reply }).await? {
            Reply::Drained { agents, unchanged, running } => Ok(Response::new(proto::DrainAgentsResponse {
                agents: texts(agents),
                unchanged: texts(unchanged),
                running,
            })),
            other => Err(refusal(other)),
        }
    }
}
