//! The followers that commands wait for: how far each has read, and which one is the slowest.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{JobLog, LogPosition};

/// A follower that commands wait for, until this is dropped.
#[derive(Debug)]
pub struct Pacer {
    log: Arc<JobLog>,
    id: u64,
}

impl Pacer {
    /// Records how far the follower has read.
    pub fn moved(&self, position: LogPosition) {
        self.log.paced().insert(self.id, position);
        self.log.publish_slowest();
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.log.paced().remove(&self.id);
        self.log.publish_slowest();
    }
}

impl JobLog {
    fn paced(&self) -> MutexGuard<'_, HashMap<u64, LogPosition>> {
        self.paced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_slowest(&self) {
        let paced = self.paced();
        self.slowest.send_replace(paced.values().min().copied());
    }

    /// Registers a follower that commands wait for, at its current position.
    #[must_use]
    pub fn pace(self: &Arc<Self>, position: LogPosition) -> Pacer {
        let id = {
            let mut paced = self.paced();
            let id = paced.keys().max().map_or(0, |last| last + 1);
            paced.insert(id, position);
            id
        };
        self.publish_slowest();
        Pacer { log: Arc::clone(self), id }
    }

    /// Returns the position of the slowest of these followers, as it changes; `None` if there are none.
    #[must_use]
    pub fn slowest(&self) -> watch::Receiver<Option<LogPosition>> {
        self.slowest.subscribe()
    }
}
