//! Retention: which ended runs are deleted because they are old, or because all output together is too much.
//!
//! Never a run that is not finished, and nothing because a clock jumped: time goes on here no faster than it was
//! witnessed, at twice the pace where it has to catch up.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    actor::Handle,
    core::messages::{Input, Reply},
    output_log::OutputLogs,
    store::{Ended, Store, StoreError},
};
use crate::sys::{
    clock::{spoken, unix_ms},
    shutdown::Shutdown,
};

/// How often it is looked, and how long after the start for the first time.
const EVERY: Duration = Duration::from_hours(1);
const FIRST: Duration = Duration::from_mins(1);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Runs that ended longer ago are deleted.
    pub age: Duration,
    /// Bytes of output of all ended runs together; the oldest go first.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_hours(30 * 24), bytes: 10 * 1024 * 1024 * 1024 }
    }
}

/// The time by which age is judged: the wall's, but no more than twice the witnessed time after the last judgement.
fn judged_now(last_ms: u64, witnessed: Duration, wall_ms: u64) -> u64 {
    let witnessed = u64::try_from(witnessed.as_millis()).unwrap_or(u64::MAX);
    wall_ms.min(last_ms.saturating_add(witnessed.saturating_mul(2))).max(last_ms.min(wall_ms))
}

/// The runs that go, and why. `ended` is sorted by end, oldest first, with the bytes of each.
fn due(retention: Retention, ended: &[(Ended, u64)], now_ms: u64) -> Vec<(Ended, String)> {
    let age_ms = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
    let mut left: u64 = ended.iter().map(|(_, bytes)| bytes).sum();
    let mut going = Vec::new();
    for (run, bytes) in ended {
        let reason = if now_ms.saturating_sub(run.ended_ms) > age_ms {
            format!("it ended over {} ago", spoken(retention.age))
        } else if left > retention.bytes {
            format!("all output together was over {} bytes", retention.bytes)
        } else {
            continue;
        };
        left = left.saturating_sub(*bytes);
        going.push((*run, format!("deleted by retention: {reason}")));
    }
    going
}

/// Looks every hour until the master ends.
pub async fn keep(retention: Retention, handle: Handle, store: Store, logs: OutputLogs, shutdown: Shutdown) {
    let mut pause = FIRST;
    let mut last_looked = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stop.cancelled() => return,
        }
        pause = EVERY;
        let witnessed = last_looked.elapsed();
        last_looked = Instant::now();
        if let Err(error) = look(retention, &handle, &store, &logs, witnessed).await {
            tracing::error!(%error, "cannot look which runs are old");
        }
    }
}

async fn look(
    retention: Retention,
    handle: &Handle,
    store: &Store,
    logs: &OutputLogs,
    witnessed: Duration,
) -> Result<(), StoreError> {
    let (reading, sizes) = (store.clone(), logs.clone());
    let read = tokio::task::spawn_blocking(move || {
        let (ended, clock_ms) = reading.ended()?;
        // What was deleted before its files could be.
        for run in reading.gone()? {
            sizes.remove(run).ok();
        }
        let with_sizes = ended.into_iter().map(|run| (run, sizes.size(run.id))).collect::<Vec<_>>();
        Ok::<_, StoreError>((with_sizes, clock_ms))
    });
    let Ok(read) = read.await else { return Ok(()) };
    let (ended, clock_ms) = read?;
    let wall_ms = unix_ms();
    let now_ms = match clock_ms {
        0 => wall_ms,
        last_ms => judged_now(last_ms, witnessed, wall_ms),
    };
    let _ = handle.ask(move |reply| Input::JudgedAt(now_ms, reply)).await;
    for (run, reason) in due(retention, &ended, now_ms) {
        let by = "retention".to_owned();
        let (id, said) = (run.id, reason.clone());
        if let Ok(Reply::Count(_)) =
            handle.ask(move |reply| Input::DeleteRun { run: id, reason, by, reply }).await
        {
            tracing::info!(run = run.number, reason = said, "a run is gone");
            let logs = logs.clone();
            let _ = tokio::task::spawn_blocking(move || logs.remove(run.id)).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::RunId;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn time_that_was_not_witnessed_does_not_count() {
        let hour = Duration::from_hours(1);
        for (last, wall, judged) in [
            (10 * HOUR, 11 * HOUR, 11 * HOUR),
            (10 * HOUR, 10_000 * HOUR, 12 * HOUR),
            (10 * HOUR, 5 * HOUR, 5 * HOUR),
        ] {
            assert_eq!(judged_now(last, hour, wall), judged, "{last} {wall}");
        }
    }

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_needed() {
        let run = |number: u64, ended_ms| Ended { id: RunId::from_parts(1, number.into()), number, ended_ms };
        let ended =
            [(run(1, 0), 10), (run(2, 50 * HOUR), 10), (run(3, 51 * HOUR), 10), (run(4, 52 * HOUR), 10)];
        let retention = Retention { age: Duration::from_hours(24), bytes: 20 };
        let going: Vec<u64> = due(retention, &ended, 60 * HOUR).iter().map(|(run, _)| run.number).collect();
        assert_eq!(going, [1, 2]);
        assert!(due(retention, &ended[2..], 60 * HOUR).is_empty());
    }
}
