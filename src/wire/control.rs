//! The server for operators: converts each generated method to one call with domain types and its caller.
//!
//! Transports messages and makes no decisions.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::{
    convert::Carried,
    enrollment::{self, EnrollmentCalls},
    incoming::Incoming,
    outbox::Answers,
    proto::{
        self,
        control_service_server::{ControlService, ControlServiceServer},
    },
    serve::Connected,
    streaming::{FOLLOW_JOB, Method, RERUN_JOB, START_JOB, only},
};
use crate::domain::{
    agent::AgentView,
    control::{
        ApproveAgent, Approved, CancelJob, Cancelled, CreateToken, CreatedToken, DeleteAgent, DeleteJob,
        DrainAgents, Drained, FleetChange, FollowJob, InputProgress, InputRequest, InviteOperator, Invited,
        JobDigest, JobEvent, JobsChange, LabelAgents, Labelled, ListAgents, ListJobs, MasterStatus,
        PromoteJob, Promoted, RejectAgents, RerunJob, RevokeOperator, RevokeToken, StartJob, StopAgent,
        StopJob, StoppedJob, TokenView, WatchAgents, WatchJob, WatchJobs,
    },
    job::Job,
    operator::OperatorView,
};

/// Maximum size of a message from an operator, in bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The handlers of a master for operators' calls.
#[tonic::async_trait]
pub(crate) trait ControlCalls: Send + Sync + 'static {
    /// Returns the state of the master.
    async fn status(&self, caller: &Connected) -> Result<MasterStatus, Status>;
    /// Lists agents.
    async fn list_agents(
        &self,
        caller: Connected,
        request: ListAgents,
    ) -> Result<Answers<Vec<AgentView>>, Status>;
    /// Watches the agents.
    async fn watch_agents(
        &self,
        caller: Connected,
        request: WatchAgents,
    ) -> Result<Answers<FleetChange>, Status>;
    /// Approves a pending key.
    async fn approve_agent(&self, caller: &Connected, request: ApproveAgent) -> Result<Approved, Status>;
    /// Rejects pending keys. Returns their number.
    async fn reject_agents(&self, caller: &Connected, request: RejectAgents) -> Result<u32, Status>;
    /// Deletes an agent. Returns the number of its tasks that are lost.
    async fn delete_agent(&self, caller: &Connected, request: DeleteAgent) -> Result<u32, Status>;
    /// Changes labels.
    async fn label_agents(&self, caller: &Connected, request: LabelAgents) -> Result<Labelled, Status>;
    /// Stops an agent. Returns the number of its running tasks.
    async fn stop_agent(&self, caller: &Connected, request: StopAgent) -> Result<u32, Status>;
    /// Drains agents, or ends their drain.
    async fn drain_agents(&self, caller: &Connected, request: DrainAgents) -> Result<Drained, Status>;
    /// Creates a join token.
    async fn create_token(&self, caller: &Connected, request: CreateToken) -> Result<CreatedToken, Status>;
    /// Lists the join tokens.
    async fn list_tokens(&self) -> Result<Vec<TokenView>, Status>;
    /// Revokes a join token. Returns the number of its remaining uses.
    async fn revoke_token(&self, caller: &Connected, request: RevokeToken) -> Result<u32, Status>;
    /// Adds an operator.
    async fn invite_operator(&self, caller: &Connected, request: InviteOperator) -> Result<Invited, Status>;
    /// Lists the operators.
    async fn list_operators(&self) -> Result<Vec<OperatorView>, Status>;
    /// Revokes an operator. Returns the number of its keys.
    async fn revoke_operator(&self, caller: &Connected, request: RevokeOperator) -> Result<u32, Status>;
    /// Starts a job.
    async fn start_job(&self, caller: Connected, request: StartJob) -> Result<Answers<JobEvent>, Status>;
    /// Follows a job.
    async fn follow_job(&self, caller: Connected, request: FollowJob) -> Result<Answers<JobEvent>, Status>;
    /// Watches a job.
    async fn watch_job(&self, caller: Connected, request: WatchJob) -> Result<Answers<JobDigest>, Status>;
    /// Lists jobs.
    async fn list_jobs(&self, caller: &Connected, request: ListJobs) -> Result<Vec<Job>, Status>;
    /// Watches the jobs.
    async fn watch_jobs(&self, caller: Connected, request: WatchJobs) -> Result<Answers<JobsChange>, Status>;
    /// Continues a job that waits at a gate.
    async fn promote_job(&self, caller: &Connected, request: PromoteJob) -> Result<Promoted, Status>;
    /// Stops a job: no more of its tasks are started.
    async fn stop_job(&self, caller: &Connected, request: StopJob) -> Result<StoppedJob, Status>;
    /// Runs the command of a job again.
    async fn rerun_job(&self, caller: Connected, request: RerunJob) -> Result<Answers<JobEvent>, Status>;
    /// Deletes a job, and returns its number.
    async fn delete_job(&self, caller: &Connected, request: DeleteJob) -> Result<u64, Status>;
    /// Relays standard input to the command of a job.
    async fn send_input(
        &self,
        caller: Connected,
        requests: Incoming<InputRequest>,
    ) -> Result<Answers<InputProgress>, Status>;
    /// Cancels a job.
    async fn cancel_job(&self, caller: &Connected, request: CancelJob) -> Result<Cancelled, Status>;
}

/// Returns all services of a master. Reflection is served only on the local socket.
///
/// # Errors
/// When the compiled-in descriptors cannot be parsed.
pub(crate) async fn routes<C>(calls: Arc<C>, local: bool) -> Result<Routes, tonic_reflection::server::Error>
where
    C: ControlCalls + EnrollmentCalls,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ControlServiceServer<Server<C>>>().await;
    let control = ControlServiceServer::new(Server(Arc::clone(&calls)));
    let mut routes = Routes::new(enrollment::service(Arc::clone(&calls)))
        .add_service(control.max_decoding_message_size(MAX_MESSAGE))
        .add_service(health_service);
    if local {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .build_v1()?;
        routes = routes.add_service(reflection);
    }
    routes = answered(routes, START_JOB, &calls, |calls, caller, request| calls.start_job(caller, request));
    routes = answered(routes, RERUN_JOB, &calls, |calls, caller, request| calls.rerun_job(caller, request));
    routes = answered(routes, FOLLOW_JOB, &calls, |calls, caller, request| calls.follow_job(caller, request));
    Ok(routes.prepare())
}

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<Answers<T>, Status>> + Send + 'a>>;

/// Adds a handler that does not copy output. It replaces the generated handler of the method.
fn answered<C: Send + Sync + 'static, R: Carried, A: Carried>(
    routes: Routes,
    method: Method<R::Message, A::Message>,
    calls: &Arc<C>,
    answer: for<'a> fn(&'a C, Connected, R) -> Answering<'a, A>,
) -> Routes {
    let calls = Arc::clone(calls);
    method.route(routes, move |request| {
        let calls = Arc::clone(&calls);
        async move {
            let (caller, request) = received(only(request).await?)?;
            Ok(Response::new(answer(&calls, caller, request).await?))
        }
    })
}

/// Returns the caller of a request, and the request as a domain value.
fn received<R: Carried>(request: Request<R::Message>) -> Result<(Connected, R), Status> {
    let caller = Connected::of(&request)?;
    Ok((caller, R::from_message(request.into_inner())?))
}

fn response<T: Carried>(answer: T) -> Response<T::Message> {
    Response::new(answer.into_message())
}

fn all<T: Carried>(values: Vec<T>) -> Vec<T::Message> {
    values.into_iter().map(Carried::into_message).collect()
}

struct Server<C>(Arc<C>);

type Streamed<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl<C: ControlCalls> ControlService for Server<C> {
    type ListAgentsStream = Answers<Vec<AgentView>>;
    type WatchAgentsStream = Answers<FleetChange>;
    type WatchJobStream = Answers<JobDigest>;
    type WatchJobsStream = Answers<JobsChange>;
    type SendInputStream = Answers<InputProgress>;
    type FollowJobStream = Answers<JobEvent>;
    type StartJobStream = Streamed<proto::StartJobResponse>;
    type RerunJobStream = Streamed<proto::RerunJobResponse>;

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        Ok(response(self.0.status(&Connected::of(&request)?).await?))
    }

    async fn list_agents(
        &self,
        request: Request<proto::ListAgentsRequest>,
    ) -> Result<Response<Self::ListAgentsStream>, Status> {
        let (caller, request) = received(request)?;
        Ok(Response::new(self.0.list_agents(caller, request).await?))
    }

    async fn watch_agents(
        &self,
        request: Request<proto::WatchAgentsRequest>,
    ) -> Result<Response<Self::WatchAgentsStream>, Status> {
        let (caller, request) = received(request)?;
        Ok(Response::new(self.0.watch_agents(caller, request).await?))
    }

    async fn approve_agent(
        &self,
        request: Request<proto::ApproveAgentRequest>,
    ) -> Result<Response<proto::ApproveAgentResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.approve_agent(&caller, request).await?))
    }

    async fn reject_agent(
        &self,
        request: Request<proto::RejectAgentRequest>,
    ) -> Result<Response<proto::RejectAgentResponse>, Status> {
        let (caller, request) = received(request)?;
        let rejected = self.0.reject_agents(&caller, request).await?;
        Ok(Response::new(proto::RejectAgentResponse { rejected }))
    }

    async fn delete_agent(
        &self,
        request: Request<proto::DeleteAgentRequest>,
    ) -> Result<Response<proto::DeleteAgentResponse>, Status> {
        let (caller, request) = received(request)?;
        let lost_tasks = self.0.delete_agent(&caller, request).await?;
        Ok(Response::new(proto::DeleteAgentResponse { lost_tasks }))
    }

    async fn label_agents(
        &self,
        request: Request<proto::LabelAgentsRequest>,
    ) -> Result<Response<proto::LabelAgentsResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.label_agents(&caller, request).await?))
    }

    async fn stop_agent(
        &self,
        request: Request<proto::StopAgentRequest>,
    ) -> Result<Response<proto::StopAgentResponse>, Status> {
        let (caller, request) = received(request)?;
        let running = self.0.stop_agent(&caller, request).await?;
        Ok(Response::new(proto::StopAgentResponse { running }))
    }

    async fn drain_agents(
        &self,
        request: Request<proto::DrainAgentsRequest>,
    ) -> Result<Response<proto::DrainAgentsResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.drain_agents(&caller, request).await?))
    }

    async fn create_token(
        &self,
        request: Request<proto::CreateTokenRequest>,
    ) -> Result<Response<proto::CreateTokenResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.create_token(&caller, request).await?))
    }

    async fn list_tokens(
        &self,
        _: Request<proto::ListTokensRequest>,
    ) -> Result<Response<proto::ListTokensResponse>, Status> {
        let tokens = all(self.0.list_tokens().await?);
        Ok(Response::new(proto::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Result<Response<proto::RevokeTokenResponse>, Status> {
        let (caller, request) = received(request)?;
        let uses_left = self.0.revoke_token(&caller, request).await?;
        Ok(Response::new(proto::RevokeTokenResponse { uses_left }))
    }

    async fn invite_operator(
        &self,
        request: Request<proto::InviteOperatorRequest>,
    ) -> Result<Response<proto::InviteOperatorResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.invite_operator(&caller, request).await?))
    }

    async fn list_operators(
        &self,
        _: Request<proto::ListOperatorsRequest>,
    ) -> Result<Response<proto::ListOperatorsResponse>, Status> {
        let operators = all(self.0.list_operators().await?);
        Ok(Response::new(proto::ListOperatorsResponse { operators }))
    }

    async fn revoke_operator(
        &self,
        request: Request<proto::RevokeOperatorRequest>,
    ) -> Result<Response<proto::RevokeOperatorResponse>, Status> {
        let (caller, request) = received(request)?;
        let keys = self.0.revoke_operator(&caller, request).await?;
        Ok(Response::new(proto::RevokeOperatorResponse { keys }))
    }

    async fn start_job(
        &self,
        request: Request<proto::StartJobRequest>,
    ) -> Result<Response<Self::StartJobStream>, Status> {
        let (caller, request) = received(request)?;
        let events = self.0.start_job(caller, request).await?;
        let events = events.map(|event| event.map(|event| proto::StartJobResponse { event: event.event }));
        Ok(Response::new(Box::pin(events)))
    }

    async fn follow_job(
        &self,
        request: Request<proto::FollowJobRequest>,
    ) -> Result<Response<Self::FollowJobStream>, Status> {
        let (caller, request) = received(request)?;
        Ok(Response::new(self.0.follow_job(caller, request).await?))
    }

    async fn watch_job(
        &self,
        request: Request<proto::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let (caller, request) = received(request)?;
        Ok(Response::new(self.0.watch_job(caller, request).await?))
    }

    async fn list_jobs(
        &self,
        request: Request<proto::ListJobsRequest>,
    ) -> Result<Response<proto::ListJobsResponse>, Status> {
        let (caller, request) = received(request)?;
        let jobs = all(self.0.list_jobs(&caller, request).await?);
        Ok(Response::new(proto::ListJobsResponse { jobs }))
    }

    async fn watch_jobs(
        &self,
        request: Request<proto::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let (caller, request) = received(request)?;
        Ok(Response::new(self.0.watch_jobs(caller, request).await?))
    }

    async fn promote_job(
        &self,
        request: Request<proto::PromoteJobRequest>,
    ) -> Result<Response<proto::PromoteJobResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.promote_job(&caller, request).await?))
    }

    async fn stop_job(
        &self,
        request: Request<proto::StopJobRequest>,
    ) -> Result<Response<proto::StopJobResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.stop_job(&caller, request).await?))
    }

    async fn rerun_job(
        &self,
        request: Request<proto::RerunJobRequest>,
    ) -> Result<Response<Self::RerunJobStream>, Status> {
        let (caller, request) = received(request)?;
        let events = self.0.rerun_job(caller, request).await?;
        let events = events.map(|event| event.map(|event| proto::RerunJobResponse { event: event.event }));
        Ok(Response::new(Box::pin(events)))
    }

    async fn delete_job(
        &self,
        request: Request<proto::DeleteJobRequest>,
    ) -> Result<Response<proto::DeleteJobResponse>, Status> {
        let (caller, request) = received(request)?;
        let number = self.0.delete_job(&caller, request).await?;
        Ok(Response::new(proto::DeleteJobResponse { number }))
    }

    async fn send_input(
        &self,
        request: Request<Streaming<proto::SendInputRequest>>,
    ) -> Result<Response<Self::SendInputStream>, Status> {
        let caller = Connected::of(&request)?;
        let answers = self.0.send_input(caller, request.into_inner().into()).await?;
        Ok(Response::new(answers))
    }

    async fn cancel_job(
        &self,
        request: Request<proto::CancelJobRequest>,
    ) -> Result<Response<proto::CancelJobResponse>, Status> {
        let (caller, request) = received(request)?;
        Ok(response(self.0.cancel_job(&caller, request).await?))
    }
}
