//! The control center: a gRPC client that is a screen. `Model`, `Msg`, `update`, `Cmd` and `view` are pure; the runtime
//! performs. It speaks `ControlService` like any client, and knows neither store nor core nor agent.

pub mod fuzzy;
pub mod keymap;
pub mod model;
pub mod msg;
pub mod output;
pub mod runtime;
pub mod settings;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod view;

#[cfg(test)]
mod tests;
