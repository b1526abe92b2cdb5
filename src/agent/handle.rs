//! The state of the connector: its decisions, and which Attach holds which task. What the disk remembers of tasks belongs to
//! `task_memory`.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    core::{Asked, Boottime, Core, Decision, Knowledge},
    incarnation::DirectoryId,
    layout::Layout,
    master_clock::MasterClock,
    seen::SeenRevision,
    supervisor::protocol::{StartTask, TaskEnding},
    supervisor_client::{StartResult, Supervisor},
    task_memory::TaskMemory,
    troubles::Troubles,
};
use crate::{
    domain::{
        agent::LinkPreference,
        command::TaskSpec,
        fingerprint::Fingerprint,
        ids::{Incarnation, TaskId},
        name::{AgentName, Labels},
        network::HostPort,
        proposal::{Proposal, ReportedAddress},
        revision::SealedRevision,
        session::{Echo, SentAt},
    },
    sys::{clock, vital::end_after_panic},
};

mod finishing;
mod looking;
mod superseded;

pub use superseded::Superseded;

/// What an agent tells about itself, and which link it wants.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name.
    pub name: AgentName,
    /// Its labels.
    pub labels: Labels,
    /// Which link it wants.
    pub link: LinkPreference,
    /// Where the master may dial it: host (empty for the address that the master sees) and port.
    pub direct: Option<HostPort>,
}

impl Description {
    /// Where the master may dial it, as it reports that.
    #[must_use]
    pub fn reported(&self) -> Option<ReportedAddress> {
        let reported = |HostPort { host, port }| ReportedAddress {
            host: Some(host).filter(|host| !host.is_empty()),
            port,
        };
        self.direct.clone().map(reported)
    }
}

/// Where the agent stands with its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// On the way.
    Connecting,
    /// Enrolled and connected. This part of its report has no effect until an operator accepts it.
    Active(Proposal),
    /// An operator has to approve the key with this fingerprint.
    Pending {
        /// The key's fingerprint.
        fingerprint: String,
        /// Whether another key is known under this name.
        key_changed: bool,
        /// The code that the operator has to type, where there is one.
        code: Option<String>,
    },
    /// The master does not answer, or not as it should.
    Unreachable(String),
    /// The master will not have it, and trying again changes nothing.
    Refused(String),
}

/// Who may open a direct link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectFrom {
    /// Nobody: the agent is connected to no master.
    Nobody,
    /// The owner of the key of the master that the agent is connected to. A certificate of the CA is not enough: anyone with an
    /// old copy of the CA's key can make one.
    Key(Fingerprint),
}

struct Inner {
    core: Core,
    memory: TaskMemory,
    seen: SeenRevision,
    /// Of the master that the agent is connected to; `None` before its first word.
    master_clock: Option<MasterClock>,
    holders: HashMap<TaskId, (u64, Arc<Superseded>)>,
    /// Tasks that are being given to a shim.
    starting: HashSet<TaskId>,
    /// Finished tasks whose directories are still there.
    left_over: Vec<TaskId>,
}

impl Inner {
    /// Writes down that a task was not started in this incarnation, and never will be.
    fn promise(&mut self, id: TaskId) -> io::Result<()> {
        self.memory.promise(id, self.core.incarnation().clone())
    }
}

/// A handle to the agent's state.
#[derive(Clone)]
pub struct Agent {
    /// What it tells about itself.
    pub description: Arc<Description>,
    /// Where its files lie.
    pub layout: Arc<Layout>,
    /// The client of the supervisor.
    pub supervisor: Supervisor,
    /// What does not work here.
    pub troubles: Troubles,
    /// Commands of operators are run on the master's machine too.
    pub trusts_operators: bool,
    /// Where it stands.
    pub standing: watch::Sender<ConnectionState>,
    /// How it came to believe in the CA.
    pub trust: watch::Sender<String>,
    /// Who may open a direct link.
    pub direct_from: watch::Sender<DirectFrom>,
    /// Woken when the agent begins to stop.
    pub stopping: Arc<Notify>,
    /// The grace, in milliseconds, that came with an order to end the agent.
    pub stop_orders: tokio::sync::mpsc::Sender<u32>,
    /// Woken when a start has come to its end, and when the master's clock is known.
    settled: Arc<Notify>,
    /// Woken when the agent has to tell its master a new incarnation.
    pub renewed: Arc<Notify>,
    /// Woken when a finished task's directory is left over.
    left_over: Arc<Notify>,
    inner: Arc<Mutex<Inner>>,
}

/// How long a permission to start waits for the session, whose first message tells of the master's clock: the two may
/// overtake each other.
const WAIT_FOR_CLOCK: Duration = Duration::from_secs(2);

/// An Open, as it came from the master.
#[derive(Clone, Debug)]
pub struct ReceivedOpen {
    /// Which task.
    pub id: TaskId,
    /// Of two calls for one task the higher one wins.
    pub attempt: u64,
    /// The incarnation for which the permission holds.
    pub incarnation: Incarnation,
    /// For how long after it was sent the task may be started; `None` when it may not.
    pub start_within: Option<Duration>,
    /// When it was sent; `None` from a master that does not say so.
    pub sent: Option<SentAt>,
    /// When it was read from the connection.
    pub arrived: Boottime,
    /// Whether an administrator started it.
    pub by_admin: bool,
}

/// What was decided on an Attach.
pub struct Opened {
    /// What to do.
    pub decision: Decision,
    /// Ends the Attach when a later one takes its place.
    pub superseded: Arc<Superseded>,
    /// Where the task is to be started.
    pub starting: Option<Starting>,
}

/// What cancelling a task came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It was started, and its process must be ended.
    Spooled,
    /// It had ended, and the master has stored that.
    Finished,
    /// It was not started, and never will be.
    NeverStarted,
}

/// A task that is to be started: until this is dropped nothing else is decided on it.
pub struct Starting {
    agent: Agent,
    id: TaskId,
    start_until: Boottime,
}

impl Starting {
    /// Starts the task, whatever becomes of the Attach that asks for it.
    ///
    /// # Errors
    /// In words, when nothing was started.
    pub async fn start(self, spec: TaskSpec) -> Result<StartResult, String> {
        let start_until_ns = Some(self.start_until.saturating_mul(1_000_000));
        let agent = self.agent.description.name.to_string();
        let start = StartTask { id: self.id, spec, agent, start_until_ns };
        let starting = async move {
            let started = self.agent.supervisor.start(start).await;
            if started.is_err() && matches!(self.agent.inner().memory.is_in_place(), Ok(false)) {
                return Ok(StartResult::MemoryGone);
            }
            started
        };
        tokio::spawn(starting).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.agent.inner().starting.remove(&self.id);
        self.agent.settled.notify_waiters();
    }
}

impl Agent {
    /// Reads what the disk remembers.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn new(
        description: Description,
        layout: Layout,
        (supervisor, troubles): (Supervisor, Troubles),
        directory: DirectoryId,
        stop_orders: tokio::sync::mpsc::Sender<u32>,
        trusts_operators: bool,
    ) -> io::Result<Self> {
        let (seen, highest) = SeenRevision::open(&layout)?;
        let memory = TaskMemory::open(layout.clone(), directory)?;
        let inner = Inner {
            core: Core::new(memory.incarnation()?, highest),
            memory,
            seen,
            master_clock: None,
            holders: HashMap::new(),
            starting: HashSet::new(),
            left_over: Vec::new(),
        };
        Ok(Self {
            description: Arc::new(description),
            layout: Arc::new(layout),
            supervisor,
            troubles,
            trusts_operators,
            standing: watch::Sender::new(ConnectionState::Connecting),
            trust: watch::Sender::new(String::new()),
            direct_from: watch::Sender::new(DirectFrom::Nobody),
            stopping: Arc::new(Notify::new()),
            settled: Arc::default(),
            renewed: Arc::default(),
            left_over: Arc::default(),
            stop_orders,
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic left behind could start a task twice.
        self.inner.lock().unwrap_or_else(|_| end_after_panic("the agent's state"))
    }

    /// This life of the agent's memory.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner().core.incarnation().clone()
    }

    /// The highest revision of the master's store that was seen.
    #[must_use]
    pub fn seen(&self) -> SealedRevision {
        self.inner().core.seen()
    }

    /// Notes a revision of the master's store; [`Self::save_seen`] brings it to the disk.
    pub fn see(&self, revision: SealedRevision) {
        self.inner().core.see(revision);
    }

    /// Notes which CA the agent believes in: what it saw of another master's store says nothing about this one's.
    pub fn belong_to(&self, ca: &Fingerprint) {
        let mut inner = self.inner();
        if inner.seen.belong_to(ca) {
            inner.core.forget_seen();
        }
    }

    /// Remembers the highest revision over restarts.
    pub fn save_seen(&self) {
        let mut inner = self.inner();
        let seen = inner.core.seen();
        inner.seen.save(seen);
    }

    /// Says whether only administrators may run commands here.
    pub fn guard_master(&self, guards_master: bool) {
        self.inner().core.guard_master(guards_master);
    }

    /// Whether the agent is ending.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inner().core.is_stopping()
    }

    /// From now on nothing new is started.
    pub fn stop(&self) {
        self.inner().core.stop();
        self.stopping.notify_waiters();
    }

    /// Notes that the master sent something at a moment of its clock.
    pub fn note_master_clock(&self, sent: SentAt, echo: Option<Echo>) {
        let mut inner = self.inner();
        inner.master_clock = Some(MasterClock::note(inner.master_clock, sent, echo, clock::boottime_ms()));
        drop(inner);
        self.settled.notify_waiters();
    }

    /// Decides on an Attach, as soon as it is known what has become of the task's start.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing about the task.
    pub async fn open(&self, open: &ReceivedOpen) -> io::Result<Opened> {
        let patience = Instant::now() + WAIT_FOR_CLOCK;
        loop {
            let settled = self.settled.notified();
            if let Some(opened) = self.decide(open, Instant::now() >= patience)? {
                return Ok(opened);
            }
            tokio::select! {
                () = settled => {}
                () = tokio::time::sleep_until(patience), if Instant::now() < patience => {}
            }
        }
    }

    /// `None` while the task is being started, and while the clock of its permission may become known.
    fn decide(&self, open: &ReceivedOpen, is_late: bool) -> io::Result<Option<Opened>> {
        let mut inner = self.inner();
        if inner.starting.contains(&open.id) {
            return Ok(None);
        }
        let knowledge = inner.memory.knowledge(open.id)?;
        let start_until = match (open.start_within, knowledge) {
            (Some(within), Knowledge::Nothing) => {
                let sent = match open.sent {
                    None => Some(open.arrived),
                    Some(sent) => inner.master_clock.and_then(|clock| clock.sent_at(sent, open.arrived)),
                };
                let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                match sent {
                    Some(sent) => Some(sent.saturating_add(within)),
                    None if is_late => Some(0),
                    None => return Ok(None),
                }
            }
            _ => None,
        };
        if knowledge == Knowledge::Nothing {
            self.look_at_memory(&mut inner)?;
        }
        let incarnation = open.incarnation.clone();
        let (id, attempt, by_admin) = (open.id, open.attempt, open.by_admin);
        let asked = Asked { id, attempt, start_until, incarnation, by_admin };
        let decision = inner.core.open(&asked, knowledge, clock::boottime_ms());
        let superseded = Arc::<Superseded>::default();
        if !matches!(decision, Decision::Superseded(_))
            && let Some((_, older)) = inner.holders.insert(open.id, (open.attempt, Arc::clone(&superseded)))
        {
            older.tell(open.attempt);
        }
        let starting = (decision == Decision::Start).then(|| {
            inner.starting.insert(open.id);
            let start_until = start_until.unwrap_or_default();
            Starting { agent: self.clone(), id: open.id, start_until }
        });
        Ok(Some(Opened { decision, superseded, starting }))
    }

    /// Looks now and then whether the directory is still there, so that a command does not have to find out.
    pub fn look_at_directory(&self) {
        let mut inner = self.inner();
        if let Err(error) = self.look_at_memory(&mut inner) {
            tracing::error!(%error, "cannot use the directory with the agent's memory of tasks");
        }
    }

    /// Begins another incarnation when the directory that this one remembered tasks in is gone.
    fn look_at_memory(&self, inner: &mut Inner) -> io::Result<()> {
        if !inner.memory.is_in_place()? {
            let incarnation = inner.memory.begin_anew()?;
            inner.core.renew(incarnation);
            self.renewed.notify_one();
        }
        Ok(())
    }

    /// Promises never to start a task that is not known here, as long as this Attach has it. True when that is written
    /// down, or was before.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn promise(&self, id: TaskId, attempt: u64) -> io::Result<bool> {
        let mut inner = self.inner();
        let is_holder = inner.holders.get(&id).is_some_and(|(holder, _)| *holder == attempt);
        if !is_holder || inner.starting.contains(&id) || inner.memory.knowledge(id)? == Knowledge::Spooled {
            return Ok(false);
        }
        inner.promise(id)?;
        inner.core.forget(id);
        Ok(true)
    }

    /// The incarnation in which the agent promised never to start a task. Asked of a task of which that is known.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn promised_in(&self, id: TaskId) -> io::Result<Incarnation> {
        self.inner().memory.promised_in(id)
    }

    /// Cancels a task: waits for a start that is under way, and promises never to start one that is not known here.
    ///
    /// # Errors
    /// When the disk does not take the promise, or cannot be read.
    pub async fn cancel(&self, id: TaskId) -> io::Result<Cancelled> {
        loop {
            let settled = self.settled.notified();
            {
                let mut inner = self.inner();
                if !inner.starting.contains(&id) {
                    return Ok(match inner.memory.knowledge(id)? {
                        Knowledge::Spooled => Cancelled::Spooled,
                        Knowledge::Finished => Cancelled::Finished,
                        Knowledge::NeverStarted => Cancelled::NeverStarted,
                        Knowledge::Nothing => {
                            self.look_at_memory(&mut inner)?;
                            inner.promise(id)?;
                            Cancelled::NeverStarted
                        }
                    });
                }
            }
            settled.await;
        }
    }

    /// Ends an Attach's hold on its task, unless a later one has it.
    pub fn release(&self, id: TaskId, attempt: u64) {
        let mut inner = self.inner();
        if inner.holders.get(&id).is_some_and(|(holder, _)| *holder == attempt) {
            inner.holders.remove(&id);
        }
    }

    /// How a finished task ended.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn recall(&self, id: TaskId) -> io::Result<Option<TaskEnding>> {
        self.inner().memory.recall(id)
    }
}

#[cfg(test)]
mod tests;
