//! Arguments of `agent …`, except `agent run`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    AgentMaster, Format, LogArgs, MetricsAddress, Span, ToMaster,
    run::{RunArgs, TargetArgs},
};
use crate::{
    cli::completing,
    domain::{
        agent::LinkPreference,
        code::Code,
        fingerprint::Fingerprint,
        name::{AgentName, Label, LabelChange},
    },
    trust::token::Token,
};

/// The verbs of `agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Start an agent on this machine
    Start(Box<AgentStartArgs>),
    /// List the agents
    List(ListArgs),
    /// Show details of an agent
    Get(GetArgs),
    /// Run a command on agents
    #[command(alias = "exec")]
    Run(Box<RunArgs>),
    /// Open a shell in a terminal on an agent; ~. at the beginning of a line hangs up
    Shell(ShellArgs),
    /// Set or remove labels, or accept the labels that agents propose
    Label(LabelArgs),
    /// Stop sending new tasks to agents; running tasks continue
    Drain(DrainArgs),
    /// Resume sending tasks to drained agents
    Resume(AgentsArgs),
    /// Stop an agent: the local one, or through the master by name
    Stop(AgentStopArgs),
    /// Approve the pending key of an agent
    Approve(ApproveArgs),
    /// Reject the pending key of an agent
    Reject(RejectArgs),
    /// Delete an agent from the registry; it can request approval again
    Delete(DeleteArgs),
    /// Run the supervisor of running commands (started by `agent start`)
    #[command(hide = true)]
    Supervisor(SupervisorArgs),
    /// Run many agents in one process, for tests and measurements
    #[command(hide = true)]
    Simulate(SimulateArgs),
}

/// `agent start`
#[derive(Debug, Args)]
pub struct AgentStartArgs {
    /// Name of the agent; the host name by default
    #[arg(long, env = "SLOTH_RUNNER_AGENT_NAME")]
    pub name: Option<String>,
    /// Address of the master: HOST:PORT, or HOST:PORT#FINGERPRINT with the fingerprint of its CA
    #[arg(long, value_name = "HOST:PORT[#FINGERPRINT]", env = "SLOTH_RUNNER_AGENT_MASTER")]
    pub master: AgentMaster,
    /// Port for a direct link [default: 50051 with --bind-address or --report-address, else none]
    #[arg(long, env = "SLOTH_RUNNER_AGENT_PORT")]
    pub port: Option<u16>,
    /// Address to listen on for a direct link, and to report to the master
    #[arg(long, value_name = "ADDRESS", env = "SLOTH_RUNNER_AGENT_BIND_ADDRESS")]
    pub bind_address: Option<String>,
    /// Address to report instead, behind NAT or a proxy device; the agent's port by default
    #[arg(long, value_name = "HOST[:PORT]", env = "SLOTH_RUNNER_AGENT_REPORT_ADDRESS")]
    pub report_address: Option<String>,
    /// Link to use
    #[arg(long, value_name = "LINK", default_value = "auto", env = "SLOTH_RUNNER_AGENT_LINK")]
    pub link: LinkPreference,
    /// Propose a label, KEY=VALUE; can be repeated
    #[arg(long, value_name = "KEY=VALUE", env = "SLOTH_RUNNER_AGENT_LABELS", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// A join token
    #[arg(long, env = "SLOTH_RUNNER_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub token: Option<Token>,
    /// Read the join token from a file; - is standard input
    #[arg(long, value_name = "FILE", env = "SLOTH_RUNNER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Fingerprint of the CA to trust
    #[arg(long, value_name = "DIGITS", env = "SLOTH_RUNNER_CA_FINGERPRINT")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Serve Prometheus metrics at http://HOST:PORT/metrics without authentication; a port alone means the loopback address
    #[arg(long, value_name = "[HOST:]PORT", env = "SLOTH_RUNNER_AGENT_METRICS")]
    pub metrics: Option<MetricsAddress>,
    /// Data directory of the agent
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_AGENT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Also run commands of operators on the master's machine: they can become administrators there
    #[arg(long, env = "SLOTH_RUNNER_AGENT_TRUST_OPERATORS")]
    pub trust_operators: bool,
    /// Run in the background; return when the agent is active, or report why it is not
    #[arg(long)]
    pub daemon: bool,
    /// Log settings.
    #[command(flatten)]
    pub log: LogArgs,
    /// Set in the process that `--daemon` starts.
    #[arg(long, hide = true)]
    pub daemonized: bool,
}

/// `agent supervisor`
#[derive(Debug, Args)]
pub struct SupervisorArgs {
    /// The agent's data directory.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The agent is one of many in one process, so nothing is held in reserve.
    #[arg(long)]
    pub of_many: bool,
}

/// `agent list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// List only these agents: names, web[01-20], globs, @role:web, combined with , ! & ^
    #[arg(value_name = "TARGET", add = completing::target())]
    pub agents: Option<String>,
    /// Filters for these agents.
    #[command(flatten)]
    pub recipients: TargetArgs,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `agent get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name of the agent
    #[arg(add = completing::agent())]
    pub name: AgentName,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `agent stop`
#[derive(Debug, Args)]
pub struct AgentStopArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name of the agent; the host name of this machine by default
    #[arg(add = completing::agent())]
    pub name: Option<AgentName>,
    /// Time that running commands get to finish
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub grace: Span,
    /// Data directory with which the agent was started
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_AGENT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `agent approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name under which the key is pending
    #[arg(add = completing::agent())]
    pub name: AgentName,
    /// One-time code that the agent printed on its machine
    #[arg(conflicts_with = "fingerprint")]
    pub code: Option<Code>,
    /// Fingerprint that the agent shows, or at least its first 8 digits; for a key without a code
    #[arg(long, value_name = "DIGITS")]
    pub fingerprint: Option<String>,
    /// Accept the labels and the address that the agent proposes, without confirmation
    #[arg(long, conflicts_with = "accept_nothing")]
    pub accept: bool,
    /// Ignore the labels and the address that the agent proposes, without confirmation; the default without a terminal
    #[arg(long)]
    pub accept_nothing: bool,
}

/// `agent reject`
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name under which the key is pending
    #[arg(required_unless_present = "all", add = completing::agent())]
    pub name: Option<AgentName>,
    /// First digits of the key's fingerprint; all keys with the name by default
    #[arg(long, value_name = "DIGITS", default_value = "", conflicts_with = "all")]
    pub fingerprint: String,
    /// Reject all pending keys
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
}

/// `agent delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name of the agent
    #[arg(add = completing::agent())]
    pub name: AgentName,
}

/// `agent label`
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// The agents to label.
    #[command(flatten)]
    pub of: AgentsArgs,
    /// Changes: KEY=VALUE sets a label, KEY- removes a label
    #[arg(value_name = "KEY=VALUE|KEY-", required_unless_present = "accept")]
    pub changes: Vec<LabelChange>,
    /// Accept the labels and the addresses for direct links that the agents propose
    #[arg(long, conflicts_with = "changes")]
    pub accept: bool,
    /// Do not ask for confirmation
    #[arg(long, requires = "accept")]
    pub yes: bool,
}

/// `agent shell`
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long to wait for an agent that is offline; 0 for no limit [default: one minute after its last contact]
    #[arg(long, value_name = "TIME")]
    pub start_within: Option<Span>,
    /// How long to wait for a shell that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Name of the agent
    #[arg(add = completing::agent())]
    pub name: AgentName,
}

/// `agent drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The agents to drain.
    #[command(flatten)]
    pub of: AgentsArgs,
    /// Reason, shown to other operators
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// The agents to change; all arguments of `agent resume`.
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Filters for these agents.
    #[command(flatten)]
    pub recipients: TargetArgs,
    /// Resolve targets by state or link immediately, even if agents have not reconnected since the master started
    #[arg(long)]
    pub now: bool,
    /// Target agents: names, web[01-20], globs, @role:web, combined with , ! & ^
    #[arg(value_name = "TARGET", add = completing::target())]
    pub agents: String,
}

/// `agent simulate`
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Names of the agents, with ranges
    #[arg(long, value_name = "NAMES", default_value = "node[00001-10000]")]
    pub name: String,
    /// Number of agents
    #[arg(long, value_name = "N")]
    pub count: usize,
    /// Address of the master: HOST:PORT, or HOST:PORT#FINGERPRINT with the fingerprint of its CA
    #[arg(long, value_name = "HOST:PORT[#FINGERPRINT]", env = "SLOTH_RUNNER_AGENT_MASTER")]
    pub master: AgentMaster,
    /// Label of all agents, KEY=VALUE; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// A join token with enough uses
    #[arg(long, env = "SLOTH_RUNNER_TOKEN", hide_env_values = true)]
    pub token: Option<Token>,
    /// Directory that holds a data directory for each agent
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
    /// Log settings.
    #[command(flatten)]
    pub log: LogArgs,
}
