//! What open tasks wait for, as it is shown. Makes no decisions.

use super::{
    super::Core,
    task::{Progress, TaskRow},
};
use crate::domain::{bounded::Reason, ids::TaskId, text::plural};

/// Who holds back a task that has begun.
#[derive(Clone, Copy, Debug)]
pub enum HeldBy {
    /// Nobody: this is what becomes of its output.
    Nobody,
    /// The master, which cannot write what the task prints.
    Master,
    /// The task's agent, or the way to it.
    Agent,
}

/// What each of them holds a task back for; empty where it does not.
#[derive(Debug, Default)]
pub(super) struct Held {
    nobody: Reason,
    master: Reason,
    agent: Reason,
}

impl Held {
    /// The master's reason goes first: an agent also holds a task back because its master takes nothing.
    fn shown(&self) -> &Reason {
        let all = [&self.master, &self.agent, &self.nobody];
        all.into_iter().find(|reason| !reason.is_empty()).unwrap_or(&self.nobody)
    }
}

impl TaskRow {
    /// Nothing that was said of what it waits for is true any more.
    pub(super) fn wait_for_nothing(&mut self) {
        self.held = Held::default();
        self.task.waiting.clear();
    }
}

impl Core {
    /// Shows what a task that has begun waits for; nothing where it continues.
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

    /// Returns how many running tasks the master holds back, and why, in words; nothing when it holds none back.
    pub(in crate::master::core) fn held_back(&self) -> Option<(u32, String)> {
        let under_way = self.jobs.values().filter(|job| job.tally().admitted > 0);
        let mut held = under_way
            .flat_map(super::live::LiveJob::rows)
            .filter(|row| row.is_open() && !row.held.master.is_empty());
        let first = held.next()?;
        let count = u32::try_from(held.count() + 1).unwrap_or(u32::MAX);
        let tasks = plural("running task", count as usize);
        let are = if count == 1 { "is" } else { "are" };
        Some((
            count,
            format!("{count} {tasks} {are} held back ({}: {})", first.task.agent, first.held.master),
        ))
    }

    /// An outcome is not on the disk yet, and nobody is told of it before: what is waited for is shown.
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
