//! `AgentService`: the gRPC service that the agent serves to its master, on the tunnel and on a direct link.
//! Makes no decisions.

use tokio::sync::mpsc;
use tonic::{Status, service::Routes};

use super::{attach, core::Cancelled, handle::Agent, session, task_process};
use crate::{
    domain::{
        attach::{AttachRequest, AttachResponse, SignalTask, Signalled},
        session::{FromAgent, RefusalKind, ToAgent},
    },
    sys::shutdown::Shutdown,
    wire::{
        agent::{self, AgentCalls, Outgoing},
        incoming::Incoming,
        protocol_1,
    },
};

/// The service on one connection.
pub(crate) struct Service {
    /// The agent.
    pub agent: Agent,
    /// Ends the service.
    pub shutdown: Shutdown,
    /// Notifies the owner of the connection of the master's messages.
    pub master_messages: mpsc::Sender<session::MasterMessage>,
}

/// Returns the routes that an agent serves on a connection.
#[must_use]
pub(crate) fn routes(
    agent: &Agent,
    shutdown: &Shutdown,
    master_messages: mpsc::Sender<session::MasterMessage>,
) -> Routes {
    let refused = |message, retry_after| session::MasterMessage::Refused {
        kind: RefusalKind::Protocol,
        message,
        retry_after,
    };
    let tracker = shutdown.tracker.clone();
    let owner = master_messages.clone();
    let routes = agent::routes(Service { agent: agent.clone(), shutdown: shutdown.clone(), master_messages });
    protocol_1::route(routes, tracker, owner, refused).prepare()
}

#[tonic::async_trait]
impl AgentCalls for Service {
    const SESSION_QUEUE: usize = session::ANSWERS;
    const ATTACH_QUEUE: usize = attach::ANSWERS;

    fn session(&self, requests: Incoming<ToAgent>, responses: Outgoing<FromAgent>) {
        let (agent, master_messages, stop) =
            (self.agent.clone(), self.master_messages.clone(), self.shutdown.stop.clone());
        self.shutdown.tracker.spawn(session::serve(agent, requests, responses, master_messages, stop));
    }

    fn attach(&self, requests: Incoming<AttachRequest>, responses: Outgoing<AttachResponse>) {
        let stop = self.shutdown.stop.clone();
        self.shutdown.tracker.spawn(attach::serve(self.agent.clone(), requests, responses, stop));
    }

    async fn signal(&self, signal: SignalTask) -> Result<Signalled, Status> {
        let SignalTask { id, by, grace_ms, seal } = signal;
        // The master repeats the order after an error.
        let unavailable = |error: String| Status::unavailable(error);
        let cancelled = self.agent.cancel(id).await.map_err(|error| unavailable(error.to_string()))?;
        if let Cancelled::Spooled(_) = cancelled {
            let killed = task_process::kill(&self.agent.layout, id, by, seal, grace_ms).await;
            killed.map_err(|error| unavailable(error.to_string()))?;
        }
        Ok(match cancelled {
            Cancelled::NeverStarted(incarnation) => Signalled { known: false, incarnation },
            Cancelled::Spooled(incarnation) | Cancelled::Ended(incarnation) => {
                Signalled { known: true, incarnation }
            }
            Cancelled::Replaced => {
                return Err(unavailable(
                    "a later order to stop the task waits in the place of this one".to_owned(),
                ));
            }
        })
    }
}
