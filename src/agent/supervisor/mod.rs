//! The supervisor: the small process that owns the running commands, beside the connector.
//!
//! One thread, no tokio, nothing of the wire: it forks shims, which job one task each at a time, and little else, so
//! that there is nothing in it that could take the commands down. It survives the connector, and the tasks survive it.

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
