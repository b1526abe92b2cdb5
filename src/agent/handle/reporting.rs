//! Reports the state of the agent: unfinished and running tasks, and problems of the machine. Makes no decisions.

use tokio::sync::oneshot;

use super::{Agent, AgentError, DiskError, Input, Message};
use crate::{
    agent::{
        emergency::{is_unwritable, problem_of},
        supervisor::server::{known_tasks, live_tasks},
    },
    domain::ids::TaskId,
    sys::descriptors::are_scarce,
};

impl Agent {
    /// Reads the disk on a separate thread, since a disk may not answer for a long time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, AgentError> {
        let agent = self.clone();
        let read = tokio::task::spawn_blocking(move || read(&agent)).await;
        read.map_err(|error| AgentError::Disk(DiskError(error.to_string())))
    }

    /// Returns the tasks that have a directory and are not finished.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) async fn unfinished(&self) -> Result<Vec<TaskId>, AgentError> {
        let known = self.read(|agent| known_tasks(&agent.layout)).await?.map_err(DiskError::from)?;
        let (caller, unfinished) = oneshot::channel();
        self.inbox.send(Message::Unfinished(known, caller)).await.map_err(|_| AgentError::Ending)?;
        unfinished.await.map_err(|_| AgentError::Ending)
    }

    /// Returns the tasks whose process is alive, and those that are being started.
    ///
    /// # Errors
    /// When the disk cannot be read, which says nothing about the running tasks.
    pub(crate) async fn running(&self) -> Result<Vec<TaskId>, AgentError> {
        // Queried before the disk is read: a task that starts in between is in both lists.
        let mut running = self.ask(Input::ListStarting).await?;
        running.extend(self.read(|agent| live_tasks(&agent.layout)).await?.map_err(DiskError::from)?);
        running.sort_unstable();
        running.dedup();
        Ok(running)
    }

    /// Reports whether no task is running. False if the disk cannot be read.
    pub(crate) async fn is_idle(&self) -> bool {
        self.running().await.is_ok_and(|running| running.is_empty())
    }

    /// Returns the number of running tasks, for display. 0 if it is not known.
    pub(crate) async fn running_count(&self) -> u32 {
        let running = self.running().await;
        let running = running.inspect_err(|error| tracing::error!(%error, "cannot read the running tasks"));
        running.map_or(0, |running| u32::try_from(running.len()).unwrap_or(u32::MAX))
    }

    /// Returns the problems of this machine, as text.
    pub(crate) async fn all_troubles(&self) -> Vec<String> {
        self.read(Self::troubles_now).await.unwrap_or_default()
    }

    fn troubles_now(&self) -> Vec<String> {
        let tasks = self.layout.tasks();
        let disk = problem_of(&tasks).or_else(|| {
            // Checked only if a task was started in memory before.
            let is_suspect = self.layout.emergency().path().is_some();
            (is_suspect && is_unwritable(&tasks)).then_some("not taking anything")
        });
        let disk = disk.map(|trouble| format!("its disk is {trouble}; commands run in memory"));
        let files = are_scarce().then(|| "nearly all of its descriptors are in use".to_owned());
        disk.into_iter().chain(files).chain(self.troubles.all()).collect()
    }
}
