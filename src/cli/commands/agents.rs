//! `agent list|get|approve|reject|delete`.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::{
    connect, on_one_thread,
    proposals::{accept, accepts_proposals, footer, proposed, shown_key},
};
use crate::{
    cli::{
        args::{
            Colour, Format,
            agent::{AgentsArgs, ApproveArgs, DeleteArgs, GetArgs, LabelArgs, ListArgs, RejectArgs},
        },
        exit::{self, Failure, Status},
        output::{Cell, Paint, Tone, complain, note, say, say_json_as, stdout_is_terminal, table},
    },
    domain::{
        agent::{AgentState, Facts},
        proposal::Proposal,
        target::{fold::fold, selection::Selection},
        text::{plural, strip_control},
    },
    sys::clock::{format_duration, local_time, unix_ms},
    wire::{agent::state_in, proto, status::CallError},
};

fn state_tone(state: AgentState) -> Tone {
    match state {
        AgentState::Active => Tone::Good,
        AgentState::Late | AgentState::Draining | AgentState::Pending => Tone::Waiting,
        AgentState::Offline => Tone::Bad,
    }
}

/// Labels that count, then those that are proposed.
fn labels(agent: &proto::Agent) -> String {
    let mut labels: Vec<_> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    let proposed = agent.proposed_labels.iter().map(|(key, value)| format!("{key}={value} (proposed)"));
    let mut proposed: Vec<_> = proposed.collect();
    proposed.sort();
    labels.append(&mut proposed);
    if labels.is_empty() { "-".to_owned() } else { labels.join(",") }
}

/// Labels that count, and where each comes from.
fn labels_with_origin(agent: &proto::Agent) -> String {
    let shown = |(key, value): (&String, &String)| {
        let brought = agent.brought_labels.get(key);
        match (agent.set_labels.contains_key(key), brought) {
            (false, _) => format!("{key}={value} (the agent's)"),
            (true, None) => format!("{key}={value} (set here)"),
            (true, Some(brought)) if brought == value => format!("{key}={value} (set here and the agent's)"),
            (true, Some(brought)) => format!("{key}={value} (set here, over the agent's {brought})"),
        }
    };
    let mut labels: Vec<_> = agent.labels.iter().map(shown).collect();
    labels.sort();
    labels.join(", ")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Returns where an agent can be reached: its direct address, or the host from which it connects. The port of that connection
/// is of no use to anyone.
fn reachable_at(agent: &proto::Agent) -> String {
    if !agent.direct_address.is_empty() {
        return agent.direct_address.clone();
    }
    match agent.address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().to_string(),
        Err(_) => or_dash(&agent.address),
    }
}

fn last_seen(agent: &proto::Agent, now_ms: u64) -> String {
    match agent.last_seen_ms {
        0 => "never".to_owned(),
        ms => {
            // By the master's clock, unless it is too old to say so.
            let ago = agent.last_seen_ago_ms.unwrap_or(now_ms.saturating_sub(ms));
            let ago = Duration::from_millis(ago);
            if ago < Duration::from_mins(1) {
                format!("{} s ago", ago.as_secs())
            } else {
                format!("{} ago", format_duration(ago))
            }
        }
    }
}

/// A hint for whatever is not as it should be: the state first, else why the link is not the wanted one.
fn hint(agent: &proto::Agent) -> String {
    let wanted_direct = agent.link == "tunnel" && !agent.direct_address.is_empty();
    if agent.hint.is_empty() && wanted_direct { agent.link_reason.clone() } else { agent.hint.clone() }
}

/// The table of agents.
pub(super) fn agents_table(agents: &[proto::Agent], paint: Paint) -> String {
    let now_ms = unix_ms();
    let rows: Vec<Vec<Cell>> = agents
        .iter()
        .map(|agent| {
            let state = state_in(agent.state());
            let word = format!("{} {}", state.glyph(), state.word());
            vec![
                Cell::from(agent.name.as_str()),
                Cell::toned(word, state_tone(state)),
                Cell::from(or_dash(&agent.link)),
                Cell::from(reachable_at(agent)),
                Cell::from(or_dash(&agent.version)),
                Cell::from(labels(agent)),
                Cell::from(last_seen(agent, now_ms)),
                Cell::from(hint(agent)),
            ]
        })
        .collect();
    let heading = ["NAME", "STATE", "LINK", "ADDRESS", "VERSION", "LABELS", "LAST SEEN", "HINT"];
    table(&heading, &rows, paint)
}

fn agent_json(agent: &proto::Agent) -> Value {
    json!({
        "name": agent.name,
        "state": state_in(agent.state()).word(),
        "link": agent.link,
        "link_reason": agent.link_reason,
        "address": agent.address,
        "direct_address": agent.direct_address,
        "version": agent.version,
        "labels": agent.labels,
        "set_labels": agent.set_labels,
        "brought_labels": agent.brought_labels,
        "proposed_labels": agent.proposed_labels,
        "proposed_address": agent.proposed_address,
        "last_seen_ms": agent.last_seen_ms,
        "fingerprint": agent.fingerprint,
        "hint": hint(agent),
        "enrolled_ms": agent.enrolled_ms,
        "trust": agent.trust,
        "drain": agent.drain.as_ref().map(|drain| {
            json!({ "reason": drain.reason, "by": drain.by, "since_ms": drain.since_ms })
        }),
        "key_changed": agent.key_changed,
        "facts": agent.facts.clone().map(Facts::from),
    })
}

/// What is asked for; all agents when nothing is.
fn selection(args: &ListArgs) -> Result<Option<Selection>, Failure> {
    let recipients = &args.recipients;
    let is_bare = recipients.selector.is_none() && recipients.exclude.is_none() && recipients.limit.is_none();
    match args.agents.as_deref() {
        None if is_bare => Ok(None),
        target => recipients.selection(target.unwrap_or("@all")).map(Some).map_err(Failure::usage),
    }
}

pub(super) fn list(args: &ListArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let selection = selection(args)?;
        let is_preview = selection.is_some();
        let agents = client.agents(selection).await?;
        match args.output {
            Format::Json | Format::Ndjson => {
                let agents: Vec<_> = agents.iter().map(agent_json).collect();
                say_json_as(args.output, &json!({ "schema_version": 1, "agents": agents }))?;
            }
            Format::Text if agents.is_empty() => {
                say("no agents yet; `sloth-runner master token create` prints the line that starts one\n")?;
            }
            Format::Text => {
                let paint = Paint::new(Colour::Auto, stdout_is_terminal());
                say(&agents_table(&agents, paint))?;
                if let Some(footer) = footer(&agents) {
                    note(&footer);
                }
                if is_preview {
                    let folded = fold(agents.iter().map(|agent| agent.name.as_str()));
                    say(&format!("{} {}: {folded}\n", agents.len(), plural("agent", agents.len())))?;
                }
            }
        }
        Ok(exit::OK)
    })
}

pub(super) fn get(args: &GetArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let all = client.agents(None).await?;
        let mut found = all.iter().filter(|agent| agent.name == args.name.as_str()).peekable();
        if found.peek().is_none() {
            let near =
                crate::domain::name::nearest(args.name.as_str(), all.iter().map(|agent| agent.name.as_str()));
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!("; did you mean {}?", near.join(" or "))
            };
            return Err(Failure::new(format!("no such agent: {}{hint}", args.name)));
        }
        match args.output {
            Format::Json | Format::Ndjson => {
                let agents: Vec<_> = found.map(agent_json).collect();
                say_json_as(args.output, &json!({ "schema_version": 1, "agents": agents }))?;
            }
            Format::Text => found.try_for_each(|agent| say(&details(agent)))?,
        }
        Ok(exit::OK)
    })
}

fn details(agent: &proto::Agent) -> String {
    let now_ms = unix_ms();
    let state = state_in(agent.state());
    let mut rows = vec![
        ("name", agent.name.clone()),
        ("state", format!("{} {}", state.glyph(), state.word())),
        ("hint", hint(agent)),
        ("link", agent.link.clone()),
        ("", agent.link_reason.clone()),
        ("connected from", agent.address.clone()),
        ("direct address", agent.direct_address.clone()),
        ("version", agent.version.clone()),
        ("labels", labels_with_origin(agent)),
        ("proposed", proposed(agent)),
        ("last seen", last_seen(agent, now_ms)),
        ("fingerprint", agent.fingerprint.clone()),
        ("trusts the CA by", agent.trust.clone()),
        ("enrolled", local_time(agent.enrolled_ms, now_ms)),
    ];
    if let Some(facts) = agent.facts.clone().map(Facts::from) {
        let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1024 * 10 / 1024);
        rows.extend([
            ("host", facts.hostname.into()),
            ("system", format!("{}, Linux {} {}", facts.os, facts.kernel, facts.architecture)),
            (
                "processors",
                format!("{}, {:.0} % busy, load {:.2}", facts.cpus, facts.cpu_percent, facts.load1),
            ),
            ("memory", format!("{} of {} available", gib(facts.memory_available), gib(facts.memory_total))),
            ("up", format_duration(Duration::from_secs(facts.uptime_s))),
            ("running tasks", facts.running_tasks.to_string()),
        ]);
    }
    let shown = rows.into_iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(key, value)| format!("{key:<17} {}", strip_control(&value))).collect::<Vec<_>>().join("\n")
        + "\n"
}

/// Shows the keys that wait under a name, and what it takes to let one in.
fn show_waiting(args: &ApproveArgs, waiting: &[proto::Agent]) -> Result<Status, Failure> {
    let name = &args.name;
    let [first, rest @ ..] = waiting else {
        return Err(Failure::new(format!("no key waits under the name {name}")));
    };
    for agent in waiting {
        let seen = last_seen(agent, unix_ms());
        say(&format!("{}  from {}  {seen}\n", agent.fingerprint, agent.address))?;
        let proposed = proposed(agent);
        if !proposed.is_empty() {
            say(&format!("  proposes {proposed}\n"))?;
        }
    }
    complain(&if waiting.iter().any(|agent| agent.has_code) {
        format!(
            "type the code that {name} printed when it started, or wrote to its log there: sloth-runner agent approve {name} CODE"
        )
    } else {
        let digits = if rest.is_empty() { first.fingerprint.get(..16).unwrap_or("DIGITS") } else { "DIGITS" };
        format!(
            "compare with what the agent shows, then: sloth-runner agent approve {name} --fingerprint {digits}"
        )
    });
    Ok(exit::USAGE)
}

pub(super) fn approve(args: &ApproveArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let mut waiting = client.waiting_keys().await?;
        waiting.retain(|agent| agent.name == args.name.as_str());
        let (code, fingerprint) = match (&args.code, &args.fingerprint) {
            (Some(code), _) => (code.to_string(), String::new()),
            (None, Some(digits)) => (String::new(), digits.clone()),
            (None, None) => return show_waiting(args, &waiting),
        };
        let shown = if accepts_proposals(args, &waiting)? {
            waiting.into_iter().map(shown_key).collect()
        } else {
            Vec::new()
        };
        let name = args.name.to_string();
        let request = proto::ApproveAgentRequest { name, fingerprint, code, shown };
        let approved = client.calls().approve_agent(request).await.map_err(CallError::from)?.into_inner();
        let replaced = if approved.replaced_key { "; its old key is forgotten" } else { "" };
        let accepted = Proposal::from(approved.accepted.unwrap_or_default());
        let with = if accepted.is_empty() { String::new() } else { format!(", with {accepted}") };
        say(&format!("{} may join with key {}{with}{replaced}\n", args.name, approved.fingerprint))?;
        Ok(exit::OK)
    })
}

pub(super) fn reject(args: &RejectArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let name = args.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let of = if args.all { String::new() } else { format!(" of {name}") };
        let request =
            proto::RejectAgentRequest { name, fingerprint: args.fingerprint.clone(), all: args.all };
        let rejected = client.calls().reject_agent(request).await.map_err(CallError::from)?.into_inner();
        let count = rejected.rejected as usize;
        let are = if count == 1 { "is" } else { "are" };
        say(&format!("{count} waiting {}{of} {are} forgotten\n", plural("key", count)))?;
        Ok(exit::OK)
    })
}

pub(super) fn delete(args: &DeleteArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let request = proto::DeleteAgentRequest { name: args.name.to_string() };
        let deleted = client.calls().delete_agent(request).await.map_err(CallError::from)?.into_inner();
        let lost = match deleted.lost_tasks {
            0 => String::new(),
            n => format!("; {n} of its tasks are lost"),
        };
        say(&format!("{} is forgotten; it may ask again, and waits then{lost}\n", args.name))?;
        Ok(exit::OK)
    })
}

pub(super) fn label(args: &LabelArgs) -> Result<Status, Failure> {
    let selection = args.of.recipients.selection(&args.of.agents).map_err(Failure::usage)?;
    on_one_thread(async {
        let client = connect(&args.of.to).await?;
        if args.accept {
            return accept(&client, selection, args.yes).await;
        }
        let request = proto::LabelAgentsRequest {
            selection: Some(selection.into()),
            changes: args.changes.iter().map(ToString::to_string).collect(),
            now: args.of.now,
            ..proto::LabelAgentsRequest::default()
        };
        let labelled = client.calls().label_agents(request).await.map_err(CallError::from)?.into_inner();
        let folded = fold(labelled.agents.iter().map(String::as_str));
        let count = labelled.agents.len();
        say(&format!("labels of {count} {} are set: {folded}\n", plural("agent", count)))?;
        if !labelled.still_brought.is_empty() {
            let folded = fold(labelled.still_brought.iter().map(String::as_str));
            complain(&format!(
                "{folded}: the label is still there, because the agent itself has it; set another value, or start the agent without that label"
            ));
        }
        Ok(exit::OK)
    })
}

/// Lets agents take no new tasks, for a reason, or take them again.
pub(super) fn drain(args: &AgentsArgs, reason: Option<&str>) -> Result<Status, Failure> {
    let selection = args.recipients.selection(&args.agents).map_err(Failure::usage)?;
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let request = proto::DrainAgentsRequest {
            selection: Some(selection.into()),
            now: args.now,
            resume: reason.is_none(),
            reason: reason.unwrap_or_default().to_owned(),
        };
        let changed = client.calls().drain_agents(request).await.map_err(CallError::from)?.into_inner();
        let folded = |names: &[String]| fold(names.iter().map(String::as_str));
        let (does, did) = match reason {
            Some(_) => ("takes no new tasks", "was draining before"),
            None => ("takes tasks again", "was not draining"),
        };
        if !changed.agents.is_empty() {
            let running = match changed.running {
                0 => String::new(),
                1 => "; 1 task still runs".to_owned(),
                running => format!("; {running} tasks still run"),
            };
            say(&format!("{} {does}{running}\n", folded(&changed.agents)))?;
        }
        if !changed.unchanged.is_empty() {
            note(&format!("{} {did}", folded(&changed.unchanged)));
        }
        Ok(exit::OK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_listed_where_it_can_be_reached() {
        let agent = |address: &str, direct: &str| proto::Agent {
            address: address.into(),
            direct_address: direct.into(),
            ..proto::Agent::default()
        };
        assert_eq!(reachable_at(&agent("10.0.0.7:41724", "web-1.example:50051")), "web-1.example:50051");
        assert_eq!(
            reachable_at(&agent("10.0.0.7:41724", "")),
            "10.0.0.7",
            "the port is the connection's own"
        );
        assert_eq!(reachable_at(&agent("[2001:db8::7]:41724", "")), "2001:db8::7");
        assert_eq!(reachable_at(&agent("[::ffff:10.0.0.7]:41724", "")), "10.0.0.7");
        assert_eq!(reachable_at(&agent("", "")), "-");
    }
}
