//! The command line: parses arguments, performs a command, and reports the result.

pub mod args;
mod asking;
pub(crate) mod commands;
mod completing;
mod config;
pub(crate) mod exit;
mod hints;
mod json;
pub(crate) mod masters;
pub mod output;
mod program;
pub(crate) mod region;
pub mod sanitize;
pub mod secrets;
mod stdio;
pub(crate) mod units;

pub use self::program::run;
