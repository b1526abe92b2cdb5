//! The supervisor: the small process beside the agent that owns the running commands.
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
mod place;
mod pool;
mod progress;
pub mod protocol;
mod reserve;
mod room;
pub mod server;
mod shim;
mod task;
