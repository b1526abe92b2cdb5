//! The interface to the actor: sends inputs, and waits for the answers to questions.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    core::messages::{Answer, Input, Reply, ReplyTo, SessionId, Snapshot, Ticket},
    journal::Journal,
    links::Links,
    store::Written,
};
use crate::domain::{agent::AgentView, ids::JobId, name::AgentName, revision::Revision, session::ToAgent};

/// Maximum number of agents that the core returns in one step.
const MAX_AGENTS_PER_REPLY: usize = 200;

/// What the actor needs to reach a connected agent.
#[derive(Clone, Debug)]
pub(crate) struct SessionHandle {
    /// Messages to the agent.
    pub orders: mpsc::Sender<ToAgent>,
    /// The agent's links.
    pub links: Arc<Links>,
    /// Notified when the agent's direct address is accepted.
    pub accepted: Arc<Notify>,
    /// Closes the connection.
    pub close: CancellationToken,
}

/// A message to the actor.
pub(super) enum Message {
    Tell(Input),
    Ask(Box<dyn FnOnce(Ticket) -> Input + Send>, oneshot::Sender<Reply>),
    Register(SessionId, SessionHandle),
    Unregister(SessionId),
    Follow(JobId, oneshot::Sender<Arc<Journal>>),
}

/// A handle to the actor.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) watched: watch::Receiver<u64>,
    pub(super) operators: watch::Receiver<u64>,
    pub(super) remembered: watch::Receiver<Revision>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// The error of a call to a master that is ending.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the master is ending")]
pub struct Ending;

impl Handle {
    /// Returns a handle to an actor that has ended.
    #[cfg(test)]
    pub(super) fn disconnected() -> Self {
        let ((inbox, _), (_, watched), (_, operators), (_, remembered)) =
            (mpsc::channel(1), watch::channel(0), watch::channel(0), watch::channel(Revision::default()));
        Self { inbox, watched, operators, remembered }
    }

    /// Sends an input to the core. Does nothing if the core has ended.
    pub(crate) async fn tell(&self, input: Input) {
        // An actor that has ended needs no input.
        let _ = self.inbox.send(Message::Tell(input)).await;
    }

    /// Asks the core a question. The question's [`ReplyTo`] decides the type of the answer.
    ///
    /// # Errors
    /// When the master is ending.
    pub(crate) async fn ask<A: Answer>(
        &self,
        question: impl FnOnce(ReplyTo<A>) -> Input + Send + 'static,
    ) -> Result<A, Ending> {
        let (reply, answer) = oneshot::channel();
        let question = move |ticket| question(ReplyTo::new(ticket));
        self.inbox.send(Message::Ask(Box::new(question), reply)).await.map_err(|_| Ending)?;
        let reply = answer.await.map_err(|_| Ending)?;
        // The core can give a `ReplyTo<A>` nothing but an `A`.
        A::try_from(reply).map_err(|_| Ending)
    }

    /// Returns a snapshot of the registry.
    ///
    /// # Errors
    /// When the master is ending.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Ending> {
        self.ask(Input::Snapshot).await
    }

    /// Returns those of the named agents that exist, as clients see them. Requests them in parts, so that the
    /// core can handle other inputs in between.
    ///
    /// # Errors
    /// When the master is ending.
    pub(crate) async fn agents(&self, names: &[AgentName]) -> Result<Vec<AgentView>, Ending> {
        let mut views = Vec::with_capacity(names.len());
        for part in names.chunks(MAX_AGENTS_PER_REPLY) {
            let part = part.to_vec();
            views.extend(self.ask(move |reply| Input::ShowAgents(part, reply)).await?);
        }
        Ok(views)
    }

    /// Registers a connection. Must come before the input that reports it to the core.
    pub(crate) async fn register(&self, id: SessionId, session: SessionHandle) {
        let _ = self.inbox.send(Message::Register(id, session)).await;
    }

    /// Removes a connection. Must come after the input that reports its end to the core.
    pub(crate) async fn unregister(&self, id: SessionId) {
        let _ = self.inbox.send(Message::Unregister(id)).await;
    }

    /// Returns the journal of a job, which need not have started. The core writes to it while anyone holds
    /// it.
    ///
    /// # Errors
    /// When the master is ending.
    pub(crate) async fn follow(&self, job: JobId) -> Result<Arc<Journal>, Ending> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Follow(job, reply)).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// Returns a receiver that changes when the registry or a job has changes for watchers.
    #[must_use]
    pub(crate) fn watched(&self) -> watch::Receiver<u64> {
        self.watched.clone()
    }

    /// Returns a receiver that changes when an operator's rights may have changed.
    #[must_use]
    pub(crate) fn operators(&self) -> watch::Receiver<u64> {
        self.operators.clone()
    }

    /// Returns the revision of the store that agents must remember, as it changes.
    #[must_use]
    pub(crate) fn remembered(&self) -> watch::Receiver<Revision> {
        self.remembered.clone()
    }

    /// Reports the result of a write to the core. Called on the store's thread.
    pub(super) fn written(&self, written: Written) {
        let input = match written {
            Written::Done(token, revision) => Input::Persisted(token, revision),
            Written::Delayed(token, reason) => Input::PersistDelayed(token, reason),
            Written::Failed(token, reason) => Input::PersistFailed(token, reason),
            Written::Conflict(token) => Input::PersistConflict(token),
        };
        let _ = self.inbox.blocking_send(Message::Tell(input));
    }
}
