//! Arguments of `master …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    Format, LogArgs, MetricsAddress, Size, Span, ToMaster,
    masters::{
        MasterAddArgs, MasterListArgs, MasterRemoveArgs, MasterSelectArgs, MasterShowArgs, OperatorVerb,
    },
    nonzero_span,
};
use crate::{
    domain::{
        name::Label,
        network::{Hosts, Network},
        target::names::Names,
        terms::Terms,
    },
    wire::budget::Limits,
};

/// `master …`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MasterCommand {
    /// The subcommand; `start` if omitted.
    #[command(subcommand)]
    pub command: Option<MasterSubcommand>,
    /// Flags of `start`.
    #[command(flatten)]
    pub start: MasterStartArgs,
}

/// The verbs of `master`.
#[derive(Debug, Subcommand)]
pub enum MasterSubcommand {
    /// Start the master
    Start(Box<MasterStartArgs>),
    /// Stop the master; running commands continue on their machines
    Stop(MasterStopArgs),
    /// Create a new database from the readable parts of a damaged one
    Salvage(MasterSalvageArgs),
    /// Show the status of the master
    Status(StatusArgs),
    /// Manage join tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Manage operators
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Store a master of this machine under a name
    Add(MasterAddArgs),
    /// List the stored masters
    List(MasterListArgs),
    /// Select the default master for commands
    Select(MasterSelectArgs),
    /// Show a stored master
    Show(MasterShowArgs),
    /// Remove a stored master and its key
    Remove(MasterRemoveArgs),
}

/// The policy for agents that connect without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Enroll {
    /// Keys wait for `agent approve`
    #[default]
    Approve,
    /// Every agent that reaches the port is enrolled; only for a lab
    Any,
    /// Only agents with a token are enrolled; other keys are rejected
    Token,
}

/// `master start`
#[derive(Debug, Args)]
pub struct MasterStartArgs {
    /// Port for agents
    #[arg(short, long, default_value_t = 50053, env = "SLOTH_RUNNER_MASTER_PORT")]
    pub port: u16,
    /// Address to listen on; all addresses by default
    #[arg(long, value_name = "ADDRESS", env = "SLOTH_RUNNER_MASTER_BIND_ADDRESS")]
    pub bind_address: Option<String>,
    /// Data directory of the master
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_MASTER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Run in the background; return when the master is ready
    #[arg(long)]
    pub daemon: bool,
    /// Policy for agents without a token
    #[arg(long, value_name = "WHO", default_value = "approve", env = "SLOTH_RUNNER_MASTER_ENROLL")]
    pub enroll: Enroll,
    /// Maximum output to store for each agent of a job; of more, the beginning and the end are kept
    #[arg(long, value_name = "SIZE", default_value = "1G", env = "SLOTH_RUNNER_MASTER_OUTPUT_CAP")]
    pub output_cap: Size,
    /// Start no new job while the volume is fuller than this percentage
    #[arg(long, value_name = "PERCENT", default_value_t = 80, env = "SLOTH_RUNNER_MASTER_DISK_CAP", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub disk_cap: u8,
    /// Delete jobs that ended longer ago than this; 0 for no limit by age
    #[arg(long, value_name = "TIME", default_value = "30d", env = "SLOTH_RUNNER_MASTER_RETENTION_AGE")]
    pub retention_age: Span,
    /// Delete the oldest jobs when the total size of all output exceeds this
    #[arg(long, value_name = "SIZE", default_value = "10G", env = "SLOTH_RUNNER_MASTER_RETENTION_SIZE")]
    pub retention_size: Size,
    /// Serve Prometheus metrics at http://HOST:PORT/metrics without authentication; a port alone means the loopback address
    #[arg(long, value_name = "[HOST:]PORT", env = "SLOTH_RUNNER_MASTER_METRICS")]
    pub metrics: Option<MetricsAddress>,
    /// Limits of each operator.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Accept new jobs after the data directory was restored from a backup
    #[arg(long)]
    pub restored: bool,
    /// Log settings.
    #[command(flatten)]
    pub log: LogArgs,
    /// Set in the process that `--daemon` starts.
    #[arg(long, hide = true)]
    pub daemonized: bool,
}

/// `master stop`
#[derive(Debug, Args)]
pub struct MasterStopArgs {
    /// Data directory with which the master was started
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_MASTER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `master salvage`
#[derive(Debug, Args)]
pub struct MasterSalvageArgs {
    /// Data directory with which the master is started
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_MASTER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `master status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// The verbs of `master token`.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Create a join token and print the command that starts an agent with it
    Create(TokenCreateArgs),
    /// List the valid join tokens
    List(TokenListArgs),
    /// Revoke join tokens: no more agents can join with them
    Revoke(TokenRevokeArgs),
}

/// `master token create`
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long the token is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = nonzero_span)]
    pub ttl: Span,
    /// How many agents can join with the token
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// Address at which agents reach this master, for the printed command
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Set this label on each agent that joins with the token; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// Allow only agents with these names: db-[1-9],cache-*
    #[arg(long, value_name = "NAMES")]
    pub names: Option<Names>,
    /// Allow only agents from this network or address; can be repeated
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub from: Vec<Network>,
    /// Accept these --report-address values of agents that join: a host or a network; can be repeated
    #[arg(long, value_name = "HOST|NETWORK", value_delimiter = ',')]
    pub report_address: Vec<Hosts>,
}

impl TokenCreateArgs {
    /// Returns the conditions for joining with the token, and what the joining agents get.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            labels: self.label.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
            names: self.names.clone(),
            from: self.from.clone(),
            direct: self.report_address.clone(),
        }
    }
}

/// `master token list`
#[derive(Debug, Args)]
pub struct TokenListArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master token revoke`
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// IDs of the tokens, as shown by `token list`
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

/// Minimum of `--max-unread`, in bytes: one stream of the largest job must fit.
const MIN_UNREAD_BYTES: u64 = 16 * 1024 * 1024;

fn unread(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    if size.0 < MIN_UNREAD_BYTES { Err("give it at least 16M".to_owned()) } else { Ok(size) }
}

/// The limits of one operator. Administrators on the local Unix socket have no limits.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits of one operator")]
pub struct LimitArgs {
    /// Maximum number of simultaneous connections
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.connections, env = "SLOTH_RUNNER_MASTER_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Maximum number of simultaneous calls, over all connections
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.calls, env = "SLOTH_RUNNER_MASTER_MAX_CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls: u32,
    /// Maximum rate of calls per second; bursts may be five times as large
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.calls_a_second, env = "SLOTH_RUNNER_MASTER_MAX_CALL_RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_call_rate: u32,
    /// Maximum number of changes that the master has not written yet
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.writes, env = "SLOTH_RUNNER_MASTER_MAX_PENDING_CHANGES", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_pending_changes: u32,
    /// Maximum share of one processor for the evaluation of targets
    #[arg(long, value_name = "PERCENT", default_value_t = Limits::OPERATOR.selecting_percent, env = "SLOTH_RUNNER_MASTER_MAX_TARGET_SHARE", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_target_share: u32,
    /// Maximum size of unread output that the master buffers; at least 16M
    #[arg(long, value_name = "SIZE", default_value = "64M", env = "SLOTH_RUNNER_MASTER_MAX_UNREAD", value_parser = unread)]
    pub max_unread: Size,
    /// Maximum rate of HTTP/2 frames without data per second; bursts may be five times as large
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.frames_a_second, env = "SLOTH_RUNNER_MASTER_MAX_FRAME_RATE", value_parser = clap::value_parser!(u32).range(100..))]
    pub max_frame_rate: u32,
}

impl LimitArgs {
    /// Converts these arguments to the limits that the master applies.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            calls: self.max_calls,
            calls_a_second: self.max_call_rate,
            writes: self.max_pending_changes,
            selecting_percent: self.max_target_share,
            buffered_bytes: u32::try_from(self.max_unread.0).unwrap_or(u32::MAX),
            frames_a_second: self.max_frame_rate,
        }
    }
}
