//! `job …`

use clap::{Args, Subcommand};

use super::{Format, Span, ToMaster, run::PrintArgs};
use crate::domain::{ids::RunReference, name::AgentName};

/// The verbs of `job`.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List the last runs
    List(JobListArgs),
    /// Show a run and how its tasks ended
    Show(JobShowArgs),
    /// Follow a run from its beginning, or from an offset
    Attach(JobAttachArgs),
    /// Print what a run printed
    Logs(JobLogsArgs),
    /// Let a run that waits at a gate go on
    Promote(JobArgs),
    /// Start nothing more of a run; what runs goes on
    Stop(JobArgs),
    /// Cancel a run
    Cancel(JobArgs),
}

/// `job list`
#[derive(Debug, Args)]
pub struct JobListArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `job show`
#[derive(Debug, Args)]
pub struct JobShowArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// The run: its number, its ULID, or `last`
    pub run: RunReference,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `job attach`
#[derive(Debug, Args)]
pub struct JobAttachArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long a task without contact is waited for
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Leave out each task's output before this offset, in bytes
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub from: u64,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The run: its number, its ULID, or `last`
    pub run: RunReference,
}

/// `job logs`
#[derive(Debug, Args)]
pub struct JobLogsArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Only this agent; may be given several times
    #[arg(long, value_name = "NAME")]
    pub agent: Vec<AgentName>,
    /// Leave out each task's output before this offset, in bytes
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub from: u64,
    /// Go on until the run ends
    #[arg(short, long)]
    pub follow: bool,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The run: its number, its ULID, or `last`
    pub run: RunReference,
}

/// A verb of `job` that needs no more than the run.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// The run: its number, its ULID, or `last`
    pub run: RunReference,
}
