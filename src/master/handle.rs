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

/// Agents that the core shows in one step.
const SHOWN_AT_ONCE: usize = 200;

/// What the actor needs to reach a connected agent.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    /// Messages into the session.
    pub orders: mpsc::Sender<ToAgent>,
    /// Its links.
    pub links: Arc<Links>,
    /// Woken when the agent's direct address is accepted.
    pub accepted: Arc<Notify>,
    /// Closes the connection.
    pub close: CancellationToken,
}

/// What comes to the actor.
pub(super) enum Message {
    Tell(Input),
    Ask(Box<dyn FnOnce(Ticket) -> Input + Send>, oneshot::Sender<Reply>),
    Register(SessionId, SessionHandle),
    Unregister(SessionId),
    Follow(JobId, oneshot::Sender<Arc<Journal>>),
}

/// A handle to the actor.
#[derive(Clone, Debug)]
pub struct Handle {
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

/// The master is ending, so nobody answers any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the master is ending")]
pub struct Ending;

impl Handle {
    /// A handle to an actor that is gone.
    #[cfg(test)]
    pub(super) fn of_nobody() -> Self {
        let ((inbox, _), (_, watched), (_, operators), (_, remembered)) =
            (mpsc::channel(1), watch::channel(0), watch::channel(0), watch::channel(Revision::default()));
        Self { inbox, watched, operators, remembered }
    }

    /// Tells the core something.
    pub async fn tell(&self, input: Input) {
        // An actor that is gone needs to know nothing.
        let _ = self.inbox.send(Message::Tell(input)).await;
    }

    /// Asks the core a question. The question's [`ReplyTo`] decides the type of the answer.
    ///
    /// # Errors
    /// When the master is ending.
    pub async fn ask<A: Answer>(
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

    /// The registry at this moment.
    ///
    /// # Errors
    /// When the master is ending.
    pub async fn snapshot(&self) -> Result<Snapshot, Ending> {
        self.ask(Input::Snapshot).await
    }

    /// These agents as they are shown, as far as they are there; asked for in parts, so that the core does other things
    /// between them.
    ///
    /// # Errors
    /// When the master is ending.
    pub async fn agents(&self, names: &[AgentName]) -> Result<Vec<AgentView>, Ending> {
        let mut views = Vec::with_capacity(names.len());
        for part in names.chunks(SHOWN_AT_ONCE) {
            let part = part.to_vec();
            views.extend(self.ask(move |reply| Input::ShowAgents(part, reply)).await?);
        }
        Ok(views)
    }

    /// Makes a connection known, before the core hears of it.
    pub async fn register(&self, id: SessionId, session: SessionHandle) {
        let _ = self.inbox.send(Message::Register(id, session)).await;
    }

    /// Forgets a connection, after the core was told of its end.
    pub async fn unregister(&self, id: SessionId) {
        let _ = self.inbox.send(Message::Unregister(id)).await;
    }

    /// The journal of a job, whether it has begun or not. It is written as long as somebody holds it.
    ///
    /// # Errors
    /// When the master is ending.
    pub async fn follow(&self, job: JobId) -> Result<Arc<Journal>, Ending> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Follow(job, reply)).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// Wakes when something of the registry or of the jobs changes that watchers are told.
    #[must_use]
    pub fn watched(&self) -> watch::Receiver<u64> {
        self.watched.clone()
    }

    /// Wakes when an operator's rights may have changed.
    #[must_use]
    pub fn operators(&self) -> watch::Receiver<u64> {
        self.operators.clone()
    }

    /// Wakes when agents are to remember another revision of the store.
    #[must_use]
    pub fn remembered(&self) -> watch::Receiver<Revision> {
        self.remembered.clone()
    }

    /// Tells the core how a write went; called from the store's thread.
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
