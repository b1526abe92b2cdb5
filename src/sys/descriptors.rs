//! The limit on open file descriptors. Connections from other machines are refused before the last
//! descriptors are used, so that some remain for local operators and for files.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Number of descriptors that remote connections do not use; half of the limit, if that is less.
const RESERVED: usize = 64;
/// Delay before the next accept, after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Minimum interval between two log messages that connections cannot be accepted.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The soft and the hard limit that this process was started with.
static STARTED_WITH: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

/// Returns the maximum number of open descriptors of this process (the soft limit).
#[must_use]
pub(crate) fn limit() -> Option<usize> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(limit, _)| usize::try_from(limit).ok())
}

/// Raises the soft limit of this process to its hard limit.
pub(crate) fn raise_limit() {
    if let Ok((limit, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = STARTED_WITH.set((limit, most));
        // If this fails, connections are refused earlier, which is logged then.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Returns the limit for programs that this process starts: the one that this process was started with, since
/// old programs cannot handle more than 1024 descriptors.
#[must_use]
pub(crate) fn limit_of_programs() -> Option<(rlim_t, rlim_t)> {
    STARTED_WITH.get().copied()
}

/// Reports whether a descriptor that was just opened is one of the last. The kernel assigns the lowest free
/// number.
fn is_scarce(descriptor: &impl AsFd) -> bool {
    let number = usize::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    limit().is_some_and(|limit| is_among_the_last(number, limit))
}

/// Reports whether nearly all descriptors are in use.
#[must_use]
pub(crate) fn are_scarce() -> bool {
    std::fs::File::open("/dev/null").map_or(true, |file| is_scarce(&file))
}

fn is_among_the_last(number: usize, limit: usize) -> bool {
    number >= limit - RESERVED.min(limit / 2)
}

/// Returns an accepted connection if it may stay. Otherwise logs the reason and waits for a moment, so that the listener
/// accepts again when descriptors are free. The last descriptors are not used for connections from `elsewhere`.
pub(crate) async fn admit<S: AsFd, A>(accepted: io::Result<(S, A)>, elsewhere: bool) -> Option<(S, A)> {
    match accepted {
        Ok((stream, address)) if !(elsewhere && is_scarce(&stream)) => return Some((stream, address)),
        Ok(_) => complain(None),
        Err(error) => complain(Some(&error)),
    }
    tokio::time::sleep(ACCEPT_AGAIN).await;
    None
}

/// Logs that connections cannot be accepted, at most once per [`LOG_INTERVAL`].
fn complain(error: Option<&io::Error>) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_some_and(|said| said.elapsed() < LOG_INTERVAL) {
        return;
    }
    *said = Some(Instant::now());
    let limit = limit().unwrap_or(0);
    let hint = "raise LimitNOFILE= or ulimit -n";
    match error {
        Some(error) => tracing::error!(%error, limit, "cannot take a connection; {hint}"),
        None => {
            tracing::error!(limit, "nearly all descriptors are in use: connections are turned away; {hint}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_kept_of_a_large_limit_and_of_a_small_one() {
        for (number, limit, is_last) in
            [(23, 48, false), (24, 48, true), (47, 48, true), (959, 1024, false), (960, 1024, true)]
        {
            assert_eq!(is_among_the_last(number, limit), is_last, "{number} of {limit}");
        }
    }
}
