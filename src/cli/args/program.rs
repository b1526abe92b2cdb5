//! The command line of the program, and the values that several commands take.

use std::{str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    agent::{AgentCommand, ListArgs, ShellArgs},
    doctor::DoctorArgs,
    job::JobCommand,
    master::MasterCommand,
    masters::LoginArgs,
    neighbours::{CompletionsArgs, InventoryArgs, ManArgs},
    run::RunArgs,
    service::ServiceVerb,
    settings::ConfigVerb,
    tui::TuiArgs,
};
use crate::{
    domain::{
        fingerprint::{Fingerprint, InvalidFingerprint},
        network::HostPort,
    },
    sys::logging::LogFormat,
};

/// Live control of all your machines, from one binary.
#[derive(Debug, Parser)]
#[command(name = "sloth-runner", version, propagate_version = true, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUSES: &str =
    "Exit status: 0 success, 1 failure, 2 invalid usage, 3 the agent was stopped by an order.
`agent run` has its own: see `sloth-runner agent run --help`.";

/// A length of time on the command line: `30s`, `5min`, `1h`; for a limit `0` means that there is none.
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
    /// Returns the length in milliseconds, at least 1: in a request, 0 means that the value is not set.
    #[must_use]
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Like [`Self::ms`], capped at `u32::MAX`.
    #[must_use]
    pub fn ms_u32(self) -> u32 {
        u32::try_from(self.ms()).unwrap_or(u32::MAX)
    }

    /// Returns the span as a limit; `None` if it is zero, which means no limit.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        Some(self.0).filter(|limit| !limit.is_zero())
    }

    /// Like [`Self::limit`], in milliseconds.
    #[must_use]
    pub fn limit_ms(self) -> Option<u64> {
        self.limit().map(|_| self.ms())
    }

    /// Returns the limit in milliseconds for a request in which a missing value means the default. No limit
    /// becomes a hundred years.
    #[must_use]
    pub fn ms_or_unlimited(self) -> u64 {
        self.limit_ms().unwrap_or(UNLIMITED_MS)
    }
}

/// The number of milliseconds that stands for no limit: a hundred years.
const UNLIMITED_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// Parses a length of time that must not be zero.
pub(super) fn nonzero_span(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    span.limit().map(Span).ok_or_else(|| "it must not be zero: write a time as 30s, 5min or 1h".to_owned())
}

/// A number of bytes on the command line: `512`, `100K`, `1M`, `10G`, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|sign: char| !sign.is_ascii_digit());
        let factor =
            match text[digits.len()..].to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
                "" => Some(0),
                "K" => Some(10),
                "M" => Some(20),
                "G" => Some(30),
                "T" => Some(40),
                _ => None,
            };
        let bytes =
            digits.parse::<u64>().ok().zip(factor).and_then(|(count, shift)| count.checked_mul(1 << shift));
        bytes
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or_else(|| "write a size as 512K, 100M or 10G".to_owned())
    }
}

/// The address that serves metrics: `127.0.0.1:9753`, or only a port on the loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsAddress {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self { host: "127.0.0.1".to_owned(), port });
        }
        let HostPort { host, port } = HostPort::parse(text, None).map_err(|error| error.to_string())?;
        Ok(Self { host, port })
    }
}

/// The port of a master, if its address names none.
const DEFAULT_MASTER_PORT: u16 = 50053;

/// The address of a master for agents: `HOST[:PORT]`, or `HOST[:PORT]#FINGERPRINT` with the fingerprint of its CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentMaster {
    /// The address.
    pub address: HostPort,
    /// The fingerprint of its CA, if it was given.
    pub ca_fingerprint: Option<Fingerprint>,
}

impl FromStr for AgentMaster {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, digits) = match text.split_once('#') {
            Some((address, digits)) => (address, Some(digits)),
            None => (text, None),
        };
        let address =
            HostPort::parse(address, Some(DEFAULT_MASTER_PORT)).map_err(|error| error.to_string())?;
        let ca_fingerprint = digits.map(str::parse).transpose();
        Ok(Self {
            address,
            ca_fingerprint: ca_fingerprint.map_err(|error: InvalidFingerprint| error.to_string())?,
        })
    }
}

/// The top-level subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open the control center: a live table of all agents, with panes for commands and their output
    Tui(TuiArgs),
    /// Start a private master with five agents; shows the control center on a terminal, otherwise a tour
    Demo(DemoArgs),
    /// Manage the master: start, stop, status, tokens, operators, stored masters
    Master(Box<MasterCommand>),
    /// Log in to a master on another machine, and store it by name
    Login(LoginArgs),
    /// Manage agents: start, list, run commands, labels, approval
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Short for `agent list`
    List(ListArgs),
    /// Short for `agent run`
    #[command(alias = "exec")]
    Run(Box<RunArgs>),
    /// Short for `agent shell`
    #[command(alias = "ssh")]
    Shell(ShellArgs),
    /// Install, remove or print systemd services
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Check the installation on this machine, and explain how to fix problems
    Doctor(DoctorArgs),
    /// Show the configuration and where each value comes from
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print completions for a shell; agents, labels and jobs are completed from the live master
    Completions(CompletionsArgs),
    /// Write a man page for every command to a directory
    Man(ManArgs),
    /// Print a dynamic inventory for Ansible, with a group for each label and state
    Inventory(InventoryArgs),
    /// Manage jobs: list, show, attach, logs, cancel, rerun, delete
    #[command(subcommand)]
    Job(JobCommand),
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Show the tour even on a terminal
    #[arg(long)]
    pub tour: bool,
}

/// Log settings of a daemon.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// Log level: error, warn, info, debug, or a tracing filter
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "SLOTH_RUNNER_LOG_LEVEL")]
    pub log_level: String,
    /// Format of log lines
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "SLOTH_RUNNER_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// The output format of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for a person to read
    #[default]
    Text,
    /// One JSON object
    Json,
    /// A stream of JSON objects, one per line, if the command streams; otherwise one object
    Ndjson,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Use colours always.
    Always,
    /// Use no colours.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_of_an_agent_has_a_default_port_and_perhaps_a_fingerprint() {
        let digits = "4F2A9C0D".repeat(8);
        let parse = |text: &str| text.parse::<AgentMaster>();
        let expected = |host: &str, port, has_digits: bool| {
            let ca_fingerprint = has_digits.then(|| digits.parse().unwrap());
            Ok(AgentMaster { address: HostPort::new(host, port), ca_fingerprint })
        };
        assert_eq!(parse("prod"), expected("prod", 50053, false));
        assert_eq!(parse("prod:7"), expected("prod", 7, false));
        assert_eq!(parse(&format!("prod#{digits}")), expected("prod", 50053, true));
        assert_eq!(parse(&format!("[::1]:7#{digits}")), expected("::1", 7, true));
        for wrong in ["prod#", "prod#12", "", "#12", ":7", "prod:x"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stop_at_the_target() {
        let line = "sloth-runner run -q web-1 ls -l --color";
        let Command::Run(job) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!((job.agents.as_str(), job.command.len()), ("web-1", 3));
        assert!(job.print.quiet);
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
