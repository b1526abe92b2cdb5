//! The agent's decisions about tasks: which one is started, resumed, refused or forgotten. Pure: takes inputs, and returns
//! effects.
//!
//! A loss of memory never leads to a second start of a task. A permission that was in transit for too long
//! starts nothing: an operator may have cancelled the task meanwhile, or its deadline may have passed.

mod deciding;
mod left_over;
mod master_clock;
mod messages;
mod state;
mod task;
#[cfg(test)]
mod tests;

use self::state::{Opener, Undated};
pub use self::{
    master_clock::MasterClock,
    messages::{
        Boottime, Cancelled, Decision, DiskError, Effect, FinalRecord, Input, Introduction, Knowledge,
        OpenedAttach, Reply, StartEnd,
    },
    state::Core,
};
