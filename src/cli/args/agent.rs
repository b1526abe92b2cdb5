//! `agent …`, but for `agent run`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Format, LogArgs, MetricsAddress, Span, ToMaster,
    run::{RunArgs, WhomArgs},
};
use crate::{
    cli::completing,
    domain::{
        agent::LinkPreference,
        name::{AgentName, Label, LabelChange},
    },
    trust::{code::Code, fingerprint::Fingerprint, token::Token},
};

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
    Run(Box<RunArgs>),
    /// Open a shell in a terminal on an agent; ~. at the beginning of a line hangs up
    Shell(ShellArgs),
    /// Set and remove labels on the master's side, or accept those that agents propose
    Label(LabelArgs),
    /// Let agents take no new tasks; what runs there goes on
    Drain(DrainArgs),
    /// Let drained agents take tasks again
    Resume(AgentsArgs),
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
    Supervisor(SupervisorArgs),
    /// Many agents in one process, for tests and measurements
    #[command(hide = true)]
    Simulate(SimulateArgs),
}

/// `agent start`
#[derive(Debug, Args)]
pub struct AgentStartArgs {
    /// The agent's name; the host name by default
    #[arg(long, env = "SLOTH_RUNNER_AGENT_NAME")]
    pub name: Option<String>,
    /// The master: HOST:PORT, or HOST:PORT#FINGERPRINT with the fingerprint of its CA
    #[arg(long, value_name = "HOST:PORT[#FINGERPRINT]", env = "SLOTH_RUNNER_AGENT_MASTER")]
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
    /// Propose a label, KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", env = "SLOTH_RUNNER_AGENT_LABELS", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// A join token
    #[arg(long, env = "SLOTH_RUNNER_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub token: Option<Token>,
    /// A file that holds a join token; - is standard input
    #[arg(long, value_name = "FILE", env = "SLOTH_RUNNER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Fingerprint of the CA to believe in
    #[arg(long, value_name = "DIGITS", env = "SLOTH_RUNNER_CA_FINGERPRINT")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Serve metrics for Prometheus at http://HOST:PORT/metrics, to whoever reaches it; a port alone means loopback
    #[arg(long, value_name = "[HOST:]PORT", env = "SLOTH_RUNNER_AGENT_METRICS")]
    pub metrics: Option<MetricsAddress>,
    /// Directory for everything that the agent keeps
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_AGENT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// On the master's machine, run commands of operators too: anyone who runs commands there can become administrator
    #[arg(long, env = "SLOTH_RUNNER_AGENT_TRUST_OPERATORS")]
    pub trust_operators: bool,
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

/// `agent supervisor`
#[derive(Debug, Args)]
pub struct SupervisorArgs {
    /// The agent's directory.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The agent is one of many in one process: nothing is held in reserve.
    #[arg(long)]
    pub of_many: bool,
}

/// `agent list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Only these, as `agent run` would mean them: names, web[01-20], globs, @role:web, joined by , ! & ^
    #[arg(value_name = "TARGET", add = completing::target())]
    pub agents: Option<String>,
    /// Which of them.
    #[command(flatten)]
    pub whom: WhomArgs,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `agent get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which agent
    #[arg(add = completing::agent())]
    pub name: AgentName,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `agent stop`
#[derive(Debug, Args)]
pub struct AgentStopArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which agent; the one of this machine's host name by default
    #[arg(add = completing::agent())]
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
    pub to: ToMaster,
    /// Under which name the key waits
    #[arg(add = completing::agent())]
    pub name: AgentName,
    /// The one-time code that the agent printed on its machine
    #[arg(conflicts_with = "fingerprint")]
    pub code: Option<Code>,
    /// The fingerprint that the agent shows, at least its first 8 digits; for a key without a code
    #[arg(long, value_name = "DIGITS")]
    pub fingerprint: Option<String>,
    /// Accept the labels and the address that it proposes, without a question
    #[arg(long, conflicts_with = "accept_nothing")]
    pub accept: bool,
    /// Leave what it proposes without effect, without a question; so it is where there is no terminal
    #[arg(long)]
    pub accept_nothing: bool,
}

/// `agent reject`
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Under which name the key waits
    #[arg(required_unless_present = "all", add = completing::agent())]
    pub name: Option<AgentName>,
    /// The first digits of its fingerprint; all keys under the name by default
    #[arg(long, value_name = "DIGITS", default_value = "", conflicts_with = "all")]
    pub fingerprint: String,
    /// All keys that wait, under whatever name
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
}

/// `agent delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which agent
    #[arg(add = completing::agent())]
    pub name: AgentName,
}

/// `agent label`
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Which agents.
    #[command(flatten)]
    pub of: AgentsArgs,
    /// KEY=VALUE sets a label, KEY- removes one
    #[arg(value_name = "KEY=VALUE|KEY-", required_unless_present = "accept")]
    pub changes: Vec<LabelChange>,
    /// Accept the labels and the addresses for direct links that the agents propose: from now on they count
    #[arg(long, conflicts_with = "changes")]
    pub accept: bool,
    /// Ask no question
    #[arg(long, requires = "accept")]
    pub yes: bool,
}

/// `agent shell`
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How long to wait for an agent that is offline; 0 for no limit [default: until it was silent for a minute]
    #[arg(long, value_name = "TIME")]
    pub start_within: Option<Span>,
    /// How long to wait for a shell that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// On which agent
    #[arg(add = completing::agent())]
    pub name: AgentName,
}

/// `agent drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Which agents.
    #[command(flatten)]
    pub of: AgentsArgs,
    /// Why, for whoever sees it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Agents to whom something is done; all of `agent resume`.
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which of them.
    #[command(flatten)]
    pub whom: WhomArgs,
    /// Take targets by state or link even just after a master's start, when agents are not back yet
    #[arg(long)]
    pub now: bool,
    /// Whom: names, web[01-20], globs, @role:web, joined by , ! & ^
    #[arg(value_name = "TARGET", add = completing::target())]
    pub agents: String,
}

/// `agent simulate`
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Their names, spelled out by ranges
    #[arg(long, value_name = "NAMES", default_value = "node[00001-10000]")]
    pub name: String,
    /// How many
    #[arg(long, value_name = "N")]
    pub count: usize,
    /// The master: HOST:PORT, or HOST:PORT#FINGERPRINT with the fingerprint of its CA
    #[arg(long, value_name = "HOST:PORT[#FINGERPRINT]", env = "SLOTH_RUNNER_AGENT_MASTER")]
    pub master: String,
    /// A label of all of them, KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// A join token with enough uses
    #[arg(long, env = "SLOTH_RUNNER_TOKEN", hide_env_values = true)]
    pub token: Option<Token>,
    /// Directory with one directory for each of them
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
    /// How they log.
    #[command(flatten)]
    pub log: LogArgs,
}
