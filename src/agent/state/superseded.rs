//! How an Attach learns that a later one for its task took its place.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

/// Tells an Attach that a later one for the same task took its place.
#[derive(Debug, Default)]
pub struct Superseded {
    by: OnceLock<u64>,
    token: CancellationToken,
}

impl Superseded {
    pub(super) fn tell(&self, by: u64) {
        // Set once: a superseded Attach no longer holds the task, so no later one supersedes it.
        let _ = self.by.set(by);
        self.token.cancel();
    }

    #[cfg(test)]
    pub(super) fn is_told(&self) -> bool {
        self.by.get().is_some()
    }

    /// Waits until that happens, and returns the attempt of the later one.
    pub async fn by(&self) -> u64 {
        self.token.cancelled().await;
        self.by.get().copied().unwrap_or_default()
    }
}
