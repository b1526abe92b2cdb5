//! Orderly shutdown: a token to stop, a second token to stop at once, and a tracker of the running tasks.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Ends a daemon's tasks. A clone refers to the same tokens and the same tracker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// Cancelled when the daemon should end: its tasks accept nothing new, and notify their peers.
    pub stop: CancellationToken,
    /// Cancelled when the grace period is over and connections are dropped.
    pub now: CancellationToken,
    /// Tracks every task that the daemon waits for before it ends.
    pub tracker: TaskTracker,
}

impl Shutdown {
    /// Ends the daemon: waits up to `grace` for the tracked tasks, then cancels `now` and waits again, briefly.
    pub(crate) async fn finish(&self, grace: Duration) {
        self.stop.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => return,
            () = tokio::time::sleep(grace) => {}
            () = self.now.cancelled() => {}
        }
        self.now.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tracker.wait()).await;
    }
}

/// A signal that asks a daemon to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndSignal {
    /// SIGINT, as sent by ^C.
    Interrupt,
    /// SIGTERM, as sent by `kill` and systemd.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
}

/// Reports whether this process ignores a signal. If it was started that way, by `nohup` or by a script's
/// `&`, it must continue to ignore the signal. Must be called before a handler is installed.
#[must_use]
pub(crate) fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal.as_raw_value() - 1)) != 0
}

/// Receives every [`EndSignal`]. Signals that this process ignores stay ignored.
#[derive(Debug)]
pub(crate) struct EndSignals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl EndSignals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub(crate) fn new() -> std::io::Result<Self> {
        let caught = |kind| if is_ignored(kind) { Ok(None) } else { signal(kind).map(Some) };
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal. The future may be dropped and the method called again.
    pub(crate) async fn next(&mut self) -> EndSignal {
        tokio::select! {
            () = received(self.interrupt.as_mut()) => EndSignal::Interrupt,
            () = received(self.terminate.as_mut()) => EndSignal::Terminate,
            () = received(self.hangup.as_mut()) => EndSignal::Hangup,
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
