//! Ansible's dynamic inventory, in the form that Ansible requires.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{
    agent::{AgentState, AgentView, LinkKind},
    name::Labels,
};

/// `inventory --list`: the agents, in a group for each label and each state.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Inventory<'a> {
    #[serde(rename = "_meta")]
    meta: Meta<'a>,
    all: AllHosts<'a>,
    #[serde(flatten)]
    groups: BTreeMap<String, Group<'a>>,
}

#[derive(Debug, Serialize)]
struct Meta<'a> {
    hostvars: BTreeMap<&'a str, InventoryHost<'a>>,
}

#[derive(Debug, Serialize)]
struct AllHosts<'a> {
    children: Vec<String>,
    hosts: Vec<&'a str>,
}

#[derive(Debug, Default, Serialize)]
struct Group<'a> {
    hosts: Vec<&'a str>,
}

/// `inventory --host`: the variables of one host.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct InventoryHost<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ansible_host: Option<&'a str>,
    sloth_state: AgentState,
    sloth_link: Option<&'static str>,
    sloth_version: Option<&'a str>,
    sloth_labels: &'a Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    sloth_os: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sloth_hostname: Option<&'a str>,
}

/// `inventory --host` for an unknown host: no variables.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct NoHost {}

impl<'a> InventoryHost<'a> {
    pub(in crate::cli) fn new(agent: &'a AgentView) -> Self {
        // Behind NAT this is the address of the gateway. Variables of a playbook can override it.
        let address = agent.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
        Self {
            ansible_host: super::some(address),
            sloth_state: agent.state,
            sloth_link: agent.link.map(LinkKind::word),
            sloth_version: super::some(agent.version.as_str()),
            sloth_labels: &agent.labels,
            sloth_os: agent.facts.as_ref().map(|facts| facts.os.as_str()),
            sloth_hostname: agent.facts.as_ref().map(|facts| facts.hostname.as_str()),
        }
    }
}

/// Returns a group's name with the characters that Ansible permits: letters, digits and `_`.
fn group(key: &str, value: &str) -> String {
    let plain = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '_' };
    format!("{key}_{value}").chars().map(plain).collect()
}

impl<'a> Inventory<'a> {
    pub(in crate::cli) fn new(agents: impl Iterator<Item = &'a AgentView>) -> Self {
        let mut groups: BTreeMap<String, Group<'a>> = BTreeMap::new();
        let mut hostvars = BTreeMap::new();
        for agent in agents {
            let state = group("state", agent.state.word());
            let labels = agent.labels.iter().map(|(key, value)| group(key.as_str(), value.as_str()));
            for name in labels.chain([state]) {
                groups.entry(name).or_default().hosts.push(agent.name.as_str());
            }
            hostvars.insert(agent.name.as_str(), InventoryHost::new(agent));
        }
        let all = AllHosts {
            children: groups.keys().cloned().collect(),
            hosts: hostvars.keys().copied().collect(),
        };
        Self { meta: Meta { hostvars }, all, groups }
    }
}
