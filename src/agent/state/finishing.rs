//! Cleans up after ended tasks: their ids and outcomes are kept, and their directories are removed when the agent is idle.

use std::{fs, io, time::Duration};

use super::Agent;
use crate::{
    agent::supervisor::{protocol::TaskEnding, server::known_tasks},
    domain::ids::TaskId,
};

/// How long no task finishes before the directories of finished ones are removed: commands come first.
pub(super) const REMOVE_AFTER: Duration = Duration::from_secs(1);
/// Maximum number of directories of finished tasks that are kept for later removal.
pub(super) const MOST_LEFT_OVER: usize = 64;

impl Agent {
    /// Keeps a task's id and ending for good; everything else of it is dropped when there is time for that.
    ///
    /// # Errors
    /// When the disk does not take it; the task stays as it is then.
    pub fn finish(&self, id: TaskId, ending: TaskEnding) -> io::Result<()> {
        let mut inner = self.inner();
        inner.memory.finish(id, ending)?;
        inner.core.forget(id);
        inner.left_over.push(id);
        let is_full = inner.left_over.len() >= MOST_LEFT_OVER;
        drop(inner);
        if is_full {
            self.remove_left_over();
        } else {
            self.left_over.notify_one();
        }
        Ok(())
    }

    /// Removes the directories of finished tasks whenever none has finished for a while. Runs for ever.
    pub async fn keep_tidy(self) {
        // What was left over when the connector ended the last time.
        let known = known_tasks(&self.layout).unwrap_or_default();
        {
            let mut inner = self.inner();
            let finished: Vec<TaskId> =
                known.into_iter().filter(|id| inner.memory.is_finished(*id)).collect();
            inner.left_over.extend(finished);
        }
        loop {
            let more = tokio::time::timeout(REMOVE_AFTER, self.left_over.notified()).await;
            if more.is_err() {
                self.remove_left_over();
                self.left_over.notified().await;
            }
        }
    }

    /// Removes the directories of finished tasks.
    pub fn remove_left_over(&self) {
        let left_over = std::mem::take(&mut self.inner().left_over);
        for id in left_over {
            match fs::remove_dir_all(self.layout.task(id).root()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, task = %id, "cannot remove a finished task's directory");
                }
                _ => {}
            }
        }
    }
}
