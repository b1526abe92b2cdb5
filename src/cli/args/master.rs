//! `master …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    Format, LogArgs, MetricsAddress, Size, Span, ToMaster,
    masters::{
        MasterAddArgs, MasterListArgs, MasterRemoveArgs, MasterSelectArgs, MasterShowArgs, OperatorVerb,
    },
    some_time,
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
    /// Stop the master; jobs go on on their machines
    Stop(MasterStopArgs),
    /// Make a new database of what can be read of a damaged one
    Salvage(MasterSalvageArgs),
    /// Say how the master is
    Status(StatusArgs),
    /// Join tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Who may talk to the master
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Store a master of this machine by name
    Add(MasterAddArgs),
    /// List the stored masters
    List(MasterListArgs),
    /// Choose the master that commands mean when they name none
    Select(MasterSelectArgs),
    /// Show a stored master
    Show(MasterShowArgs),
    /// Forget a stored master, and the key for it
    Remove(MasterRemoveArgs),
}

/// Who is let in without a token or an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Enroll {
    /// Nobody: keys wait for `agent approve`.
    #[default]
    Approve,
    /// Whoever reaches the port, for a lab.
    Any,
    /// Nobody, and keys do not wait either: agents join by token.
    Token,
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
    /// Keep at most so much of each task's output: its beginning and its end
    #[arg(long, value_name = "SIZE", default_value = "1G", env = "SLOTH_RUNNER_MASTER_OUTPUT_CAP")]
    pub output_cap: Size,
    /// Begin no new job while more than so many per cent of the volume are used
    #[arg(long, value_name = "PERCENT", default_value_t = 80, env = "SLOTH_RUNNER_MASTER_DISK_CAP", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub disk_cap: u8,
    /// Delete jobs that ended longer ago; 0 for no limit by age
    #[arg(long, value_name = "TIME", default_value = "30d", env = "SLOTH_RUNNER_MASTER_RETENTION_AGE")]
    pub retention_age: Span,
    /// Delete the oldest jobs when all output together is more
    #[arg(long, value_name = "SIZE", default_value = "10G", env = "SLOTH_RUNNER_MASTER_RETENTION_SIZE")]
    pub retention_size: Size,
    /// Serve metrics for Prometheus at http://HOST:PORT/metrics, to whoever reaches it; a port alone means loopback
    #[arg(long, value_name = "[HOST:]PORT", env = "SLOTH_RUNNER_MASTER_METRICS")]
    pub metrics: Option<MetricsAddress>,
    /// What one operator may use.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The data directory was restored from a backup: take new jobs again
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

/// `master salvage`
#[derive(Debug, Args)]
pub struct MasterSalvageArgs {
    /// The directory that the master is started with
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_MASTER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `master status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// The verbs of `master token`.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a join token and print the line that starts an agent with it
    Create(TokenCreateArgs),
    /// Show the join tokens with which agents may still join
    List(TokenListArgs),
    /// Take join tokens back: no more agents join with them
    Revoke(TokenRevokeArgs),
}

/// `master token create`
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = some_time)]
    pub ttl: Span,
    /// How many agents may join with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// The address at which agents reach this master, for the printed line
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Give each agent that joins with it this label; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// Only agents of these names may join: db-[1-9],cache-*
    #[arg(long, value_name = "NAMES")]
    pub names: Option<Names>,
    /// Only agents that come from this network or address may join; may be given several times
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub from: Vec<Network>,
    /// Accept these --report-address of agents that join: a host or a network; may be given several times
    #[arg(long, value_name = "HOST|NETWORK", value_delimiter = ',')]
    pub report_address: Vec<Hosts>,
}

impl TokenCreateArgs {
    /// Who may join with the token, and what counts of those who do.
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
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master token revoke`
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which tokens, as `token list` calls them
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

/// Least bytes that wait for an operator: what one stream holds, of the largest job, has to find room.
const LEAST_UNREAD: u64 = 16 * 1024 * 1024;

fn unread(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    if size.0 < LEAST_UNREAD { Err("give it at least 16M".to_owned()) } else { Ok(size) }
}

/// What one operator may use of a master at once, and how fast. Administrators on the machine's own socket have no limits.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits of one operator")]
pub struct LimitArgs {
    /// Connections at once
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.connections, env = "SLOTH_RUNNER_MASTER_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Calls at once, over all connections
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.calls, env = "SLOTH_RUNNER_MASTER_MAX_CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls: u32,
    /// Calls a second; five times as many at once
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.calls_a_second, env = "SLOTH_RUNNER_MASTER_MAX_CALL_RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_call_rate: u32,
    /// Changes at once that the master has not recorded yet
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.writes, env = "SLOTH_RUNNER_MASTER_MAX_PENDING_CHANGES", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_pending_changes: u32,
    /// Part of one processor that evaluates targets
    #[arg(long, value_name = "PERCENT", default_value_t = Limits::OPERATOR.selecting_percent, env = "SLOTH_RUNNER_MASTER_MAX_TARGET_SHARE", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_target_share: u32,
    /// Bytes of output that wait because they are not read; at least 16M
    #[arg(long, value_name = "SIZE", default_value = "64M", env = "SLOTH_RUNNER_MASTER_MAX_UNREAD", value_parser = unread)]
    pub max_unread: Size,
    /// HTTP/2 frames a second that carry no data; five times as many at once
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::OPERATOR.frames_a_second, env = "SLOTH_RUNNER_MASTER_MAX_FRAME_RATE", value_parser = clap::value_parser!(u32).range(100..))]
    pub max_frame_rate: u32,
}

impl LimitArgs {
    /// The limits that they say.
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
