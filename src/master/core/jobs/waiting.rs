//! The reasons why open tasks wait, as clients see them. Makes no decisions.

use super::{super::Core, held::HeldBy, task::Progress};
use crate::domain::{
    bounded::Reason,
    ids::TaskId,
    text::{form, plural},
};

impl Core {
    /// Shows why a task that has begun waits. An empty reason means that it continues.
    pub(in crate::master::core) fn on_task_waits(&mut self, id: TaskId, by: HeldBy, waiting: Reason) {
        let is_news = self.jobs.change_open(id, |row| {
            match by {
                HeldBy::Nobody => row.held.nobody = waiting,
                HeldBy::Master => row.held.master = waiting,
                HeldBy::Agent => row.held.agent = waiting,
            }
            let is_news = row.task.waiting != *row.held.shown();
            row.task.waiting.clone_from(row.held.shown());
            is_news
        });
        if is_news == Some(true) {
            self.publish(id);
        }
    }

    /// Returns how many running tasks the master holds back, and a text with the reason; `None` if it holds
    /// none back.
    pub(in crate::master::core) fn held_back(&self) -> Option<(u32, String)> {
        let under_way = self.jobs.values().filter(|job| job.tally().admitted > 0);
        let mut held = under_way
            .flat_map(super::live::LiveJob::rows)
            .filter(|row| row.is_open() && !row.held.master.is_empty());
        let first = held.next()?;
        let count = u32::try_from(held.count() + 1).unwrap_or(u32::MAX);
        let tasks = plural("running task", count as usize);
        let are = form(count, "is", "are");
        Some((
            count,
            format!("{count} {tasks} {are} held back ({}: {})", first.task.agent, first.held.master),
        ))
    }

    /// Shows that the outcome of a task waits for the master's disk. Followers are notified of it when it is
    /// on the disk.
    pub(in crate::master::core) fn outcome_delayed(&mut self, id: TaskId) {
        let is_settling = self.jobs.change(id, |row| {
            let is_settling = matches!(row.progress, Progress::Settling(_));
            if is_settling {
                row.task.waiting = "its end is known, and waits for the master's disk".into();
            }
            is_settling
        });
        if is_settling == Some(true) {
            self.publish(id);
        }
    }
}
