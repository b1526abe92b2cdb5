//! What open tasks wait for, as it is shown. Decides nothing.

use super::super::Core;
use crate::domain::{bounded::Reason, ids::TaskId};

impl Core {
    /// Shows what a task that has begun waits for; nothing where it goes on.
    pub(in crate::master::core) fn on_task_waits(&mut self, id: TaskId, waiting: Reason) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open() && slot.task.waiting != waiting)
        else {
            return;
        };
        slot.task.waiting = waiting;
        self.publish(id);
    }

    /// An outcome is not on the disk yet, and nobody is told of it before: what is waited for is shown.
    pub(in crate::master::core) fn outcome_delayed(&mut self, id: TaskId) {
        if let Some(slot) = self.slot_mut(id).filter(|slot| slot.settling.is_some()) {
            slot.task.waiting = "its end is known, and waits for the master's disk".into();
            self.publish(id);
        }
    }
}
