//! `ControlService`: the calls of operators.

use std::{collections::HashSet, sync::Arc};

use tonic::Status;

use super::{
    Master,
    follow::{self, Follow, MAX_QUEUED_EVENTS},
    input, news,
    watch::Watch,
};
use crate::{
    domain::{
        agent::AgentView,
        control::{
            ApproveAgent, Approved, CancelJob, Cancelled, ChangeLabels, CreateToken, CreatedToken,
            DeleteAgent, DeleteJob, DrainAgents, Drained, FleetChange, FollowJob, InputProgress,
            InputRequest, InviteOperator, Invited, JobDigest, JobEvent, JobsChange, LabelAgents, Labelled,
            ListAgents, ListJobs, MasterStatus, PromoteJob, Promoted, RejectAgents, RerunJob, RevokeOperator,
            RevokeToken, StartJob, StopAgent, StopJob, StoppedJob, TokenView, WatchAgents, WatchJob,
            WatchJobs,
        },
        fingerprint::plain_digits,
        job::Job,
        name::AgentName,
        operator::OperatorView,
        time::UnixMs,
    },
    master::{compare::maskers, core::messages::Input, store::Wanted},
    sys::{clock::unix_ms, hostname::hostname},
    wire::{
        SOFTWARE_VERSION,
        bounds::MAX_STORED,
        budget::Budget,
        control::ControlCalls,
        convert::Carried,
        incoming::Incoming,
        outbox::{Answers, Outbox},
        serve::Connected,
    },
};

/// Default and maximum number of jobs in one answer.
const JOBS: (u32, u32) = (50, 1_000);

impl Master {
    pub(super) fn follow(&self, follow: Follow, budget: Arc<Budget>) -> Answers<JobEvent> {
        let (events, stream) = Outbox::new(budget, MAX_QUEUED_EVENTS);
        self.shutdown.tracker.spawn(follow::serve(follow, self.logs.clone(), events));
        stream
    }

    /// Starts a stream of changes for a watcher.
    fn news<T: Carried, W: Future<Output = ()> + Send + 'static>(
        &self,
        caller: Connected,
        watch: impl FnOnce(Self, Outbox<T>) -> W,
    ) -> Answers<T> {
        let (answers, stream) = Outbox::new(caller.budget, 1);
        self.shutdown.tracker.spawn(watch(self.clone(), answers));
        stream
    }
}

#[tonic::async_trait]
impl ControlCalls for Master {
    async fn status(&self, caller: &Connected) -> Result<MasterStatus, Status> {
        let operator = caller.operator()?.to_owned();
        let status = self.handle.ask(Input::Status).await?;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(MasterStatus {
            cluster: self.authority.cluster().to_owned(),
            version: SOFTWARE_VERSION.to_owned(),
            ca_fingerprint: self.authority.fingerprint(),
            address: self.address.to_string(),
            agents: status.agents,
            connected: status.connected,
            pending: status.pending,
            active_jobs: status.active_jobs,
            refusing_jobs: some(status.refusing_jobs),
            holding_back: status.held_back.map(|(_, text)| text),
            restore_warning: some(status.restore_warning),
            enroll_any: self.enroll_any,
            refused_unauthenticated: status.refused_unauthenticated,
            uptime_s: self.started.elapsed().as_secs(),
            pid: std::process::id(),
            hostname: hostname(),
            operator,
        })
    }

    async fn list_agents(
        &self,
        caller: Connected,
        request: ListAgents,
    ) -> Result<Answers<Vec<AgentView>>, Status> {
        let names = match &request {
            ListAgents::All => self.listed(&caller, None).await?,
            ListAgents::Selected(selection) => self.listed(&caller, Some(selection.clone())).await?,
            ListAgents::Pending => Vec::new(),
        };
        let waiting = match request {
            ListAgents::Selected(_) => Vec::new(),
            ListAgents::All | ListAgents::Pending => self.handle.ask(Input::ShowWaiting).await?,
        };
        let (answers, stream) = Outbox::new(caller.budget, 1);
        let master = self.clone();
        self.shutdown.tracker.spawn(async move {
            let _ = master.send_listed(names, waiting, answers).await;
        });
        Ok(stream)
    }

    async fn watch_agents(
        &self,
        caller: Connected,
        request: WatchAgents,
    ) -> Result<Answers<FleetChange>, Status> {
        Ok(self.news(caller, |master, answers| news::agents(master, request, answers)))
    }

    async fn approve_agent(&self, caller: &Connected, request: ApproveAgent) -> Result<Approved, Status> {
        let by = caller.operator()?.to_owned();
        let ApproveAgent { name, mark, shown } = request;
        let shown = shown.into_iter().map(|shown| (shown.fingerprint, shown.proposal)).collect();
        Ok(self.handle.ask(move |reply| Input::Approve { name, mark, shown, by, reply }).await??)
    }

    async fn reject_agents(&self, caller: &Connected, request: RejectAgents) -> Result<u32, Status> {
        let by = caller.operator()?.to_owned();
        let (name, digits) = match request {
            RejectAgents::All => (None, String::new()),
            RejectAgents::Named { name, digits } => (Some(name), digits),
        };
        Ok(self.handle.ask(move |reply| Input::Reject { name, digits, by, reply }).await??)
    }

    async fn delete_agent(&self, caller: &Connected, request: DeleteAgent) -> Result<u32, Status> {
        let (name, by) = (request.name, caller.operator()?.to_owned());
        Ok(self.handle.ask(move |reply| Input::Delete { name, by, reply }).await??)
    }

    async fn label_agents(&self, caller: &Connected, request: LabelAgents) -> Result<Labelled, Status> {
        let by = caller.operator()?.to_owned();
        let choice = Box::new(self.choose(caller, request.selection, request.now).await?);
        match request.change {
            ChangeLabels::Set(changes) => self.label(choice, changes, by).await,
            ChangeLabels::Accept(shown) => self.accept_proposals(choice, shown, by).await,
        }
    }

    async fn stop_agent(&self, caller: &Connected, request: StopAgent) -> Result<u32, Status> {
        let by = caller.operator()?.to_owned();
        let StopAgent { name, grace_ms } = request;
        Ok(self.handle.ask(move |reply| Input::Stop { name, grace_ms, by, reply }).await??)
    }

    async fn drain_agents(&self, caller: &Connected, request: DrainAgents) -> Result<Drained, Status> {
        let by = caller.operator()?.to_owned();
        let choice = Box::new(self.choose(caller, request.selection, request.now).await?);
        let reason = request.reason;
        Ok(self.handle.ask(move |reply| Input::Drain { choice, reason, by, reply }).await??)
    }

    async fn create_token(&self, caller: &Connected, request: CreateToken) -> Result<CreatedToken, Status> {
        self.make_token(request, caller.operator()?.to_owned()).await
    }

    async fn list_tokens(&self) -> Result<Vec<TokenView>, Status> {
        self.tokens().await
    }

    async fn revoke_token(&self, caller: &Connected, request: RevokeToken) -> Result<u32, Status> {
        let (id, by) = (plain_digits(&request.id), caller.operator()?.to_owned());
        Ok(self.handle.ask(move |reply| Input::RevokeToken { id, by, reply }).await??)
    }

    async fn invite_operator(&self, caller: &Connected, request: InviteOperator) -> Result<Invited, Status> {
        self.invite(request, caller.operator()?.to_owned()).await
    }

    async fn list_operators(&self) -> Result<Vec<OperatorView>, Status> {
        self.operators().await
    }

    async fn revoke_operator(&self, caller: &Connected, request: RevokeOperator) -> Result<u32, Status> {
        let (name, by) = (request.name, caller.operator()?.to_owned());
        Ok(self.handle.ask(move |reply| Input::Revoke { name, by, reply }).await??)
    }

    async fn start_job(&self, caller: Connected, request: StartJob) -> Result<Answers<JobEvent>, Status> {
        let follows = request.follow;
        self.begin(self.job_asked(&caller, request).await?, follows, caller.budget).await
    }

    async fn rerun_job(&self, caller: Connected, request: RerunJob) -> Result<Answers<JobEvent>, Status> {
        self.begin_again(&caller, request).await
    }

    async fn delete_job(&self, caller: &Connected, request: DeleteJob) -> Result<u64, Status> {
        let by = caller.operator()?.to_owned();
        let (job, _) = self.find(request.job, &caller.budget).await?;
        let (id, number) = (job.id, job.number);
        let reason = format!("deleted by {by}");
        self.handle.ask(move |reply| Input::DeleteJob { job: id, reason, by, reply }).await??;
        let logs = self.logs.clone();
        let removed = tokio::task::spawn_blocking(move || logs.remove(id)).await;
        if let Ok(Err(error)) = removed {
            // Retention tries again.
            tracing::warn!(%error, job = number, "cannot delete a job's output");
        }
        Ok(number)
    }

    async fn follow_job(&self, caller: Connected, request: FollowJob) -> Result<Answers<JobEvent>, Status> {
        let by = caller.operator()?.to_owned();
        let (job, live) = self.find(request.job, &caller.budget).await?;
        // Only a client of the job's operator may hold its commands back.
        let attached = request.attached && job.operator == by;
        let has_task: HashSet<&AgentName> = job.tasks.iter().map(|task| &task.agent).collect();
        if let Some(agent) = request.agents.iter().find(|agent| !has_task.contains(agent)) {
            return Err(Status::not_found(format!("{agent} has no task in job {}", job.number)));
        }
        let follow = Follow {
            live,
            seen: request.seen,
            from_offset: request.from_offset,
            agents: request.agents.into_iter().collect(),
            follow: request.follow,
            without_output: request.without_output,
            attached,
            until_offset: request.until_offset,
            most_behind: request.most_behind,
            ..Follow::new(job, self.shutdown.stop.clone())
        };
        Ok(self.follow(follow, caller.budget))
    }

    async fn watch_job(&self, caller: Connected, request: WatchJob) -> Result<Answers<JobDigest>, Status> {
        let WatchJob { job, masks, follow } = request;
        let (job, live) = self.find(job, &caller.budget).await?;
        let maskers = maskers(&self.handle, &job, masks).await;
        let (digests, stream) = Outbox::new(caller.budget, 1);
        let watch = Watch { job, live, masks, maskers, follow };
        let watching = self.watched.clone().serve(watch, self.logs.clone(), self.shutdown.clone(), digests);
        self.shutdown.tracker.spawn(watching);
        Ok(stream)
    }

    async fn watch_jobs(&self, caller: Connected, request: WatchJobs) -> Result<Answers<JobsChange>, Status> {
        Ok(self.news(caller, |master, answers| news::jobs(master, request, answers)))
    }

    async fn list_jobs(&self, caller: &Connected, request: ListJobs) -> Result<Vec<Job>, Status> {
        let since_ms = request.within_ms.map_or(0, |within| unix_ms().saturating_sub(within));
        let wanted = Wanted {
            before_number: request.before.unwrap_or(0),
            limit: request.limit.unwrap_or(JOBS.0).min(JOBS.1),
            since_ms: UnixMs(since_ms.min(MAX_STORED)),
            operator: request.operator.unwrap_or_default(),
            agent: request.agent.map(String::from).unwrap_or_default(),
            text: request.text.unwrap_or_default(),
            outcome: request.result.map(|result| result.word().to_owned()).unwrap_or_default(),
        };
        let _turn = caller.budget.turn().await;
        let jobs = self.listed_jobs(wanted).await?;
        Ok(jobs.into_iter().map(Job::listed).collect())
    }

    async fn send_input(
        &self,
        caller: Connected,
        mut requests: Incoming<InputRequest>,
    ) -> Result<Answers<InputProgress>, Status> {
        let by = caller.operator()?.to_owned();
        let job = input::opened(&mut requests).await?;
        let task = self.task_for_input(job, &by, &caller.budget).await?;
        let (answers, stream) = Outbox::new(caller.budget, 1);
        self.shutdown.tracker.spawn(input::serve(self.clone(), task, requests, answers));
        Ok(stream)
    }

    async fn promote_job(&self, caller: &Connected, request: PromoteJob) -> Result<Promoted, Status> {
        let (job, by) = (request.job, caller.operator()?.to_owned());
        let promoted = self.handle.ask(move |reply| Input::Promote { job, by, reply }).await?;
        self.or_refusal(job, promoted).await
    }

    async fn stop_job(&self, caller: &Connected, request: StopJob) -> Result<StoppedJob, Status> {
        let (job, by) = (request.job, caller.operator()?.to_owned());
        let stopped = self.handle.ask(move |reply| Input::StopJob { job, by, reply }).await?;
        self.or_refusal(job, stopped).await
    }

    async fn cancel_job(&self, caller: &Connected, request: CancelJob) -> Result<Cancelled, Status> {
        let by = caller.operator()?.to_owned();
        let CancelJob { job, tasks, grace_ms } = request;
        let tasks = tasks.into_iter().collect();
        let cancelled =
            self.handle.ask(move |reply| Input::Cancel { job, tasks, grace_ms, by, reply }).await?;
        self.or_refusal(job, cancelled).await
    }
}
