//! Ends the process when an essential task or thread panics: its state is no longer trustworthy. The service manager starts the
//! process again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Ends the process when it is dropped by a panic. Held by whatever must not die alone.
#[derive(Debug)]
pub struct Vital {
    what: &'static str,
}

impl Vital {
    /// Guards the task or thread that holds it. `what` names it in the log.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            end_after_panic(self.what);
        }
    }
}

/// Ends the process because a part of it has panicked. The panic itself was reported when it happened.
pub fn end_after_panic(what: &str) -> ! {
    tracing::error!("{what} has panicked: the process ends, since it cannot do its work any more");
    std::process::abort()
}

/// Counts the turns of a loop. A watchdog reads whether it still turns.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// One more turn.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many turns there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
