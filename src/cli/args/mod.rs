//! The arguments of the command line, as they were typed. The commands interpret them.

pub mod agent;
pub mod doctor;
pub mod job;
pub mod master;
pub mod masters;
pub mod neighbours;
mod program;
pub mod run;
pub mod service;
pub mod settings;
pub mod tui;

use self::program::nonzero_span;
pub use self::{
    masters::{MasterChoice, ToMaster},
    program::{Cli, Colour, Command, DemoArgs, Format, LogArgs, MetricsAddress, Size, Span},
};
