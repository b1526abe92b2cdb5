//! Runs the core: passes inputs to it and performs its effects. Waits only for the next input.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    clock::SendClock,
    compare::{self, Question},
    core::{
        Core,
        messages::{AttachOrder, Effect, Input, Now, Reply, SessionId, Ticket},
        stored::{KnownTask, StoredTaskState},
    },
    dispatch::{self, AttachSignals},
    handle::{Handle, Message, SessionHandle},
    journal::Journal,
    output_log::{OutputLogs, budget::Budget},
    prefetch::Prefetcher,
    signal,
    stdin_relay::StdinRelays,
    store::{Store, StoreWriter, Written},
};
use crate::{
    domain::{
        ids::{JobId, TaskId},
        name::AgentName,
        revision::Revision,
        session::ToAgent,
        time::UnixMs,
    },
    sys::{
        clock::{self, BootInstant},
        shutdown::Shutdown,
        vital::{Pulse, run_vital},
    },
    trust::sealer::Sealer,
};

/// Maximum number of messages that wait in the actor's inbox.
const MAX_QUEUED_MESSAGES: usize = 4_096;
/// Interval between two [`Input::Tick`] of the core.
const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// The actor: owns the core, and the channels, sessions and journals that its effects refer to by id.
pub(crate) struct Actor {
    core: Core,
    started: BootInstant,
    inbox: mpsc::Receiver<Message>,
    handle: Handle,
    watched: watch::Sender<u64>,
    /// Counts changes of operators' rights.
    operators: watch::Sender<u64>,
    writer: StoreWriter,
    /// For reads of data that the core does not hold in memory.
    store: Store,
    logs: OutputLogs,
    budget: Budget,
    inputs: StdinRelays,
    ahead: Prefetcher,
    shutdown: Shutdown,
    replies: HashMap<Ticket, oneshot::Sender<Reply>>,
    last_ticket: Ticket,
    sessions: HashMap<SessionId, SessionHandle>,
    journals: HashMap<JobId, Weak<Journal>>,
    /// Signals to the Attaches of each task. On the agent a newer Attach replaces an older one; here each
    /// ends by itself.
    attached: HashMap<TaskId, Vec<Weak<AttachSignals>>>,
    clock: SendClock,
    sealer: Arc<Sealer>,
    /// The store's revision that all connected agents must remember.
    remembered: watch::Sender<Revision>,
    // Unbounded, but each task of a job causes at most one question.
    comparing: HashMap<JobId, mpsc::UnboundedSender<Question>>,
}

/// Returns the current time for a core that started at `started`.
#[must_use]
pub(crate) fn now_since(started: BootInstant) -> Now {
    Now { monotonic: started.elapsed(), unix_ms: UnixMs(clock::unix_ms()) }
}

impl Actor {
    /// Creates an actor and a handle to it. `store` starts the store's writer; its argument is the callback
    /// for results.
    ///
    /// # Errors
    /// When the store's thread cannot be started.
    pub(crate) fn new(
        core: Core,
        (started, clock, sealer): (BootInstant, SendClock, Arc<Sealer>),
        store: impl FnOnce(Box<dyn Fn(Written) + Send>) -> std::io::Result<StoreWriter>,
        history: Store,
        logs: OutputLogs,
        inputs: StdinRelays,
        shutdown: Shutdown,
    ) -> std::io::Result<(Self, Handle)> {
        let (sender, inbox) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let watched = watch::Sender::new(core.watched_revision());
        let operators = watch::Sender::new(0);
        let remembered = watch::Sender::new(Revision::default());
        let handle = Handle {
            inbox: sender,
            watched: watched.subscribe(),
            operators: operators.subscribe(),
            remembered: remembered.subscribe(),
        };
        let told = handle.clone();
        let writer = store(Box::new(move |written| told.written(written)))?;
        let actor = Self {
            core,
            started,
            inbox,
            handle: handle.clone(),
            watched,
            operators,
            writer,
            store: history,
            logs,
            budget: Budget::default(),
            inputs,
            ahead: Prefetcher::start(&shutdown),
            shutdown,
            replies: HashMap::new(),
            last_ticket: Ticket::default(),
            sessions: HashMap::new(),
            journals: HashMap::new(),
            attached: HashMap::new(),
            clock,
            sealer,
            remembered,
            comparing: HashMap::new(),
        };
        Ok((actor, handle))
    }

    /// Runs until `shutdown.now`. `pulse` beats with each input and each tick.
    pub(crate) async fn run(self, pulse: Pulse) {
        run_vital("the master's core", self.run_unguarded(pulse)).await;
    }

    async fn run_unguarded(mut self, pulse: Pulse) {
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pulse.beat();
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                _ = tick.tick() => self.step(Input::Tick),
                () = until(self.writer.due()) => self.writer.send(),
                () = self.shutdown.now.cancelled() => break,
            }
        }
        // The store's thread finishes its pending writes. Its results are discarded, since the inbox is
        // closed.
        self.inbox.close();
        let writer = self.writer;
        let _ = tokio::task::spawn_blocking(move || drop(writer)).await;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Tell(input) => self.step(input),
            Message::Ask(input, reply) => {
                self.last_ticket = self.last_ticket.next();
                self.replies.insert(self.last_ticket, reply);
                let input = input(self.last_ticket);
                self.step(input);
            }
            Message::Register(id, session) => {
                self.sessions.insert(id, session);
            }
            Message::Unregister(id) => {
                self.sessions.remove(&id);
            }
            Message::Follow(job, reply) => {
                let known = self.journals.get(&job).and_then(Weak::upgrade);
                let journal = known.unwrap_or_else(|| {
                    self.journals.retain(|_, journal| journal.strong_count() > 0);
                    let journal = Arc::<Journal>::default();
                    self.journals.insert(job, Arc::downgrade(&journal));
                    journal
                });
                let _ = reply.send(journal);
            }
        }
    }

    fn step(&mut self, input: Input) {
        let now = now_since(self.started);
        for effect in self.core.step(input, now) {
            self.perform(effect);
        }
        let revision = self.core.watched_revision();
        self.watched.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(token, writes, durability) => self.writer.write(token, writes, durability),
            Effect::Reply(to, reply) => {
                if let Some(waiting) = self.replies.remove(&to) {
                    // The caller may have gone away.
                    let _ = waiting.send(*reply);
                }
            }
            Effect::Attach(order) => self.attach(*order),
            Effect::OutcomeStored(id) => {
                for signals in self.attached.remove(&id).iter().flatten().filter_map(Weak::upgrade) {
                    signals.stored.notify_one();
                }
            }
            Effect::WithdrawStart(id) => self.withdraw_start(id),
            Effect::Signal { session, id, by, grace_ms } => {
                self.withdraw_start(id);
                if let Some(session) = self.sessions.get(&session) {
                    let (handle, links) = (self.handle.clone(), Arc::clone(&session.links));
                    let close = session.close.clone();
                    let sealer = Arc::clone(&self.sealer);
                    self.shutdown.tracker.spawn(async move {
                        signal::signal(handle, links, close, &sealer, (id, by), grace_ms).await;
                    });
                }
            }
            Effect::LookUp(session, name, known) => {
                let (handle, store) = (self.handle.clone(), self.store.clone());
                self.shutdown.tracker.spawn(look_up(handle, store, session, name, known));
            }
            Effect::Remember(revision) => {
                self.remembered.send_replace(revision);
            }
            Effect::Ping(session) => self.order(session, ToAgent::Ping(self.clock.ping(None))),
            Effect::StopAgent { session, grace_ms } => {
                self.order(session, ToAgent::Stop { grace_ms });
            }
            Effect::DialDirect(session) => {
                if let Some(session) = self.sessions.get(&session) {
                    session.accepted.notify_one();
                }
            }
            Effect::CloseSession(session) => {
                if let Some(session) = self.sessions.get(&session) {
                    session.close.cancel();
                }
            }
            Effect::Publish(job, task) => {
                if let Some(journal) = self.journals.get(&job).and_then(Weak::upgrade) {
                    journal.put(*task);
                }
            }
            Effect::PublishGate(job, gate) => {
                if let Some(journal) = self.journals.get(&job).and_then(Weak::upgrade) {
                    journal.put_gate(gate);
                }
            }
            Effect::Compare { id, outcome, accepted } => self.compare(Question { id, outcome, accepted }),
            Effect::JobEnded(job, ended_ms) => {
                if let Some(journal) = self.journals.get(&job).and_then(Weak::upgrade) {
                    journal.end(ended_ms);
                }
            }
            Effect::OperatorsChanged => self.operators.send_modify(|changes| *changes += 1),
            Effect::JobStored(job) => {
                self.journals.remove(&job);
                self.comparing.remove(&job);
            }
        }
    }

    /// Opens an Attach of a task on its agent's link.
    fn attach(&mut self, order: AttachOrder) {
        let Some(session) = self.sessions.get(&order.session) else { return };
        let signals = Arc::<AttachSignals>::default();
        if self.attached.len() == self.attached.capacity() {
            self.attached.retain(|_, attached| attached.iter().any(|signals| signals.strong_count() > 0));
        }
        let attached = self.attached.entry(order.id).or_default();
        attached.retain(|signals| signals.strong_count() > 0);
        attached.push(Arc::downgrade(&signals));
        self.shutdown.tracker.spawn(dispatch::attach(
            dispatch::Context {
                handle: self.handle.clone(),
                links: Arc::clone(&session.links),
                ahead: self.ahead.clone(),
                logs: self.logs.clone(),
                budget: self.budget.clone(),
                inputs: self.inputs.clone(),
                signals,
                started: self.started,
                clock: self.clock,
                sealer: Arc::clone(&self.sealer),
                close: session.close.clone(),
                now: self.shutdown.now.clone(),
            },
            order,
        ));
    }

    /// Passes a question to the job's comparison task, and starts this task for the first question.
    fn compare(&mut self, question: Question) {
        let job = question.id.job;
        let (handle, logs) = (self.handle.clone(), self.logs.clone());
        let questions = self.comparing.entry(job).or_insert_with(|| {
            let (questions, inbox) = mpsc::unbounded_channel();
            self.shutdown.tracker.spawn(compare::answer(job, handle, logs, inbox));
            questions
        });
        // The task runs until this sender is dropped at the end of the job.
        let _ = questions.send(question);
    }

    fn withdraw_start(&self, id: TaskId) {
        for signals in self.attached.get(&id).iter().copied().flatten().filter_map(Weak::upgrade) {
            signals.withdraw();
        }
    }

    fn order(&self, session: SessionId, order: ToAgent) {
        if let Some(session) = self.sessions.get(&session) {
            // The queue is full only if the agent is silent, and then the session is closed soon.
            let _ = session.orders.try_send(order);
        }
    }
}

/// Waits until a time, or forever if there is none.
async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Maximum number of an agent's tasks in one input of the core: each of them can recover a job.
const MAX_TASKS_PER_INPUT: usize = 64;

/// Looks up in the store the tasks that an agent reports, and passes the results to the core. If the store
/// cannot be read, nothing happens until the agent reconnects. Foreign and unproved tasks are ignored, and
/// recorded once each with their number.
async fn look_up(handle: Handle, store: Store, session: SessionId, name: AgentName, known: Vec<KnownTask>) {
    let agent = name.clone();
    let looked = tokio::task::spawn_blocking(move || store.find(&agent, known));
    let found = match looked.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return tracing::error!(%error, "cannot look up what an agent has"),
        Err(_) => return,
    };
    let count = |wanted: StoredTaskState| found.iter().filter(|(_, found)| *found == wanted).count();
    for (count, what, why) in [
        (count(StoredTaskState::Foreign), "tasks of other agents", "they are not its own"),
        (count(StoredTaskState::Unproved), "unknown tasks", "it has no proof of them"),
    ] {
        if count > 0 {
            let (who, reason) = (format!("agent {name}"), format!("{count} tasks are ignored: {why}"));
            tracing::warn!(agent = %name, reason, "an agent reported {what}");
            handle.tell(Input::Refused { who, what: what.to_owned(), reason }).await;
        }
    }
    let mut found = found
        .into_iter()
        .filter(|(_, found)| !matches!(found, StoredTaskState::Foreign | StoredTaskState::Unproved));
    loop {
        let part: Vec<(KnownTask, StoredTaskState)> = found.by_ref().take(MAX_TASKS_PER_INPUT).collect();
        if part.is_empty() {
            return;
        }
        handle.tell(Input::LookedUp(session, part)).await;
    }
}
