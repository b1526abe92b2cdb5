//! The finished tasks whose directories still exist, and when these are removed: commands come first.

use super::{Boottime, Effect};
use crate::domain::{ids::TaskId, reply_to::ReplyTo};

/// How long after the last task has finished the directories are removed, in milliseconds.
const REMOVE_AFTER_MS: u64 = 1_000;
/// The number of directories at which the removal no longer waits.
pub(super) const MAX_LEFT_OVER: usize = 64;

/// Finished tasks whose directories still exist.
#[derive(Debug, Default)]
pub(super) struct LeftOver {
    ids: Vec<TaskId>,
    /// When the directories are removed, if no further task finishes until then.
    remove_at: Option<Boottime>,
    /// Whether earlier directories are being removed. Only one removal runs at a time.
    is_removing: bool,
    /// Callers that wait until there is nothing left over.
    callers: Vec<ReplyTo<()>>,
}

impl LeftOver {
    /// Adds a task that has just finished.
    pub(super) fn add(&mut self, id: TaskId, now: Boottime) {
        self.ids.push(id);
        self.remove_at = Some(now.saturating_add(REMOVE_AFTER_MS));
    }

    /// Removes all directories, and answers when that is done.
    pub(super) fn remove_now(&mut self, reply: ReplyTo<()>) {
        self.callers.push(reply);
    }

    /// Notes that a removal has ended.
    pub(super) fn removed(&mut self) {
        self.is_removing = false;
    }

    pub(super) fn due(&self) -> Option<Boottime> {
        self.remove_at.filter(|_| !self.is_removing)
    }

    /// Begins a removal that is due. Answers the callers if nothing is left over.
    pub(super) fn begin_removal(&mut self, now: Boottime, effects: &mut Vec<Effect>) {
        if self.is_removing {
            return;
        }
        let is_due = self.remove_at.is_some_and(|at| now >= at);
        if !self.ids.is_empty() && (is_due || self.ids.len() >= MAX_LEFT_OVER || !self.callers.is_empty()) {
            self.is_removing = true;
            self.remove_at = None;
            effects.push(Effect::RemoveDirectories(std::mem::take(&mut self.ids)));
        } else if self.ids.is_empty() {
            let answers = self.callers.drain(..).map(|reply| Effect::Reply(reply.ticket(), ().into()));
            effects.extend(answers);
        }
    }
}
