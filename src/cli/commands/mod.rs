//! The commands, one file for each family.

mod agent_start;
mod agents;
mod demo;
mod doctor;
mod following;
mod job;
mod master;
mod masters;
pub(crate) mod neighbours;
mod operators;
mod perform;
mod proposals;
mod run;
mod service;
mod settings;
mod shown;
mod simulate;
mod tokens;
mod tui;

pub(crate) use self::perform::perform;
use self::perform::{connect, on_one_thread, reopen_log, start_daemon};
