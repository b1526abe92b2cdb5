//! A handle to the agent: its description, its connection state, and the requests to its core. Makes no
//! decisions.

use std::{io, sync::Arc};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    actor::{Actor, MAX_QUEUED_MESSAGES, Message, Opened, Shown},
    core::{Cancelled, DiskError, Input, Introduction, OpenedAttach, Reply},
    incarnation::DirectoryId,
    layout::Layout,
    supervisor_client::Supervisor,
    troubles::Troubles,
};
use crate::domain::{
    agent::LinkPreference,
    fingerprint::Fingerprint,
    ids::{Incarnation, TaskId},
    name::{AgentName, Labels},
    network::HostPort,
    outcome::TaskEnding,
    proposal::{Proposal, ReportedAddress},
    reply_to::ReplyTo,
};

mod reporting;

/// What an agent reports about itself, and the link that it prefers.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// Its name.
    pub name: AgentName,
    /// Its labels.
    pub labels: Labels,
    /// The link that it prefers.
    pub link: LinkPreference,
    /// The address to which the master may open a direct link: host (empty for the address that the master
    /// sees) and port.
    pub direct: Option<HostPort>,
}

impl Description {
    /// Returns the address for a direct link, as it is reported to the master.
    #[must_use]
    pub(crate) fn reported(&self) -> Option<ReportedAddress> {
        let reported = |HostPort { host, port }| ReportedAddress {
            host: Some(host).filter(|host| !host.is_empty()),
            port,
        };
        self.direct.clone().map(reported)
    }
}

/// The state of the agent's connection to its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// The agent is connecting.
    Connecting,
    /// Enrolled and connected. This part of its report has no effect until an operator accepts it.
    Active(Proposal),
    /// An operator has to approve the key with this fingerprint.
    Pending {
        /// The key's fingerprint.
        fingerprint: String,
        /// Whether another key is known under this name.
        key_changed: bool,
        /// The code that the operator has to type, if there is one.
        code: Option<String>,
    },
    /// The master does not answer, or its answer is invalid.
    Unreachable(String),
    /// The master refuses the agent, and another attempt would not change that.
    Refused(String),
}

/// Who may open a direct link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectFrom {
    /// No peer: the agent is connected to no master.
    Nobody,
    /// The owner of the key of the master that the agent is connected to. A certificate of the CA is not enough: anyone with an
    /// old copy of the CA's key can make one.
    Key(Fingerprint),
}

/// The error of a question to the agent's core.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AgentError {
    /// The core has ended, and the process with it.
    #[error("the agent is ending")]
    Ending,
    /// The disk failed.
    #[error("the agent's disk: {0}")]
    Disk(#[from] DiskError),
}

/// A handle to the agent.
#[derive(Clone)]
pub(crate) struct Agent {
    /// What it reports about itself.
    pub description: Arc<Description>,
    /// The paths of its files.
    pub layout: Arc<Layout>,
    /// The client of the supervisor.
    pub supervisor: Supervisor,
    /// The problems of the machine.
    pub troubles: Troubles,
    /// Whether operators' commands run on the master's machine, too.
    pub trusts_operators: bool,
    /// The state of the connection to its master.
    pub standing: watch::Sender<ConnectionState>,
    /// The basis of its trust in the CA.
    pub trust: watch::Sender<String>,
    /// Who may open a direct link.
    pub direct_from: watch::Sender<DirectFrom>,
    /// Whether it is stopping.
    pub stopping: watch::Receiver<bool>,
    /// Takes the grace, in milliseconds, of an order to stop the agent.
    pub stop_orders: mpsc::Sender<u32>,
    /// Notified when the agent must report a new incarnation to its master.
    pub incarnation_changed: Arc<Notify>,
    inbox: mpsc::Sender<Message>,
}

impl Agent {
    /// Reads the agent's memory of tasks from the disk. Returns a handle, and the future that runs the core
    /// until the last handle is dropped.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub(crate) fn new(
        description: Description,
        layout: Layout,
        (supervisor, troubles): (Supervisor, Troubles),
        directory: DirectoryId,
        stop_orders: mpsc::Sender<u32>,
        trusts_operators: bool,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let (inbox, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (layout, incarnation_changed) = (Arc::new(layout), Arc::<Notify>::default());
        let (stopping, is_stopping) = watch::channel(false);
        let shown = Shown { stopping, incarnation_changed: Arc::clone(&incarnation_changed) };
        let (name, of_actor) = (description.name.clone(), Arc::clone(&layout));
        let actor = Actor::new(of_actor, name, supervisor.clone(), directory, inbox.downgrade(), shown)?;
        let agent = Self {
            description: Arc::new(description),
            layout,
            supervisor,
            troubles,
            trusts_operators,
            standing: watch::Sender::new(ConnectionState::Connecting),
            trust: watch::Sender::new(String::new()),
            direct_from: watch::Sender::new(DirectFrom::Nobody),
            stopping: is_stopping,
            stop_orders,
            incarnation_changed,
            inbox,
        };
        Ok((agent, actor.run(messages)))
    }

    /// Sends an input to the core. Does nothing if the core has ended.
    pub(crate) async fn tell(&self, input: Input) {
        let _ = self.inbox.send(Message::Tell(input)).await;
    }

    async fn ask<A: TryFrom<Reply>>(
        &self,
        question: impl FnOnce(ReplyTo<A>) -> Input + Send + 'static,
    ) -> Result<A, AgentError> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |ticket| question(ReplyTo::new(ticket)));
        self.inbox.send(Message::Ask(question, reply)).await.map_err(|_| AgentError::Ending)?;
        let reply = answer.await.map_err(|_| AgentError::Ending)?;
        // The core can answer a `ReplyTo<A>` only with an `A`.
        A::try_from(reply).map_err(|_| AgentError::Ending)
    }

    /// Opens an Attach: starts its task if that is permitted, and returns what the Attach does. Afterwards
    /// [`Input::AttachEnded`] must be sent.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing about the task.
    pub(crate) async fn open(&self, attach: OpenedAttach) -> Result<Opened, AgentError> {
        let (caller, opened) = oneshot::channel();
        let message = Message::Open(Box::new(attach), caller);
        self.inbox.send(message).await.map_err(|_| AgentError::Ending)?;
        Ok(opened.await.map_err(|_| AgentError::Ending)??)
    }

    /// Promises again never to start the task of an Attach. Returns the incarnation for which the promise is written; `None`
    /// if another Attach has the task, or the task is known by now.
    ///
    /// # Errors
    /// When the promise cannot be written.
    pub(crate) async fn promise(&self, id: TaskId, attempt: u64) -> Result<Option<Incarnation>, AgentError> {
        Ok(self.ask(move |reply| Input::Promise { id, attempt, reply }).await??)
    }

    /// Ensures that a task that was not started is never started. Waits for a start that is in progress.
    ///
    /// # Errors
    /// When the promise cannot be written, or the disk cannot be read.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<Cancelled, AgentError> {
        Ok(self.ask(move |reply| Input::Cancel(id, reply)).await??)
    }

    /// Writes the permanent record of a task's end. Everything else of the task is removed when the agent is
    /// idle.
    ///
    /// # Errors
    /// When the record cannot be written. The task is unchanged then.
    pub(crate) async fn finish(&self, id: TaskId, ending: TaskEnding) -> Result<(), AgentError> {
        Ok(self.ask(move |reply| Input::Finish(id, ending, reply)).await??)
    }

    /// Returns what the agent reports when it connects.
    ///
    /// # Errors
    /// When the agent is ending.
    pub(crate) async fn introduce(&self) -> Result<Introduction, AgentError> {
        self.ask(Input::Introduce).await
    }

    /// Removes the directories of all finished tasks.
    ///
    /// # Errors
    /// When the agent is ending.
    pub(crate) async fn remove_left_over(&self) -> Result<(), AgentError> {
        self.ask(Input::RemoveLeftOver).await
    }

    /// Reports whether the agent is stopping.
    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}
