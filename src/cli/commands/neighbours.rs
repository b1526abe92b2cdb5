//! Output for other programs: shell completions, man pages, an inventory for Ansible.

use std::{fs, io, path::Path};

use clap::CommandFactory as _;
use clap_complete::env::Shells;

use super::{connect, on_one_thread};
use crate::{
    cli::{
        args::{
            Cli, Format,
            neighbours::{CompletionsArgs, InventoryArgs, ManArgs},
        },
        exit::{self, Failure, Status},
        json::{Inventory, InventoryHost, NoHost},
        output::{print_json_ignoring_closed, say},
    },
    domain::agent::AgentState,
};

/// The environment variable with which a shell's completion calls this program.
pub(crate) const COMPLETION_VARIABLE: &str = "SLOTH_RUNNER_COMPLETE";

pub(super) fn completions(args: &CompletionsArgs) -> Result<Status, Failure> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&args.shell) else {
        let names: Vec<_> = shells.names().collect();
        return Err(Failure::usage(format!(
            "no completions for this shell; use one of {}",
            names.join(", ")
        )));
    };
    let mut script = Vec::new();
    let name = env!("CARGO_PKG_NAME");
    shell.write_registration(COMPLETION_VARIABLE, name, name, name, &mut script)?;
    say(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

/// Writes a man page for every command.
pub(super) fn man(args: &ManArgs) -> Result<Status, Failure> {
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", args.directory.display()));
    fs::create_dir_all(&args.directory).map_err(failed)?;
    let mut command = Cli::command();
    command.build();
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        pages(inner, env!("CARGO_PKG_NAME"), &args.directory).map_err(failed)?;
    }
    Ok(exit::OK)
}

fn pages(command: &clap::Command, parent: &str, directory: &Path) -> io::Result<()> {
    let name = format!("{parent}-{}", command.get_name());
    // The page of the control center is written by hand.
    if name != "sloth-runner-tui" {
        let page = clap_mangen::Man::new(command.clone().name(name.clone()))
            .title(name.to_uppercase())
            .source(format!("sloth-runner {}", env!("CARGO_PKG_VERSION")))
            .manual("sloth-runner");
        let mut text = Vec::new();
        page.render(&mut text)?;
        fs::write(directory.join(format!("{name}.1")), text)?;
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        pages(inner, &name, directory)?;
    }
    Ok(())
}

/// Prints the dynamic inventory for Ansible.
pub(super) fn inventory(args: &InventoryArgs) -> Result<Status, Failure> {
    let agents = on_one_thread(async { Ok(connect(&args.to).await?.agents(None).await?) })?;
    let known = agents.iter().filter(|agent| agent.state != AgentState::Pending);
    if let Some(name) = &args.host {
        let found = known.clone().find(|agent| agent.name.as_str() == *name);
        match found {
            Some(agent) => print_json_ignoring_closed(Format::Json, &InventoryHost::new(agent))?,
            None => print_json_ignoring_closed(Format::Json, &NoHost {})?,
        }
    } else {
        print_json_ignoring_closed(Format::Json, &Inventory::new(known))?;
    }
    Ok(exit::OK)
}
