//! The master: knows the agents, owns the jobs, stores their output.
//!
//! Must not depend on the internals of an agent, the terminal or the command line.

pub mod actor;
mod cap;
mod clock;
pub mod compare;
pub mod core;
mod direct;
pub mod dispatch;
pub mod flow_control;
pub mod handle;
pub mod journal;
pub mod links;
pub mod listen;
mod metrics;
pub mod output_log;
pub mod prefetch;
pub mod retention;
pub mod server;
pub mod service;
pub mod session;
pub mod signal;
pub mod stdin_relay;
pub mod store;
pub mod users;
