//! Ends the process when an essential task or thread panics: its state is no longer trustworthy. The service manager starts the
//! process again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Runs a task that the process cannot work without, and ends the process if the task panics. `what` names the task in the
/// log. A task that is dropped ends nothing, even if another part of the thread has panicked.
pub(crate) async fn run_vital<F: Future>(what: &str, task: F) -> F::Output {
    let mut task = pin!(task);
    std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| task.as_mut().poll(context));
        // What a panic leaves behind is not used again.
        catch_unwind(poll).unwrap_or_else(|_| end_after_panic(what))
    })
    .await
}

/// A guard for a thread that the process cannot work without: it ends the process if a panic drops it.
#[derive(Debug)]
pub(crate) struct Vital {
    what: &'static str,
}

impl Vital {
    /// Creates a guard for the thread that holds it. `what` names the thread in the log.
    #[must_use]
    pub(crate) fn new(what: &'static str) -> Self {
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
fn end_after_panic(what: &str) -> ! {
    tracing::error!("{what} has panicked: the process ends, since it cannot do its work any more");
    std::process::abort()
}

/// Counts the iterations of a loop, so that a watchdog can detect that the loop is stuck.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Counts one more iteration.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of iterations.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
