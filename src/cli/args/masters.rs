//! Which master is meant, and the verbs of stored masters and of operators.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};

use super::{Format, Span, some_time};
use crate::{cli::completing, domain::name::AgentName, trust::access::Role};

/// How a master is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterName {
    /// `local`: the own user's on this machine, else root's.
    Local,
    /// `unix:PATH`.
    Socket(PathBuf),
    /// A stored one, by name or address.
    Named(String),
}

impl FromStr for MasterName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.strip_prefix("unix:")) {
            ("local", _) => Self::Local,
            (_, Some(path)) => Self::Socket(path.into()),
            (name, None) => Self::Named(name.to_owned()),
        })
    }
}

/// Which master is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct ToMaster {
    /// The master: a stored name, unix:PATH, or local; by default the selected one, else the one of this machine
    #[arg(long = "master", value_name = "MASTER", env = "SLOTH_RUNNER_MASTER", add = completing::master())]
    pub master: Option<MasterName>,
}

/// `login`
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// What `master operator add` printed; read from standard input when it is not given
    #[arg(value_name = "LOGIN", env = "SLOTH_RUNNER_LOGIN", hide_env_values = true)]
    pub login: Option<String>,
    /// What to call this master here [default: its host name, or one like it that is free]
    #[arg(long)]
    pub name: Option<String>,
    /// Where the master is, seen from here, when the login string says it wrongly
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// `master add`
#[derive(Debug, Args)]
pub struct MasterAddArgs {
    /// What to call it
    pub name: String,
    /// Where it is: unix:PATH; a master elsewhere comes with `sloth-runner login`
    pub address: String,
}

/// `master list`
#[derive(Debug, Args)]
pub struct MasterListArgs {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master select`
#[derive(Debug, Args)]
pub struct MasterSelectArgs {
    /// Which; local for the one of this machine
    pub name: String,
}

/// `master show`
#[derive(Debug, Args)]
pub struct MasterShowArgs {
    /// Which; the selected one by default
    pub name: Option<String>,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master remove`
#[derive(Debug, Args)]
pub struct MasterRemoveArgs {
    /// Which; its key and its history go with it
    pub name: String,
}

/// The verbs of `master operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Make an operator known, and print the login for its machine
    Add(OperatorAddArgs),
    /// Give a known operator another login, for another machine
    Login(OperatorLoginArgs),
    /// List the operators
    List(OperatorListArgs),
    /// Take all rights of an operator away, and close its connections at once
    Revoke(OperatorRevokeArgs),
}

/// `master operator add`
#[derive(Debug, Args)]
pub struct OperatorAddArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// The operator's name
    pub name: AgentName,
    /// What it may do: viewer looks, operator runs, admin lets in and puts out
    #[arg(long, value_name = "ROLE")]
    pub role: Role,
    /// It is this user of the master's machine; then it needs no login
    #[arg(long, value_name = "USER")]
    pub unix_user: Option<String>,
    /// The login that is printed.
    #[command(flatten)]
    pub login: LoginStringArgs,
}

/// `master operator login`
#[derive(Debug, Args)]
pub struct OperatorLoginArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which operator
    pub name: AgentName,
    /// The login that is printed.
    #[command(flatten)]
    pub login: LoginStringArgs,
}

/// A login string.
#[derive(Debug, Args)]
pub struct LoginStringArgs {
    /// How long the login string is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = some_time)]
    pub ttl: Span,
    /// The address at which the operator's machine reaches this master
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// `master operator list`
#[derive(Debug, Args)]
pub struct OperatorListArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `master operator revoke`
#[derive(Debug, Args)]
pub struct OperatorRevokeArgs {
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which operator
    pub name: AgentName,
}
