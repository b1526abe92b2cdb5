//! `agent list|get|approve|reject|delete`.

use std::{net::SocketAddr, time::Duration};

use chrono::Local;

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
        json::{AgentList, Document},
        output::{Cell, Paint, complain, note, print_json_ignoring_closed, say, stdout_is_terminal, table},
    },
    domain::{
        agent::{AgentView, LinkKind},
        code::KeyMark,
        control::{ApproveAgent, ChangeLabels, DeleteAgent, DrainAgents, LabelAgents, RejectAgents},
        name::{AgentName, LabelWord},
        proposal::DirectAddress,
        target::{fold::fold, selection::Selection},
        text::{form, plural, strip_control},
        time::{UnixMs, format_duration, local_time},
    },
    sys::clock::unix_ms,
};

/// Returns the effective labels, then the proposed ones.
fn labels(agent: &AgentView) -> String {
    let labels = agent.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let proposed = agent.proposed.labels.iter().map(|(key, value)| format!("{key}={value} (proposed)"));
    let labels: Vec<_> = labels.chain(proposed).collect();
    if labels.is_empty() { "-".to_owned() } else { labels.join(",") }
}

/// Returns the effective labels, each with its origin.
fn labels_with_origin(agent: &AgentView) -> String {
    let shown = |(key, value): (&LabelWord, &LabelWord)| {
        let brought = agent.reported_labels.get(key);
        match (agent.set_labels.contains_key(key), brought) {
            (false, _) => format!("{key}={value} (the agent's)"),
            (true, None) => format!("{key}={value} (set here)"),
            (true, Some(brought)) if brought == value => format!("{key}={value} (set here and the agent's)"),
            (true, Some(brought)) => format!("{key}={value} (set here, over the agent's {brought})"),
        }
    };
    agent.labels.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Returns where an agent can be reached: its direct address, or the host from which it connects. The port of
/// that connection is omitted: no one can connect to it.
fn reachable_at(agent: &AgentView) -> String {
    if let Some(direct) = &agent.direct_address {
        return direct.to_string();
    }
    match agent.address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().to_string(),
        Err(_) => or_dash(&agent.address),
    }
}

fn last_seen(agent: &AgentView) -> String {
    // By the master's clock: this machine's may be wrong.
    let Some(seen) = agent.last_seen else { return "never".to_owned() };
    let ago = Duration::from_millis(seen.ago_ms);
    if ago < Duration::from_mins(1) {
        format!("{} s ago", ago.as_secs())
    } else {
        format!("{} ago", format_duration(ago))
    }
}

/// Returns the table of agents.
pub(super) fn agents_table(agents: &[AgentView], paint: Paint) -> String {
    let rows: Vec<Vec<Cell>> = agents
        .iter()
        .map(|agent| {
            let word = format!("{} {}", agent.state.sign(), agent.state.word());
            vec![
                Cell::from(agent.name.as_str()),
                Cell::toned(word, agent.state.sign().into()),
                Cell::from(agent.link.map_or("-", LinkKind::word)),
                Cell::from(reachable_at(agent)),
                Cell::from(or_dash(&agent.version)),
                Cell::from(labels(agent)),
                Cell::from(last_seen(agent)),
                Cell::from(agent.hint()),
            ]
        })
        .collect();
    let heading = ["NAME", "STATE", "LINK", "ADDRESS", "VERSION", "LABELS", "LAST SEEN", "HINT"];
    table(&heading, &rows, paint)
}

fn address_text(address: Option<&DirectAddress>) -> String {
    address.map_or_else(String::new, DirectAddress::to_string)
}

/// Returns the requested selection; `None`, for all agents, if there are no filters.
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
                print_json_ignoring_closed(args.output, &Document::new(AgentList::new(&agents)))?;
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
        let mut found = all.iter().filter(|agent| agent.name == args.name).peekable();
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
                print_json_ignoring_closed(args.output, &Document::new(AgentList::new(found)))?;
            }
            Format::Text => found.try_for_each(|agent| say(&details(agent)))?,
        }
        Ok(exit::OK)
    })
}

fn details(agent: &AgentView) -> String {
    let mut rows = vec![
        ("name", agent.name.to_string()),
        ("state", format!("{} {}", agent.state.sign(), agent.state.word())),
        ("hint", agent.hint().to_owned()),
        ("link", agent.link.map_or_else(String::new, |link| link.word().to_owned())),
        ("", agent.link_reason.clone()),
        ("connected from", agent.address.clone()),
        ("direct address", address_text(agent.direct_address.as_ref())),
        ("version", agent.version.to_string()),
        ("labels", labels_with_origin(agent)),
        ("proposed", proposed(agent)),
        ("last seen", last_seen(agent)),
        ("fingerprint", agent.fingerprint.to_string()),
        ("trusts the CA by", agent.trust.to_string()),
        ("enrolled", local_time(agent.enrolled_ms, UnixMs(unix_ms()), &Local)),
    ];
    if let Some(facts) = agent.facts.clone() {
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

/// Shows the keys that wait under a name, and how to approve one.
fn show_waiting(args: &ApproveArgs, waiting: &[AgentView]) -> Result<Status, Failure> {
    let name = &args.name;
    let [first, rest @ ..] = waiting else {
        return Err(Failure::new(format!("no key waits under the name {name}")));
    };
    for agent in waiting {
        let seen = last_seen(agent);
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
        let digits = if rest.is_empty() { first.fingerprint.short() } else { "DIGITS".to_owned() };
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
        waiting.retain(|agent| agent.name == args.name);
        let mark = match (&args.code, &args.fingerprint) {
            (Some(code), _) => KeyMark::Code(code.clone()),
            (None, Some(digits)) => KeyMark::Digits(digits.clone()),
            (None, None) => return show_waiting(args, &waiting),
        };
        let shown = if accepts_proposals(args, &waiting)? {
            waiting.into_iter().map(shown_key).collect()
        } else {
            Vec::new()
        };
        let approved = client.approve_agent(ApproveAgent { name: args.name.clone(), mark, shown }).await?;
        let replaced = if approved.replaced_key { "; its old key was deleted" } else { "" };
        let accepted = approved.accepted;
        let with = if accepted.is_empty() { String::new() } else { format!(", with {accepted}") };
        say(&format!("{} may join with key {}{with}{replaced}\n", args.name, approved.fingerprint))?;
        Ok(exit::OK)
    })
}

pub(super) fn reject(args: &RejectArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let (request, of) = match args.name.clone().filter(|_| !args.all) {
            None => (RejectAgents::All, String::new()),
            Some(name) => {
                let of = format!(" of {name}");
                (RejectAgents::Named { name, digits: args.fingerprint.clone() }, of)
            }
        };
        let count = client.reject_agents(request).await? as usize;
        let are = form(count, "was", "were");
        say(&format!("{count} waiting {}{of} {are} rejected\n", plural("key", count)))?;
        Ok(exit::OK)
    })
}

pub(super) fn delete(args: &DeleteArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let lost = match client.delete_agent(DeleteAgent { name: args.name.clone() }).await? {
            0 => String::new(),
            n => format!("; {n} of its tasks are lost"),
        };
        say(&format!("{} was deleted; it can request approval again{lost}\n", args.name))?;
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
        let change = ChangeLabels::Set(args.changes.clone());
        let labelled = client.label_agents(LabelAgents { selection, now: args.of.now, change }).await?;
        let folded = fold(labelled.agents.iter().map(AgentName::as_str));
        let count = labelled.agents.len();
        say(&format!("labels of {count} {} are set: {folded}\n", plural("agent", count)))?;
        if !labelled.still_reported.is_empty() {
            let folded = fold(labelled.still_reported.iter().map(AgentName::as_str));
            complain(&format!(
                "{folded}: the label is still there, because the agent itself has it; set another value, or start the agent without that label"
            ));
        }
        Ok(exit::OK)
    })
}

/// Drains agents for a reason, or resumes them if `reason` is `None`.
pub(super) fn drain(args: &AgentsArgs, reason: Option<&str>) -> Result<Status, Failure> {
    let selection = args.recipients.selection(&args.agents).map_err(Failure::usage)?;
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let request = DrainAgents { selection, now: args.now, reason: reason.map(str::to_owned) };
        let changed = client.drain_agents(request).await?;
        let folded = |names: &[AgentName]| fold(names.iter().map(AgentName::as_str));
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
        let agent = |address: &str, direct: Option<&str>| AgentView {
            address: address.into(),
            direct_address: direct.and_then(|host| DirectAddress::new(host, 50_051, None)),
            ..AgentView::for_tests("web-1")
        };
        let reached = reachable_at(&agent("10.0.0.7:41724", Some("web-1.example")));
        assert_eq!(reached, "web-1.example:50051");
        let reached = reachable_at(&agent("10.0.0.7:41724", None));
        assert_eq!(reached, "10.0.0.7", "the port is the connection's own");
        assert_eq!(reachable_at(&agent("[2001:db8::7]:41724", None)), "2001:db8::7");
        assert_eq!(reachable_at(&agent("[::ffff:10.0.0.7]:41724", None)), "10.0.0.7");
        assert_eq!(reachable_at(&agent("", None)), "-");
    }
}
