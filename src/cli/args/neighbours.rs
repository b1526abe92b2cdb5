//! Arguments of `completions`, `man` and `inventory`.

use std::path::PathBuf;

use clap::Args;

use super::ToMaster;

/// `completions`
#[derive(Debug, Args)]
#[command(after_help = "Put into ~/.bashrc:   source <(sloth-runner completions bash)
Put into ~/.zshrc:    source <(sloth-runner completions zsh)
For fish:             sloth-runner completions fish > ~/.config/fish/completions/sloth-runner.fish")]
pub struct CompletionsArgs {
    /// Shell: bash, zsh, fish, elvish or powershell
    pub shell: String,
}

/// `man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write the pages to
    pub directory: PathBuf,
}

/// `inventory`
#[derive(Debug, Args)]
pub struct InventoryArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// List all agents; this is the default
    #[arg(long)]
    pub list: bool,
    /// Print the variables of one agent
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    pub host: Option<String>,
}
