//! The reasons for which a task is held back. Plain data.

use crate::domain::bounded::Reason;

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
    pub(super) nobody: Reason,
    pub(super) master: Reason,
    pub(super) agent: Reason,
}

impl Held {
    /// The master's reason goes first: an agent also holds a task back because its master takes nothing.
    pub(super) fn shown(&self) -> &Reason {
        let all = [&self.master, &self.agent, &self.nobody];
        all.into_iter().find(|reason| !reason.is_empty()).unwrap_or(&self.nobody)
    }
}
