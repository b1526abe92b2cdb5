//! The network half's one state, behind a handle: decisions, and who holds which task. What the disk remembers of tasks is
//! `task_memory`'s.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    core::{Asked, Boottime, Core, Decision, Knowledge, Revision},
    incarnation::DirectoryId,
    keeper::{
        protocol::{StartTask, TaskEnding},
        server::{known_tasks, live_tasks},
    },
    keeping::{Keeper, StartResult},
    layout::Layout,
    master_clock::{Echo, MasterClock, Sent},
    seen::SeenRevision,
    task_memory::TaskMemory,
};
use crate::{
    domain::{
        agent::LinkPreference,
        command::TaskSpec,
        ids::{Incarnation, TaskId},
        name::{AgentName, Labels},
    },
    sys::clock,
    trust::fingerprint::Fingerprint,
};

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
    pub direct: Option<(String, u16)>,
}

/// Where the agent stands with its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On the way.
    Connecting,
    /// Accepted.
    Active,
    /// An operator has to approve the key with this fingerprint.
    Pending {
        /// The key's fingerprint.
        fingerprint: String,
        /// Whether another key is known under this name.
        key_changed: bool,
    },
    /// The master does not answer, or not as it should.
    Unreachable(String),
    /// The master will not have it, and trying again changes nothing.
    Refused(String),
}

struct Inner {
    core: Core,
    memory: TaskMemory,
    seen: SeenRevision,
    /// Of the master that the agent is connected to; `None` before its first word.
    master_clock: Option<MasterClock>,
    holders: HashMap<TaskId, (u64, CancellationToken)>,
    /// Tasks that are being given to a worker.
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
    /// The keeper.
    pub keeper: Keeper,
    /// Where it stands.
    pub standing: watch::Sender<Standing>,
    /// How it came to believe in the CA.
    pub trust: watch::Sender<String>,
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

/// How long no task finishes before the directories of finished ones are removed: commands come first.
const REMOVE_AFTER: Duration = Duration::from_secs(1);
/// So many are left over at most.
const MOST_LEFT_OVER: usize = 64;

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
    pub sent: Option<Sent>,
    /// When it was read from the connection.
    pub arrived: Boottime,
}

/// What was decided on an Attach.
pub struct Opened {
    /// What to do.
    pub decision: Decision,
    /// Ends the Attach when a later one takes its place.
    pub superseded: CancellationToken,
    /// Where the task is to be started.
    pub starting: Option<Starting>,
}

/// What cancelling a task came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It was started, and its process has to be told.
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
            let started = self.agent.keeper.start(start).await;
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
        keeper: Keeper,
        directory: DirectoryId,
        stop_orders: tokio::sync::mpsc::Sender<u32>,
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
            keeper,
            standing: watch::Sender::new(Standing::Connecting),
            trust: watch::Sender::new(String::new()),
            stopping: Arc::new(Notify::new()),
            settled: Arc::default(),
            renewed: Arc::default(),
            left_over: Arc::default(),
            stop_orders,
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This life of the agent's memory.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner().core.incarnation().clone()
    }

    /// The highest revision of the master's store that was seen.
    #[must_use]
    pub fn seen(&self) -> Revision {
        self.inner().core.seen()
    }

    /// Notes a revision of the master's store; [`Self::save_seen`] brings it to the disk.
    pub fn see(&self, revision: Revision) {
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
    pub fn note_master_clock(&self, sent: Sent, echo: Option<Echo>) {
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
        let asked = Asked { id: open.id, attempt: open.attempt, start_until, incarnation };
        let decision = inner.core.open(&asked, knowledge, clock::boottime_ms());
        let token = CancellationToken::new();
        if !matches!(decision, Decision::Superseded(_))
            && let Some((_, older)) = inner.holders.insert(open.id, (open.attempt, token.clone()))
        {
            older.cancel();
        }
        let starting = (decision == Decision::Start).then(|| {
            inner.starting.insert(open.id);
            let start_until = start_until.unwrap_or_default();
            Starting { agent: self.clone(), id: open.id, start_until }
        });
        Ok(Some(Opened { decision, superseded: token, starting }))
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

    /// Keeps a task's id and ending for good; everything else of it is dropped when there is time for that.
    ///
    /// # Errors
    /// When the disk does not take it; the task stays as it is then.
    pub fn finish(&self, id: TaskId, ending: TaskEnding) -> io::Result<()> {
        let mut inner = self.inner();
        inner.memory.finish(id, ending)?;
        inner.core.forget(id);
        inner.left_over.push(id);
        let is_full = inner.left_over.len() >= MOST_LEFT_OVER;
        drop(inner);
        if is_full {
            self.remove_left_over();
        } else {
            self.left_over.notify_one();
        }
        Ok(())
    }

    /// Removes the directories of finished tasks whenever none has finished for a while. Runs for ever.
    pub async fn keep_tidy(self) {
        // What was left over when the network half ended the last time.
        let known = known_tasks(&self.layout).unwrap_or_default();
        {
            let mut inner = self.inner();
            let finished: Vec<TaskId> =
                known.into_iter().filter(|id| inner.memory.is_finished(*id)).collect();
            inner.left_over.extend(finished);
        }
        loop {
            let more = tokio::time::timeout(REMOVE_AFTER, self.left_over.notified()).await;
            if more.is_err() {
                self.remove_left_over();
                self.left_over.notified().await;
            }
        }
    }

    /// Removes the directories of finished tasks.
    pub fn remove_left_over(&self) {
        let left_over = std::mem::take(&mut self.inner().left_over);
        for id in left_over {
            match fs::remove_dir_all(self.layout.task(id).root()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, task = %id, "cannot remove a finished task's directory");
                }
                _ => {}
            }
        }
    }

    /// Tasks that have a directory and are not finished.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn unfinished(&self) -> io::Result<Vec<TaskId>> {
        let known = known_tasks(&self.layout)?;
        let inner = self.inner();
        Ok(known.into_iter().filter(|id| !inner.memory.is_finished(*id)).collect())
    }

    /// Tasks whose process lives, or that are being given to one.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing of what runs.
    pub fn running(&self) -> io::Result<Vec<TaskId>> {
        let starting: Vec<TaskId> = self.inner().starting.iter().copied().collect();
        let mut running = live_tasks(&self.layout)?;
        running.extend(starting);
        running.sort_unstable();
        running.dedup();
        Ok(running)
    }

    /// How many of them, where that is known, for those who only show it.
    #[must_use]
    pub fn running_count(&self) -> u32 {
        let running = self.running().inspect_err(|error| tracing::error!(%error, "cannot look at the tasks"));
        running.map_or(0, |running| u32::try_from(running.len()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{ids::RunId, outcome::Ending},
        sys::paths::make_private,
    };

    fn agent(root: &std::path::Path) -> Agent {
        let layout = Layout::new(root);
        make_private(&layout.tasks()).unwrap();
        let directory = DirectoryId::open(&layout, true).unwrap();
        let description = Description {
            name: "a".parse().unwrap(),
            labels: Labels::new(),
            link: LinkPreference::Auto,
            direct: None,
        };
        let (orders, _) = tokio::sync::mpsc::channel(1);
        Agent::new(description, layout.clone(), Keeper::nobody(&layout), directory, orders).unwrap()
    }

    fn permission(agent: &Agent, attempt: u64, incarnation: Incarnation) -> ReceivedOpen {
        let id = TaskId { run: RunId::from_parts(1, 1), index: 0 };
        let arrived = clock::boottime_ms();
        let start_within = Some(Duration::from_secs(10));
        assert!(!agent.layout.task(id).root().exists());
        ReceivedOpen { id, attempt, incarnation, start_within, sent: None, arrived }
    }

    fn incarnation(agent: &Agent) -> Incarnation {
        agent.inner().core.incarnation().clone()
    }

    fn decision(agent: &Agent, open: &ReceivedOpen) -> Decision {
        agent.decide(open, true).unwrap().unwrap().decision
    }

    #[test]
    fn what_has_ended_or_was_promised_is_not_started_by_any_later_permission_or_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = agent(dir.path());
        let life = incarnation(&first);
        let open = permission(&first, 1, life.clone());
        let outcome = Ending::Exited(3).into();
        first.finish(open.id, TaskEnding { outcome, end_offset: 0, duration_ns: 0 }).unwrap();
        assert_eq!(decision(&first, &permission(&first, 2, life.clone())), Decision::Recall);
        drop(first);
        let again = agent(dir.path());
        assert_eq!(incarnation(&again), life);
        assert_eq!(decision(&again, &permission(&again, 3, life.clone())), Decision::Recall);
        let other = ReceivedOpen {
            id: TaskId { run: RunId::from_parts(1, 2), index: 0 },
            start_within: None,
            ..permission(&again, 1, life.clone())
        };
        assert_eq!(decision(&again, &other), Decision::Promise);
        assert!(again.promise(other.id, other.attempt).unwrap());
        drop(again);
        let again = agent(dir.path());
        let permission = ReceivedOpen { attempt: 2, start_within: open.start_within, ..other };
        assert_eq!(decision(&again, &permission), Decision::Promised);
    }

    #[test]
    fn memory_that_is_removed_begins_another_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        let life = incarnation(&agent);
        std::fs::remove_dir_all(agent.layout.tasks()).unwrap();
        let decision = decision(&agent, &permission(&agent, 1, life.clone()));
        assert!(matches!(decision, Decision::OtherIncarnation(_)), "{decision:?}");
        assert_ne!(incarnation(&agent), life);
    }

    #[test]
    fn what_was_seen_of_a_masters_store_outlives_the_agent_and_says_nothing_of_another_master() {
        let dir = tempfile::tempdir().unwrap();
        let ca = |name: &str| Fingerprint::of(name.as_bytes());
        let seen = Revision { epoch: 2, revision: 40 };
        let first = agent(dir.path());
        first.belong_to(&ca("first"));
        first.see(seen);
        first.save_seen();
        drop(first);
        let again = agent(dir.path());
        again.belong_to(&ca("first"));
        assert_eq!(again.seen(), seen);
        again.belong_to(&ca("second"));
        assert_eq!(again.seen(), Revision::default());
    }

    #[test]
    fn an_agent_that_stops_starts_nothing_new() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        assert!(!agent.is_stopping());
        agent.stop();
        assert!(agent.is_stopping());
        let decision = decision(&agent, &permission(&agent, 1, incarnation(&agent)));
        assert!(matches!(decision, Decision::Refuse(_)), "{decision:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_permission_waits_until_it_is_known_how_old_it_is_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        let sent = Sent { clock: 7, at_ms: 1_000_000 };
        let open = ReceivedOpen { sent: Some(sent), ..permission(&agent, 1, incarnation(&agent)) };
        let began = Instant::now();
        assert_eq!(agent.open(&open).await.unwrap().decision, Decision::Expired);
        assert!(began.elapsed() >= WAIT_FOR_CLOCK);
        // The session tells while it waits.
        let open = ReceivedOpen { attempt: 2, ..open };
        let (opened, ()) = tokio::join!(agent.open(&open), async {
            tokio::task::yield_now().await;
            agent.note_master_clock(sent, Some(Echo { at: clock::boottime_ms(), age_ms: 0 }));
        });
        assert_eq!(opened.unwrap().decision, Decision::Start);
    }

    #[tokio::test]
    async fn nothing_is_decided_on_a_task_that_is_being_started() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        let open = permission(&agent, 1, incarnation(&agent));
        let id = open.id;
        let starting = agent.open(&open).await.unwrap().starting.unwrap();
        assert_eq!((agent.running().unwrap(), agent.running_count()), (vec![id], 1));
        assert!(!agent.promise(id, 1).unwrap(), "it may be running in a moment");
        let cancelled = agent.cancel(id);
        tokio::pin!(cancelled);
        tokio::select! {
            biased;
            answer = &mut cancelled => panic!("{answer:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(starting);
        assert_eq!(cancelled.await.unwrap(), Cancelled::NeverStarted);
        assert_eq!(agent.running().unwrap(), []);
        assert_eq!(decision(&agent, &permission(&agent, 2, incarnation(&agent))), Decision::Promised);
    }

    #[test]
    fn only_the_attach_that_has_a_task_promises_not_to_start_it_and_only_of_one_that_is_not_here() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        let asked = ReceivedOpen { start_within: None, ..permission(&agent, 2, incarnation(&agent)) };
        assert_eq!(decision(&agent, &asked), Decision::Promise);
        assert!(!agent.promise(asked.id, 1).unwrap(), "a later one has it");
        let task = agent.layout.task(asked.id);
        std::fs::create_dir(task.root()).unwrap();
        assert!(!agent.promise(asked.id, 2).unwrap(), "it is here");
        std::fs::remove_dir(task.root()).unwrap();
        assert!(agent.promise(asked.id, 2).unwrap());
    }

    #[test]
    fn an_attach_that_has_ended_is_not_told_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        let mut attempt = 0;
        let mut is_told_after_release_of = |which: fn(u64) -> u64| {
            attempt += 2;
            let open = |attempt| ReceivedOpen {
                start_within: None,
                ..permission(&agent, attempt, incarnation(&agent))
            };
            let token = agent.decide(&open(attempt), true).unwrap().unwrap().superseded;
            agent.release(open(attempt).id, which(attempt));
            agent.decide(&open(attempt + 1), true).unwrap().unwrap();
            token.is_cancelled()
        };
        assert!(!is_told_after_release_of(|attempt| attempt));
        assert!(is_told_after_release_of(|attempt| attempt - 1), "an earlier one's end is not its end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_remembered_and_its_directory_removed_in_a_quiet_moment_or_when_there_are_many()
    {
        let dir = tempfile::tempdir().unwrap();
        let first = agent(dir.path());
        let id = |index| TaskId { run: RunId::from_parts(1, 1), index };
        let ending = || TaskEnding { outcome: Ending::Exited(3).into(), end_offset: 7, duration_ns: 0 };
        let most = u32::try_from(MOST_LEFT_OVER).unwrap();
        for index in 0..=most {
            std::fs::create_dir(first.layout.task(id(index)).root()).unwrap();
        }
        assert_eq!(first.unfinished().unwrap().len(), MOST_LEFT_OVER + 1);
        let left = |agent: &Agent| known_tasks(&agent.layout).unwrap().len();
        for index in 0..most - 1 {
            first.finish(id(index), ending()).unwrap();
        }
        assert_eq!(left(&first), MOST_LEFT_OVER + 1, "commands come first");
        assert_eq!(first.unfinished().unwrap().len(), 2);
        first.finish(id(most - 1), ending()).unwrap();
        assert_eq!(left(&first), 1);
        first.finish(id(most), ending()).unwrap();
        assert_eq!(first.recall(id(most)).unwrap(), Some(ending()));
        assert_eq!(first.recall(id(most + 1)).unwrap(), None);
        drop(first);
        // What the last one left is removed by the next.
        let again = agent(dir.path());
        assert_eq!(left(&again), 1);
        let tidy = tokio::spawn(again.clone().keep_tidy());
        tokio::time::sleep(2 * REMOVE_AFTER).await;
        assert_eq!(left(&again), 0);
        tidy.abort();
    }

    #[test]
    fn a_permission_that_was_too_long_on_its_way_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path());
        let mut open = permission(&agent, 1, incarnation(&agent));
        open.arrived = open.arrived.saturating_sub(11_000);
        assert_eq!(decision(&agent, &open), Decision::Expired);
    }
}
