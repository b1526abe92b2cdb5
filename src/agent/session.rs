//! The agent's side of the session: hello, welcome, then facts and heartbeats as long as the connection lasts.

use std::time::Duration;

use prost::Message as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    attach::{revision_in, sent_in},
    facts::FactsReader,
    master_clock::Echo,
    state::{Agent, ConnectionState},
    task_process::record_of,
};
use crate::{
    domain::{
        agent::HEARTBEAT,
        ids::TaskId,
        proposal::{Proposal, acceptance},
    },
    sys::{clock::boottime_ms, random},
    wire::{
        PROTOCOL, SOFTWARE_VERSION,
        agent::{labels_out, this_machine},
        command::{seal_out, task_spec_out},
        proto::{self, RefusalReason, session_request, session_response::Kind},
    },
};

/// Answers that may wait for the connection.
pub const ANSWERS: usize = 4;
/// Bytes in one message of an inventory; a task that is larger, which has at most a little over 2 MiB, has its own.
const INVENTORY: usize = 1024 * 1024;
/// Number of heartbeats after which the agent sends its facts again.
const HEARTBEATS_PER_FACTS: u32 = 6;

/// What the owner of the connection has to know of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The master accepts the agent.
    Welcome,
    /// Any sign of life.
    Alive,
    /// The master does not accept the agent.
    Refused {
        /// Why, for programs.
        reason: RefusalReason,
        /// Why, in words.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The master goes away for a while.
    Closing {
        /// When to come back.
        retry_after: Duration,
    },
}

type Answers = mpsc::Sender<Result<proto::SessionResponse, Status>>;

#[expect(clippy::unnecessary_wraps, reason = "streams carry results")]
fn answer(kind: Kind) -> Result<proto::SessionResponse, Status> {
    Ok(proto::SessionResponse { kind: Some(kind) })
}

fn heartbeat() -> Kind {
    Kind::Heartbeat(proto::Heartbeat { at_ms: boottime_ms() })
}

fn hello(agent: &Agent) -> proto::Hello {
    let description = &agent.description;
    let seen = agent.seen();
    proto::Hello {
        protocol: Some(PROTOCOL),
        software_version: SOFTWARE_VERSION.to_owned(),
        capabilities: Vec::new(),
        incarnation: agent.incarnation().to_string(),
        labels: labels_out(description.labels.clone()),
        direct: description.direct_out(),
        link: proto::LinkPreference::from(description.link).into(),
        seen_epoch: seen.epoch,
        seen_revision: seen.revision,
        seen_seal: seal_out(seen.seal),
        trust: agent.trust.borrow().clone(),
        stopping: agent.is_stopping(),
        at_ms: boottime_ms(),
    }
}

/// Everything unfinished that lies in the agent's directory, in messages of a good size. What cannot be read is left out: the
/// master learns of it when it asks for that very task.
fn inventory(agent: &Agent) -> Vec<proto::Inventory> {
    let known = agent.unfinished().unwrap_or_default();
    let told = |id: &TaskId| {
        let record = record_of(&agent.layout.task(*id)).ok().flatten()?;
        Some(proto::KnownTask {
            spec: Some(task_spec_out(*id, record.spec)),
            started_ms: record.started_unix_ms,
        })
    };
    let tasks: Vec<proto::KnownTask> = known.iter().filter_map(told).collect();
    let mut messages = vec![proto::Inventory::default()];
    let mut size = 0;
    for task in tasks {
        size += task.encoded_len();
        match messages.last_mut() {
            Some(last) if size <= INVENTORY || last.tasks.is_empty() => last.tasks.push(task),
            _ => {
                size = task.encoded_len();
                messages.push(proto::Inventory { tasks: vec![task] });
            }
        }
    }
    messages
}

/// Serves one session to its end.
pub async fn serve(
    agent: Agent,
    mut requests: Streaming<proto::SessionRequest>,
    answers: Answers,
    heard: mpsc::Sender<Heard>,
    stop: CancellationToken,
) {
    if answers.send(answer(Kind::Hello(hello(&agent)))).await.is_err() {
        return;
    }
    let mut facts = FactsReader::default();
    let mut interval = HEARTBEAT;
    let mut beats = 0;
    let mut told = Vec::new();
    let mut next_beat = Instant::now() + interval;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(proto::SessionRequest { kind: Some(kind) })) = request else { return };
                if let session_request::Kind::Welcome(welcome) = &kind {
                    if welcome.heartbeat_ms > 0 {
                        interval = Duration::from_millis(welcome.heartbeat_ms.into());
                    }
                    // Facts at once, so that a new agent's row is complete.
                    beats = 0;
                    next_beat = Instant::now();
                }
                let pinged = matches!(kind, session_request::Kind::Ping(_));
                if matches!(kind, session_request::Kind::Inventory(_)) {
                    for inventory in inventory(&agent) {
                        if answers.send(answer(Kind::Inventory(inventory))).await.is_err() {
                            return;
                        }
                    }
                }
                if let Some(news) = take(&agent, kind).await
                    && heard.send(news).await.is_err()
                {
                    return;
                }
                if pinged && answers.send(answer(heartbeat())).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(next_beat) => {
                agent.look_at_directory();
                let troubles = agent.all_troubles();
                let kind = if beats % HEARTBEATS_PER_FACTS == 0 || troubles != told {
                    told.clone_from(&troubles);
                    Kind::Facts(facts.read(agent.running_count(), troubles).into())
                } else {
                    heartbeat()
                };
                beats += 1;
                // Jitter keeps thousands of agents apart; it only ever shortens the interval.
                next_beat = Instant::now() + interval - random::share_of(interval / 10);
                if answers.send(answer(kind)).await.is_err() {
                    return;
                }
            }
            () = agent.stopping.notified() => {
                let stopping = proto::AgentStopping { running: agent.running_count() };
                if answers.send(answer(Kind::Stopping(stopping))).await.is_err() {
                    return;
                }
            }
            () = stop.cancelled() => {
                let reason = if agent.is_stopping() { "the agent was stopped" } else { "the agent's connector ended" };
                let closing = proto::Closing { reason: reason.to_owned(), retry_after_ms: 0 };
                let _ = answers.try_send(answer(Kind::Closing(closing)));
                return;
            }
        }
    }
}

fn note_clock(agent: &Agent, sent: Option<&proto::SentAt>, echo: Option<&proto::Echo>) {
    if let Some(sent) = sent {
        let echo = echo.map(|echo| Echo { at: echo.at_ms, age_ms: echo.age_ms });
        agent.note_master_clock(sent_in(sent), echo);
    }
}

/// Who runs commands as root, or as the master's user, on the master's machine, can take its keys.
fn guard_master(agent: &Agent, welcome: &proto::Welcome) {
    let me = nix::unistd::geteuid().as_raw();
    let could_be_master = me == 0 || me == welcome.user_id;
    let is_there = could_be_master && !welcome.machine.is_empty() && welcome.machine == this_machine();
    if is_there && !agent.trusts_operators {
        tracing::info!("on the master's machine: runs commands of administrators only (--trust-operators)");
    }
    agent.guard_master(is_there && !agent.trusts_operators);
}

/// Takes what the master says; what the connection's owner has to know comes back.
async fn take(agent: &Agent, kind: session_request::Kind) -> Option<Heard> {
    match kind {
        session_request::Kind::Welcome(welcome) => {
            agent.see(revision_in(welcome.epoch, welcome.revision, &welcome.seal));
            // Before its clock is known: nothing is started before that.
            guard_master(agent, &welcome);
            note_clock(agent, welcome.sent.as_ref(), welcome.echo.as_ref());
            agent.save_seen();
            let proposed = Proposal::from(&welcome);
            if !proposed.is_empty() {
                let accept = acceptance(&agent.description.name);
                tracing::warn!(%proposed, "does not count yet; on the master: {accept}");
            }
            agent.standing.send_replace(ConnectionState::Active(proposed));
            Some(Heard::Welcome)
        }
        session_request::Kind::Refused(refused) => Some(Heard::Refused {
            reason: refused.reason(),
            retry_after: Duration::from_millis(refused.retry_after_ms.into()),
            message: refused.message,
        }),
        session_request::Kind::Ping(ping) => {
            note_clock(agent, ping.sent.as_ref(), ping.echo.as_ref());
            if let Some(state) = ping.state {
                agent.see(revision_in(state.epoch, state.revision, &state.seal));
                agent.save_seen();
            }
            Some(Heard::Alive)
        }
        session_request::Kind::Inventory(_) => Some(Heard::Alive),
        session_request::Kind::Link(report) => {
            tracing::info!(link = report.link, direct = report.reason, "the master uses this link");
            Some(Heard::Alive)
        }
        session_request::Kind::Stop(stop) => {
            let _ = agent.stop_orders.send(stop.grace_ms).await;
            Some(Heard::Alive)
        }
        session_request::Kind::Closing(closing) => {
            tracing::info!(reason = closing.reason, "the master closes the connection");
            let retry_after = Duration::from_millis(closing.retry_after_ms.into());
            Some(Heard::Closing { retry_after })
        }
    }
}
