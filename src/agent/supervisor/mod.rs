//! The supervisor: the small process that owns the running commands, beside the connector.
//!
//! One thread, no tokio, nothing of the wire: it forks shims, which run one task at a time each, and little else, so
//! that nothing in it can end the commands. It survives the connector, and the tasks survive it.

pub mod client;
pub mod command;
mod input;
pub mod kill;
mod lifetime;
mod listener;
mod output;
mod pool;
mod progress;
pub mod protocol;
mod reserve;
mod room;
pub mod server;
mod shim;
mod staging;
mod task;
