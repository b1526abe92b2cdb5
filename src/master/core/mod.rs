//! The master's decisions: `step(Input, Now) -> Effects`. Pure; the actor performs the effects.
//!
//! A reply or a dispatch waits until the write that it depends on has succeeded. The result of a write is an input.

mod agents;
mod denied;
mod enrolling;
mod jobs;
pub mod messages;
mod operators;
mod persisting;
mod refusals;
mod registry;
mod selecting;
mod showing;
pub(crate) mod snapshot;
mod state;
pub mod stored;
#[cfg(test)]
mod tests;
mod tokens;
pub(crate) mod views;
mod watched;

pub use self::state::{Core, Enroll, OUTPUT_CAP, Policy, Remembered};
use self::{
    persisting::Continuation,
    state::{AgentRow, Contender, Session, audit},
};
