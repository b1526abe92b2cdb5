//! The command line: parses arguments, performs a command, and reports the result.

pub mod args;
mod asking;
pub mod commands;
mod completing;
mod config;
pub mod exit;
mod hints;
mod json;
pub mod masters;
pub mod output;
mod program;
pub mod region;
pub mod sanitize;
pub mod secrets;
mod stdio;
pub mod units;

pub use self::program::run;
