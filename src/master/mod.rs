//! The master: knows the agents, owns the jobs, stores their output.
//!
//! Must not depend on the internals of an agent, the terminal or the command line.

pub(crate) mod actor;
mod cap;
mod clock;
pub(crate) mod compare;
pub mod core;
mod direct;
pub(crate) mod dispatch;
pub(crate) mod flow_control;
pub(crate) mod handle;
pub(crate) mod journal;
pub(crate) mod links;
pub(crate) mod listen;
mod metrics;
pub mod output_log;
pub(crate) mod prefetch;
pub(crate) mod retention;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod signal;
pub(crate) mod stdin_relay;
pub mod store;
pub(crate) mod users;
