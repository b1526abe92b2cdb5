//! The supervisor: the small process that owns the running commands, beside the connector.
//!
//! It has one thread, and uses neither tokio nor the wire protocol. It does little besides forking shims,
//! which run one task at a time each, so that no error in it can end the commands. It outlives the connector,
//! and the tasks outlive it.

pub(crate) mod client;
pub(crate) mod command;
mod input;
pub(crate) mod kill;
mod lifetime;
mod listener;
mod output;
mod pool;
mod progress;
pub mod protocol;
mod reserve;
mod room;
pub(crate) mod server;
mod shim;
mod staging;
mod task;
