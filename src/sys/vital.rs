//! Ends the process when an essential task or thread panics: its state is no longer trustworthy. The service manager starts the
//! process again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A guard that ends the process if a panic drops it. Held by each task or thread that the process cannot
/// work without.
#[derive(Debug)]
pub struct Vital {
    what: &'static str,
}

impl Vital {
    /// Creates a guard for the task or thread that holds it. `what` names the task or thread in the log.
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

/// Counts the iterations of a loop, so that a watchdog can detect that the loop is stuck.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Counts one more iteration.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of iterations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
