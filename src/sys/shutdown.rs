//! Ending in order: one token says stop, a second one says at once, a tracker knows who is still there.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Handles by which a daemon's tasks end. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled when the daemon should end: stop accepting, say goodbye.
    pub stop: CancellationToken,
    /// Cancelled when there is no more time for manners.
    pub now: CancellationToken,
    /// Every task that must not be forgotten.
    pub tracker: TaskTracker,
}

impl Shutdown {
    /// Ends the daemon: waits up to `grace` for the tracked tasks, then cancels `now` and waits once more, briefly.
    pub async fn finish(&self, grace: Duration) {
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
pub enum EndSignal {
    /// ^C.
    Interrupt,
    /// What `kill` and systemd send.
    Terminate,
    /// The terminal is gone.
    Hangup,
}

/// Waits for such signals, each as often as it comes.
#[derive(Debug)]
pub struct EndSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl EndSignals {
    /// Begins to catch them.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> EndSignal {
        tokio::select! {
            _ = self.interrupt.recv() => EndSignal::Interrupt,
            _ = self.terminate.recv() => EndSignal::Terminate,
            _ = self.hangup.recv() => EndSignal::Hangup,
        }
    }
}
