//! `AgentService`: what the agent serves to its master, on either link. Decides nothing itself.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::{
    attach, session,
    state::{Agent, Cancelled},
    task_process,
};
use crate::{
    sys::shutdown::Shutdown,
    wire::{
        command::{seal_in, task_id},
        proto::{
            self,
            agent_service_server::{AgentService, AgentServiceServer},
        },
        protocol_1,
        streaming::ATTACH,
    },
};

/// The service on one connection.
#[derive(Clone)]
pub struct Service {
    /// The agent.
    pub agent: Agent,
    /// When to end.
    pub shutdown: Shutdown,
    /// Tells the connection's owner what the master said first, and each later sign of life.
    pub heard: mpsc::Sender<session::Heard>,
}

/// What an agent serves on a connection.
#[must_use]
pub fn routes(agent: &Agent, shutdown: &Shutdown, heard: mpsc::Sender<session::Heard>) -> Routes {
    let refused = |message, retry_after| session::Heard::Refused {
        reason: proto::RefusalReason::Protocol,
        message,
        retry_after,
    };
    let tracker = shutdown.tracker.clone();
    let owner = heard.clone();
    let service = Service { agent: agent.clone(), shutdown: shutdown.clone(), heard };
    let routes = Routes::new(AgentServiceServer::new(service.clone()));
    let routes = protocol_1::route(routes, tracker, owner, refused);
    let attach = move |request| {
        let service = service.clone();
        async move { service.attach(request).await }
    };
    ATTACH.route(routes, attach).prepare()
}

type Answers<T> = Pin<Box<ReceiverStream<Result<T, Status>>>>;

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = Answers<proto::SessionResponse>;
    type AttachStream = Answers<proto::AttachResponse>;

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (answers, stream) = mpsc::channel(session::ANSWERS);
        let session = session::serve(
            self.agent.clone(),
            request.into_inner(),
            answers,
            self.heard.clone(),
            self.shutdown.stop.clone(),
        );
        self.shutdown.tracker.spawn(session);
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn attach(
        &self,
        request: Request<Streaming<proto::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (answers, stream) = mpsc::channel(attach::ANSWERS);
        let stop = self.shutdown.stop.clone();
        self.shutdown.tracker.spawn(attach::serve(self.agent.clone(), request.into_inner(), answers, stop));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn signal(
        &self,
        request: Request<proto::SignalRequest>,
    ) -> Result<Response<proto::SignalResponse>, Status> {
        let request = request.into_inner();
        let id = task_id(&request.job_id, request.task_index)?;
        let disk = |error: std::io::Error| Status::unavailable(format!("the agent's disk: {error}"));
        let cancelled = self.agent.cancel(id).await.map_err(disk)?;
        if cancelled == Cancelled::Spooled {
            let seal = seal_in(&request.seal);
            let killed = task_process::kill(&self.agent.layout, id, request.by, seal, request.grace_ms).await;
            // The master gives the order again.
            killed.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        let incarnation = match cancelled {
            Cancelled::NeverStarted => self.agent.promised_in(id).map_err(disk)?,
            Cancelled::Spooled | Cancelled::Finished => self.agent.incarnation(),
        };
        Ok(Response::new(proto::SignalResponse {
            known: cancelled != Cancelled::NeverStarted,
            incarnation: incarnation.to_string(),
        }))
    }
}
