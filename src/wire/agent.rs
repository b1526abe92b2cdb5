//! The calls between a master and its agents: the client that the master uses, and the server in the agent.
//!
//! Transports messages and makes no decisions.

use std::{pin::Pin, sync::Arc};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::{
    channel::Channel,
    convert::Carried,
    incoming::Incoming,
    proto::{
        self,
        agent_service_client::AgentServiceClient,
        agent_service_server::{AgentService, AgentServiceServer},
    },
    streaming::ATTACH,
};
use crate::domain::{
    attach::{AttachRequest, AttachResponse, SignalTask, Signalled},
    session::{FromAgent, ToAgent},
};

/// The client of one agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentClient {
    channel: Channel,
}

impl AgentClient {
    /// Creates a client on one link.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    fn generated(self) -> AgentServiceClient<Channel> {
        AgentServiceClient::with_origin(self.channel, Channel::origin())
    }

    /// Opens the session. Sends the messages of `outgoing` to the agent.
    ///
    /// # Errors
    /// When the connection breaks or the agent refuses the call.
    pub(crate) async fn session(
        self,
        outgoing: mpsc::Receiver<ToAgent>,
    ) -> Result<Incoming<FromAgent>, Status> {
        let requests = ReceiverStream::new(outgoing).map(Carried::into_message);
        Ok(self.generated().session(requests).await?.into_inner().into())
    }

    /// Opens an Attach. Sends the messages of `outgoing` to the agent.
    ///
    /// # Errors
    /// When the connection breaks or the agent refuses the call.
    pub(crate) async fn attach(
        self,
        outgoing: mpsc::Receiver<AttachRequest>,
    ) -> Result<Incoming<AttachResponse>, Status> {
        let requests = ReceiverStream::new(outgoing).map(Carried::into_message);
        Ok(ATTACH.call(self.channel, requests).await?.into())
    }

    /// Stops a task.
    ///
    /// # Errors
    /// When the connection breaks or the agent refuses the call.
    pub(crate) async fn signal(self, signal: SignalTask) -> Result<Signalled, Status> {
        let response = self.generated().signal(signal.into_message()).await?.into_inner();
        Ok(Signalled::from_message(response)?)
    }
}

/// The sender of the messages of an agent in one stream.
pub(crate) type Outgoing<T> = mpsc::Sender<Result<T, Status>>;

/// The handlers of an agent for its master's calls.
#[tonic::async_trait]
pub(crate) trait AgentCalls: Send + Sync + 'static {
    /// Maximum number of messages of a session that wait for the connection.
    const SESSION_QUEUE: usize;
    /// Maximum number of messages of an Attach that wait for the connection.
    const ATTACH_QUEUE: usize;

    /// Starts to serve a session, and returns immediately.
    fn session(&self, requests: Incoming<ToAgent>, responses: Outgoing<FromAgent>);

    /// Starts to serve an Attach, and returns immediately.
    fn attach(&self, requests: Incoming<AttachRequest>, responses: Outgoing<AttachResponse>);

    /// Stops a task.
    async fn signal(&self, signal: SignalTask) -> Result<Signalled, Status>;
}

/// Returns the services of an agent.
pub(crate) fn routes(calls: impl AgentCalls) -> Routes {
    let server = Server(Arc::new(calls));
    let attach = server.clone();
    let routes = Routes::new(AgentServiceServer::new(server));
    ATTACH.route(routes, move |request| {
        let server = attach.clone();
        async move { server.attach(request).await }
    })
}

struct Server<C>(Arc<C>);

impl<C> Clone for Server<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

type Responses<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Creates a queue for a stream's messages, and the stream of the encoded messages.
fn queue<T: Carried>(length: usize) -> (Outgoing<T>, Responses<T::Message>) {
    let (responses, queued) = mpsc::channel::<Result<T, Status>>(length);
    let sent = ReceiverStream::new(queued).map(|response| response.map(Carried::into_message));
    (responses, Box::pin(sent))
}

#[tonic::async_trait]
impl<C: AgentCalls> AgentService for Server<C> {
    type SessionStream = Responses<proto::SessionResponse>;
    type AttachStream = Responses<proto::AttachResponse>;

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (responses, sent) = queue(C::SESSION_QUEUE);
        self.0.session(request.into_inner().into(), responses);
        Ok(Response::new(sent))
    }

    async fn attach(
        &self,
        request: Request<Streaming<proto::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (responses, sent) = queue(C::ATTACH_QUEUE);
        self.0.attach(request.into_inner().into(), responses);
        Ok(Response::new(sent))
    }

    async fn signal(
        &self,
        request: Request<proto::SignalRequest>,
    ) -> Result<Response<proto::SignalResponse>, Status> {
        let signal = SignalTask::from_message(request.into_inner())?;
        Ok(Response::new(self.0.signal(signal).await?.into_message()))
    }
}
