//! Arguments of `config …`.

use clap::{Args, Subcommand};

use super::Format;

/// The verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show all settings with their effective values
    Show(ConfigShowArgs),
    /// Print an example file with every key, its default and its purpose
    Example,
}

/// `config show`
#[derive(Debug, Args)]
pub struct ConfigShowArgs {
    /// Show where each value comes from: a file, an environment variable, or the default
    #[arg(long)]
    pub origin: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}
