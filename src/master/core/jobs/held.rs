//! The reasons why a task is held back. Plain data.

use crate::domain::bounded::Reason;

/// The party that holds back a task that has begun.
#[derive(Clone, Copy, Debug)]
pub enum HeldBy {
    /// No party: the reason is a note on the task's output.
    Nobody,
    /// The master, which cannot write the task's output.
    Master,
    /// The task's agent, or the connection to it.
    Agent,
}

/// The reason of each [`HeldBy`]; empty if there is none.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) nobody: Reason,
    pub(super) master: Reason,
    pub(super) agent: Reason,
}

impl Held {
    /// Returns the reason to show. The master's reason comes first, because an agent also holds a task back
    /// while its master accepts no output.
    pub(super) fn shown(&self) -> &Reason {
        let all = [&self.master, &self.agent, &self.nobody];
        all.into_iter().find(|reason| !reason.is_empty()).unwrap_or(&self.nobody)
    }
}
