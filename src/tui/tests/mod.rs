//! Tests of the screen, without a terminal and without a master.

mod behaviour;
mod bytes;
mod cells;
mod hands;
mod harness;
mod leading;
mod properties;
mod room;
mod screens;
mod scrolling;
mod streams;

use crate::domain::{
    agent::{AgentState, AgentView, Facts, LastSeen, LinkKind},
    name::Labels,
    proposal::Proposal,
    time::UnixMs,
};

/// Returns an agent that needs no attention.
pub(in crate::tui) fn agent(name: &str) -> AgentView {
    let label =
        |key: &str, value: &str| (key.to_owned().try_into().unwrap(), value.to_owned().try_into().unwrap());
    AgentView {
        name: name.parse().unwrap(),
        state: AgentState::Active,
        link: Some(LinkKind::Tunnel),
        link_reason: "the agent did not ask for a direct link".to_owned(),
        address: "10.0.0.7:40512".to_owned(),
        direct_address: None,
        version: "0.1.0".into(),
        labels: Labels::from([label("role", "web"), label("dc", "ams")]),
        set_labels: Labels::new(),
        proposed: Proposal::default(),
        reported_labels: Labels::new(),
        last_seen: Some(LastSeen { at_ms: UnixMs(1_795_442_530_000), ago_ms: 1_000 }),
        enrolled_ms: UnixMs(0),
        fingerprint: "4F2A9C0D".repeat(8).parse().unwrap(),
        hint: String::new(),
        trust: "by token".into(),
        facts: Some(Facts {
            os: "Debian 12".into(),
            kernel: "6.1.0-18-amd64".into(),
            architecture: "x86_64".into(),
            cpus: 4,
            cpu_percent: 12.0,
            memory_total: 8_000_000_000,
            memory_available: 5_000_000_000,
            load1: 0.4,
            uptime_s: 200_000,
            hostname: name.into(),
            running_tasks: 0,
            troubles: Vec::new(),
        }),
        key_changed: false,
        has_code: false,
        offline_since_ms: None,
        last_job: None,
        drain: None,
    }
}
