//! Streams digests of a job: states, counts and groups, computed on demand from the output log, live or later.
//!
//! It costs nothing when nobody watches; whoever watches a live job in the same way shares one computation; and a watcher
//! that is slow gets fewer digests, not older ones.

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
    digest::{Digest, Digester, QUIET_AFTER_MS},
    follow::{LOG_AGAIN, MASTER_ENDS, has_failed},
};
use crate::{
    domain::{
        control::{Closing, JobDigest},
        digest::GroupDigest,
        groups::mask::{Masker, Masks},
        ids::JobId,
        job::Job,
    },
    master::{
        journal::{Changes, Journal},
        output_log::{JobLog, OutputLogs},
    },
    sys::shutdown::Shutdown,
    wire::outbox::Outbox,
};

/// Digests come at most so often …
const DIGEST_INTERVAL: Duration = Duration::from_millis(100);
/// … and computing them takes at most one part in this number of the time.
const SHARE: u32 = 10;

type Digests = Outbox<JobDigest>;

/// What to watch.
pub(super) struct Watch {
    pub job: Job,
    /// `None` for a job that is over and stored.
    pub live: Option<Arc<Journal>>,
    pub masks: Masks,
    pub maskers: Vec<Masker>,
    pub follow: bool,
}

/// The live jobs that are watched, and how.
#[derive(Clone, Debug, Default)]
pub struct Watched(Arc<Mutex<All>>);

type All = HashMap<(JobId, Masks), Arc<Standing>>;

/// How a job stands, for everybody who watches it in the same way.
#[derive(Debug)]
struct Standing {
    state: Mutex<State>,
    /// Counts the digests.
    digests: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    job: Job,
    /// The digest with which each task changed last.
    changed: HashMap<u32, u64>,
    groups: Vec<GroupDigest>,
    more_groups: u32,
    /// When the job ended. Everything that was printed is in the groups then.
    ended_ms: Option<u64>,
    /// What the log holds before this is in them.
    read: u64,
    /// Why there is no further one.
    failed: Option<String>,
    /// No further digests are computed: clients have to ask again.
    is_left: bool,
}

impl Standing {
    fn new(job: Job) -> Self {
        let state = State {
            job,
            changed: HashMap::new(),
            groups: Vec::new(),
            more_groups: 0,
            ended_ms: None,
            read: 0,
            failed: None,
            is_left: false,
        };
        Self { state: Mutex::new(state), digests: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next digest.
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

    /// Has clients ask again that joined while the computation was ending.
    fn leave(&self) {
        self.state().is_left = true;
        self.digests.send_modify(|digests| *digests += 1);
    }
}

/// How a digest is told to somebody who has heard the one with this number, 0 for none.
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

    /// Watches a job until its end, the client's, or the master's.
    pub(super) async fn serve(self, watch: Watch, logs: OutputLogs, shutdown: Shutdown, digests: Digests) {
        let served = match watch.live.clone() {
            None => stored(watch, &logs, &digests).await,
            Some(journal) => self.live(watch, journal, &logs, &shutdown, &digests).await,
        };
        if let Err(error) = served {
            // A client that is gone needs no reason.
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
        // Who wants a single digest wants all of it.
        let wanted = if follow { 0 } else { *log.appended().borrow() };
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
                return close(if log.is_failed() { LOG_AGAIN } else { MASTER_ENDS }, digests).await;
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
            let Some((message, is_last)) = next else { return close(LOG_AGAIN, digests).await };
            heard = newest;
            if digests.send(Ok(message)).await.is_err() || is_last {
                return Ok(());
            }
        }
    }

    /// What others work out already, or from now on a task of the master's.
    fn join(
        &self,
        watch: Watch,
        journal: Arc<Journal>,
        log: &Arc<JobLog>,
        logs: &OutputLogs,
        shutdown: &Shutdown,
    ) -> (Arc<Standing>, watch::Receiver<u64>) {
        let key = (watch.job.id, watch.masks);
        let mut all = self.all();
        if let Some(standing) = all.get(&key) {
            let mut news = standing.digests.subscribe();
            if *news.borrow() > 0 {
                news.mark_changed();
            }
            return (Arc::clone(standing), news);
        }
        let standing = Arc::new(Standing::new(watch.job.clone()));
        let news = standing.digests.subscribe();
        all.insert(key, Arc::clone(&standing));
        drop(all);
        let digester = Digester::new(watch.job.clone(), watch.maskers, logs.reader(watch.job.id, 0));
        let work = Work {
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

/// Tells a client why there is nothing more, and when to ask again.
async fn close(reason: &str, digests: &Digests) -> io::Result<()> {
    let closing = Some(Closing { reason: reason.to_owned(), retry_after_ms: 1_000 });
    let _ = digests.send(Ok(JobDigest { closing, ..JobDigest::default() })).await;
    Ok(())
}

/// Works out the one digest of a job that is over and stored.
async fn stored(watch: Watch, logs: &OutputLogs, digests: &Digests) -> io::Result<()> {
    let id = watch.job.id;
    let end = logs.end(id).await?;
    let standing = Standing::new(watch.job.clone());
    let mut digester = Digester::new(watch.job.clone(), watch.maskers, logs.reader(id, 0));
    digester.take(as_found(watch.job), u64::MAX);
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

/// The tasks of a job as they were found are news too: some may have ended.
fn as_found(job: Job) -> Changes {
    Changes { seen: 0, tasks: job.tasks, gate: None, ended_ms: job.ended_ms }
}

/// What works out the digests of a live job while somebody watches it.
struct Work {
    watched: Watched,
    key: (JobId, Masks),
    standing: Arc<Standing>,
    journal: Arc<Journal>,
    log: Arc<JobLog>,
    stop: CancellationToken,
}

impl Work {
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
            // States first, output second: what a task printed is in the log before its end is in the journal.
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
            tokio::time::sleep(DIGEST_INTERVAL.max(cost * SHARE)).await;
            if !has_read {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(QUIET_AFTER_MS)), if digester.has_running() => {}
                _ = changed.changed() => {}
                _ = appended.changed() => {}
                () = self.standing.digests.closed() => {}
                () = has_failed(&mut trouble) => return Ok(()),
            }
        }
    }

    /// Whether nobody watches any more. Nobody can join then either.
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
