//! The agent's side of the session: hello, welcome, then facts and heartbeats until the connection ends.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    core::{Input, Introduction},
    facts::FactsReader,
    handle::{Agent, ConnectionState},
    task_process::record_of,
};
use crate::{
    domain::{
        agent::HEARTBEAT,
        ids::TaskId,
        proposal::acceptance,
        session::{
            Closing, FromAgent, HeldTask, Hello, Inventory, RefusalKind, ToAgent, TrustBasis, Welcome,
        },
    },
    sys::{clock::boottime_ms, random},
    trust::machine::machine_digest,
    wire::{PROTOCOL, SOFTWARE_VERSION, agent::Outgoing, incoming::Incoming},
};

/// Maximum number of answers that wait for the connection.
pub(crate) const ANSWERS: usize = 4;
/// Approximate maximum size of one message of an inventory, in bytes. A larger task, which has at most a
/// little over 2 MiB, gets its own message.
const INVENTORY_BYTES: usize = 1024 * 1024;
/// Number of heartbeats after which the agent sends its facts again.
const HEARTBEATS_PER_FACTS: u32 = 6;

/// A message of the master, as reported to the owner of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MasterMessage {
    /// The master accepts the agent.
    Welcome,
    /// The master has sent any other message.
    Alive,
    /// The master does not accept the agent.
    Refused {
        /// The reason, for programs.
        kind: RefusalKind,
        /// The reason, as text.
        message: String,
        /// The time until the next attempt.
        retry_after: Duration,
    },
    /// The master closes the connection.
    Closing {
        /// The time until the next attempt.
        retry_after: Duration,
    },
}

type Answers = Outgoing<FromAgent>;

fn heartbeat() -> FromAgent {
    FromAgent::Heartbeat { at_ms: boottime_ms() }
}

fn hello(agent: &Agent, Introduction { incarnation, seen, is_stopping }: Introduction) -> Hello {
    let description = &agent.description;
    Hello {
        protocol: PROTOCOL,
        version: SOFTWARE_VERSION.to_owned(),
        incarnation,
        labels: description.labels.clone(),
        direct: description.reported(),
        link: description.link,
        seen,
        trust: TrustBasis::of_word(&agent.trust.borrow()),
        is_stopping,
        at_ms: boottime_ms(),
    }
}

/// Returns all unfinished tasks in the agent's directory, divided into messages of limited size. A task that
/// cannot be read is left out: the master gets the error when it opens an Attach to that task.
async fn inventory(agent: &Agent) -> Vec<Inventory> {
    let known = agent.unfinished().await.unwrap_or_default();
    let held = |id: &TaskId| {
        let record = record_of(&agent.layout.task(*id)).ok().flatten()?;
        Some(HeldTask { id: *id, spec: record.spec, started_ms: record.started_unix_ms })
    };
    let mut messages = vec![Inventory::default()];
    let mut size = 0;
    for task in known.iter().filter_map(held) {
        size += task.spec.size();
        match messages.last_mut() {
            Some(last) if size <= INVENTORY_BYTES || last.tasks.is_empty() => last.tasks.push(task),
            _ => {
                size = task.spec.size();
                messages.push(Inventory { tasks: vec![task], invalid: 0 });
            }
        }
    }
    messages
}

/// Serves one session to its end.
pub(crate) async fn serve(
    agent: Agent,
    mut requests: Incoming<ToAgent>,
    answers: Answers,
    heard: mpsc::Sender<MasterMessage>,
    stop: CancellationToken,
) {
    let mut stopping = agent.stopping.clone();
    stopping.mark_unchanged();
    let Ok(introduction) = agent.introduce().await else { return };
    if answers.send(Ok(FromAgent::Hello(Box::new(hello(&agent, introduction))))).await.is_err() {
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
                let Ok(Some(request)) = request else { return };
                if let ToAgent::Welcome(welcome) = &request {
                    if welcome.heartbeat_ms > 0 {
                        interval = Duration::from_millis(welcome.heartbeat_ms.into());
                    }
                    // Sends the facts immediately, so that the row of a new agent is complete.
                    beats = 0;
                    next_beat = Instant::now();
                }
                let pinged = matches!(request, ToAgent::Ping(_));
                if matches!(request, ToAgent::Inventory) {
                    for inventory in inventory(&agent).await {
                        if answers.send(Ok(FromAgent::Inventory(inventory))).await.is_err() {
                            return;
                        }
                    }
                }
                if let Some(news) = take(&agent, request).await
                    && heard.send(news).await.is_err()
                {
                    return;
                }
                if pinged && answers.send(Ok(heartbeat())).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(next_beat) => {
                agent.tell(Input::CheckMemory).await;
                let troubles = agent.all_troubles().await;
                let message = if beats % HEARTBEATS_PER_FACTS == 0 || troubles != told {
                    told.clone_from(&troubles);
                    FromAgent::Facts(Box::new(facts.read(agent.running_count().await, troubles)))
                } else {
                    heartbeat()
                };
                beats += 1;
                // Jitter spreads the messages of thousands of agents. It never makes the interval longer.
                next_beat = Instant::now() + interval - random::share_of(interval / 10);
                if answers.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            Ok(()) = stopping.changed() => {
                let stopping = FromAgent::Stopping { running: agent.running_count().await };
                if answers.send(Ok(stopping)).await.is_err() {
                    return;
                }
            }
            () = stop.cancelled() => {
                let reason = if agent.is_stopping() { "the agent was stopped" } else { "the agent's connector ended" };
                let closing = Closing { reason: reason.to_owned(), retry_after_ms: 0 };
                let _ = answers.try_send(Ok(FromAgent::Closing(closing)));
                return;
            }
        }
    }
}

/// Reports whether only administrators may run commands here: on the master's machine, commands that run as
/// root or as the master's user could read its keys.
fn admins_only(agent: &Agent, welcome: &Welcome) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    let could_be_master = me == 0 || me == welcome.user_id;
    let is_there = could_be_master && welcome.machine.is_some() && welcome.machine == machine_digest();
    if is_there && !agent.trusts_operators {
        tracing::info!("on the master's machine: runs commands of administrators only (--trust-operators)");
    }
    is_there && !agent.trusts_operators
}

/// Handles a message of the master. Returns the report for the owner of the connection.
async fn take(agent: &Agent, request: ToAgent) -> Option<MasterMessage> {
    match request {
        ToAgent::Welcome(welcome) => {
            let admins_only = admins_only(agent, &welcome);
            let Welcome { revision, sent, echo, .. } = *welcome;
            agent.tell(Input::Welcomed { admins_only, revision, sent, echo }).await;
            let proposed = welcome.proposed;
            if !proposed.is_empty() {
                let accept = acceptance(&agent.description.name);
                tracing::warn!(%proposed, "has no effect until it is accepted; on the master: {accept}");
            }
            agent.standing.send_replace(ConnectionState::Active(proposed));
            Some(MasterMessage::Welcome)
        }
        ToAgent::Refused(refused) => Some(MasterMessage::Refused {
            kind: refused.kind,
            retry_after: Duration::from_millis(refused.retry_after_ms.into()),
            message: refused.message,
        }),
        ToAgent::Ping(ping) => {
            agent.tell(Input::Pinged { revision: ping.revision, sent: ping.sent, echo: ping.echo }).await;
            Some(MasterMessage::Alive)
        }
        ToAgent::Inventory => Some(MasterMessage::Alive),
        ToAgent::Link(report) => {
            let (link, direct) = (report.state.link().word(), report.state.word());
            tracing::info!(link, direct, "the master uses this link");
            Some(MasterMessage::Alive)
        }
        ToAgent::Stop { grace_ms } => {
            let _ = agent.stop_orders.send(grace_ms).await;
            Some(MasterMessage::Alive)
        }
        ToAgent::Closing(closing) => {
            tracing::info!(reason = closing.reason, "the master closes the connection");
            let retry_after = Duration::from_millis(closing.retry_after_ms.into());
            Some(MasterMessage::Closing { retry_after })
        }
    }
}
