//! sloth-runner: live control of all your machines, in one binary.

pub mod agent;
pub mod cli;
pub mod domain;
pub mod master;
pub mod sys;
pub mod trust;
pub mod tui;
pub mod wire;
