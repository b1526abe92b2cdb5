//! The network half's one state, behind a handle: decisions, what ended, and who holds which task.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    core::{Asked, Core, Decision, Knowledge, Revision},
    finished::Finished,
    keeper::{
        protocol::{StartTask, TaskEnding},
        server::{known_tasks, live_tasks},
    },
    keeping::{Keeper, TaskProcess},
    layout::Layout,
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
    finished: Finished,
    holders: HashMap<TaskId, (u64, CancellationToken)>,
    /// Tasks that are being given to a worker.
    starting: HashSet<TaskId>,
    /// Finished tasks whose directories are still there.
    left_over: Vec<TaskId>,
    seen_saved: Revision,
    /// The CA of the master whose store that is.
    seen_of: Option<String>,
    seen_file: File,
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
    /// Woken when a start has come to its end.
    settled: Arc<Notify>,
    /// Woken when a finished task's directory is left over.
    left_over: Arc<Notify>,
    inner: Arc<Mutex<Inner>>,
}

/// How long no task finishes before the directories of finished ones are removed: commands come first.
const REMOVE_AFTER: Duration = Duration::from_secs(1);
/// So many are left over at most.
const MOST_LEFT_OVER: usize = 64;

/// What was decided on an Attach.
pub struct Opened {
    /// What to do.
    pub decision: Decision,
    /// Ends the Attach when a later one takes its place.
    pub superseded: CancellationToken,
    /// Where the task is to be started.
    pub starting: Option<Starting>,
}

/// A task that is to be started: until this is dropped nothing else is decided on it.
pub struct Starting {
    agent: Agent,
    id: TaskId,
}

impl Starting {
    /// Starts the task, whatever becomes of the Attach that asks for it; returns the connection to its process, or `None`
    /// for one that is known already.
    ///
    /// # Errors
    /// In words, when nothing was started.
    pub async fn start(self, spec: TaskSpec) -> Result<Option<TaskProcess>, String> {
        let start = StartTask { id: self.id, spec, agent: self.agent.description.name.to_string() };
        let starting = async move { self.agent.keeper.start(start).await };
        tokio::spawn(starting).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.agent.inner().starting.remove(&self.id);
        self.agent.settled.notify_waiters();
    }
}

/// Days since the Unix epoch.
fn today() -> u64 {
    clock::unix_ms() / 86_400_000
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
        incarnation: Incarnation,
        stop_orders: tokio::sync::mpsc::Sender<u32>,
    ) -> io::Result<Self> {
        let (seen, seen_of) = read_seen(&layout)?;
        let inner = Inner {
            core: Core::new(incarnation, seen),
            finished: Finished::open(&layout.finished(), today())?,
            holders: HashMap::new(),
            starting: HashSet::new(),
            left_over: Vec::new(),
            seen_saved: seen,
            seen_of,
            seen_file: OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(layout.seen_revision())?,
        };
        Ok(Self {
            description: Arc::new(description),
            layout: Arc::new(layout),
            keeper,
            standing: watch::Sender::new(Standing::Connecting),
            trust: watch::Sender::new(String::new()),
            stopping: Arc::new(Notify::new()),
            settled: Arc::default(),
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
        let ca = ca.to_string();
        let mut inner = self.inner();
        if inner.seen_of.as_ref() != Some(&ca) {
            if inner.seen_of.is_some() {
                inner.core.forget_seen();
            }
            inner.seen_of = Some(ca);
            // Whatever is seen next is written down, with the new CA.
            inner.seen_saved = Revision::default();
        }
    }

    /// Remembers the highest revision over restarts. Not synced: a machine that crashes starts a new incarnation.
    pub fn save_seen(&self) {
        let mut inner = self.inner();
        let seen = inner.core.seen();
        if seen > inner.seen_saved {
            // In place and always as long: making a file anew takes longer than a short command.
            let of = inner.seen_of.as_deref().unwrap_or_default();
            let text = format!("{:>20} {:>20} {of:>80}\n", seen.epoch, seen.revision);
            match inner.seen_file.write_all_at(text.as_bytes(), 0) {
                Ok(()) => inner.seen_saved = seen,
                Err(error) => tracing::error!(%error, "cannot remember the master's revision"),
            }
        }
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

    /// Decides on an Attach, as soon as it is known what has become of the task's start.
    pub async fn open(&self, asked: &Asked) -> Opened {
        loop {
            let settled = self.settled.notified();
            if let Some(opened) = self.decide(asked) {
                return opened;
            }
            settled.await;
        }
    }

    /// `None` while the task is being started.
    fn decide(&self, asked: &Asked) -> Option<Opened> {
        let mut inner = self.inner();
        if inner.starting.contains(&asked.id) {
            return None;
        }
        let knowledge = if inner.finished.contains(asked.id) {
            Knowledge::Finished
        } else if self.layout.task(asked.id).root().exists() {
            Knowledge::Spooled
        } else {
            Knowledge::Nothing
        };
        let decision = inner.core.open(asked, knowledge);
        let token = CancellationToken::new();
        if !matches!(decision, Decision::Superseded(_))
            && let Some((_, older)) = inner.holders.insert(asked.id, (asked.attempt, token.clone()))
        {
            older.cancel();
        }
        let starting = (decision == Decision::Start).then(|| {
            inner.starting.insert(asked.id);
            Starting { agent: self.clone(), id: asked.id }
        });
        Some(Opened { decision, superseded: token, starting })
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
        self.inner().finished.get(id)
    }

    /// Keeps a task's id and ending for good; everything else of it is dropped when there is time for that.
    ///
    /// # Errors
    /// When the disk does not take it; the task stays as it is then.
    pub fn finish(&self, id: TaskId, ending: TaskEnding) -> io::Result<()> {
        let mut inner = self.inner();
        inner.finished.insert(id, today(), ending)?;
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
            let finished: Vec<TaskId> = known.into_iter().filter(|id| inner.finished.contains(*id)).collect();
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
        Ok(known.into_iter().filter(|id| !inner.finished.contains(*id)).collect())
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

/// The highest revision that was seen, and the CA of the master whose it is.
fn read_seen(layout: &Layout) -> io::Result<(Revision, Option<String>)> {
    let text = crate::sys::paths::read_optional(&layout.seen_revision())?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut words = text.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let (epoch, revision) = (number(), number());
    Ok((Revision { epoch, revision }, words.next().map(str::to_owned)))
}
