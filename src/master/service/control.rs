//! `ControlService`: the calls of operators.

use std::{collections::HashSet, sync::Arc};

use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    Master, connected,
    follow::{self, EVENTS, Follow},
    input,
    invitations::hostname,
    news,
    outbox::{Answers, Outbox},
    refusal,
    watch::Watch,
};
use crate::{
    domain::{
        fingerprint::plain_digits, groups::mask::Masks, ids::JobReference, name::AgentName,
        outcome::asked_for, target::selection::Selection,
    },
    master::{
        compare::maskers,
        core::messages::{Input, Reply},
        store::Wanted,
    },
    sys::clock::unix_ms,
    trust::access::Caller,
    wire::{
        InvalidMessage, SOFTWARE_VERSION,
        bounds::{MAX_STORED, per_task, short_text},
        budget::Budget,
        proto::{self, control_service_server::ControlService},
        status,
    },
};

/// Jobs in one answer, unless asked otherwise, and at most.
const JOBS: (u32, u32) = (50, 1_000);

pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    status::refusal(Code::InvalidArgument, error)
}

pub(super) fn name(text: &str) -> Result<AgentName, Status> {
    text.parse().map_err(invalid)
}

/// The operator behind a call; the access table let nobody else through.
fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    match connected(request)?.caller {
        Caller::Operator { name, .. } => Ok(name),
        Caller::Unauthenticated | Caller::Unknown(_) | Caller::Peer(_) => {
            Err(Status::unauthenticated("this call needs an operator"))
        }
    }
}

pub(super) fn reference(job: Option<proto::JobReference>) -> Result<JobReference, Status> {
    let job = job.ok_or_else(|| InvalidMessage::missing("the job"))?;
    Ok(JobReference::try_from(job)?)
}

pub(super) fn selection(selection: Option<proto::Selection>) -> Result<Selection, Status> {
    let selection = selection.ok_or_else(|| InvalidMessage::missing("a target"))?;
    Ok(Selection::try_from(selection)?)
}

impl Master {
    pub(super) fn follow(&self, follow: Follow, budget: Arc<Budget>) -> Response<Answers<proto::JobEvent>> {
        let (events, stream) = Outbox::new(budget, EVENTS);
        self.shutdown.tracker.spawn(follow::serve(follow, self.logs.clone(), events));
        Response::new(stream)
    }

    /// A stream of what a watcher is told.
    fn news<T: prost::Message + 'static, W: Future<Output = ()> + Send + 'static>(
        &self,
        budget: Arc<Budget>,
        watch: impl FnOnce(Self, Outbox<T>) -> W,
    ) -> Response<Answers<T>> {
        let (answers, stream) = Outbox::new(budget, 1);
        self.shutdown.tracker.spawn(watch(self.clone(), answers));
        Response::new(stream)
    }

    async fn count(&self, input: impl FnOnce(u64) -> Input + Send + 'static) -> Result<u32, Status> {
        match self.handle.ask(input).await? {
            Reply::Count(count) => Ok(count),
            other => Err(refusal(other)),
        }
    }
}

#[tonic::async_trait]
impl ControlService for Master {
    type ListAgentsStream = Answers<proto::ListAgentsResponse>;
    type StartJobStream = Answers<proto::JobEvent>;
    type FollowJobStream = Answers<proto::JobEvent>;
    type RerunJobStream = Answers<proto::JobEvent>;
    type SendInputStream = Answers<proto::SendInputResponse>;
    type WatchJobStream = Answers<proto::JobDigest>;
    type WatchAgentsStream = Answers<proto::WatchAgentsResponse>;
    type WatchJobsStream = Answers<proto::WatchJobsResponse>;

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let operator = operator(&request)?;
        let Reply::Status(status) = self.handle.ask(Input::Status).await? else {
            return Err(Status::internal("no status"));
        };
        Ok(Response::new(proto::GetStatusResponse {
            cluster: self.authority.cluster().to_owned(),
            software_version: SOFTWARE_VERSION.to_owned(),
            ca_fingerprint: self.authority.fingerprint().to_string(),
            address: self.address.to_string(),
            agents: status.agents,
            connected: status.connected,
            pending: status.pending,
            active_jobs: status.active_jobs,
            refusing_jobs: status.refusing_jobs,
            holding_back: status.held_back.map(|(_, text)| text).unwrap_or_default(),
            ahead: status.ahead,
            enroll_any: self.enroll_any,
            refused_unauthenticated: status.refused_unauthenticated,
            uptime_s: self.started.elapsed().as_secs(),
            pid: std::process::id(),
            hostname: hostname(),
            operator,
        }))
    }

    async fn list_agents(
        &self,
        request: Request<proto::ListAgentsRequest>,
    ) -> Result<Response<Self::ListAgentsStream>, Status> {
        let caller = connected(&request)?;
        let request = request.into_inner();
        let selection = request.selection.map(Selection::try_from).transpose()?;
        let is_all = selection.is_none();
        let names = if request.pending_only { Vec::new() } else { self.listed(&caller, selection).await? };
        let with_waiting = is_all || request.pending_only;
        let waiting =
            if with_waiting { self.handle.ask(Input::ShowWaiting).await? } else { Reply::Agents(Vec::new()) };
        let Reply::Agents(waiting) = waiting else { return Err(refusal(waiting)) };
        let (answers, stream) = Outbox::new(caller.budget, 1);
        let master = self.clone();
        self.shutdown.tracker.spawn(async move {
            let _ = master.send_listed(names, waiting, answers).await;
        });
        Ok(Response::new(stream))
    }

    async fn approve_agent(
        &self,
        request: Request<proto::ApproveAgentRequest>,
    ) -> Result<Response<proto::ApproveAgentResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        self.approve(request, by).await
    }

    async fn reject_agent(
        &self,
        request: Request<proto::RejectAgentRequest>,
    ) -> Result<Response<proto::RejectAgentResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        let name = (!request.all).then(|| name(&request.name)).transpose()?;
        let digits = short_text(request.fingerprint, "a fingerprint")?;
        let rejected = self.count(move |reply| Input::Reject { name, digits, by, reply }).await?;
        Ok(Response::new(proto::RejectAgentResponse { rejected }))
    }

    async fn delete_agent(
        &self,
        request: Request<proto::DeleteAgentRequest>,
    ) -> Result<Response<proto::DeleteAgentResponse>, Status> {
        let by = operator(&request)?;
        let name = name(&request.into_inner().name)?;
        let lost_tasks = self.count(move |reply| Input::Delete { name, by, reply }).await?;
        Ok(Response::new(proto::DeleteAgentResponse { lost_tasks }))
    }

    async fn label_agents(
        &self,
        request: Request<proto::LabelAgentsRequest>,
    ) -> Result<Response<proto::LabelAgentsResponse>, Status> {
        let (by, caller) = (operator(&request)?, connected(&request)?);
        let request = request.into_inner();
        let choice = Box::new(self.choose(&caller, selection(request.selection)?, request.now).await?);
        if request.accept {
            if !request.changes.is_empty() {
                return Err(invalid("either changes labels, or accepts those that are proposed"));
            }
            return self.accept_proposals(choice, request.shown, by).await;
        }
        self.label(choice, request.changes, by).await
    }

    async fn stop_agent(
        &self,
        request: Request<proto::StopAgentRequest>,
    ) -> Result<Response<proto::StopAgentResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        let (name, grace_ms) = (name(&request.name)?, request.grace_ms);
        let running = self.count(move |reply| Input::Stop { name, grace_ms, by, reply }).await?;
        Ok(Response::new(proto::StopAgentResponse { running }))
    }

    async fn create_token(
        &self,
        request: Request<proto::CreateTokenRequest>,
    ) -> Result<Response<proto::CreateTokenResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        self.make_token(request, by).await
    }

    async fn list_tokens(
        &self,
        _: Request<proto::ListTokensRequest>,
    ) -> Result<Response<proto::ListTokensResponse>, Status> {
        self.tokens().await
    }

    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Result<Response<proto::RevokeTokenResponse>, Status> {
        let by = operator(&request)?;
        let id = plain_digits(&short_text(request.into_inner().id, "a token's id")?);
        let uses_left = self.count(move |reply| Input::RevokeToken { id, by, reply }).await?;
        Ok(Response::new(proto::RevokeTokenResponse { uses_left }))
    }

    async fn drain_agents(
        &self,
        request: Request<proto::DrainAgentsRequest>,
    ) -> Result<Response<proto::DrainAgentsResponse>, Status> {
        let (by, caller) = (operator(&request)?, connected(&request)?);
        let request = request.into_inner();
        let choice = Box::new(self.choose(&caller, selection(request.selection)?, request.now).await?);
        self.drain(choice, (!request.resume).then_some(request.reason), by).await
    }

    async fn invite_operator(
        &self,
        request: Request<proto::InviteOperatorRequest>,
    ) -> Result<Response<proto::InviteOperatorResponse>, Status> {
        let by = operator(&request)?;
        self.invite(request.into_inner(), by).await
    }

    async fn list_operators(
        &self,
        _: Request<proto::ListOperatorsRequest>,
    ) -> Result<Response<proto::ListOperatorsResponse>, Status> {
        self.operators().await
    }

    async fn revoke_operator(
        &self,
        request: Request<proto::RevokeOperatorRequest>,
    ) -> Result<Response<proto::RevokeOperatorResponse>, Status> {
        let by = operator(&request)?;
        let name = name(&request.into_inner().name)?;
        let keys = self.count(move |reply| Input::Revoke { name, by, reply }).await?;
        Ok(Response::new(proto::RevokeOperatorResponse { keys }))
    }

    async fn start_job(
        &self,
        request: Request<proto::StartJobRequest>,
    ) -> Result<Response<Self::StartJobStream>, Status> {
        let (by, caller) = (operator(&request)?, connected(&request)?);
        let request = request.into_inner();
        let follows = request.follow;
        self.begin(self.job_asked(&caller, request, by).await?, follows, caller.budget).await
    }

    async fn rerun_job(
        &self,
        request: Request<proto::RerunJobRequest>,
    ) -> Result<Response<Self::RerunJobStream>, Status> {
        let (by, caller) = (operator(&request)?, connected(&request)?);
        let request = request.into_inner();
        self.begin_again(&caller, request, by).await
    }

    async fn delete_job(
        &self,
        request: Request<proto::DeleteJobRequest>,
    ) -> Result<Response<proto::DeleteJobResponse>, Status> {
        let by = operator(&request)?;
        let budget = connected(&request)?.budget;
        let (job, _) = self.find(reference(request.into_inner().job)?, &budget).await?;
        let (id, number) = (job.id, job.number);
        let reason = format!("deleted by {by}");
        self.count(move |reply| Input::DeleteJob { job: id, reason, by, reply }).await?;
        let logs = self.logs.clone();
        let removed = tokio::task::spawn_blocking(move || logs.remove(id)).await;
        if let Ok(Err(error)) = removed {
            // Retention tries again.
            tracing::warn!(%error, job = number, "cannot delete a job's output");
        }
        Ok(Response::new(proto::DeleteJobResponse { number }))
    }

    async fn follow_job(
        &self,
        request: Request<proto::FollowJobRequest>,
    ) -> Result<Response<Self::FollowJobStream>, Status> {
        let (by, budget) = (operator(&request)?, connected(&request)?.budget);
        let request = request.into_inner();
        let (job, live) = self.find(reference(request.job)?, &budget).await?;
        // Nobody else's reading may hold a command back.
        let attached = request.attached && job.operator == by;
        let agents = per_task(request.agents, "agents")?.into_iter().collect::<HashSet<String>>();
        let has_task: HashSet<&str> = job.tasks.iter().map(|task| task.agent.as_str()).collect();
        if let Some(agent) = agents.iter().find(|agent| !has_task.contains(agent.as_str())) {
            let agent = name(agent)?;
            return Err(Status::not_found(format!("{agent} has no task in job {}", job.number)));
        }
        let seen = per_task(request.seen, "places in output")?;
        let follow = Follow {
            live,
            seen: seen.iter().map(|seen| (seen.task_index, seen.offset)).collect(),
            from_offset: request.from_offset,
            agents,
            follow: request.follow,
            without_output: request.without_output,
            attached,
            until_offset: Some(request.until_offset).filter(|until| *until > 0),
            most_behind: Some(request.most_behind).filter(|most| *most > 0),
            ..Follow::new(job, self.shutdown.stop.clone())
        };
        Ok(self.follow(follow, budget))
    }

    async fn watch_job(
        &self,
        request: Request<proto::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let budget = connected(&request)?.budget;
        let request = request.into_inner();
        let masks: Masks = short_text(request.masks, "masks")?.parse().map_err(invalid)?;
        let (job, live) = self.find(reference(request.job)?, &budget).await?;
        let maskers = maskers(&self.handle, &job, masks).await;
        let (digests, stream) = Outbox::new(budget, 1);
        let watch = Watch { job, live, masks, maskers, follow: request.follow };
        let watching = self.watched.clone().serve(watch, self.logs.clone(), self.shutdown.clone(), digests);
        self.shutdown.tracker.spawn(watching);
        Ok(Response::new(stream))
    }

    async fn watch_agents(
        &self,
        request: Request<proto::WatchAgentsRequest>,
    ) -> Result<Response<Self::WatchAgentsStream>, Status> {
        let budget = connected(&request)?.budget;
        Ok(self.news(budget, |master, answers| news::agents(master, request.into_inner(), answers)))
    }

    async fn watch_jobs(
        &self,
        request: Request<proto::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let budget = connected(&request)?.budget;
        Ok(self.news(budget, |master, answers| news::jobs(master, request.into_inner(), answers)))
    }

    async fn list_jobs(
        &self,
        request: Request<proto::ListJobsRequest>,
    ) -> Result<Response<proto::ListJobsResponse>, Status> {
        let budget = connected(&request)?.budget;
        let request = request.into_inner();
        let limit = if request.limit == 0 { JOBS.0 } else { request.limit.min(JOBS.1) };
        let since_ms = match request.within_ms {
            0 => request.since_ms,
            within => unix_ms().saturating_sub(within),
        };
        let wanted = Wanted {
            before_number: request.before_number.min(MAX_STORED),
            limit,
            since_ms: since_ms.min(MAX_STORED),
            operator: short_text(request.operator, "an operator")?,
            agent: short_text(request.agent, "an agent")?,
            text: short_text(request.text, "a text")?,
            outcome: asked_for(&short_text(request.outcome, "an outcome")?).map_err(invalid)?,
        };
        let _turn = budget.turn().await;
        let jobs = self.listed_jobs(wanted).await?;
        let jobs = jobs.into_iter().map(|job| job.listed().into()).collect();
        Ok(Response::new(proto::ListJobsResponse { jobs }))
    }

    async fn send_input(
        &self,
        request: Request<Streaming<proto::SendInputRequest>>,
    ) -> Result<Response<Self::SendInputStream>, Status> {
        let (by, budget) = (operator(&request)?, connected(&request)?.budget);
        let mut requests = request.into_inner();
        let job = input::opened(&mut requests).await?;
        let task = self.task_to_feed(job, &by, &budget).await?;
        let (answers, stream) = Outbox::new(budget, 1);
        self.shutdown.tracker.spawn(input::serve(self.clone(), task, requests, answers));
        Ok(Response::new(stream))
    }

    async fn promote_job(
        &self,
        request: Request<proto::PromoteJobRequest>,
    ) -> Result<Response<proto::PromoteJobResponse>, Status> {
        let by = operator(&request)?;
        let job = reference(request.into_inner().job)?;
        match self.handle.ask(move |reply| Input::Promote { job, by, reply }).await? {
            Reply::Promoted { number, batch } => {
                Ok(Response::new(proto::PromoteJobResponse { number, batch }))
            }
            other => Err(self.refusal_of(job, other).await?),
        }
    }

    async fn stop_job(
        &self,
        request: Request<proto::StopJobRequest>,
    ) -> Result<Response<proto::StopJobResponse>, Status> {
        let by = operator(&request)?;
        let job = reference(request.into_inner().job)?;
        match self.handle.ask(move |reply| Input::StopJob { job, by, reply }).await? {
            Reply::JobStopped { number, skipped } => {
                Ok(Response::new(proto::StopJobResponse { number, skipped }))
            }
            other => Err(self.refusal_of(job, other).await?),
        }
    }

    async fn cancel_job(
        &self,
        request: Request<proto::CancelJobRequest>,
    ) -> Result<Response<proto::CancelJobResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        let job = reference(request.job)?;
        let tasks = per_task(request.task_indices, "tasks")?.into_iter().collect();
        let grace_ms = (request.grace_ms > 0).then_some(request.grace_ms);
        match self.handle.ask(move |reply| Input::Cancel { job, tasks, grace_ms, by, reply }).await? {
            Reply::Cancelled { told, stored, number, grace_ms } => {
                Ok(Response::new(proto::CancelJobResponse { told, stored, number, grace_ms }))
            }
            other => Err(self.refusal_of(job, other).await?),
        }
    }
}
