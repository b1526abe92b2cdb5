//! Lists of agents and of jobs, and changes to them. Both are sent in parts.

use super::{Carried, InvalidMessage, reference::id_out, selection::selection_in};
use crate::{
    domain::{
        agent::AgentView,
        control::{FleetChange, FleetCursor, JobsChange, ListAgents, WatchAgents, WatchJobs},
        ids::{InvalidJobId, JobId},
        job::Job,
        name::{AgentName, InvalidName},
    },
    wire::proto::{self, list_agents_request::Which},
};

/// The error for a change that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// The name of a deleted agent is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The id of a deleted job is not valid.
    #[error(transparent)]
    Id(#[from] InvalidJobId),
}

/// Converts the agents in a part of a list. Agents that this version does not understand are left out,
/// because a newer master can send them.
fn agents_in(agents: Vec<proto::Agent>) -> Vec<AgentView> {
    agents.into_iter().filter_map(|agent| AgentView::try_from(agent).ok()).collect()
}

/// A part of a list of agents.
impl Carried for Vec<AgentView> {
    type Message = proto::ListAgentsResponse;

    fn into_message(self) -> proto::ListAgentsResponse {
        proto::ListAgentsResponse { agents: self.into_iter().map(Into::into).collect() }
    }

    fn from_message(message: proto::ListAgentsResponse) -> Result<Self, InvalidMessage> {
        Ok(agents_in(message.agents))
    }
}

impl From<ListAgents> for proto::ListAgentsRequest {
    fn from(list: ListAgents) -> Self {
        let which = match list {
            ListAgents::All => None,
            ListAgents::Selected(selection) => Some(Which::Selection(selection.into())),
            ListAgents::Pending => Some(Which::Pending(proto::PendingKeys {})),
        };
        Self { which }
    }
}

impl TryFrom<proto::ListAgentsRequest> for ListAgents {
    type Error = InvalidMessage;

    fn try_from(request: proto::ListAgentsRequest) -> Result<Self, InvalidMessage> {
        Ok(match request.which {
            None => Self::All,
            Some(Which::Selection(selection)) => Self::Selected(selection_in(Some(selection))?),
            Some(Which::Pending(_)) => Self::Pending,
        })
    }
}

impl From<FleetCursor> for proto::FleetCursor {
    fn from(FleetCursor { instance, revision }: FleetCursor) -> Self {
        Self { instance, revision }
    }
}

impl From<proto::FleetCursor> for FleetCursor {
    fn from(proto::FleetCursor { instance, revision }: proto::FleetCursor) -> Self {
        Self { instance, revision }
    }
}

impl From<WatchAgents> for proto::WatchAgentsRequest {
    fn from(watch: WatchAgents) -> Self {
        Self { since: watch.since.map(Into::into) }
    }
}

impl From<proto::WatchAgentsRequest> for WatchAgents {
    fn from(request: proto::WatchAgentsRequest) -> Self {
        Self { since: request.since.map(Into::into) }
    }
}

impl From<FleetChange> for proto::WatchAgentsResponse {
    fn from(change: FleetChange) -> Self {
        let agents = |agents: Vec<AgentView>| agents.into_iter().map(Into::into).collect();
        Self {
            begins: change.begins,
            complete: change.complete.map(Into::into),
            agents: agents(change.agents),
            deleted: change.deleted.into_iter().map(Into::into).collect(),
            waiting: change.waiting.map(|keys| proto::WaitingKeys { keys: agents(keys) }),
        }
    }
}

impl TryFrom<proto::WatchAgentsResponse> for FleetChange {
    type Error = InvalidChange;

    fn try_from(change: proto::WatchAgentsResponse) -> Result<Self, InvalidChange> {
        Ok(Self {
            begins: change.begins,
            complete: change.complete.map(Into::into),
            agents: agents_in(change.agents),
            deleted: change.deleted.into_iter().map(AgentName::try_from).collect::<Result<_, _>>()?,
            waiting: change.waiting.map(|waiting| agents_in(waiting.keys)),
        })
    }
}

impl From<WatchJobs> for proto::WatchJobsRequest {
    fn from(WatchJobs { newest }: WatchJobs) -> Self {
        Self { newest }
    }
}

impl From<proto::WatchJobsRequest> for WatchJobs {
    fn from(proto::WatchJobsRequest { newest }: proto::WatchJobsRequest) -> Self {
        Self { newest }
    }
}

impl From<JobsChange> for proto::WatchJobsResponse {
    fn from(change: JobsChange) -> Self {
        Self {
            jobs: change.jobs.into_iter().map(Into::into).collect(),
            complete: change.is_complete,
            begins: change.begins,
            deleted: change.deleted.into_iter().map(id_out).collect(),
        }
    }
}

impl TryFrom<proto::WatchJobsResponse> for JobsChange {
    type Error = InvalidChange;

    fn try_from(change: proto::WatchJobsResponse) -> Result<Self, InvalidChange> {
        // Jobs that this version does not understand are left out. A newer master can send them.
        let jobs = change.jobs.into_iter().filter_map(|job| Job::try_from(job).ok());
        Ok(Self {
            begins: change.begins,
            is_complete: change.complete,
            jobs: jobs.collect(),
            deleted: change
                .deleted
                .iter()
                .map(|id| JobId::from_bytes(id))
                .collect::<Result<_, InvalidJobId>>()?,
        })
    }
}
