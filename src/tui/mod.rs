//! The control center: a full-screen gRPC client. `Model`, `Msg`, `update`, `Cmd` and `view` are pure; only
//! the runtime does I/O. It uses `ControlService` like any other client, and does not depend on the store,
//! the core or the agent.

pub(crate) mod fuzzy;
pub mod keymap;
pub mod model;
pub mod msg;
pub mod output;
pub(crate) mod palette;
pub mod runtime;
pub mod settings;
pub mod terminal;
pub(crate) mod theme;
pub mod update;
pub mod view;

#[cfg(test)]
mod tests;
