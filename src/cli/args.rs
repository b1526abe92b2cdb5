//! The command line's words and flags. Holds what was typed; the commands make sense of it.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    domain::{
        agent::LinkPreference,
        ids::RunReference,
        name::{AgentName, Label},
    },
    sys::logging::LogFormat,
    trust::{fingerprint::Fingerprint, token::Token},
    wire::client::MasterAddress,
};

/// Live control of all your machines, from one binary.
#[derive(Debug, Parser)]
#[command(name = "sloth-runner", version, propagate_version = true, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUSES: &str =
    "Exit statuses: 0 done, 1 failed, 2 the command line makes no sense; 3 the agent was stopped by order.
`agent run` has its own: see `sloth-runner agent run --help`.";

const RUN_STATUSES: &str = "Flags stop at the target: everything behind it is the command. One word is a shell command, several words arrive as
the same words. One plain name prints the command's bytes; any other target prints whole lines with the agent's name.

Exit status: for one agent the command's own, 128+n for signal n. For several the largest; but
  130  interrupted
  125  a task has no true status: lost, undeliverable, refused, cancelled by somebody, or given up waiting
  124  a task timed out
    2  the command line makes no sense";

/// A length of time on the command line: `30s`, `5min`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<u64>().map(Duration::from_secs).ok();
        let parsed = parsed.or_else(|| humantime::parse_duration(text).ok());
        parsed.map(Self).ok_or_else(|| "write a time as 30s, 5min or 1h".to_owned())
    }
}

impl Span {
    /// In milliseconds; at least one, so that it never reads as nothing.
    #[must_use]
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The same where a small number is wanted.
    #[must_use]
    pub fn ms_u32(self) -> u32 {
        u32::try_from(self.ms()).unwrap_or(u32::MAX)
    }
}

/// The words behind the program's name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A private master and five agents, and a tour of what they do
    Demo(DemoArgs),
    /// The master: start, stop, look
    Master(MasterCommand),
    /// Agents: start one, list them, run commands on them
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Short for `agent list`
    List(ListArgs),
    /// Short for `agent run`
    Run(RunArgs),
    /// Runs: past ones and those that go on
    #[command(subcommand)]
    Job(JobCommand),
}

/// How `demo` is shown.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Show the scripted tour, on a terminal too
    #[arg(long)]
    pub tour: bool,
}

/// Which master is meant.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The master: unix:PATH; by default the one of this user on this machine, else root's
    #[arg(long = "master", value_name = "MASTER", env = "SLOTH_RUNNER_MASTER")]
    pub master: Option<MasterAddress>,
}

impl Target {
    /// The address, or the default.
    #[must_use]
    pub fn address(&self) -> MasterAddress {
        self.master.clone().unwrap_or(MasterAddress::Local)
    }
}

/// `master …`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MasterCommand {
    /// What to do with it; `start` when nothing is said.
    #[command(subcommand)]
    pub command: Option<MasterVerb>,
    /// Flags of `start`.
    #[command(flatten)]
    pub start: MasterStartArgs,
}

/// The verbs of `master`.
#[derive(Debug, Subcommand)]
pub enum MasterVerb {
    /// Start the master
    Start(Box<MasterStartArgs>),
    /// Stop the master; runs go on on their machines
    Stop(MasterStopArgs),
    /// Say how the master is
    Status(StatusArgs),
    /// Join tokens
    #[command(subcommand)]
    Token(TokenVerb),
}

/// Who is let in without a token or an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Enroll {
    /// Nobody: keys wait for `agent approve`.
    #[default]
    Approve,
    /// Whoever reaches the port, for a lab.
    Any,
}

/// How a daemon logs.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// error, warn, info, debug, trace, or a tracing filter
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "SLOTH_RUNNER_LOG_LEVEL")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "SLOTH_RUNNER_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// `master start`
#[derive(Debug, Args)]
pub struct MasterStartArgs {
    /// Port for agents
    #[arg(short, long, default_value_t = 50053, env = "SLOTH_RUNNER_MASTER_PORT")]
    pub port: u16,
    /// Address to listen on; all by default
    #[arg(long, value_name = "ADDRESS", env = "SLOTH_RUNNER_MASTER_BIND_ADDRESS")]
    pub bind_address: Option<String>,
    /// Directory for everything that the master keeps
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_MASTER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Go on in the background; returns once it serves
    #[arg(long)]
    pub daemon: bool,
    /// Who is let in without a token
    #[arg(long, value_name = "WHO", default_value = "approve", env = "SLOTH_RUNNER_MASTER_ENROLL")]
    pub enroll: Enroll,
    /// The data directory was restored from a backup: take new runs again
    #[arg(long)]
    pub restored: bool,
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Set in the process that `--daemon` starts.
    #[arg(long, hide = true)]
    pub daemonized: bool,
}

/// `master stop`
#[derive(Debug, Args)]
pub struct MasterStopArgs {
    /// The directory that the master was started with
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_MASTER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `master status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// The verbs of `master token`.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a join token and print the line that starts an agent with it
    Create(TokenCreateArgs),
}

/// `master token create`
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub ttl: Span,
    /// How many agents may join with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// The address at which agents reach this master, for the printed line
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The verbs of `agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Start an agent on this machine
    Start(Box<AgentStartArgs>),
    /// List the agents
    List(ListArgs),
    /// Show all that is known of one agent
    Get(GetArgs),
    /// Run a command on agents
    #[command(alias = "exec")]
    Run(RunArgs),
    /// End an agent: the one on this machine, else by way of the master
    Stop(AgentStopArgs),
    /// Let a waiting key in
    Approve(ApproveArgs),
    /// Forget a waiting key
    Reject(RejectArgs),
    /// Forget an agent; it may ask again, and waits then
    Delete(DeleteArgs),
    /// The process that keeps running commands; started by `start`
    #[command(hide = true)]
    Keeper(KeeperArgs),
}

/// `agent start`
#[derive(Debug, Args)]
pub struct AgentStartArgs {
    /// The agent's name; the host name by default
    #[arg(long, env = "SLOTH_RUNNER_AGENT_NAME")]
    pub name: Option<String>,
    /// The master: HOST:PORT
    #[arg(long, value_name = "HOST:PORT", env = "SLOTH_RUNNER_AGENT_MASTER")]
    pub master: String,
    /// Port for a direct link [default: 50051 with --bind-address or --report-address, else none]
    #[arg(long, env = "SLOTH_RUNNER_AGENT_PORT")]
    pub port: Option<u16>,
    /// Address to listen on for a direct link, and to report
    #[arg(long, value_name = "ADDRESS", env = "SLOTH_RUNNER_AGENT_BIND_ADDRESS")]
    pub bind_address: Option<String>,
    /// Address to report in its place, behind NAT or a proxy device; without a port, the agent's
    #[arg(long, value_name = "HOST[:PORT]", env = "SLOTH_RUNNER_AGENT_REPORT_ADDRESS")]
    pub report_address: Option<String>,
    /// Which link to use
    #[arg(long, value_name = "LINK", default_value = "auto", env = "SLOTH_RUNNER_AGENT_LINK")]
    pub link: LinkPreference,
    /// A label, KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", env = "SLOTH_RUNNER_AGENT_LABELS", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// A join token
    #[arg(long, env = "SLOTH_RUNNER_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub token: Option<Token>,
    /// A file that holds a join token
    #[arg(long, value_name = "FILE", env = "SLOTH_RUNNER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Fingerprint of the CA to believe in
    #[arg(long, value_name = "DIGITS", env = "SLOTH_RUNNER_CA_FINGERPRINT")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Directory for everything that the agent keeps
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_AGENT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Go on in the background; returns once it is active, or says why not
    #[arg(long)]
    pub daemon: bool,
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Set in the process that `--daemon` starts.
    #[arg(long, hide = true)]
    pub daemonized: bool,
}

/// `agent keeper`
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// The agent's directory.
    #[arg(long)]
    pub data_dir: PathBuf,
}

/// `agent list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// Only these: names, globs, commas; all by default
    #[arg(value_name = "TARGET")]
    pub agents: Option<String>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `agent get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// Which agent
    pub name: AgentName,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a run's output is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct PrintArgs {
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
    /// Print no names before lines
    #[arg(short = 'N', long)]
    pub no_prefix: bool,
    /// Print nothing but the command's output, and why a status is missing
    #[arg(short, long)]
    pub quiet: bool,
    /// Print output on a terminal as it is, control sequences too
    #[arg(long)]
    pub raw: bool,
    /// How to print the run
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `agent run`
#[derive(Debug, Args)]
#[command(after_help = RUN_STATUSES)]
pub struct RunArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// How long each task may run
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// How long an agent that is offline is waited for [default: until it was silent for a minute]
    #[arg(long, value_name = "TIME")]
    pub start_within: Option<Span>,
    /// How long a task without contact is waited for
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Print the run's number and do not wait
    #[arg(short, long)]
    pub detach: bool,
    /// Add a variable to the command's environment; may be given several times
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub environment: Vec<OsString>,
    /// Directory to run in; the user's home by default
    #[arg(long, value_name = "DIRECTORY")]
    pub cwd: Option<OsString>,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// Whom: names, globs (web-*), commas, @all
    #[arg(value_name = "TARGET")]
    pub agents: String,
    /// What to run there
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// `agent stop`
#[derive(Debug, Args)]
pub struct AgentStopArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// Which agent; the one of this machine's host name by default
    pub name: Option<AgentName>,
    /// How long running commands may go on
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub grace: Span,
    /// The directory that the agent was started with
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_AGENT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `agent approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// Under which name the key waits
    pub name: AgentName,
    /// The fingerprint that the agent shows, at least its first 8 digits
    #[arg(long, value_name = "DIGITS")]
    pub fingerprint: Option<String>,
}

/// `agent reject`
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// Under which name the key waits
    pub name: AgentName,
    /// The first digits of its fingerprint; all keys under the name by default
    #[arg(long, value_name = "DIGITS", default_value = "")]
    pub fingerprint: String,
}

/// `agent delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// Which agent
    pub name: AgentName,
}

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
    /// Cancel a run
    Cancel(JobCancelArgs),
}

/// `job list`
#[derive(Debug, Args)]
pub struct JobListArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
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
    pub target: Target,
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
    pub target: Target,
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
    pub target: Target,
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

/// `job cancel`
#[derive(Debug, Args)]
pub struct JobCancelArgs {
    /// Which master.
    #[command(flatten)]
    pub target: Target,
    /// The run: its number, its ULID, or `last`
    pub run: RunReference,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stop_at_the_target() {
        let line = "sloth-runner run -q web-1 ls -l --color";
        let Command::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!((run.agents.as_str(), run.command.len()), ("web-1", 3));
        assert!(run.print.quiet);
        assert!(Cli::try_parse_from(["sloth-runner", "run", "web-1"]).is_err());
    }

    #[test]
    fn times_are_written_as_people_do() {
        for (text, seconds) in [("30s", 30), ("5min", 300), ("1h", 3600), ("90", 90)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        assert!("soon".parse::<Span>().is_err());
    }
}
