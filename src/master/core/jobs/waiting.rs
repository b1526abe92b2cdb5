//! What open tasks wait for, as it is shown. Makes no decisions.

use super::{super::Core, Slot};
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

impl Slot {
    /// Nothing that was said of what it waits for is true any more.
    pub(super) fn wait_for_nothing(&mut self) {
        self.held = Held::default();
        self.task.waiting.clear();
    }
}

impl Core {
    /// Shows what a task that has begun waits for; nothing where it continues.
    pub(in crate::master::core) fn on_task_waits(&mut self, id: TaskId, by: HeldBy, waiting: Reason) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open()) else { return };
        match by {
            HeldBy::Nobody => slot.held.nobody = waiting,
            HeldBy::Master => slot.held.master = waiting,
            HeldBy::Agent => slot.held.agent = waiting,
        }
        if slot.task.waiting != *slot.held.shown() {
            slot.task.waiting = slot.held.shown().clone();
            self.publish(id);
        }
    }

    /// Returns how many running tasks the master holds back, and why, in words; nothing when it holds none back.
    pub(in crate::master::core) fn held_back(&self) -> Option<(u32, String)> {
        let open = self.jobs.values().filter(|job| job.in_flight > 0).flat_map(|job| &job.slots);
        let mut held = open.filter(|slot| slot.is_open() && !slot.held.master.is_empty());
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
        if let Some(slot) = self.slot_mut(id).filter(|slot| slot.settling.is_some()) {
            slot.task.waiting = "its end is known, and waits for the master's disk".into();
            self.publish(id);
        }
    }
}
