//! The sign of each state: a glyph and its meaning, the same in tables, in lines and on the screen. Colours
//! are assigned elsewhere.

use std::fmt;

use super::{
    agent::AgentState,
    job::{LastJob, Task, TaskState},
    outcome::{Ending, Outcome},
};

/// What a state means to a person. Each kind of output gives it a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A success, or a state that needs nothing.
    Good,
    /// A failure that needs attention.
    Bad,
    /// A state that waits for something, or that needs no action.
    Waiting,
    /// Work that continues.
    Running,
}

/// A glyph for a state. Terminals draw none of these glyphs as emoji.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// The glyph.
    pub glyph: char,
    /// What it means.
    pub meaning: Meaning,
}

impl Sign {
    /// A task that succeeded.
    pub const SUCCESS: Self = Self::new('✓', Meaning::Good);
    /// A task that ran and failed.
    pub const FAILURE: Self = Self::new('✗', Meaning::Bad);
    /// A task whose end is unknown.
    pub const LOST: Self = Self::new('?', Meaning::Bad);
    /// A task that did not start, because its agent refused it or was offline.
    pub const NOT_STARTED: Self = Self::new('⊘', Meaning::Bad);
    /// A task that was skipped.
    pub const SKIPPED: Self = Self::new('⊘', Meaning::Waiting);
    /// A task without contact to its agent.
    pub const NO_CONTACT: Self = Self::new('~', Meaning::Waiting);
    /// A task that has not ended.
    pub const RUNNING: Self = Self::new('▸', Meaning::Running);

    /// The signs by which tasks are counted, most urgent first.
    pub const OF_TASKS: [Self; 6] =
        [Self::FAILURE, Self::LOST, Self::SKIPPED, Self::NO_CONTACT, Self::RUNNING, Self::SUCCESS];

    const fn new(glyph: char, meaning: Meaning) -> Self {
        Self { glyph, meaning }
    }

    fn of_open(has_contact: bool) -> Self {
        if has_contact { Self::RUNNING } else { Self::NO_CONTACT }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.glyph.fmt(f)
    }
}

impl Outcome {
    /// Returns the sign of the outcome.
    #[must_use]
    pub fn sign(&self) -> Sign {
        match self.ending {
            Ending::Exited(0) => Sign::SUCCESS,
            Ending::Exited(_) | Ending::Signaled(_) | Ending::TimedOut(_) | Ending::Cancelled { .. } => {
                Sign::FAILURE
            }
            Ending::Refused(_) | Ending::Undeliverable(_) => Sign::NOT_STARTED,
            Ending::Skipped(_) => Sign::SKIPPED,
            Ending::Lost(_) => Sign::LOST,
        }
    }
}

impl AgentState {
    /// Returns the sign of the state.
    #[must_use]
    pub fn sign(self) -> Sign {
        match self {
            Self::Pending => Sign::new('◇', Meaning::Waiting),
            Self::Active => Sign::new('●', Meaning::Good),
            Self::Late => Sign::new('◐', Meaning::Waiting),
            Self::Offline => Sign::new('○', Meaning::Bad),
            Self::Draining => Sign::new('▽', Meaning::Waiting),
        }
    }
}

impl Task {
    /// Returns the sign of the task's state.
    #[must_use]
    pub fn sign(&self) -> Sign {
        match &self.state {
            TaskState::Ended(outcome) => outcome.sign(),
            TaskState::Queued | TaskState::Dispatched | TaskState::Running => {
                Sign::of_open(self.no_contact_since_ms.is_none())
            }
        }
    }
}

impl LastJob {
    /// Returns the sign of the task's state.
    #[must_use]
    pub fn sign(&self) -> Sign {
        self.state.outcome().map_or(Sign::of_open(!self.no_contact), Outcome::sign)
    }
}
