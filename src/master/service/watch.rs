//! Streams digests of a live or ended job: states, counts and groups, computed on demand from the output log.
//!
//! Without watchers it costs nothing. Watchers of a live job with the same view share one computation. A slow
//! watcher receives fewer digests, not older ones.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    digest::{Digest, Digester, QUIET_AFTER},
    follow::{LOG_REOPENED, MASTER_ENDS, has_failed},
};
use crate::{
    domain::{
        control::{Closing, JobDigest},
        digest::GroupDigest,
        groups::mask::{Masker, Masks},
        ids::JobId,
        job::Job,
        time::UnixMs,
    },
    master::{
        journal::{Changes, Journal},
        output_log::{JobLog, LogPosition, OutputLogs},
    },
    sys::shutdown::Shutdown,
    wire::outbox::Outbox,
};

/// Minimum interval between two digests …
const DIGEST_INTERVAL: Duration = Duration::from_millis(100);
/// … and computing them takes at most one part in this number of the time.
const MAX_COST_FRACTION: u32 = 10;

type Digests = Outbox<JobDigest>;

/// The job to watch, and the options.
pub(super) struct Watch {
    pub job: Job,
    /// The journal of the job; `None` if the job is over and stored.
    pub live: Option<Arc<Journal>>,
    pub masks: Masks,
    pub maskers: Vec<Masker>,
    pub follow: bool,
}

/// The live jobs that are watched, by job and masks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<All>>);

type All = HashMap<(JobId, Masks), Arc<WatchedJob>>;

/// The state of a job, shared by all watchers with the same masks.
#[derive(Debug)]
struct WatchedJob {
    state: Mutex<State>,
    /// Counts the digests.
    digests: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    job: Job,
    /// The number of the digest with which each task last changed.
    changed: HashMap<u32, u64>,
    groups: Vec<GroupDigest>,
    more_groups: u32,
    /// When the job ended. The groups then contain all output.
    ended_ms: Option<UnixMs>,
    /// The groups contain the log before this position.
    read: LogPosition,
    /// Why there are no further digests.
    failed: Option<String>,
    /// Whether the computation has ended, so that clients must ask again.
    is_left: bool,
}

impl WatchedJob {
    fn new(job: Job) -> Self {
        let state = State {
            job,
            changed: HashMap::new(),
            groups: Vec::new(),
            more_groups: 0,
            ended_ms: None,
            read: LogPosition::START,
            failed: None,
            is_left: false,
        };
        Self { state: Mutex::new(state), digests: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the next digest.
    fn put(&self, digest: Digest) {
        let next = *self.digests.borrow() + 1;
        let mut state = self.state();
        let State { job, changed, .. } = &mut *state;
        for task in digest.changed {
            changed.insert(task.index, next);
            if let Some(known) = job.task_mut(task.index) {
                *known = task;
            }
        }
        job.gate = digest.gate;
        job.ended_ms = digest.ended_ms.or(job.ended_ms);
        state.groups = digest.groups;
        state.more_groups = digest.more_groups;
        state.ended_ms = digest.ended_ms;
        state.read = digest.read;
        drop(state);
        self.digests.send_replace(next);
    }

    fn fail(&self, error: &io::Error) {
        self.state().failed = Some(error.to_string());
        self.digests.send_modify(|digests| *digests += 1);
    }

    /// Makes clients ask again that joined while the computation was ending.
    fn leave(&self) {
        self.state().is_left = true;
        self.digests.send_modify(|digests| *digests += 1);
    }
}

/// Returns the message for a client that has received the digest with the number `heard`; 0 for none.
fn message(state: &State, heard: u64) -> JobDigest {
    let is_first = heard == 0;
    let is_news = |index: &u32| state.changed.get(index).is_some_and(|changed| *changed > heard);
    let news = state.job.tasks.iter().filter(|task| !is_first && is_news(&task.index));
    JobDigest {
        tasks: news.cloned().collect(),
        job: is_first.then(|| Box::new(state.job.clone())),
        groups: state.groups.clone(),
        more_groups: state.more_groups,
        gate: state.job.gate.clone(),
        ended_ms: state.ended_ms,
        closing: None,
    }
}

impl Watched {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a job until the job, the client or the master ends.
    pub(super) async fn serve(self, watch: Watch, logs: OutputLogs, shutdown: Shutdown, digests: Digests) {
        let served = match watch.live.clone() {
            None => stored(watch, &logs, &digests).await,
            Some(journal) => self.live(watch, journal, &logs, &shutdown, &digests).await,
        };
        if let Err(error) = served {
            // A client that is gone needs no error.
            let _ = digests.send(Err(Status::data_loss(error.to_string()))).await;
        }
    }

    async fn live(
        &self,
        watch: Watch,
        journal: Arc<Journal>,
        logs: &OutputLogs,
        shutdown: &Shutdown,
        digests: &Digests,
    ) -> io::Result<()> {
        let follow = watch.follow;
        let log = logs.open(watch.job.id).await?;
        // A single digest must contain all output so far.
        let wanted = if follow { LogPosition::START } else { *log.appended().borrow() };
        let (standing, mut news) = self.join(watch, journal, &log, logs, shutdown);
        let mut trouble = log.trouble();
        let mut heard = 0;
        loop {
            let closing = tokio::select! {
                changed = news.changed() => changed.is_err(),
                () = digests.closed() => return Ok(()),
                () = shutdown.stop.cancelled() => true,
                () = has_failed(&mut trouble) => true,
            };
            if closing {
                return close(if log.is_failed() { LOG_REOPENED } else { MASTER_ENDS }, digests).await;
            }
            let newest = *news.borrow_and_update();
            let next = {
                let state = standing.state();
                if let Some(failed) = &state.failed {
                    return Err(io::Error::other(failed.clone()));
                }
                let is_over = state.ended_ms.is_some();
                if state.is_left && !is_over {
                    None
                } else if state.read < wanted && !is_over {
                    continue;
                } else {
                    Some((message(&state, heard), is_over || !follow))
                }
            };
            let Some((message, is_last)) = next else { return close(LOG_REOPENED, digests).await };
            heard = newest;
            if digests.send(Ok(message)).await.is_err() || is_last {
                return Ok(());
            }
        }
    }

    /// Joins the computation of the other watchers, or starts one.
    fn join(
        &self,
        watch: Watch,
        journal: Arc<Journal>,
        log: &Arc<JobLog>,
        logs: &OutputLogs,
        shutdown: &Shutdown,
    ) -> (Arc<WatchedJob>, watch::Receiver<u64>) {
        let key = (watch.job.id, watch.masks);
        let mut all = self.all();
        if let Some(standing) = all.get(&key) {
            let mut news = standing.digests.subscribe();
            if *news.borrow() > 0 {
                news.mark_changed();
            }
            return (Arc::clone(standing), news);
        }
        let standing = Arc::new(WatchedJob::new(watch.job.clone()));
        let news = standing.digests.subscribe();
        all.insert(key, Arc::clone(&standing));
        drop(all);
        let digester =
            Digester::new(watch.job.clone(), watch.maskers, logs.reader(watch.job.id, LogPosition::START));
        let work = Computation {
            watched: self.clone(),
            key,
            standing: Arc::clone(&standing),
            journal,
            log: Arc::clone(log),
            stop: shutdown.stop.clone(),
        };
        shutdown.tracker.spawn(work.run(digester, watch.job));
        (standing, news)
    }
}

/// Informs a client why the stream ends, and when to ask again.
async fn close(reason: &str, digests: &Digests) -> io::Result<()> {
    let closing = Some(Closing { reason: reason.to_owned(), retry_after_ms: 1_000 });
    let _ = digests.send(Ok(JobDigest { closing, ..JobDigest::default() })).await;
    Ok(())
}

/// Computes the only digest of a job that is over and stored.
async fn stored(watch: Watch, logs: &OutputLogs, digests: &Digests) -> io::Result<()> {
    let id = watch.job.id;
    let end = logs.end(id).await?;
    let standing = WatchedJob::new(watch.job.clone());
    let mut digester = Digester::new(watch.job.clone(), watch.maskers, logs.reader(id, LogPosition::START));
    digester.take(as_found(watch.job), LogPosition(u64::MAX));
    while !digests.is_closed() {
        let (next, digest, has_read) = digester.work(end).await?;
        digester = next;
        if has_read {
            standing.put(digest);
            let message = message(&standing.state(), 0);
            let _ = digests.send(Ok(message)).await;
            break;
        }
    }
    Ok(())
}

/// Returns the tasks of a job as changes, since some may have ended.
fn as_found(job: Job) -> Changes {
    Changes { seen: 0, tasks: job.tasks, gate: None, ended_ms: job.ended_ms }
}

/// The computation of the digests of a live job, which lasts while it is watched.
struct Computation {
    watched: Watched,
    key: (JobId, Masks),
    standing: Arc<WatchedJob>,
    journal: Arc<Journal>,
    log: Arc<JobLog>,
    stop: CancellationToken,
}

impl Computation {
    async fn run(self, digester: Digester, found: Job) {
        tokio::select! {
            worked = self.work(digester, found) => {
                if let Err(error) = worked {
                    self.standing.fail(&error);
                }
            }
            () = self.stop.cancelled() => {}
        }
        let mut all = self.watched.all();
        if all.get(&self.key).is_some_and(|standing| Arc::ptr_eq(standing, &self.standing)) {
            all.remove(&self.key);
        }
        drop(all);
        self.standing.leave();
    }

    async fn work(&self, mut digester: Digester, found: Job) -> io::Result<()> {
        let (mut appended, mut changed) = (self.log.appended(), self.journal.subscribe());
        let mut trouble = self.log.trouble();
        let mut found = as_found(found).tasks;
        let mut seen = 0;
        loop {
            // States first, output second: output is in the log before the end of its task is in the journal.
            changed.borrow_and_update();
            let mut news = self.journal.since(seen);
            seen = news.seen;
            news.tasks.splice(..0, std::mem::take(&mut found));
            let until = *appended.borrow_and_update();
            digester.take(news, until);
            let (next, digest, has_read) = digester.work(until).await?;
            digester = next;
            let (has_ended, cost) = (digest.ended_ms.is_some(), digest.cost);
            self.standing.put(digest);
            if has_ended || self.is_unwatched() {
                return Ok(());
            }
            tokio::time::sleep(DIGEST_INTERVAL.max(cost * MAX_COST_FRACTION)).await;
            if !has_read {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(QUIET_AFTER), if digester.has_running() => {}
                _ = changed.changed() => {}
                _ = appended.changed() => {}
                () = self.standing.digests.closed() => {}
                () = has_failed(&mut trouble) => return Ok(()),
            }
        }
    }

    /// Reports whether there are no watchers. If so, none can join any more.
    fn is_unwatched(&self) -> bool {
        let mut all = self.watched.all();
        let is_unwatched = self.standing.digests.receiver_count() == 0;
        if is_unwatched {
            all.remove(&self.key);
        }
        is_unwatched
    }
}

#[cfg(test)]
mod tests;
