//! `job …`

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, Span, ToMaster, run::PrintArgs};
use crate::cli::completing;
use crate::domain::{ids::JobReference, name::AgentName, outcome::asked_for};

/// The verbs of `job`.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List the last jobs
    List(JobListArgs),
    /// Show a job and how its tasks ended
    Show(JobShowArgs),
    /// Follow a job from its beginning, or from an offset
    Attach(JobAttachArgs),
    /// Print what a job printed
    Logs(JobLogsArgs),
    /// Run a command again, on the same agents
    Rerun(JobRerunArgs),
    /// Delete a job that is over, and its output
    Delete(JobArgs),
    /// Let a job that waits at a gate go on
    Promote(JobArgs),
    /// Start nothing more of a job; what runs goes on
    Stop(JobArgs),
    /// Cancel a job
    Cancel(JobCancelArgs),
}

/// `job list`
#[derive(Debug, Args)]
pub struct JobListArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Only jobs with a task on this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<AgentName>,
    /// Only jobs of this operator
    #[arg(long, value_name = "NAME", default_value = "")]
    pub operator: String,
    /// Only jobs that began within the last so long
    #[arg(long, value_name = "TIME")]
    pub since: Option<Span>,
    /// Only jobs that are ok, failed or running, or one of whose tasks ended so: lost, timed-out, cancelled, …
    #[arg(long, value_name = "OUTCOME", default_value = "", value_parser = asked_for)]
    pub outcome: String,
    /// Only jobs whose command or target holds this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub text: String,
    /// Only jobs before this number, to page on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub before: u64,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `job cancel`
#[derive(Debug, Args)]
pub struct JobCancelArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long the commands may clean up: the time between TERM and KILL, 0 for none [default: what the job was started with]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<Span>,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// `job show`
#[derive(Debug, Args)]
pub struct JobShowArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
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
    /// How long to wait for a task that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Leave out each task's output before this offset, in bytes
    #[arg(long, value_name = "OFFSET", default_value_t = 0, conflicts_with_all = ["group", "diff"])]
    pub from: u64,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// `job logs`
#[derive(Debug, Args)]
pub struct JobLogsArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Only this agent; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with_all = ["group", "diff"])]
    pub agent: Vec<AgentName>,
    /// Leave out each task's output before this offset, in bytes
    #[arg(long, value_name = "OFFSET", default_value_t = 0, conflicts_with_all = ["group", "diff"])]
    pub from: u64,
    /// Go on until the job ends
    #[arg(short, long)]
    pub follow: bool,
    /// Begin each line with the time at which it was printed
    #[arg(short, long, conflicts_with_all = ["group", "diff"])]
    pub timestamps: bool,
    /// Only one of the two streams
    #[arg(long, value_name = "STREAM", conflicts_with_all = ["group", "diff"])]
    pub stream: Option<OnlyStream>,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// A verb of `job` that needs no more than the job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// One of a command's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnlyStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// `job rerun`
#[derive(Debug, Args)]
pub struct JobRerunArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Only on the agents where it did not exit 0
    #[arg(long)]
    pub failed: bool,
    /// Print the job's number and do not wait
    #[arg(short, long)]
    pub detach: bool,
    /// How long to wait for a task that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}
