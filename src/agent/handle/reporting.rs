//! Reports the state of the agent: unfinished and running tasks, and problems of the machine. Makes no decisions.

use std::io;

use super::Agent;
use crate::{
    agent::{
        emergency::{takes_nothing, trouble_of},
        supervisor::server::{known_tasks, live_tasks},
    },
    domain::ids::TaskId,
    sys::descriptors::are_scarce,
};

impl Agent {
    /// Tasks that have a directory and are not finished.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn unfinished(&self) -> io::Result<Vec<TaskId>> {
        let known = known_tasks(&self.layout)?;
        let inner = self.inner();
        Ok(known.into_iter().filter(|id| !inner.memory.is_finished(*id)).collect())
    }

    /// Tasks whose process lives, or that are being given to one.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing of what runs.
    pub fn running(&self) -> io::Result<Vec<TaskId>> {
        let starting: Vec<TaskId> = self.inner().starting.iter().copied().collect();
        let mut running = live_tasks(&self.layout)?;
        running.extend(starting);
        running.sort_unstable();
        running.dedup();
        Ok(running)
    }

    /// What does not work on this machine now, in words.
    #[must_use]
    pub fn all_troubles(&self) -> Vec<String> {
        let tasks = self.layout.tasks();
        let disk = trouble_of(&tasks).or_else(|| {
            // Looked at where something began in memory before.
            let is_suspect = self.layout.emergency().path().is_some();
            (is_suspect && takes_nothing(&tasks)).then_some("not taking anything")
        });
        let disk = disk.map(|trouble| format!("its disk is {trouble}; commands run in memory"));
        let files = are_scarce().then(|| "nearly all of its descriptors are in use".to_owned());
        disk.into_iter().chain(files).chain(self.troubles.all()).collect()
    }

    /// The number of them if it is known; only for display.
    #[must_use]
    pub fn running_count(&self) -> u32 {
        let running = self.running().inspect_err(|error| tracing::error!(%error, "cannot look at the tasks"));
        running.map_or(0, |running| u32::try_from(running.len()).unwrap_or(u32::MAX))
    }
}
