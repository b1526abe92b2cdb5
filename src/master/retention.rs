//! Deletes ended jobs that are too old, or whose output takes too much space.
//!
//! It never deletes an unfinished job, and never trusts a clock that jumps:
//! - The time by which ages are judged advances at most twice as fast as the time that this process has
//!   observed.
//! - A clock that has fallen behind is trusted after a day.
//! - A clock that is set to a time before this program was written is ignored.
//! - A job is not older than the time since this process last saw that it had not ended.
//!
//! Output without a job, for example after a store was lost or restored, is treated like that of a job that
//! ended at the last write to this output.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    core::messages::Input,
    handle::Handle,
    output_log::OutputLogs,
    store::{Ended, Store, StoreError},
};
use crate::{
    domain::{ids::JobId, time::UnixMs, time::format_duration},
    sys::{clock::unix_ms, shutdown::Shutdown},
};

/// Interval between two sweeps, and the delay of the first one after the start.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);
const FIRST_SWEEP_DELAY: Duration = Duration::from_mins(1);

/// Limits for stored jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Jobs that ended longer ago are deleted.
    pub age: Duration,
    /// Maximum output of all ended jobs together, in bytes. The oldest jobs are deleted first.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_hours(30 * 24), bytes: 10 * 1024 * 1024 * 1024 }
    }
}

/// Output that the store does not know counts as unused if it was not written to for this long.
const UNUSED_AFTER: Duration = Duration::from_hours(1);

/// A clock before this time (2025-01-01) was never set, as on a machine that has just been switched on.
const NEVER_SET: UnixMs = UnixMs(1_735_689_600_000);

/// How long the wall clock must be behind the last judged time before it is trusted.
const CLOCK_TRUSTED_AFTER: Duration = Duration::from_hours(24);

/// What this process has observed of the clock and of ended jobs.
#[derive(Debug, Default)]
struct Watch {
    /// How long the wall clock has been behind.
    behind: Duration,
    /// Ended jobs, each with the time of the last sweep that did not find it; `None` for jobs of the first
    /// sweep.
    seen: HashMap<JobId, Option<Instant>>,
    last_looked: Option<Instant>,
}

impl Watch {
    /// Returns the time by which ages are judged now: the wall clock, but at most the last judged time plus
    /// twice the observed time. Returns `None` if the wall clock cannot be trusted.
    fn judged_now(&mut self, last_ms: UnixMs, witnessed: Duration, wall_ms: UnixMs) -> Option<UnixMs> {
        if wall_ms < NEVER_SET {
            return None;
        }
        if last_ms < NEVER_SET {
            return Some(wall_ms);
        }
        if wall_ms < last_ms {
            self.behind += witnessed;
            if self.behind < CLOCK_TRUSTED_AFTER {
                return None;
            }
        }
        self.behind = Duration::ZERO;
        Some(wall_ms.min(last_ms + witnessed.saturating_mul(2)))
    }

    /// Records the ended jobs. Returns the maximum age of each job that the first sweep did not find.
    fn record_ended(&mut self, ended: &[(Ended, u64)], now: Instant) -> HashMap<JobId, Duration> {
        let before = self.last_looked.replace(now);
        self.seen =
            ended.iter().map(|(job, _)| (job.id, *self.seen.get(&job.id).unwrap_or(&before))).collect();
        let since = |(job, since): (&JobId, &Option<Instant>)| Some((*job, now.duration_since((*since)?)));
        self.seen.iter().filter_map(since).collect()
    }
}

/// Returns the jobs to delete, and the reasons. `ended` holds jobs and their output in bytes, oldest end
/// first. `at_most` limits the ages. Without `now_ms` no job is too old.
fn due(
    retention: Retention,
    ended: &[(Ended, u64)],
    now_ms: Option<UnixMs>,
    at_most: &HashMap<JobId, Duration>,
) -> Vec<(Ended, String)> {
    let mut left: u64 = ended.iter().map(|(_, bytes)| bytes).sum();
    let mut going = Vec::new();
    for (job, bytes) in ended {
        let has_end = job.ended_ms >= NEVER_SET;
        let may_be_old = at_most.get(&job.id).map_or(has_end, |age| *age > retention.age);
        let is_old = now_ms.is_some_and(|now_ms| now_ms.since(job.ended_ms) > retention.age);
        let reason = if is_old && may_be_old {
            format!("it ended over {} ago", format_duration(retention.age))
        } else if left > retention.bytes {
            format!("all output together was over {} bytes", retention.bytes)
        } else {
            continue;
        };
        left = left.saturating_sub(*bytes);
        going.push((*job, format!("deleted by retention: {reason}")));
    }
    going
}

/// Runs a sweep every hour until the master ends.
pub(crate) async fn keep(
    retention: Retention,
    handle: Handle,
    store: Store,
    logs: OutputLogs,
    shutdown: Shutdown,
) {
    let mut pause = FIRST_SWEEP_DELAY;
    let mut watch = Watch::default();
    let mut last_looked = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stop.cancelled() => return,
        }
        pause = SWEEP_INTERVAL;
        let witnessed = last_looked.elapsed();
        last_looked = Instant::now();
        if let Err(error) = look(retention, &handle, &store, &logs, (&mut watch, witnessed)).await {
            tracing::error!(%error, "cannot find old jobs");
        }
    }
}

async fn look(
    retention: Retention,
    handle: &Handle,
    store: &Store,
    logs: &OutputLogs,
    (watch, witnessed): (&mut Watch, Duration),
) -> Result<(), StoreError> {
    let wall_ms = UnixMs(unix_ms());
    let (reading, sizes) = (store.clone(), logs.clone());
    let read = tokio::task::spawn_blocking(move || found(&reading, &sizes, wall_ms));
    let Ok(read) = read.await else { return Ok(()) };
    let Found { ended, unknown, clock_ms } = read?;
    let now_ms = watch.judged_now(clock_ms, witnessed, wall_ms);
    if let Some(now_ms) = now_ms {
        let _ = handle.ask(move |reply| Input::JudgedAt(now_ms, reply)).await;
    }
    let at_most = watch.record_ended(&ended, Instant::now());
    for (job, reason) in due(retention, &ended, now_ms, &at_most) {
        let by = "retention".to_owned();
        let (id, said) = (job.id, reason.clone());
        if unknown.contains(&id) {
            let logs = logs.clone();
            // An agent may have reported the job in the meantime.
            let removed = tokio::task::spawn_blocking(move || logs.remove_unused(id)).await;
            if let Ok(Ok(true)) = removed {
                tracing::info!(job = %id, reason = said, "deleted the output of an unknown job");
            }
            continue;
        }
        if let Ok(Ok(())) = handle.ask(move |reply| Input::DeleteJob { job: id, reason, by, reply }).await {
            tracing::info!(job = job.number, reason = said, "deleted a job");
        } else {
            continue;
        }
        let logs = logs.clone();
        let _ = tokio::task::spawn_blocking(move || logs.remove(id)).await;
    }
    Ok(())
}

/// The jobs and output to judge.
struct Found {
    /// Ended jobs and their output in bytes, oldest end first.
    ended: Vec<(Ended, u64)>,
    /// The jobs in `ended` that the store does not know.
    unknown: HashSet<JobId>,
    /// The time by which ages were last judged; 0 for never.
    clock_ms: UnixMs,
}

/// Finds the jobs and output to judge. Removes the output of deleted jobs if this failed before.
fn found(store: &Store, logs: &OutputLogs, now_ms: UnixMs) -> Result<Found, StoreError> {
    let (mut ended, clock_ms) = store.ended()?;
    let on_disk = logs.jobs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the output logs");
        Vec::new()
    });
    let (gone, unknown) = store.gone_and_unknown(&on_disk)?;
    for job in gone {
        logs.remove(job).ok();
    }
    let last_write = |id: JobId| {
        let ended_ms = logs.last_change_ms(id)?;
        // A job's log is created while the job is being stored.
        let is_settled = now_ms.since(ended_ms) >= UNUSED_AFTER;
        is_settled.then_some(Ended { id, number: 0, ended_ms })
    };
    let unknown: Vec<Ended> = unknown.into_iter().filter_map(last_write).collect();
    let ids = unknown.iter().map(|job| job.id).collect();
    ended.extend(unknown);
    ended.sort_by_key(|job| job.ended_ms);
    let on_disk: HashSet<JobId> = on_disk.into_iter().collect();
    let size = |job: Ended| (job, if on_disk.contains(&job.id) { logs.size(job.id) } else { 0 });
    Ok(Found { ended: ended.into_iter().map(size).collect(), unknown: ids, clock_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    /// A time of a clock that is set.
    const START: UnixMs = UnixMs(500_000 * 3_600_000);

    #[test]
    fn time_that_was_not_witnessed_does_not_count() {
        for (last, wall, judged) in [
            (START + 10 * HOUR, START + 11 * HOUR, Some(START + 11 * HOUR)),
            (START + 10 * HOUR, START + 10_000 * HOUR, Some(START + 12 * HOUR)),
            (START + 10 * HOUR, START + 5 * HOUR, None),
            (UnixMs(0), START, Some(START)),
            // The machine was just switched on, and its clock is not set: it is ignored, now and later.
            (UnixMs(0), UnixMs(0) + HOUR, None),
            (UnixMs(0) + HOUR, START, Some(START)),
        ] {
            assert_eq!(Watch::default().judged_now(last, HOUR, wall), judged, "{last:?} {wall:?}");
        }
        let mut watch = Watch::default();
        for _ in 0..23 {
            assert_eq!(watch.judged_now(START + 10 * HOUR, HOUR, START + 5 * HOUR), None);
        }
        let judged = watch.judged_now(START + 10 * HOUR, HOUR, START + 5 * HOUR);
        assert_eq!(judged, Some(START + 5 * HOUR), "believed after a day");
    }

    #[test]
    fn a_job_is_no_older_than_what_was_witnessed_of_it() {
        let job = |number: u64, ended_ms| Ended { id: JobId::from_parts(1, number.into()), number, ended_ms };
        let retention = Retention { age: 24 * HOUR, bytes: u64::MAX };
        let (mut watch, start) = (Watch::default(), Instant::now());
        let going = |watch: &mut Watch, ended: &[(Ended, u64)], hours: u64| -> Vec<u64> {
            let at_most = watch.record_ended(ended, start + Duration::from_hours(hours));
            let going = due(retention, ended, Some(START + 60 * HOUR), &at_most);
            going.iter().map(|(job, _)| job.number).collect()
        };
        assert_eq!(going(&mut watch, &[(job(1, START + 50 * HOUR), 1)], 0), [0u64; 0]);
        // The clock was wrong when the second one ended.
        let both = [(job(2, START), 1), (job(1, START + 50 * HOUR), 1)];
        assert_eq!(going(&mut watch, &both, 1), [0u64; 0]);
        assert_eq!(going(&mut watch, &both, 26), [2]);
        assert_eq!(going(&mut Watch::default(), &both, 1), [2], "without observations the clock is trusted");
        let mut watch = Watch::default();
        let unset = [(job(3, UnixMs(30)), 1)];
        assert_eq!(going(&mut watch, &unset, 0), [0u64; 0], "but not one that was never set");
    }

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_needed() {
        let job = |number: u64, ended_ms| Ended { id: JobId::from_parts(1, number.into()), number, ended_ms };
        let ended = [(1, 0), (2, 50), (3, 51), (4, 52)]
            .map(|(number, hours)| (job(number, START + hours * HOUR), 10));
        let retention = Retention { age: 24 * HOUR, bytes: 20 };
        let due = |ended: &[(Ended, u64)]| -> Vec<u64> {
            let going = due(retention, ended, Some(START + 60 * HOUR), &HashMap::new());
            going.iter().map(|(job, _)| job.number).collect()
        };
        assert_eq!(due(&ended), [1, 2]);
        assert!(due(&ended[2..]).is_empty());
    }

    #[test]
    fn output_without_a_job_is_counted_and_what_was_deleted_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _connection) = Store::open(dir.path()).unwrap();
        let logs = OutputLogs::new(dir.path().join("jobs"));
        let job = JobId::from_parts(1, 7);
        let log = logs.root().join(job.to_string());
        std::fs::create_dir_all(&log).unwrap();
        std::fs::create_dir(logs.root().join("lost+found")).unwrap();
        std::fs::write(log.join("00000000000000000000.log"), [0; 100]).unwrap();
        let now_ms = UnixMs(unix_ms());
        let early = found(&store, &logs, now_ms).unwrap();
        assert!(early.ended.is_empty(), "a job may be being stored");
        let later = found(&store, &logs, now_ms + 2 * HOUR).unwrap();
        let [(ended, bytes)] = later.ended[..] else { panic!("{:?}", later.ended) };
        assert_eq!((ended.id, bytes), (job, 100));
        assert!(later.unknown.contains(&job) && now_ms.since(ended.ended_ms) < HOUR);
    }
}
