//! Output for other programs: shell completions, man pages, an inventory for Ansible.

use std::{collections::BTreeMap, fs, io, path::Path};

use clap::CommandFactory as _;
use clap_complete::env::Shells;
use serde_json::{Value, json};

use super::{connect, on_one_thread};
use crate::{
    cli::{
        args::{
            Cli,
            neighbours::{CompletionsArgs, InventoryArgs, ManArgs},
        },
        exit::{self, Failure, Status},
        output::{say, say_json},
    },
    domain::agent::{AgentState, AgentView, LinkKind},
};

/// The variable by which a shell's completion asks this program.
pub const VARIABLE: &str = "SLOTH_RUNNER_COMPLETE";

pub(super) fn completions(args: &CompletionsArgs) -> Result<Status, Failure> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&args.shell) else {
        let names: Vec<_> = shells.names().collect();
        return Err(Failure::usage(format!("there are completions for {}", names.join(", "))));
    };
    let mut script = Vec::new();
    let name = env!("CARGO_PKG_NAME");
    shell.write_registration(VARIABLE, name, name, name, &mut script)?;
    say(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

/// Writes a page for every command.
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
    // The control center's page is written, not made.
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

/// A group's name as Ansible takes it: letters, digits and `_`.
fn group(key: &str, value: &str) -> String {
    let plain = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '_' };
    format!("{key}_{value}").chars().map(plain).collect()
}

fn host(agent: &AgentView) -> Value {
    // Behind NAT this is the gateway; who knows better sets ansible_host in the playbook's own variables.
    let address = agent.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    let mut variables = json!({
        "sloth_state": agent.state.word(),
        "sloth_link": agent.link.map_or("", LinkKind::word),
        "sloth_version": agent.version,
        "sloth_labels": agent.labels,
    });
    if !address.is_empty() {
        variables["ansible_host"] = Value::from(address);
    }
    if let Some(facts) = &agent.facts {
        variables["sloth_os"] = Value::from(facts.os.as_str());
        variables["sloth_hostname"] = Value::from(facts.hostname.as_str());
    }
    variables
}

/// Ansible's dynamic inventory: the agents, in a group for each label and each state.
pub(super) fn inventory(args: &InventoryArgs) -> Result<Status, Failure> {
    let agents = on_one_thread(async { Ok(connect(&args.to).await?.agents(None).await?) })?;
    let known = agents.iter().filter(|agent| agent.state != AgentState::Pending);
    if let Some(name) = &args.host {
        let found = known.clone().find(|agent| agent.name.as_str() == *name);
        say_json(&found.map_or_else(|| json!({}), host))?;
        return Ok(exit::OK);
    }
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut hosts = serde_json::Map::new();
    for agent in known {
        let state = group("state", agent.state.word());
        let labels = agent.labels.iter().map(|(key, value)| group(key.as_str(), value.as_str()));
        for name in labels.chain([state]) {
            groups.entry(name).or_default().push(agent.name.as_str());
        }
        hosts.insert(agent.name.to_string(), host(agent));
    }
    let names: Vec<&String> = groups.keys().collect();
    let mut inventory = json!({
        "_meta": { "hostvars": hosts },
        "all": { "children": names, "hosts": hosts.keys().collect::<Vec<_>>() },
    });
    for (name, hosts) in &groups {
        inventory[name.as_str()] = json!({ "hosts": hosts });
    }
    say_json(&inventory)?;
    Ok(exit::OK)
}
