//! Arguments of `job …`.

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, Span, ToMaster, run::PrintArgs};
use crate::cli::completing;
use crate::domain::{ids::JobReference, name::AgentName, outcome::JobResult};

/// The verbs of `job`.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List recent jobs
    List(JobListArgs),
    /// Show a job and the results of its tasks
    Show(JobShowArgs),
    /// Follow the output of a job from its beginning, or from an offset
    Attach(JobAttachArgs),
    /// Print the output of a job
    Logs(JobLogsArgs),
    /// Run the command of a job again, on the same agents
    Rerun(JobRerunArgs),
    /// Delete a finished job and its output
    Delete(JobArgs),
    /// Continue a job that waits after its canary or a batch
    Promote(JobArgs),
    /// Stop starting tasks of a job; running tasks continue
    Stop(JobArgs),
    /// Cancel a job
    Cancel(JobCancelArgs),
}

/// `job list`
#[derive(Debug, Args)]
pub struct JobListArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// List only jobs with a task on this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<AgentName>,
    /// List only jobs of this operator
    #[arg(long, value_name = "NAME", default_value = "")]
    pub operator: String,
    /// List only jobs that started within this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<Span>,
    /// List only jobs with this result: ok, failed, running, or a task's result such as lost, timed-out, cancelled
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<JobResult>,
    /// List only jobs whose command or target contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub text: String,
    /// List only jobs with a number below this, for paging
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub before: u64,
    /// Maximum number of results
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `job cancel`
#[derive(Debug, Args)]
pub struct JobCancelArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Time between TERM and KILL; 0 kills the commands immediately [default: the job's own --grace]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<Span>,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// `job show`
#[derive(Debug, Args)]
pub struct JobShowArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `job attach`
#[derive(Debug, Args)]
pub struct JobAttachArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long to wait for a task that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Skip each task's output before this offset, in bytes
    #[arg(long, value_name = "OFFSET", default_value_t = 0, conflicts_with_all = ["group", "diff"])]
    pub from: u64,
    /// Output options.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// `job logs`
#[derive(Debug, Args)]
pub struct JobLogsArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Print only the output of this agent; can be repeated
    #[arg(long, value_name = "NAME", conflicts_with_all = ["group", "diff"])]
    pub agent: Vec<AgentName>,
    /// Skip each task's output before this offset, in bytes
    #[arg(long, value_name = "OFFSET", default_value_t = 0, conflicts_with_all = ["group", "diff"])]
    pub from: u64,
    /// Follow the output until the job ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print the time before each line
    #[arg(short, long, conflicts_with_all = ["group", "diff"])]
    pub timestamps: bool,
    /// Print only this stream
    #[arg(long, value_name = "STREAM", conflicts_with_all = ["group", "diff"])]
    pub stream: Option<OnlyStream>,
    /// Output options.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// The arguments of subcommands of `job` that take only a job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}

/// One of the two output streams of a command.
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
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Run only on the agents where the command did not exit with 0
    #[arg(long)]
    pub failed: bool,
    /// Print the job's number and return immediately
    #[arg(short, long)]
    pub detach: bool,
    /// How long to wait for a task that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Output options.
    #[command(flatten)]
    pub print: PrintArgs,
    /// The job: its number, its ULID, or `last`
    #[arg(add = completing::job())]
    pub job: JobReference,
}
