//! The arguments of the command line, as they were typed. The commands interpret them.

pub(crate) mod agent;
pub(crate) mod doctor;
pub(crate) mod job;
pub(crate) mod master;
pub(crate) mod masters;
pub(crate) mod neighbours;
mod program;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod tui;

use self::program::nonzero_span;
pub use self::{
    masters::{MasterChoice, ToMaster},
    program::{AgentMaster, Cli, Colour, Command, DemoArgs, Format, LogArgs, MetricsAddress, Size, Span},
};
