//! Runs the agent's core: passes inputs to it and performs its effects, one after another. Owns the agent's
//! memory of tasks on the disk.
//!
//! Reads and writes short files itself, so that nothing can change between a look-up and the decision. Starts
//! and removals of directories run concurrently, and send their result as an input.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    core::{Boottime, Core, Decision, DiskError, Effect, Input, Knowledge, OpenedAttach, Reply, StartEnd},
    incarnation::DirectoryId,
    layout::Layout,
    seen::SeenRevision,
    supervisor::{protocol::StartTask, server::known_tasks},
    supervisor_client::{StartResult, Supervisor},
    task_memory::TaskMemory,
    task_process::TaskProcess,
};
use crate::{
    domain::{
        ids::{Incarnation, TaskId},
        name::AgentName,
        reply_to::{ReplyTo, Ticket},
    },
    sys::{clock::boottime_ms, vital::run_vital},
};

/// Maximum number of messages that wait in the actor's inbox.
pub(super) const MAX_QUEUED_MESSAGES: usize = 1_024;

/// A message to the actor.
pub(super) enum Message {
    Tell(Input),
    Ask(Box<dyn FnOnce(Ticket) -> Input + Send>, oneshot::Sender<Reply>),
    Open(Box<OpenedAttach>, oneshot::Sender<Result<Opened, DiskError>>),
    /// The result of a start.
    Started(TaskId, Result<StartResult, String>),
    /// Asks which of these tasks are not finished.
    Unfinished(Vec<TaskId>, oneshot::Sender<Vec<TaskId>>),
}

/// The answer to an Attach that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What the Attach does.
    pub decision: Decision,
    /// The connection to the task's process, if the task was just started.
    pub process: Option<TaskProcess>,
    /// Notifies the Attach when a later one takes its place.
    pub superseded: Superseded,
}

/// Notifies an Attach when a later one for the same task takes its place.
#[derive(Debug)]
pub(crate) struct Superseded(oneshot::Receiver<u64>);

impl Superseded {
    /// Waits until a later Attach takes the place of this one, and returns its attempt.
    pub(crate) async fn by(self) -> u64 {
        match self.0.await {
            Ok(by) => by,
            // The agent ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The parts of the actor's state that can be watched without a message to it.
#[derive(Debug)]
pub(super) struct Shown {
    /// Whether the agent is stopping.
    pub(super) stopping: watch::Sender<bool>,
    /// Notified when the master must learn of a new incarnation.
    pub(super) incarnation_changed: Arc<Notify>,
}

/// The actor: owns the core, the files in which the agent remembers tasks, and the callers that its effects refer to.
pub(super) struct Actor {
    core: Core,
    memory: TaskMemory,
    seen: SeenRevision,
    layout: Arc<Layout>,
    name: AgentName,
    supervisor: Supervisor,
    /// For the results of concurrent work. Weak: the actor ends with the last handle.
    inbox: mpsc::WeakSender<Message>,
    last_ticket: Ticket,
    callers: HashMap<Ticket, oneshot::Sender<Reply>>,
    /// Attaches that wait for a decision.
    attaches: HashMap<Ticket, oneshot::Sender<Result<Opened, DiskError>>>,
    /// The Attach that has each task.
    holders: HashMap<TaskId, oneshot::Sender<u64>>,
    /// Connections to tasks that were just started, until their Attaches are answered.
    started: HashMap<TaskId, TaskProcess>,
    shown: Shown,
}

impl Actor {
    /// Reads the agent's memory of tasks from the disk.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub(super) fn new(
        layout: Arc<Layout>,
        name: AgentName,
        supervisor: Supervisor,
        directory: DirectoryId,
        inbox: mpsc::WeakSender<Message>,
        shown: Shown,
    ) -> io::Result<Self> {
        let (seen, highest) = SeenRevision::open(&layout)?;
        let memory = TaskMemory::open((*layout).clone(), directory)?;
        let known = known_tasks(&layout).unwrap_or_else(|error| {
            // Only the removal of what is left over needs the list. The running tasks need the agent.
            tracing::error!(%error, "cannot list the agent's tasks; the directories of finished ones stay");
            Vec::new()
        });
        let finished = known.into_iter().filter(|id| memory.is_finished(*id));
        let core = Core::new(memory.incarnation()?, highest).with_left_over(finished, boottime_ms());
        Ok(Self {
            core,
            memory,
            seen,
            layout,
            name,
            supervisor,
            inbox,
            last_ticket: Ticket::default(),
            callers: HashMap::new(),
            attaches: HashMap::new(),
            holders: HashMap::new(),
            started: HashMap::new(),
            shown,
        })
    }

    /// Runs until the last handle is dropped.
    pub(super) async fn run(self, inbox: mpsc::Receiver<Message>) {
        run_vital("the agent's core", self.run_unguarded(inbox)).await;
    }

    async fn run_unguarded(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            let due = self.core.due();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = until(due) => self.step(Input::Tick),
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Tell(input) => self.step(input),
            Message::Ask(input, caller) => {
                let ticket = self.next_ticket();
                self.callers.insert(ticket, caller);
                self.step(input(ticket));
            }
            Message::Open(attach, caller) => {
                let ticket = self.next_ticket();
                self.attaches.insert(ticket, caller);
                self.step(Input::Open(attach, ReplyTo::new(ticket)));
            }
            Message::Started(id, result) => {
                let end = self.start_end(id, result);
                self.step(Input::StartEnded(id, end));
            }
            Message::Unfinished(known, caller) => {
                let is_unfinished = |id: &TaskId| !self.memory.is_finished(*id);
                // The caller may have gone away.
                let _ = caller.send(known.into_iter().filter(is_unfinished).collect());
            }
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket = self.last_ticket.next();
        self.last_ticket
    }

    /// Passes an input to the core, then the inputs that its effects produce.
    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.core.step(input, boottime_ms()) {
                self.perform(effect, &mut inputs);
            }
        }
    }

    fn perform(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::LookUp(id) => {
                let knowledge = self.look_up(id, inputs);
                inputs.push_back(Input::LookedUp(id, knowledge.map_err(DiskError::from)));
            }
            Effect::Record(id, record) => {
                let result = self.memory.record(id, record).map_err(DiskError::from);
                inputs.push_back(Input::Recorded(id, result));
            }
            Effect::Start { id, spec, start_until } => {
                let agent = self.name.to_string();
                let start_until_ns = Some(start_until.saturating_mul(1_000_000));
                self.start(StartTask { id, spec: *spec, agent, start_until_ns });
            }
            Effect::Supersede(id, by) => {
                if let Some(holder) = self.holders.remove(&id) {
                    // The Attach may have ended.
                    let _ = holder.send(by);
                }
            }
            Effect::Release(id) => {
                self.holders.remove(&id);
            }
            Effect::Opened(id, ticket, decision) => self.opened(id, ticket, decision),
            Effect::Reply(ticket, reply) => {
                if let Some(caller) = self.callers.remove(&ticket) {
                    // The caller may have gone away.
                    let _ = caller.send(reply);
                }
            }
            Effect::SaveSeen(of, seen) => self.seen.save(of, seen),
            Effect::CheckMemory => {
                if let Err(error) = self.check_memory(inputs) {
                    tracing::error!(%error, "cannot use the directory with the agent's memory of tasks");
                }
            }
            Effect::ReportIncarnation => self.shown.incarnation_changed.notify_one(),
            Effect::ReportStopping => {
                self.shown.stopping.send_replace(true);
            }
            Effect::RemoveDirectories(finished) => self.remove_directories(finished),
        }
    }

    fn look_up(&mut self, id: TaskId, inputs: &mut VecDeque<Input>) -> io::Result<Knowledge> {
        let knowledge = self.memory.knowledge(id)?;
        if knowledge == Knowledge::Nothing {
            self.check_memory(inputs)?;
        }
        Ok(knowledge)
    }

    /// Begins another incarnation if the directory with the agent's memory of tasks was removed.
    fn check_memory(&mut self, inputs: &mut VecDeque<Input>) -> io::Result<()> {
        if !self.memory.is_in_place()? {
            let incarnation: Incarnation = self.memory.begin_anew()?;
            inputs.push_back(Input::MemoryReplaced(incarnation));
        }
        Ok(())
    }

    fn opened(&mut self, id: TaskId, ticket: Ticket, decision: Result<Decision, DiskError>) {
        let process = self.started.remove(&id);
        let Some(attach) = self.attaches.remove(&ticket) else { return };
        let opened = decision.map(|decision| {
            let (holder, superseded) = oneshot::channel();
            if !matches!(decision, Decision::Superseded(_)) {
                self.holders.insert(id, holder);
            }
            Opened { decision, process, superseded: Superseded(superseded) }
        });
        // The Attach may have ended.
        let _ = attach.send(opened);
    }

    /// Starts a task, whether or not its Attach ends meanwhile.
    fn start(&self, start: StartTask) {
        let (id, supervisor, inbox) = (start.id, self.supervisor.clone(), self.inbox.upgrade());
        tokio::spawn(async move {
            // A task of its own: a panic must not leave the callers that wait for the start without an answer.
            let start = tokio::spawn(async move { supervisor.start(start).await });
            let result = start.await.unwrap_or_else(|error| Err(error.to_string()));
            if let Some(inbox) = inbox {
                let _ = inbox.send(Message::Started(id, result)).await;
            }
        });
    }

    fn start_end(&mut self, id: TaskId, result: Result<StartResult, String>) -> StartEnd {
        match result {
            Ok(StartResult::Started(process)) => {
                self.started.insert(id, process);
                StartEnd::Started
            }
            Ok(StartResult::Known) => StartEnd::Known,
            Ok(StartResult::Expired) => StartEnd::Expired,
            Err(reason) => StartEnd::Failed(reason),
        }
    }

    fn remove_directories(&self, finished: Vec<TaskId>) {
        let (layout, inbox) = (Arc::clone(&self.layout), self.inbox.upgrade());
        tokio::spawn(async move {
            let remove = move || finished.into_iter().for_each(|id| remove_directory(&layout, id));
            // A task of its own, for the same reason as for a start.
            let removing = tokio::spawn(async { tokio::task::spawn_blocking(remove).await });
            if let Err(error) = removing.await.and_then(|removed| removed) {
                tracing::error!(%error, "cannot remove the directories of finished tasks");
            }
            if let Some(inbox) = inbox {
                let _ = inbox.send(Message::Tell(Input::Removed)).await;
            }
        });
    }
}

fn remove_directory(layout: &Layout, id: TaskId) {
    match fs::remove_dir_all(layout.task(id).root()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, task = %id, "cannot remove a finished task's directory");
        }
        _ => {}
    }
}

/// Waits until this moment; forever if there is none.
async fn until(due: Option<Boottime>) {
    match due {
        Some(due) => {
            let pause = due.saturating_sub(boottime_ms());
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
