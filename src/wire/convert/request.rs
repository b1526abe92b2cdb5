//! Requests of operators about agents and jobs, and the answers to them.

use super::{
    InvalidMessage, InvalidProposal,
    label::changes_in,
    proposal::{fingerprint_in, fingerprint_out, proposal_in},
    reference::{id_out, reference_in},
    selection::selection_in,
};
use crate::{
    domain::{
        code::KeyMark,
        control::{
            ApproveAgent, Approved, CancelJob, Cancelled, ChangeLabels, DeleteAgent, DeleteJob, DrainAgents,
            Drained, FollowJob, LabelAgents, Labelled, ListJobs, NamedProposal, PromoteJob, Promoted,
            RejectAgents, RerunJob, ShownAgent, ShownKey, StartJob, StopAgent, StopJob, StoppedJob,
            TaskOffset, WatchJob,
        },
        ids::JobId,
        name::{AgentName, InvalidName},
        offset::OutputOffset,
        outcome::JobResult,
    },
    wire::{
        bounds::{MAX_STORED, list_of, per_task, short_text},
        proto::{self, approve_agent_request::Key, label_agents_request::Change},
    },
};

/// Maximum number of keys in the list of the keys that an operator saw before an approval. The number of
/// pending keys is limited too.
const MAX_SHOWN: usize = 1_000;

fn names_out(names: Vec<AgentName>) -> Vec<String> {
    names.into_iter().map(Into::into).collect()
}

fn names_in(names: Vec<String>) -> Result<Vec<AgentName>, InvalidName> {
    names.into_iter().map(AgentName::try_from).collect()
}

impl From<ApproveAgent> for proto::ApproveAgentRequest {
    fn from(approve: ApproveAgent) -> Self {
        let key = match approve.mark {
            KeyMark::Digits(digits) => Key::Fingerprint(digits),
            KeyMark::Code(code) => Key::Code(code.to_string()),
        };
        Self {
            name: approve.name.into(),
            key: Some(key),
            shown: approve.shown.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::ApproveAgentRequest> for ApproveAgent {
    type Error = InvalidMessage;

    fn try_from(request: proto::ApproveAgentRequest) -> Result<Self, InvalidMessage> {
        let mark = match request.key {
            Some(Key::Code(code)) => KeyMark::Code(code.parse()?),
            Some(Key::Fingerprint(digits)) => KeyMark::Digits(short_text(digits, "a fingerprint")?),
            None => return Err(InvalidMessage::Missing("the key")),
        };
        let shown = list_of(request.shown, MAX_SHOWN, "waiting keys")?.into_iter();
        Ok(Self {
            name: request.name.try_into()?,
            mark,
            shown: shown.map(ShownKey::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Approved> for proto::ApproveAgentResponse {
    fn from(approved: Approved) -> Self {
        Self {
            fingerprint: fingerprint_out(approved.fingerprint),
            replaced_key: approved.replaced_key,
            accepted: Some(approved.accepted.into()),
        }
    }
}

impl TryFrom<proto::ApproveAgentResponse> for Approved {
    type Error = InvalidProposal;

    fn try_from(approved: proto::ApproveAgentResponse) -> Result<Self, InvalidProposal> {
        Ok(Self {
            fingerprint: fingerprint_in(&approved.fingerprint)?,
            replaced_key: approved.replaced_key,
            accepted: proposal_in(approved.accepted),
        })
    }
}

impl From<RejectAgents> for proto::RejectAgentRequest {
    fn from(reject: RejectAgents) -> Self {
        match reject {
            RejectAgents::All => Self { name: None, fingerprint: None },
            RejectAgents::Named { name, digits } => Self {
                name: Some(name.into()),
                fingerprint: Some(digits).filter(|digits| !digits.is_empty()),
            },
        }
    }
}

impl TryFrom<proto::RejectAgentRequest> for RejectAgents {
    type Error = InvalidMessage;

    fn try_from(request: proto::RejectAgentRequest) -> Result<Self, InvalidMessage> {
        let Some(name) = request.name else {
            // If digits without a name were ignored, the request would reject all keys, more than the
            // operator meant.
            return match request.fingerprint {
                Some(_) => Err(InvalidMessage::Missing("the name under which the key waits")),
                None => Ok(Self::All),
            };
        };
        let digits = short_text(request.fingerprint.unwrap_or_default(), "a fingerprint")?;
        Ok(Self::Named { name: name.try_into()?, digits })
    }
}

impl From<DeleteAgent> for proto::DeleteAgentRequest {
    fn from(delete: DeleteAgent) -> Self {
        Self { name: delete.name.into() }
    }
}

impl TryFrom<proto::DeleteAgentRequest> for DeleteAgent {
    type Error = InvalidName;

    fn try_from(request: proto::DeleteAgentRequest) -> Result<Self, InvalidName> {
        Ok(Self { name: request.name.try_into()? })
    }
}

impl From<StopAgent> for proto::StopAgentRequest {
    fn from(stop: StopAgent) -> Self {
        Self { name: stop.name.into(), grace_ms: stop.grace_ms }
    }
}

impl TryFrom<proto::StopAgentRequest> for StopAgent {
    type Error = InvalidName;

    fn try_from(request: proto::StopAgentRequest) -> Result<Self, InvalidName> {
        Ok(Self { name: request.name.try_into()?, grace_ms: request.grace_ms })
    }
}

impl From<LabelAgents> for proto::LabelAgentsRequest {
    fn from(label: LabelAgents) -> Self {
        let change = match label.change {
            ChangeLabels::Set(changes) => {
                Change::Set(proto::SetLabels { changes: changes.into_iter().map(Into::into).collect() })
            }
            ChangeLabels::Accept(shown) => {
                Change::Accept(proto::AcceptProposals { shown: shown.into_iter().map(Into::into).collect() })
            }
        };
        Self { selection: Some(label.selection.into()), now: label.now, change: Some(change) }
    }
}

impl TryFrom<proto::LabelAgentsRequest> for LabelAgents {
    type Error = InvalidMessage;

    fn try_from(request: proto::LabelAgentsRequest) -> Result<Self, InvalidMessage> {
        let change = match request.change {
            Some(Change::Set(set)) => ChangeLabels::Set(changes_in(set.changes)?),
            Some(Change::Accept(accept)) => {
                let shown = per_task(accept.shown, "proposals")?.into_iter();
                ChangeLabels::Accept(shown.map(NamedProposal::try_from).collect::<Result<_, _>>()?)
            }
            None => return Err(InvalidMessage::Missing("the change of labels")),
        };
        Ok(Self { selection: selection_in(request.selection)?, now: request.now, change })
    }
}

impl From<Labelled> for proto::LabelAgentsResponse {
    fn from(labelled: Labelled) -> Self {
        Self {
            agents: names_out(labelled.agents),
            still_reported: names_out(labelled.still_reported),
            accepted: labelled.accepted.into_iter().map(Into::into).collect(),
            changed: names_out(labelled.changed),
        }
    }
}

impl TryFrom<proto::LabelAgentsResponse> for Labelled {
    type Error = InvalidProposal;

    fn try_from(labelled: proto::LabelAgentsResponse) -> Result<Self, InvalidProposal> {
        Ok(Self {
            agents: names_in(labelled.agents)?,
            still_reported: names_in(labelled.still_reported)?,
            accepted: labelled.accepted.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            changed: names_in(labelled.changed)?,
        })
    }
}

impl From<DrainAgents> for proto::DrainAgentsRequest {
    fn from(drain: DrainAgents) -> Self {
        Self { selection: Some(drain.selection.into()), now: drain.now, reason: drain.reason }
    }
}

impl TryFrom<proto::DrainAgentsRequest> for DrainAgents {
    type Error = InvalidMessage;

    fn try_from(request: proto::DrainAgentsRequest) -> Result<Self, InvalidMessage> {
        let selection = selection_in(request.selection)?;
        Ok(Self { selection, now: request.now, reason: request.reason })
    }
}

impl From<Drained> for proto::DrainAgentsResponse {
    fn from(drained: Drained) -> Self {
        Self {
            agents: names_out(drained.agents),
            unchanged: names_out(drained.unchanged),
            running: drained.running,
        }
    }
}

impl TryFrom<proto::DrainAgentsResponse> for Drained {
    type Error = InvalidName;

    fn try_from(drained: proto::DrainAgentsResponse) -> Result<Self, InvalidName> {
        Ok(Self {
            agents: names_in(drained.agents)?,
            unchanged: names_in(drained.unchanged)?,
            running: drained.running,
        })
    }
}

impl From<StartJob> for proto::StartJobRequest {
    fn from(start: StartJob) -> Self {
        let shown = |shown: ShownAgent| proto::ShownAgent {
            name: shown.name.into(),
            fingerprint: fingerprint_out(shown.fingerprint),
        };
        Self {
            job_id: id_out(start.id),
            selection: Some(start.selection.into()),
            command: Some(start.command.into()),
            options: Some(start.options.into()),
            shown: start.shown.into_iter().map(shown).collect(),
            follow: start.follow,
        }
    }
}

impl TryFrom<proto::StartJobRequest> for StartJob {
    type Error = InvalidMessage;

    fn try_from(request: proto::StartJobRequest) -> Result<Self, InvalidMessage> {
        let shown = |shown: proto::ShownAgent| -> Result<ShownAgent, InvalidProposal> {
            Ok(ShownAgent { name: shown.name.try_into()?, fingerprint: fingerprint_in(&shown.fingerprint)? })
        };
        let shown = per_task(request.shown, "agents")?.into_iter().map(shown);
        Ok(Self {
            command: request.command.ok_or(InvalidMessage::Missing("the command"))?.try_into()?,
            options: request.options.unwrap_or_default().try_into()?,
            shown: shown.collect::<Result<_, _>>()?,
            id: JobId::from_bytes(&request.job_id)?,
            selection: selection_in(request.selection)?,
            follow: request.follow,
        })
    }
}

impl From<RerunJob> for proto::RerunJobRequest {
    fn from(rerun: RerunJob) -> Self {
        Self {
            job: Some(rerun.job.into()),
            job_id: id_out(rerun.id),
            failed: rerun.failed,
            follow: rerun.follow,
        }
    }
}

impl TryFrom<proto::RerunJobRequest> for RerunJob {
    type Error = InvalidMessage;

    fn try_from(request: proto::RerunJobRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            job: reference_in(request.job)?,
            id: JobId::from_bytes(&request.job_id)?,
            failed: request.failed,
            follow: request.follow,
        })
    }
}

impl From<FollowJob> for proto::FollowJobRequest {
    fn from(follow: FollowJob) -> Self {
        let offset = |seen: TaskOffset| proto::TaskOffset { task_index: seen.task, offset: seen.offset.0 };
        Self {
            job: Some(follow.job.into()),
            agents: names_out(follow.agents),
            from_offset: follow.from_offset.0,
            until_offset: follow.until_offset.map(|offset| offset.0),
            follow: follow.follow,
            without_output: follow.without_output,
            attached: follow.attached,
            most_behind: follow.most_behind,
            seen: follow.seen.into_iter().map(offset).collect(),
        }
    }
}

impl TryFrom<proto::FollowJobRequest> for FollowJob {
    type Error = InvalidMessage;

    fn try_from(request: proto::FollowJobRequest) -> Result<Self, InvalidMessage> {
        let offset =
            |seen: proto::TaskOffset| TaskOffset { task: seen.task_index, offset: OutputOffset(seen.offset) };
        Ok(Self {
            job: reference_in(request.job)?,
            agents: names_in(per_task(request.agents, "agents")?)?,
            from_offset: OutputOffset(request.from_offset),
            until_offset: request.until_offset.map(OutputOffset),
            follow: request.follow,
            without_output: request.without_output,
            attached: request.attached,
            most_behind: request.most_behind,
            seen: per_task(request.seen, "offsets")?.into_iter().map(offset).collect(),
        })
    }
}

impl From<WatchJob> for proto::WatchJobRequest {
    fn from(watch: WatchJob) -> Self {
        Self { job: Some(watch.job.into()), masks: Some(watch.masks.into()), follow: watch.follow }
    }
}

impl TryFrom<proto::WatchJobRequest> for WatchJob {
    type Error = InvalidMessage;

    fn try_from(request: proto::WatchJobRequest) -> Result<Self, InvalidMessage> {
        let masks = request.masks.unwrap_or_default().into();
        Ok(Self { job: reference_in(request.job)?, masks, follow: request.follow })
    }
}

fn result_out(result: JobResult) -> proto::JobResult {
    match result {
        JobResult::Ok => proto::JobResult::Ok,
        JobResult::Failed => proto::JobResult::Failed,
        JobResult::Running => proto::JobResult::Running,
        JobResult::Outcome(word) => {
            let name = format!("JOB_RESULT_{}", word.to_ascii_uppercase());
            proto::JobResult::from_str_name(&name).unwrap_or_default()
        }
    }
}

fn result_in(result: i32) -> Result<Option<JobResult>, InvalidMessage> {
    // An unknown result must not be read as a missing filter, which would list all jobs.
    let result = proto::JobResult::try_from(result).map_err(|_| InvalidMessage::Missing("a known result"))?;
    Ok(JobResult::all().find(|known| result_out(*known) == result))
}

impl From<ListJobs> for proto::ListJobsRequest {
    fn from(list: ListJobs) -> Self {
        Self {
            limit: list.limit,
            before_number: list.before,
            within_ms: list.within_ms,
            operator: list.operator,
            agent: list.agent.map(Into::into),
            text: list.text,
            result: list.result.map_or(proto::JobResult::Unspecified, result_out).into(),
        }
    }
}

impl TryFrom<proto::ListJobsRequest> for ListJobs {
    type Error = InvalidMessage;

    fn try_from(request: proto::ListJobsRequest) -> Result<Self, InvalidMessage> {
        let text = |text: Option<String>, what| {
            text.filter(|text| !text.is_empty()).map(|text| short_text(text, what)).transpose()
        };
        Ok(Self {
            limit: request.limit.filter(|limit| *limit > 0),
            before: request.before_number.map(|number| number.min(MAX_STORED)),
            within_ms: request.within_ms,
            operator: text(request.operator, "an operator")?,
            agent: text(request.agent, "an agent")?.map(AgentName::try_from).transpose()?,
            text: text(request.text, "a text")?,
            result: result_in(request.result)?,
        })
    }
}

impl From<CancelJob> for proto::CancelJobRequest {
    fn from(cancel: CancelJob) -> Self {
        Self { job: Some(cancel.job.into()), task_indices: cancel.tasks, grace_ms: cancel.grace_ms }
    }
}

impl TryFrom<proto::CancelJobRequest> for CancelJob {
    type Error = InvalidMessage;

    fn try_from(request: proto::CancelJobRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            job: reference_in(request.job)?,
            tasks: per_task(request.task_indices, "tasks")?,
            grace_ms: request.grace_ms.filter(|ms| *ms > 0),
        })
    }
}

impl From<Cancelled> for proto::CancelJobResponse {
    fn from(cancelled: Cancelled) -> Self {
        let Cancelled { number, ordered, stored, grace_ms } = cancelled;
        Self { ordered, stored, number, grace_ms }
    }
}

impl From<proto::CancelJobResponse> for Cancelled {
    fn from(cancelled: proto::CancelJobResponse) -> Self {
        let proto::CancelJobResponse { ordered, stored, number, grace_ms } = cancelled;
        Self { number, ordered, stored, grace_ms }
    }
}

impl From<Promoted> for proto::PromoteJobResponse {
    fn from(Promoted { number, batch }: Promoted) -> Self {
        Self { number, batch }
    }
}

impl From<proto::PromoteJobResponse> for Promoted {
    fn from(proto::PromoteJobResponse { number, batch }: proto::PromoteJobResponse) -> Self {
        Self { number, batch }
    }
}

impl From<StoppedJob> for proto::StopJobResponse {
    fn from(StoppedJob { number, skipped }: StoppedJob) -> Self {
        Self { number, skipped }
    }
}

impl From<proto::StopJobResponse> for StoppedJob {
    fn from(proto::StopJobResponse { number, skipped }: proto::StopJobResponse) -> Self {
        Self { number, skipped }
    }
}

/// Implements the conversions of requests that contain only a reference to a job.
macro_rules! about_a_job {
    ($($domain:ident => $message:ident),*) => {
        $(impl From<$domain> for proto::$message {
            fn from(request: $domain) -> Self {
                Self { job: Some(request.job.into()) }
            }
        }

        impl TryFrom<proto::$message> for $domain {
            type Error = super::InvalidReference;

            fn try_from(request: proto::$message) -> Result<Self, super::InvalidReference> {
                Ok(Self { job: reference_in(request.job)? })
            }
        })*
    };
}

about_a_job!(PromoteJob => PromoteJobRequest, StopJob => StopJobRequest, DeleteJob => DeleteJobRequest);
