//! Completes command lines for a shell: agents, labels, jobs and masters, from the live master. Offers nothing if the master does
//! not answer quickly.

use std::{ffi::OsStr, time::Duration};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::{
    args::{MasterChoice, ToMaster},
    masters::{Masters, resolve},
};
use crate::{
    domain::{agent::AgentView, control::ListJobs},
    wire::client::ControlClient,
};

/// Maximum time for an answer, because a user waits after each key.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(700);
/// Maximum number of jobs that are offered.
const MAX_JOBS: u32 = 20;
/// The characters that join the parts of a target expression.
const OPERATORS: [char; 4] = [',', '!', '&', '^'];

/// Calls the default master.
fn ask<T>(question: impl AsyncFnOnce(ControlClient) -> Option<T>) -> Option<T> {
    let master = std::env::var("SLOTH_RUNNER_MASTER").ok().and_then(|name| name.parse::<MasterChoice>().ok());
    let address = resolve(&ToMaster { master }).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let answer = async { question(ControlClient::connect(&address).await.ok()?).await };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?
    })
}

fn agents() -> Vec<AgentView> {
    ask(async |client| client.agents(None).await.ok()).unwrap_or_default()
}

fn begins(text: &str, current: &OsStr) -> bool {
    current.to_str().is_some_and(|current| text.starts_with(current))
}

/// Completes the name of an agent.
#[must_use]
pub(super) fn agent() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let found = agents().into_iter().filter(|agent| begins(agent.name.as_str(), current));
        found
            .map(|agent| {
                CompletionCandidate::new(agent.name.to_string()).help(Some(agent.version.to_string().into()))
            })
            .collect()
    })
}

/// Returns the candidates for the last part of a target expression: names and groups.
fn parts(agents: &[AgentView]) -> Vec<String> {
    let mut parts: Vec<String> = agents.iter().map(|agent| agent.name.to_string()).collect();
    let labels = agents.iter().flat_map(|agent| &agent.labels);
    parts.extend(labels.map(|(key, value)| format!("@{key}:{value}")));
    parts.extend(
        ["@all", "@state:active", "@state:late", "@state:offline", "@state:draining"].map(str::to_owned),
    );
    parts.sort();
    parts.dedup();
    parts
}

/// Completes a target expression.
#[must_use]
pub(super) fn target() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let at = current.rfind(OPERATORS).map_or(0, |at| at + 1);
        let (before, part) = current.split_at(at);
        let found = parts(&agents()).into_iter().filter(|found| found.starts_with(part));
        found.map(|found| CompletionCandidate::new(format!("{before}{found}"))).collect()
    })
}

/// Completes a job's number, with its target and command as help.
#[must_use]
pub(super) fn job() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let request = ListJobs { limit: Some(MAX_JOBS), ..ListJobs::default() };
        let jobs = ask(async |client| client.jobs(request).await.ok()).unwrap_or_default().into_iter();
        let shown =
            jobs.map(|job| (job.number.to_string(), format!("{}: {}", job.target, job.command.shown())));
        std::iter::once(("last".to_owned(), "the newest job".to_owned()))
            .chain(shown)
            .filter(|(number, _)| begins(number, current))
            .map(|(number, help)| CompletionCandidate::new(number).help(Some(help.into())))
            .collect()
    })
}

/// Completes the name of a stored master.
#[must_use]
pub(super) fn master() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let stored = Masters::open().and_then(|masters| masters.all()).unwrap_or_default();
        std::iter::once(("local".to_owned(), "this machine".to_owned()))
            .chain(stored.into_iter().map(|(name, known)| (name, known.address)))
            .filter(|(name, _)| begins(name, current))
            .map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into())))
            .collect()
    })
}
