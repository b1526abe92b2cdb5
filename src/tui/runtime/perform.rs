//! Calls to the master. Each runs in a separate task, so that the screen never waits.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};

use crossterm::event::Event;
use tokio_stream::Stream;

use super::{
    Runtime,
    connection::{News, tell},
    following,
    reading::{self, Piece},
};
use crate::{
    domain::{
        code::KeyMark,
        command::Command,
        control::{
            ApproveAgent, Approved, CancelJob, Cancelled, ChangeLabels, CreateToken, DeleteAgent,
            DrainAgents, Drained, FollowJob, JobEvent, LabelAgents, Labelled, ListJobs, NamedProposal,
            PromoteJob, Promoted, RejectAgents, ShownAgent, ShownKey, StartJob, StopAgent, StopJob,
            StoppedJob,
        },
        fingerprint::Fingerprint,
        ids::{JobId, JobReference},
        job::{Job, JobOptions},
        name::{AgentName, LabelChange},
        offset::OutputOffset,
        proposal::Proposal,
        seam::Seam,
        target::Target,
        terms::Terms,
        text::{plural, spoken_bytes},
    },
    tui::{
        model::command::Recipients,
        msg::{Cmd, Msg},
        output::matching::Needle,
    },
    wire::{client::ControlClient, status::CallError},
};

/// The maximum number of recent jobs of an agent.
const MAX_RECENT_JOBS: u32 = 10;
/// The lifetime of a join token that the screen creates.
const JOIN_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// How long the tasks of a stopped agent may continue, in milliseconds.
const STOP_GRACE_MS: u32 = 5_000;
/// The maximum number of bytes of a copied output.
const MAX_COPIED_BYTES: usize = 1024 * 1024;

impl<E, W> Runtime<E, W>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    /// Performs a command that needs the master.
    pub(super) fn call(&mut self, cmd: Cmd) {
        let news = self.news.clone();
        let Some(client) = self.client.clone() else {
            if let Some(msg) = disconnected_message(cmd) {
                // If the queue is full, the message is dropped: the screen shows that the master is away.
                let _ = news.try_send(News::Told(msg));
            }
            return;
        };
        match cmd {
            Cmd::Watch(job, masks) => {
                let task =
                    tokio::task::spawn_local(following::watch(client, job, masks, news)).abort_handle();
                if let Some(before) = self.watching.replace(task) {
                    before.abort();
                }
            }
            Cmd::Follow { key, agent, from_offset, seen } => {
                let task =
                    tokio::task::spawn_local(following::follow(client, key, agent, from_offset, seen, news))
                        .abort_handle();
                if let Some(before) = self.following.insert(key, task) {
                    before.abort();
                }
            }
            other => drop(tokio::task::spawn_local(async move {
                if let Some(msg) = once(&client, other).await {
                    tell(&news, msg).await;
                }
            })),
        }
    }
}

/// Returns the message for a command that is impossible while the master is away. Watching and following need
/// none: they are requested again on reconnection.
fn disconnected_message(cmd: Cmd) -> Option<Msg> {
    let away = "the master is away";
    match cmd {
        Cmd::Watch(..) | Cmd::Follow { .. } | Cmd::Recent(_) => None,
        Cmd::Start { id, .. } => Some(Msg::NotStarted(id, away.to_owned())),
        _ => Some(Msg::Failed(format!("{away}: nothing was done"))),
    }
}

/// Makes a call that has a single answer.
async fn once(client: &ControlClient, cmd: Cmd) -> Option<Msg> {
    match cmd {
        Cmd::Start { id, text, recipients, options } => {
            Some(start(client, id, &text, &recipients, *options).await)
        }
        Cmd::Cancel(job, tasks) => cancel(client, job, tasks).await,
        Cmd::Promote(job) => Some(promote(client, job).await),
        Cmd::Stop(job) => Some(stop(client, job).await),
        Cmd::ReadEarlier { job, task, agent, from, until } => {
            let window = reading::window(client, job, &agent, from, until).await;
            let earlier = window.map(|window| Msg::Earlier(job, task, Box::new(window)));
            Some(or_failed("cannot read earlier output", earlier))
        }
        Cmd::Search { job, task, agent, text, streams, from, forwards } => {
            let wanted = (Needle::new(&text), streams);
            let found = reading::search(client, job, &agent, &wanted, from, forwards).await;
            Some(or_failed("cannot search", found.map(|found| Msg::Found(job, task, found))))
        }
        Cmd::FindJob(number) => Some(or_failed("cannot open the job", find(client, number).await)),
        Cmd::Recent(name) => {
            let request =
                ListJobs { limit: Some(MAX_RECENT_JOBS), agent: Some(name.clone()), ..ListJobs::default() };
            let jobs = client.jobs(request).await.map(|jobs| Msg::Recent(name.to_string(), jobs));
            Some(or_failed("cannot read the agent's jobs", jobs))
        }
        Cmd::Approve(name, mark, shown) => Some(approve(client, name, mark, shown).await),
        Cmd::Reject(name, fingerprint) => {
            let done = Msg::Done(format!("the pending key of {name} is rejected"));
            let request = RejectAgents::Named { name, digits: fingerprint.to_string() };
            Some(or_failed("not rejected", client.reject_agents(request).await.map(|_| done)))
        }
        Cmd::Label(target, changes) => Some(label(client, &target, &changes).await),
        Cmd::Accept(name, proposed) => Some(accept(client, name, proposed).await),
        Cmd::DrainAgents(target, reason) => Some(drain(client, &target, reason).await),
        Cmd::StopAgents(names) => Some(
            each(names, "stopped", "stop", async |name| {
                client.stop_agent(StopAgent { name, grace_ms: STOP_GRACE_MS }).await.map(drop)
            })
            .await,
        ),
        Cmd::DeleteAgents(names) => Some(
            each(names, "deleted", "delete", async |name| {
                client.delete_agent(DeleteAgent { name }).await.map(drop)
            })
            .await,
        ),
        Cmd::MakeJoinLine => Some(or_failed("no join token", join_line(client).await.map(Msg::JoinLine))),
        Cmd::CopyOutput(job, agent) => Some(copy_output(client, job, &agent).await),
        Cmd::Save(job, number, agents) => Some(save(client, job, number, agents).await),
        Cmd::Watch(..)
        | Cmd::Follow { .. }
        | Cmd::Unfollow(_)
        | Cmd::Copy(..)
        | Cmd::Pager(..)
        | Cmd::Edit(_)
        | Cmd::Shell(_)
        | Cmd::Remember(_)
        | Cmd::KeepDraft(_)
        | Cmd::Bell
        | Cmd::Redraw
        | Cmd::Retake
        | Cmd::Suspend
        | Cmd::Quit => None,
    }
}

/// Returns the answer of a call, or a message with what failed and why.
fn or_failed(what: &str, answer: Result<Msg, CallError>) -> Msg {
    answer.unwrap_or_else(|error| Msg::Failed(format!("{what}: {error}")))
}

/// Cancels tasks. Reports only errors and cancels that are delivered later.
async fn cancel(client: &ControlClient, job: JobId, tasks: Vec<u32>) -> Option<Msg> {
    let request = CancelJob { job: JobReference::Id(job), tasks, grace_ms: None };
    match client.cancel_job(request).await {
        Ok(Cancelled { stored: 0, .. }) => None,
        Ok(Cancelled { stored, number, .. }) => {
            let agents = plural("agent", stored as usize);
            Some(Msg::Done(format!(
                "job {number}: the cancel is stored for the return of {stored} {agents} without contact"
            )))
        }
        Err(error) => Some(Msg::Failed(format!("cannot cancel: {error}"))),
    }
}

async fn promote(client: &ControlClient, job: JobId) -> Msg {
    let promoted = client.promote_job(PromoteJob { job: JobReference::Id(job) }).await;
    let done = promoted
        .map(|Promoted { number, batch }| Msg::Done(format!("job {number} continues with batch {batch}")));
    or_failed("cannot promote", done)
}

async fn stop(client: &ControlClient, job: JobId) -> Msg {
    let stopped = client.stop_job(StopJob { job: JobReference::Id(job) }).await;
    let done = stopped.map(|StoppedJob { number, skipped }| {
        let tasks = plural("task", skipped as usize);
        Msg::Done(format!("job {number}: {skipped} {tasks} skipped; running tasks continue"))
    });
    or_failed("cannot stop", done)
}

async fn approve(
    client: &ControlClient,
    name: AgentName,
    mark: KeyMark,
    (fingerprint, proposal): (Fingerprint, Proposal),
) -> Msg {
    let shown = vec![ShownKey { fingerprint, proposal }];
    let approved = client.approve_agent(ApproveAgent { name: name.clone(), mark, shown }).await;
    let done = approved.map(|Approved { accepted, .. }| {
        let with = if accepted.is_empty() { String::new() } else { format!(", with {accepted}") };
        Msg::Done(format!("{name} is enrolled{with}"))
    });
    or_failed("not approved", done)
}

async fn copy_output(client: &ControlClient, job: JobId, agent: &AgentName) -> Msg {
    let mut text = String::new();
    let read = reading::lines(client, job, agent, OutputOffset::START, async |line| {
        text.push_str(&line.text);
        text.push('\n');
        text.len() < MAX_COPIED_BYTES
    });
    match read.await {
        Ok(()) => Msg::Copied(text, format!("the output of {agent}")),
        Err(error) => Msg::Failed(format!("nothing was copied: {error}")),
    }
}

/// Makes the same call for each agent, and summarizes the results.
async fn each(
    names: Vec<AgentName>,
    done: &str,
    verb: &str,
    mut call: impl AsyncFnMut(AgentName) -> Result<(), CallError>,
) -> Msg {
    let (mut good, mut bad) = (0usize, Vec::new());
    for name in names {
        match call(name.clone()).await {
            Ok(()) => good += 1,
            Err(error) => bad.push(format!("{name}: {error}")),
        }
    }
    match bad.first() {
        None => Msg::Done(format!("{good} {} {done}", plural("agent", good))),
        Some(first) => Msg::Failed(format!("{good} {done}; cannot {verb} {} of them, {first}", bad.len())),
    }
}

async fn start(
    client: &ControlClient,
    id: JobId,
    text: &str,
    recipients: &Recipients,
    options: JobOptions,
) -> Msg {
    let command = match Command::new(vec![text.as_bytes().to_vec()]) {
        Ok(command) => command,
        Err(error) => return Msg::NotStarted(id, error.to_string()),
    };
    let target = match recipients.target.parse::<Target>() {
        Ok(target) => target,
        Err(error) => return Msg::NotStarted(id, error.to_string()),
    };
    let shown = recipients.agents.iter();
    let shown = shown.map(|(name, key)| ShownAgent { name: name.clone(), fingerprint: *key });
    let request =
        StartJob { id, selection: target.into(), command, options, shown: shown.collect(), follow: false };
    let first = async { client.start_job(request).await?.next().await };
    match first.await {
        Ok(Some(JobEvent::Job(job))) => Msg::Started(job),
        Ok(Some(JobEvent::TargetChanged { gone, .. })) => {
            Msg::TargetChanged(id, gone.into_iter().map(|gone| gone.agent).collect())
        }
        Ok(Some(JobEvent::Refused(reason))) => Msg::NotStarted(id, reason),
        Ok(Some(_)) => Msg::NotStarted(id, "the master sent an unexpected answer".to_owned()),
        Ok(None) => Msg::StartUnknown(id),
        Err(error) if error.is_broken_connection() => Msg::StartUnknown(id),
        Err(error) => Msg::NotStarted(id, error.to_string()),
    }
}

async fn find(client: &ControlClient, number: u64) -> Result<Msg, CallError> {
    let reference = if number == 0 { JobReference::Last } else { JobReference::Number(number) };
    let request = FollowJob { without_output: true, ..FollowJob::new(reference) };
    let mut events = client.follow_job(request).await?;
    while let Some(event) = events.next().await? {
        if let JobEvent::Job(job) = event {
            let jobs = vec![Job { tasks: Vec::new(), ..*job }];
            return Ok(Msg::Jobs { begins: false, jobs, deleted: Vec::new(), is_complete: false });
        }
    }
    Ok(Msg::NoJob(number))
}

/// Drains agents for a reason; without a reason, resumes them.
async fn drain(client: &ControlClient, target: &str, reason: Option<String>) -> Msg {
    let word = if reason.is_none() { "resumed" } else { "draining" };
    let selection = match target.parse::<Target>() {
        Ok(target) => target.into(),
        Err(error) => return Msg::Failed(format!("nothing was changed: {error}")),
    };
    let drained = client.drain_agents(DrainAgents { selection, now: true, reason }).await;
    let done = drained.map(|Drained { agents, running, .. }| {
        let rest = match running {
            0 => String::new(),
            running => format!("; {running} {} still run there", plural("task", running as usize)),
        };
        Msg::Done(format!("{} {} {word}{rest}", agents.len(), plural("agent", agents.len())))
    });
    or_failed("nothing was changed", done)
}

async fn change_labels(
    client: &ControlClient,
    target: &str,
    change: ChangeLabels,
) -> Result<Labelled, String> {
    let selection = target.parse::<Target>().map_err(|error| error.to_string())?.into();
    let labelled = client.label_agents(LabelAgents { selection, now: true, change }).await;
    labelled.map_err(|error| error.to_string())
}

async fn label(client: &ControlClient, target: &str, changes: &[String]) -> Msg {
    let changes: Result<Vec<LabelChange>, _> = changes.iter().map(|change| change.parse()).collect();
    let labelled = match changes {
        Ok(changes) => change_labels(client, target, ChangeLabels::Set(changes)).await,
        Err(error) => Err(error.to_string()),
    };
    match labelled {
        Ok(Labelled { agents, still_reported, .. }) => {
            let rest = match still_reported.len() {
                0 => String::new(),
                still => format!("; {still} still report a removed key themselves"),
            };
            Msg::Done(format!("labels of {} {} are set{rest}", agents.len(), plural("agent", agents.len())))
        }
        Err(error) => Msg::Failed(format!("no label was set: {error}")),
    }
}

/// Accepts the proposal of an agent, as it was shown.
async fn accept(client: &ControlClient, name: AgentName, proposed: Proposal) -> Msg {
    let shown = vec![NamedProposal { name: name.clone(), proposal: proposed.clone() }];
    match change_labels(client, name.as_str(), ChangeLabels::Accept(shown)).await {
        Ok(labelled) if labelled.changed.is_empty() => Msg::Done(format!("accepted {proposed} of {name}")),
        Ok(_) => Msg::Failed(format!("{name} proposes something else by now; nothing was accepted")),
        Err(error) => Msg::Failed(format!("nothing was accepted: {error}")),
    }
}

async fn join_line(client: &ControlClient) -> Result<Vec<String>, CallError> {
    let ttl_ms = u64::try_from(JOIN_TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    let made = client.create_token(CreateToken { ttl_ms, uses: 1, terms: Terms::default() }).await?;
    let address = made.address_guess.unwrap_or_else(|| format!("MASTER:{}", made.port));
    Ok(vec![
        "Run this once on the other machine, within an hour:".to_owned(),
        String::new(),
        format!(
            "  echo {} | sloth-runner agent start --master {address} --token-file - --daemon",
            made.token
        ),
        String::new(),
        format!("{address} is a guess of the address at which agents reach this master. y copies the line."),
    ])
}

/// Saves outputs byte for byte. Never overwrites a file.
async fn save(client: &ControlClient, job: JobId, number: u64, agents: Vec<AgentName>) -> Msg {
    let (mut saved, mut missing) = (Vec::new(), 0);
    for agent in agents {
        let path = format!("job-{number}-{agent}.log");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) => return Msg::Failed(format!("{} saved; {path}: {error}", saved.len())),
        };
        let (mut problem, mut seam) = (None, Seam::default());
        let read = reading::pieces(client, job, &agent, OutputOffset::START, None, async |piece| {
            let written = match piece {
                Piece::Printed(frame) => {
                    let mark = seam.next(&frame.data);
                    file.write_all(mark.as_bytes()).and_then(|()| file.write_all(&frame.data))
                }
                Piece::Missing { from, to } => {
                    missing += to.since(from);
                    file.write_all(seam.gap().as_bytes())
                }
            };
            problem = written.err();
            problem.is_none()
        });
        if let Err(error) = read.await {
            return Msg::Failed(format!("{path} is incomplete: {error}"));
        }
        if let Some(error) = problem {
            return Msg::Failed(format!("{path} is incomplete: {error}"));
        }
        saved.push(path);
    }
    let here = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let less = match missing {
        0 => String::new(),
        missing => format!("; {} of output are missing", spoken_bytes(missing)),
    };
    match saved.as_slice() {
        [one] => Msg::Done(format!("saved {here}/{one}{less}")),
        all => Msg::Done(format!("saved {} files, job-{number}-*.log, in {here}{less}", all.len())),
    }
}
