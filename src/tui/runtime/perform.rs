//! Calls to the master, each in a task of its own, so that the screen never waits.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};

use crossterm::event::Event;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::{
    Runtime,
    connection::News,
    following,
    reading::{self, Piece},
};
use crate::{
    domain::{
        command::Command,
        fingerprint::Fingerprint,
        ids::{JobId, JobReference},
        job::{Job, JobOptions},
        name::AgentName,
        proposal::Proposal,
        seam::Seam,
        target::Target,
        text::{plural, spoken_bytes},
    },
    trust::code::KeyMark,
    tui::{
        model::command::Recipients,
        msg::{Cmd, Msg},
    },
    wire::{
        client::ControlClient,
        proposal::{proposal_out, shown_out},
        proto::{self, job_event::Kind},
        status::CallError,
    },
};

/// Recent jobs of an agent.
const RECENT: u32 = 10;
/// A join token that the screen makes.
const JOIN_WITHIN: Duration = Duration::from_hours(1);
/// How long the tasks of an agent that is stopped may continue.
const STOP_GRACE_MS: u32 = 5_000;
/// Most bytes of an output that are copied.
const COPIED: usize = 1024 * 1024;

pub(super) type Sender = mpsc::Sender<News>;

pub(super) async fn tell(news: &Sender, msg: Msg) {
    // A screen that is gone needs to know nothing.
    let _ = news.send(News::Told(msg)).await;
}

impl<E, W> Runtime<E, W>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    /// Performs what needs the master.
    pub(super) fn call(&mut self, cmd: Cmd) {
        let news = self.news.clone();
        let Some(client) = self.client.clone() else {
            if let Some(msg) = undone(cmd) {
                // A screen that is so busy that this finds no room shows that the master is away.
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

/// What to say of something that cannot be done while the master is away; what is followed is asked for again when it is
/// back.
fn undone(cmd: Cmd) -> Option<Msg> {
    let away = "the master is away";
    match cmd {
        Cmd::Watch(..) | Cmd::Follow { .. } | Cmd::Recent(_) => None,
        Cmd::Start { id, .. } => Some(Msg::NotStarted(id, away.to_owned())),
        _ => Some(Msg::Failed(format!("{away}: nothing was done"))),
    }
}

/// A call that has one answer.
async fn once(client: &ControlClient, cmd: Cmd) -> Option<Msg> {
    let failed = |what: &str, error: CallError| Some(Msg::Failed(format!("{what}: {error}")));
    match cmd {
        Cmd::Start { id, text, recipients, options } => {
            Some(start(client, id, &text, &recipients, *options).await)
        }
        Cmd::Cancel(job, task_indices) => {
            let request = proto::CancelJobRequest {
                job: Some(JobReference::Id(job).into()),
                task_indices,
                grace_ms: 0,
            };
            match client.calls().cancel_job(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    (answer.stored > 0).then(|| {
                        let agents = plural("agent", answer.stored as usize);
                        Msg::Done(format!(
                            "job {}: the cancel is stored, and given when {} {agents} without contact return",
                            answer.number, answer.stored
                        ))
                    })
                }
                Err(status) => failed("cannot cancel", status.into()),
            }
        }
        Cmd::Promote(job) => {
            let request = proto::PromoteJobRequest { job: Some(JobReference::Id(job).into()) };
            match client.calls().promote_job(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    Some(Msg::Done(format!("job {} continues with batch {}", answer.number, answer.batch)))
                }
                Err(status) => failed("cannot promote", status.into()),
            }
        }
        Cmd::Stop(job) => {
            let request = proto::StopJobRequest { job: Some(JobReference::Id(job).into()) };
            match client.calls().stop_job(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let tasks = plural("task", answer.skipped as usize);
                    Some(Msg::Done(format!(
                        "job {}: {} {tasks} skipped; running tasks continue",
                        answer.number, answer.skipped
                    )))
                }
                Err(status) => failed("cannot stop", status.into()),
            }
        }
        Cmd::ReadEarlier { job, task, agent, from, until } => {
            match reading::window(client, job, &agent, from, until).await {
                Ok(window) => Some(Msg::Earlier(job, task, Box::new(window))),
                Err(error) => failed("cannot read earlier output", error),
            }
        }
        Cmd::Search { job, task, agent, text, from, forwards } => {
            match reading::search(client, job, &agent, &text, from, forwards).await {
                Ok(found) => Some(Msg::Found(job, task, found)),
                Err(error) => failed("cannot search", error),
            }
        }
        Cmd::FindJob(number) => match find(client, number).await {
            Ok(Some(job)) => {
                Some(Msg::Jobs { begins: false, jobs: vec![job], deleted: Vec::new(), is_complete: false })
            }
            Ok(None) => Some(Msg::NoJob(number)),
            Err(error) => failed("cannot open it", error),
        },
        Cmd::Recent(name) => {
            let request =
                proto::ListJobsRequest { limit: RECENT, agent: name.to_string(), ..Default::default() };
            match client.calls().list_jobs(request).await {
                Ok(answer) => {
                    let jobs = answer.into_inner().jobs;
                    let jobs = jobs.into_iter().filter_map(|job| Job::try_from(job).ok()).collect();
                    Some(Msg::Recent(name.to_string(), jobs))
                }
                Err(status) => failed("cannot read its jobs", status.into()),
            }
        }
        Cmd::Approve(name, mark, shown) => {
            let (fingerprint, code) = match mark {
                KeyMark::Digits(digits) => (digits, String::new()),
                KeyMark::Code(code) => (String::new(), code.to_string()),
            };
            let shown = vec![shown_out(shown.0.to_string(), shown.1)];
            let request = proto::ApproveAgentRequest { name: name.to_string(), fingerprint, code, shown };
            match client.calls().approve_agent(request).await {
                Ok(approved) => {
                    let accepted = Proposal::from(approved.into_inner().accepted.unwrap_or_default());
                    let with = if accepted.is_empty() { String::new() } else { format!(", with {accepted}") };
                    Some(Msg::Done(format!("{name} is enrolled{with}")))
                }
                Err(status) => failed("not approved", status.into()),
            }
        }
        Cmd::Reject(name, fingerprint) => {
            let request = proto::RejectAgentRequest {
                name: name.to_string(),
                fingerprint: fingerprint.to_string(),
                all: false,
            };
            match client.calls().reject_agent(request).await {
                Ok(_) => Some(Msg::Done(format!("the key that waited as {name} is forgotten"))),
                Err(status) => failed("not rejected", status.into()),
            }
        }
        Cmd::Label(target, changes) => Some(label(client, target, changes).await),
        Cmd::Accept(name, proposed) => Some(accept(client, &name, proposed).await),
        Cmd::DrainAgents(target, reason) => Some(drain(client, target, reason).await),
        Cmd::StopAgents(names) => Some(
            each(names, "stopped", "stop", async |name| {
                let request = proto::StopAgentRequest { name, grace_ms: STOP_GRACE_MS };
                client.calls().stop_agent(request).await.map(drop)
            })
            .await,
        ),
        Cmd::DeleteAgents(names) => Some(
            each(names, "deleted", "delete", async |name| {
                client.calls().delete_agent(proto::DeleteAgentRequest { name }).await.map(drop)
            })
            .await,
        ),
        Cmd::MakeJoinLine => match join_line(client).await {
            Ok(lines) => Some(Msg::JoinLine(lines)),
            Err(error) => failed("no join token", error),
        },
        Cmd::CopyOutput(job, agent) => {
            let mut text = String::new();
            let read = reading::lines(client, job, &agent, 0, async |line| {
                text.push_str(&line.text);
                text.push('\n');
                text.len() < COPIED
            });
            match read.await {
                Ok(()) => Some(Msg::Copied(text, format!("the output of {agent}"))),
                Err(error) => failed("nothing was copied", error),
            }
        }
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
        | Cmd::Suspend
        | Cmd::Quit => None,
    }
}

/// Does the same to each of some agents, and says how it went.
async fn each(
    names: Vec<String>,
    done: &str,
    verb: &str,
    mut call: impl AsyncFnMut(String) -> Result<(), tonic::Status>,
) -> Msg {
    let (mut good, mut bad) = (0usize, Vec::new());
    for name in names {
        match call(name.clone()).await {
            Ok(()) => good += 1,
            Err(status) => bad.push(format!("{name}: {}", CallError::from(status))),
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
    let shown = |(name, fingerprint): &(AgentName, Fingerprint)| proto::ShownAgent {
        name: name.to_string(),
        fingerprint: fingerprint.to_string(),
    };
    let request = proto::StartJobRequest {
        job_id: id.to_bytes().to_vec().into(),
        selection: Some(crate::domain::target::selection::Selection::from(target).into()),
        command: Some(command.into()),
        options: Some(options.into()),
        shown: recipients.agents.iter().map(shown).collect(),
        follow: false,
    };
    let first = async {
        let mut events = client.start_job(request).await?;
        Ok::<_, CallError>(events.message().await?)
    };
    match first.await {
        Ok(Some(event)) => match event.kind {
            Some(Kind::Job(job)) => match Job::try_from(job) {
                Ok(job) => Msg::Started(Box::new(job)),
                Err(error) => Msg::NotStarted(id, error.to_string()),
            },
            Some(Kind::TargetChanged(changed)) => {
                Msg::TargetChanged(id, changed.gone.into_iter().map(|gone| gone.name).collect())
            }
            Some(Kind::Refused(refused)) => Msg::NotStarted(id, refused.reason),
            _ => Msg::NotStarted(id, "the master's answer makes no sense".to_owned()),
        },
        Ok(None) => Msg::StartUnknown(id),
        Err(error) if error.is_broken_connection() => Msg::StartUnknown(id),
        Err(error) => Msg::NotStarted(id, error.to_string()),
    }
}

async fn find(client: &ControlClient, number: u64) -> Result<Option<Job>, CallError> {
    let reference = if number == 0 { JobReference::Last } else { JobReference::Number(number) };
    let request = proto::FollowJobRequest {
        job: Some(reference.into()),
        without_output: true,
        ..proto::FollowJobRequest::default()
    };
    let mut events = client.follow_job(request).await?;
    while let Some(event) = events.message().await? {
        if let Some(Kind::Job(job)) = event.kind {
            return Ok(Job::try_from(job).ok().map(|job| Job { tasks: Vec::new(), ..job }));
        }
    }
    Ok(None)
}

/// Lets agents take no new tasks, or take them again where no reason is given.
async fn drain(client: &ControlClient, target: String, reason: Option<String>) -> Msg {
    let request = proto::DrainAgentsRequest {
        selection: Some(proto::Selection { target, ..proto::Selection::default() }),
        now: true,
        resume: reason.is_none(),
        reason: reason.unwrap_or_default(),
    };
    let word = if request.resume { "resumed" } else { "draining" };
    match client.calls().drain_agents(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let count = answer.agents.len();
            let rest = match answer.running {
                0 => String::new(),
                running => format!("; {running} {} still run there", plural("task", running as usize)),
            };
            Msg::Done(format!("{count} {} {word}{rest}", plural("agent", count)))
        }
        Err(status) => Msg::Failed(format!("nothing was changed: {}", CallError::from(status))),
    }
}

async fn label(client: &ControlClient, target: String, changes: Vec<String>) -> Msg {
    let selection = proto::Selection { target, ..proto::Selection::default() };
    let selection = Some(selection);
    let request = proto::LabelAgentsRequest { selection, changes, now: true, ..Default::default() };
    match client.calls().label_agents(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let count = answer.agents.len();
            let still = answer.still_brought.len();
            let rest = if still > 0 {
                format!("; {still} still bring a removed key themselves")
            } else {
                String::new()
            };
            Msg::Done(format!("labels of {count} {} are set{rest}", plural("agent", count)))
        }
        Err(status) => Msg::Failed(format!("no label was set: {}", CallError::from(status))),
    }
}

/// Accepts what an agent proposes, as it was shown.
async fn accept(client: &ControlClient, name: &AgentName, proposed: Proposal) -> Msg {
    let selection = Some(proto::Selection { target: name.to_string(), ..proto::Selection::default() });
    let shown = vec![proposal_out(name, proposed.clone())];
    let request =
        proto::LabelAgentsRequest { selection, now: true, accept: true, shown, ..Default::default() };
    match client.calls().label_agents(request).await {
        Ok(answer) if answer.get_ref().changed.is_empty() => {
            Msg::Done(format!("{proposed} of {name} counts now"))
        }
        Ok(_) => Msg::Failed(format!("{name} proposes something else by now; nothing was accepted")),
        Err(status) => Msg::Failed(format!("nothing was accepted: {}", CallError::from(status))),
    }
}

async fn join_line(client: &ControlClient) -> Result<Vec<String>, CallError> {
    let ttl_ms = u64::try_from(JOIN_WITHIN.as_millis()).unwrap_or(u64::MAX);
    let request = proto::CreateTokenRequest { ttl_ms, uses: 1, terms: None };
    let made = client.calls().create_token(request).await?.into_inner();
    let address =
        if made.address_guess.is_empty() { format!("MASTER:{}", made.port) } else { made.address_guess };
    Ok(vec![
        "On the other machine, within an hour, once:".to_owned(),
        String::new(),
        format!(
            "  echo {} | sloth-runner agent start --master {address} --token-file - --daemon",
            made.token
        ),
        String::new(),
        format!("{address} is a guess at what agents reach of this master. y copies the line."),
    ])
}

/// Saves outputs byte for byte, never over a file.
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
        let read = reading::pieces(client, job, &agent, 0, 0, async |piece| {
            let written = match piece {
                Piece::Printed(frame) => {
                    let mark = seam.next(&frame.data);
                    file.write_all(mark.as_bytes()).and_then(|()| file.write_all(&frame.data))
                }
                Piece::Missing { from, to } => {
                    missing += to - from;
                    file.write_all(seam.gap().as_bytes())
                }
            };
            problem = written.err();
            problem.is_none()
        });
        if let Err(error) = read.await {
            return Msg::Failed(format!("{path} is not whole: {error}"));
        }
        if let Some(error) = problem {
            return Msg::Failed(format!("{path} is not whole: {error}"));
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
