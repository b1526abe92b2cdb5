//! Arguments of `service …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{agent::AgentStartArgs, master::MasterStartArgs};

/// The verbs of `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Install a systemd service, enable it and start it
    #[command(subcommand)]
    Install(InstallRole),
    /// Stop a service and remove its unit; its data is kept
    Remove(RemoveArgs),
    /// Print the unit that `install` would write
    #[command(subcommand)]
    Print(InstallRole),
}

/// The daemon to install as a service.
#[derive(Debug, Subcommand)]
pub enum InstallRole {
    /// An agent, with the flags of `agent start`
    Agent(Box<AgentServiceArgs>),
    /// The master, with the flags of `master start`
    Master(Box<MasterServiceArgs>),
}

/// Settings of a systemd unit.
#[derive(Clone, Debug, Args)]
pub struct UnitArgs {
    /// User that the service runs as; root by default
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Program that the unit starts; this one by default
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Do not enable or start the service
    #[arg(long)]
    pub no_start: bool,
    /// Write a unit for a package: settings come from the configuration file, the name from the host.
    #[arg(long, hide = true)]
    pub packaged: bool,
}

/// `service install agent`
#[derive(Debug, Args)]
pub struct AgentServiceArgs {
    /// Settings of the unit.
    #[command(flatten)]
    pub unit: UnitArgs,
    /// Install an additional agent on this machine as sloth-runner-agent@NAME
    #[arg(long)]
    pub instance: bool,
    /// Confine commands: they end with the service, have a private /tmp, and cannot use sudo
    #[arg(long)]
    pub confined: bool,
    /// Settings of the agent.
    #[command(flatten)]
    pub start: AgentStartArgs,
}

/// `service install master`
#[derive(Debug, Args)]
pub struct MasterServiceArgs {
    /// Settings of the unit.
    #[command(flatten)]
    pub unit: UnitArgs,
    /// Settings of the master.
    #[command(flatten)]
    pub start: MasterStartArgs,
}

/// `service remove`
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The service: agent or master
    #[arg(value_parser = ["agent", "master"])]
    pub role: String,
    /// Name of the instance sloth-runner-agent@NAME
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
}
