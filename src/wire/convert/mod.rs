//! Converts between generated messages and domain types: one file for each noun, in both directions.
//!
//! Code outside of `wire` does not name generated types; `tests/suite/architecture.rs` checks this. The
//! conversions refuse messages that are not valid, with an error type for each noun. They make no other
//! decisions.

mod access;
mod agent;
mod attach;
mod command;
mod digest;
mod enrollment;
mod event;
mod fleet;
mod frame;
mod input;
mod invalid;
mod job;
mod label;
mod outcome;
mod plan;
mod proposal;
mod reference;
mod request;
mod revision;
mod seal;
mod selection;
mod session;
mod status;
mod task;
#[cfg(test)]
mod tests;

pub use self::{
    access::{InvalidOperator, InvalidToken},
    agent::InvalidAgent,
    attach::InvalidAttach,
    command::InvalidOptions,
    digest::InvalidGroup,
    enrollment::InvalidEnrollment,
    event::InvalidEvent,
    fleet::InvalidChange,
    frame::InvalidFrame,
    invalid::{Carried, InvalidMessage},
    job::InvalidJob,
    label::InvalidLabels,
    outcome::InvalidOutcome,
    plan::InvalidPlan,
    proposal::InvalidProposal,
    reference::InvalidReference,
    selection::InvalidSelection,
    session::InvalidSession,
    status::InvalidStatus,
    task::InvalidTask,
};
