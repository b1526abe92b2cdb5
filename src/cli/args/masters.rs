//! Arguments that name a master, and those of the commands for stored masters and operators.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};

use super::{Format, Span, nonzero_span};
use crate::{
    cli::completing,
    domain::{name::OperatorName, operator::Role},
};

/// A master, as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterChoice {
    /// `local`: the master of the current user on this machine, otherwise root's.
    Local,
    /// `unix:PATH`.
    Socket(PathBuf),
    /// A stored master, by name or address.
    Named(String),
}

impl FromStr for MasterChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.strip_prefix("unix:")) {
            ("local", _) => Self::Local,
            (_, Some(path)) => Self::Socket(path.into()),
            (name, None) => Self::Named(name.to_owned()),
        })
    }
}

/// The argument that names the master.
#[derive(Clone, Debug, Default, Args)]
pub struct ToMaster {
    /// The master: a stored name, unix:PATH, or local; the selected one by default, else the one of this machine
    #[arg(long = "master", value_name = "MASTER", env = "SLOTH_RUNNER_MASTER", add = completing::master())]
    pub master: Option<MasterChoice>,
}

/// `login`
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The login string that `master operator add` printed; read from standard input if omitted
    #[arg(value_name = "LOGIN", env = "SLOTH_RUNNER_LOGIN", hide_env_values = true)]
    pub login: Option<String>,
    /// Name for this master [default: its host name, made unique]
    #[arg(long)]
    pub name: Option<String>,
    /// Address of the master as seen from here, if the one in the login string is wrong
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// `master add`
#[derive(Debug, Args)]
pub struct MasterAddArgs {
    /// Name of the master
    pub name: String,
    /// Address of the master: unix:PATH (use `sloth-runner login` for a master on another machine)
    pub address: String,
}

/// `master list`
#[derive(Debug, Args)]
pub struct MasterListArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master select`
#[derive(Debug, Args)]
pub struct MasterSelectArgs {
    /// Name of the stored master; local for the one of this machine
    pub name: String,
}

/// `master show`
#[derive(Debug, Args)]
pub struct MasterShowArgs {
    /// Name of the stored master; the selected one by default
    pub name: Option<String>,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master remove`
#[derive(Debug, Args)]
pub struct MasterRemoveArgs {
    /// Name of the stored master; its key and its command history are removed too
    pub name: String,
}

/// The verbs of `master operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Add an operator, and print the login string for its machine
    Add(OperatorAddArgs),
    /// Create another login string for an operator, for another machine
    Login(OperatorLoginArgs),
    /// List the operators
    List(OperatorListArgs),
    /// Revoke all rights of an operator, and close its connections immediately
    Revoke(OperatorRevokeArgs),
}

/// `master operator add`
#[derive(Debug, Args)]
pub struct OperatorAddArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name of the operator
    pub name: OperatorName,
    /// Role: viewer (read only), operator (run commands) or admin (manage agents and operators)
    #[arg(long, value_name = "ROLE")]
    pub role: Role,
    /// User of the master's machine who is this operator and needs no login
    #[arg(long, value_name = "USER")]
    pub unix_user: Option<String>,
    /// Settings of the login string.
    #[command(flatten)]
    pub login: LoginStringArgs,
}

/// `master operator login`
#[derive(Debug, Args)]
pub struct OperatorLoginArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name of the operator
    pub name: OperatorName,
    /// Settings of the login string.
    #[command(flatten)]
    pub login: LoginStringArgs,
}

/// Settings of a login string.
#[derive(Debug, Args)]
pub struct LoginStringArgs {
    /// How long the login string is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = nonzero_span)]
    pub ttl: Span,
    /// Address at which the operator's machine reaches this master
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// `master operator list`
#[derive(Debug, Args)]
pub struct OperatorListArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master operator revoke`
#[derive(Debug, Args)]
pub struct OperatorRevokeArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Name of the operator
    pub name: OperatorName,
}
