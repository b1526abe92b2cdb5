//! Streams the registry and the jobs to watchers: the current state, then changes, at most a few times a second.
//!
//! A slow watcher receives fewer answers, not older ones: changes are collected when it has taken the last
//! answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{Master, choosing::part_of};
use crate::{
    domain::{
        control::{FleetChange, FleetCursor, JobsChange, WatchAgents, WatchJobs},
        job::Job,
        name::AgentName,
    },
    master::{
        core::{
            messages::Input,
            views::{FleetUpdate, JobsUpdate},
        },
        store::Wanted,
    },
    wire::{convert::Carried, outbox::Outbox},
};

/// Minimum interval between two answers.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(200);
/// Minimum interval between two answers with metrics of machines: people read them, and thousands of agents
/// report them.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of jobs in one answer; their commands may be long.
const JOBS_CHUNK: usize = 8;
/// Default and maximum number of jobs at the beginning of a stream.
const DEFAULT_AND_MAX_JOBS: (u32, u32) = (100, 1_000);

type Answers<T> = Outbox<T>;

/// The client is gone, or the stream has nothing more to send.
struct Over;

/// Waits for a change, and at least [`NOTIFY_INTERVAL`].
async fn wait<T: Carried>(
    master: &Master,
    watched: &mut tokio::sync::watch::Receiver<u64>,
    answers: &Answers<T>,
) -> Result<(), Over> {
    let pause = async {
        tokio::time::sleep(NOTIFY_INTERVAL).await;
        watched.changed().await
    };
    tokio::select! {
        changed = pause => changed.map_err(|_| Over),
        () = answers.closed() => Err(Over),
        () = master.shutdown.stop.cancelled() => Err(Over),
    }
}

/// Streams the agents until the client or the master ends.
pub(super) async fn agents(master: Master, request: WatchAgents, answers: Answers<FleetChange>) {
    // A client that is gone needs no error.
    let _ = watch_agents(&master, request, &answers).await;
}

async fn watch_agents(
    master: &Master,
    request: WatchAgents,
    answers: &Answers<FleetChange>,
) -> Result<(), Over> {
    // Revisions count from the start of the process, so this number identifies the process.
    let instance = u64::from(std::process::id()) << 32 | master.started_ms.0 & 0xffff_ffff;
    let since = request.since.filter(|since| since.instance == instance);
    let mut seen = since.map_or(0, |since| since.revision);
    let mut numbers_seen = seen;
    let mut numbers_at = Instant::now();
    let mut told_of_keys = true;
    let mut watched = master.handle.watched();
    loop {
        watched.borrow_and_update();
        let with_numbers = numbers_at.elapsed() >= METRICS_INTERVAL;
        let numbers = if with_numbers { numbers_seen } else { u64::MAX };
        let since = (seen, numbers);
        let mut part = fleet_part(master, since, None).await?;
        if with_numbers || part.is_whole {
            (numbers_seen, numbers_at) = (part.revision, Instant::now());
        }
        let (begins, revision) = (part.is_whole, part.revision);
        let is_first = seen == 0 || begins;
        seen = revision;
        // An empty list of pending keys is sent only once.
        let keys = part.waiting.take().filter(|keys| is_first || told_of_keys || !keys.is_empty());
        if let Some(keys) = &keys {
            told_of_keys = !keys.is_empty();
        }
        if is_first || keys.is_some() || !part.agents.is_empty() || !part.deleted.is_empty() {
            let deleted = std::mem::take(&mut part.deleted);
            let mut change = FleetChange { begins, deleted, waiting: keys, ..FleetChange::default() };
            loop {
                let mut agents = part.agents.into_iter().peekable();
                loop {
                    change.agents = part_of(&mut agents);
                    let ends_part = agents.peek().is_none();
                    let is_complete = ends_part && part.more_behind.is_none();
                    change.complete = is_complete.then_some(FleetCursor { instance, revision });
                    answers.send(Ok(std::mem::take(&mut change))).await.map_err(|_| Over)?;
                    if ends_part {
                        break;
                    }
                }
                // Changes in the meantime have a later revision, and are sent in the next round.
                let Some(behind) = part.more_behind else { break };
                part = fleet_part(master, since, Some(behind)).await?;
            }
        }
        if numbers_seen < seen && !with_numbers {
            // Metrics that were left out are sent after their interval, even without other changes.
            tokio::select! {
                () = tokio::time::sleep_until(numbers_at + METRICS_INTERVAL) => {}
                waited = wait(master, &mut watched, answers) => waited?,
            }
        } else {
            wait(master, &mut watched, answers).await?;
        }
    }
}

async fn fleet_part(
    master: &Master,
    (seen, numbers_seen): (u64, u64),
    behind: Option<AgentName>,
) -> Result<FleetUpdate, Over> {
    let ask = move |reply| Input::WatchFleet { seen, numbers_seen, behind, reply };
    let update = master.handle.ask(ask).await.map_err(|_| Over)?;
    Ok(*update)
}

/// Streams the jobs until the client or the master ends.
pub(super) async fn jobs(master: Master, request: WatchJobs, answers: Answers<JobsChange>) {
    let _ = watch_jobs(&master, request, &answers).await;
}

async fn watch_jobs(master: &Master, request: WatchJobs, answers: &Answers<JobsChange>) -> Result<(), Over> {
    let newest = request.newest.unwrap_or(DEFAULT_AND_MAX_JOBS.0).min(DEFAULT_AND_MAX_JOBS.1);
    let mut watched = master.handle.watched();
    let mut seen = 0;
    let mut needs_store = true;
    loop {
        watched.borrow_and_update();
        let ask = move |reply| Input::WatchJobs { seen, reply };
        let update = master.handle.ask(ask).await.map_err(|_| Over)?;
        let JobsUpdate { revision, is_complete, jobs, deleted } = update;
        if needs_store || !is_complete {
            let wanted = Wanted { limit: newest, ..Wanted::default() };
            let stored = master.read_store(move |store| store.jobs(&wanted)).await;
            let stored = match stored {
                Ok(stored) => stored,
                Err(status) => {
                    let _ = answers.send(Err(status)).await;
                    return Err(Over);
                }
            };
            // Live jobs are newer than the stored ones, so they come last.
            let first = JobsChange { begins: true, ..JobsChange::default() };
            send_jobs(first, stored.into_iter().chain(jobs), answers).await?;
        } else if !jobs.is_empty() || !deleted.is_empty() {
            let first = JobsChange { deleted, ..JobsChange::default() };
            send_jobs(first, jobs.into_iter(), answers).await?;
        }
        needs_store = false;
        seen = revision;
        wait(master, &mut watched, answers).await?;
    }
}

/// Sends jobs in several answers; `first` is the first of them, without its jobs.
async fn send_jobs(
    first: JobsChange,
    jobs: impl Iterator<Item = Job>,
    answers: &Answers<JobsChange>,
) -> Result<(), Over> {
    let mut jobs = jobs.map(Job::listed).peekable();
    let mut response = first;
    loop {
        response.jobs = jobs.by_ref().take(JOBS_CHUNK).collect();
        let is_last = jobs.peek().is_none();
        response.is_complete = is_last;
        answers.send(Ok(std::mem::take(&mut response))).await.map_err(|_| Over)?;
        if is_last {
            return Ok(());
        }
    }
}
