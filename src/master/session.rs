//! The master's side of an agent's session: hello, welcome or refusal, then the messages of the session.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::{
    clock::{Heard, SendClock},
    core::{
        messages::{Input, Newcomer, Reply, SessionId, SessionRefusal},
        stored::KnownTask,
    },
    direct::{self, LinkNews, LinkState, Target, Wanted},
    handle::{Handle, SessionHandle},
    links::{self, Links},
};
use crate::{
    domain::{
        agent::{HEARTBEAT, LinkPreference},
        command::TaskSpec,
        fingerprint::Fingerprint,
        ids::Incarnation,
        name::AgentName,
        proposal::DirectAddress,
    },
    sys::{rate::Rate, shutdown::Shutdown},
    trust::sealer::Sealer,
    wire::{
        PROTOCOL, SOFTWARE_VERSION,
        accept::Accepted,
        agent::{labels_in, labels_out, this_machine},
        budget::Budget,
        channel::{Channel, KeepAlive},
        command::{seal_in, seal_out, task_id},
        metered::Metered,
        proposal::{address_out, direct_in},
        proto::{self, RefusalReason, session_request, session_response},
        protocol_1,
    },
};

/// How long an agent may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How long a refused agent may take to close the connection.
const REFUSAL: Duration = Duration::from_secs(2);
/// Messages that may wait for a session.
const ORDERS: usize = 16;
/// Tasks of which an agent may tell on one connection. Those that it has and no master has taken are some hundreds.
const MAX_INVENTORY: usize = 4_096;
/// Messages of an agent that are taken: it sends one every few seconds, and a few more when it comes.
const MESSAGES_A_SECOND: u32 = 20;
/// The same, at once.
const MESSAGES_AT_ONCE: u32 = 200;
/// When a refused agent may come back.
const RETRY_AFTER_MS: u32 = 10_000;

/// What sessions are made with.
#[derive(Clone)]
pub struct Sessions {
    /// The core.
    pub handle: Handle,
    /// The master's side of TLS towards agents.
    pub direct: Arc<ClientConfig>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// When to end.
    pub shutdown: Shutdown,
    /// Counts connections.
    pub next: Arc<AtomicU64>,
    /// By which agents tell how long messages were on their way.
    pub clock: SendClock,
    /// Knows what this master has sealed.
    pub sealer: Arc<Sealer>,
}

type Orders = mpsc::Sender<proto::SessionRequest>;

fn request(kind: session_request::Kind) -> proto::SessionRequest {
    proto::SessionRequest { kind: Some(kind) }
}

impl Sessions {
    /// Serves an agent's connection to its end.
    pub async fn run(self, accepted: Accepted, name: AgentName, key: Fingerprint, budget: Arc<Budget>) {
        let address = accepted.address;
        // Heartbeats keep it alive in both directions; only a connection on which not even they come is asked.
        let handshake =
            Channel::handshake_kept_alive(Metered::server(accepted.stream, budget), KeepAlive::PATIENT);
        let (channel, connection) = match handshake.await {
            Ok(opened) => opened,
            Err(error) => return tracing::debug!(%error, %name, "no HTTP/2 on a tunnel"),
        };
        let close = CancellationToken::new();
        let session = self.clone().session(channel, name.clone(), key, address, close.clone());
        let mut session = std::pin::pin!(session);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            () = &mut session => {}
            ended = &mut connection => {
                close.cancel();
                if let Err(error) = ended {
                    tracing::debug!(%name, %error, "an agent's connection broke");
                }
                session.await;
            }
            () = self.shutdown.now.cancelled() => close.cancel(),
        }
    }

    async fn session(
        self,
        channel: Channel,
        name: AgentName,
        key: Fingerprint,
        address: SocketAddr,
        close: CancellationToken,
    ) {
        let (requests, outgoing) = mpsc::channel(ORDERS);
        let mut client = links::client(channel.clone());
        let begun = async {
            let mut answers = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
            match answers.message().await? {
                Some(proto::SessionResponse { kind: Some(session_response::Kind::Hello(hello)) }) => {
                    Ok((answers, hello))
                }
                _ => Err(Status::invalid_argument("the first message is no hello")),
            }
        };
        let (mut answers, hello) = match timeout(HELLO, begun).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                match protocol_1::refuse(channel, name.as_str()).await {
                    Ok(message) => tracing::warn!(%address, message, "refused an agent"),
                    Err(error) => {
                        tracing::debug!(%address, %error, %name, "an agent speaks no known protocol");
                    }
                }
                return;
            }
            Ok(Err(_)) | Err(_) => return,
        };
        let heard = Heard::now(hello.at_ms);
        let major = hello.protocol.map_or(0, |protocol| protocol.major);
        if major != PROTOCOL.major {
            let message = protocol_1::other_protocol(name.as_str(), &hello.software_version, major);
            tracing::warn!(%address, message, "refused an agent");
            return refuse(&requests, &mut answers, RefusalReason::Protocol, message).await;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let preference = LinkPreference::from(hello.link());
        let links = Arc::new(Links::new(channel, preference));
        let (orders, ordered) = mpsc::channel(ORDERS);
        let accepted = Arc::new(Notify::new());
        let session = SessionHandle {
            orders,
            links: Arc::clone(&links),
            accepted: Arc::clone(&accepted),
            close: close.clone(),
        };
        self.handle.register(id, session).await;
        let direct = direct_address(&hello, address, preference);
        let newcomer = newcomer(id, (&name, key), address, hello, direct.clone(), &self.sealer);
        let asked = self.handle.ask(move |reply| Input::SessionOpened(Box::new(newcomer), reply));
        let answer = tokio::select! {
            answer = asked => answer,
            () = close.cancelled() => {
                self.leave(id).await;
                return;
            }
        };
        match answer {
            Ok(Reply::Welcome { epoch, revision, proposed }) => {
                tracing::info!(%name, %address, "agent connected");
                let is_accepted = proposed.direct.is_none();
                let welcome = proto::Welcome {
                    protocol: Some(PROTOCOL),
                    software_version: SOFTWARE_VERSION.to_owned(),
                    capabilities: Vec::new(),
                    heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(5_000),
                    epoch,
                    revision,
                    seal: seal_out(Some(self.sealer.seal_state(epoch, revision))),
                    observed_address: address.to_string(),
                    machine: this_machine(),
                    user_id: nix::unistd::geteuid().as_raw(),
                    proposed_address: address_out(&proposed),
                    proposed_labels: labels_out(proposed.labels),
                    sent: Some(self.clock.now()),
                    echo: heard.map(Heard::echo),
                };
                let _ = requests.send(request(session_request::Kind::Welcome(welcome))).await;
                let ask = session_request::Kind::Inventory(proto::AskInventory {});
                let _ = requests.send(request(ask)).await;
                let (news, told) = mpsc::channel(4);
                let _ends_direct = close.clone().drop_guard();
                let wanted = Wanted { preference, direct, is_accepted, accepted };
                let target = Target {
                    name: name.clone(),
                    key,
                    cluster: self.cluster.to_string(),
                    config: Arc::clone(&self.direct),
                };
                self.shutdown.tracker.spawn(direct::keep(
                    Arc::clone(&links),
                    wanted,
                    target,
                    news,
                    close.clone(),
                ));
                let pump = Pump {
                    handle: self.handle.clone(),
                    id,
                    requests,
                    links,
                    last_said: None,
                    clock: self.clock,
                    heard,
                    sealer: Arc::clone(&self.sealer),
                    name: name.clone(),
                    key,
                    may_tell: MAX_INVENTORY,
                    rate: Rate::new(MESSAGES_A_SECOND, MESSAGES_AT_ONCE),
                };
                pump.run(answers, ordered, told, &close, &self.shutdown.stop).await;
                tracing::info!(%name, %address, "agent disconnected");
            }
            Ok(Reply::SessionRefused(refusal, message)) => {
                let reason = match refusal {
                    SessionRefusal::UnknownKey => RefusalReason::UnknownKey,
                    SessionRefusal::Duplicate => RefusalReason::Duplicate,
                };
                tracing::warn!(%name, %address, message, "refused an agent");
                refuse(&requests, &mut answers, reason, message).await;
            }
            Ok(_) | Err(_) => {}
        }
        self.leave(id).await;
    }

    async fn leave(&self, id: SessionId) {
        self.handle.tell(Input::SessionClosed(id)).await;
        self.handle.unregister(id).await;
    }
}

/// Refuses an agent and waits until it has heard that and closes: a stream that ends at once could overtake its words.
async fn refuse(
    requests: &Orders,
    answers: &mut Streaming<proto::SessionResponse>,
    reason: RefusalReason,
    message: String,
) {
    let refused = proto::SessionRefused { reason: reason.into(), message, retry_after_ms: RETRY_AFTER_MS };
    if requests.send(request(session_request::Kind::Refused(refused))).await.is_ok() {
        let heard = async { while let Ok(Some(_)) = answers.message().await {} };
        let _ = timeout(REFUSAL, heard).await;
    }
}

/// Where a direct link goes: what the agent reports, or the address that is seen here.
fn direct_address(
    hello: &proto::Hello,
    seen: SocketAddr,
    preference: LinkPreference,
) -> Option<DirectAddress> {
    let wants = preference != LinkPreference::Tunnel;
    direct_in(hello.direct.as_ref().filter(|_| wants), Some(seen.ip()))
}

fn newcomer(
    session: SessionId,
    (name, fingerprint): (&AgentName, Fingerprint),
    address: SocketAddr,
    hello: proto::Hello,
    direct: Option<DirectAddress>,
    sealer: &Sealer,
) -> Newcomer {
    let claim = (hello.seen_epoch, hello.seen_revision);
    let is_proved = sealer.is_state(claim.0, claim.1, seal_in(&hello.seen_seal));
    Newcomer {
        session,
        name: name.clone(),
        fingerprint,
        link: LinkPreference::from(hello.link()),
        incarnation: Incarnation::from(hello.incarnation),
        labels: labels_in(hello.labels),
        version: hello.software_version.into(),
        address: SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
        direct_address: direct,
        seen: if is_proved { claim } else { (0, 0) },
        unproved: (!is_proved).then_some(claim),
        trust: hello.trust.into(),
    }
}

/// A task of an inventory; what makes no sense is left where it is.
fn known_task(known: proto::KnownTask, key: Fingerprint, sealer: &Sealer) -> Option<KnownTask> {
    let spec = known.spec?;
    let id = task_id(&spec.job_id, spec.task_index).ok()?;
    let spec = TaskSpec::try_from(spec).ok()?;
    let is_proved = sealer.is_task(key, id, &spec);
    Some(KnownTask { id, spec, started_ms: known.started_ms, is_proved })
}

struct Pump {
    handle: Handle,
    id: SessionId,
    requests: Orders,
    links: Arc<Links>,
    last_said: Option<LinkState>,
    clock: SendClock,
    /// The agent's newest message that said when it was sent.
    heard: Option<Heard>,
    sealer: Arc<Sealer>,
    name: AgentName,
    key: Fingerprint,
    /// Tasks of which the agent may still tell.
    may_tell: usize,
    /// How fast its messages are taken.
    rate: Rate,
}

impl Pump {
    async fn run(
        mut self,
        mut answers: Streaming<proto::SessionResponse>,
        mut orders: mpsc::Receiver<session_request::Kind>,
        mut news: mpsc::Receiver<LinkNews>,
        close: &CancellationToken,
        stop: &CancellationToken,
    ) {
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut remembered = self.handle.remembered();
        remembered.mark_unchanged();
        loop {
            tokio::select! {
                () = self.rate.ready(), if !self.rate.is_ready() => {}
                changed = remembered.changed() => {
                    let (epoch, revision) = *remembered.borrow_and_update();
                    if changed.is_ok() {
                        let seal = seal_out(Some(self.sealer.seal_state(epoch, revision)));
                        let state = Some(proto::StoreState { epoch, revision, seal });
                        let ping = proto::Ping { state, ..self.clock.ping(self.heard) };
                        let _ = self.requests.try_send(request(session_request::Kind::Ping(ping)));
                    }
                }
                answer = answers.message(), if self.rate.is_ready() => match answer {
                    Ok(Some(proto::SessionResponse { kind: Some(kind) })) => {
                        self.rate.take();
                        if !self.heard(kind).await {
                            return;
                        }
                    }
                    Ok(_) | Err(_) => return,
                },
                Some(order) = orders.recv() => {
                    let _ = self.requests.try_send(request(order));
                }
                Some(news) = news.recv() => self.link_changed(news).await,
                _ = beat.tick() => {
                    if self.links.take_spoke() {
                        self.handle.tell(Input::Heard(self.id)).await;
                    }
                    // A full queue is a connection that takes nothing; its silence will close it.
                    let _ = self.requests.try_send(request(session_request::Kind::Ping(self.clock.ping(self.heard))));
                }
                () = close.cancelled() => return,
                () = stop.cancelled() => {
                    let closing = proto::Closing { reason: "the master ends".into(), retry_after_ms: 500 };
                    let _ = self.requests.try_send(request(session_request::Kind::Closing(closing)));
                    return;
                }
            }
        }
    }

    async fn link_changed(&mut self, news: LinkNews) {
        if self.last_said.replace(news.state) != Some(news.state) {
            let link = news.state.link().word();
            // Why it is so would tell the agent what answers at an address of its choice.
            let report = proto::LinkReport { link: link.to_owned(), reason: news.state.word().to_owned() };
            let _ = self.requests.try_send(request(session_request::Kind::Link(report)));
        }
        let LinkNews { state, reason } = news;
        self.handle.tell(Input::LinkChanged { session: self.id, link: state.link(), reason }).await;
    }

    /// Takes the tasks that the agent tells of: as many as it may, and those that make sense.
    async fn inventory(&mut self, inventory: proto::Inventory) -> Input {
        let told = inventory.tasks.len();
        let taken = told.min(self.may_tell);
        self.may_tell -= taken;
        let tasks = inventory.tasks.into_iter().take(taken);
        let known: Vec<KnownTask> =
            tasks.filter_map(|known| known_task(known, self.key, &self.sealer)).collect();
        if known.len() < told {
            let ignored = told - known.len();
            let reason = format!("{ignored} tasks are ignored: over {MAX_INVENTORY}, or no tasks of any job");
            let who = format!("agent {}", self.name);
            self.handle.tell(Input::Refused { who, what: "impossible tasks".to_owned(), reason }).await;
        }
        Input::InventoryTold(self.id, known)
    }

    /// False when the agent goes away.
    async fn heard(&mut self, kind: session_response::Kind) -> bool {
        if let session_response::Kind::Heartbeat(beat) = &kind {
            self.heard = Heard::now(beat.at_ms).or(self.heard);
        }
        let input = match kind {
            session_response::Kind::Facts(facts) => Input::FactsTold(self.id, facts.into()),
            session_response::Kind::Closing(closing) => {
                tracing::info!(reason = closing.reason, "an agent goes away");
                return false;
            }
            session_response::Kind::Inventory(inventory) => self.inventory(inventory).await,
            session_response::Kind::Hello(_)
            | session_response::Kind::Heartbeat(_)
            | session_response::Kind::Stopping(_) => Input::Heard(self.id),
        };
        self.handle.tell(input).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_of_itself_is_understood() {
        let hello = proto::Hello {
            incarnation: "0123456789abcdef/6e9b1c52-8a3e-4f6f-9d0a-1a2b3c4d5e6f".into(),
            software_version: "0.2.0".into(),
            labels: [("role".to_owned(), "web".to_owned())].into(),
            direct: Some(proto::DirectAddress { host: String::new(), port: 50_051 }),
            link: proto::LinkPreference::Auto.into(),
            seen_epoch: 1,
            seen_revision: 4711,
            trust: "token".into(),
            ..proto::Hello::default()
        };
        assert!(Heard::now(hello.at_ms).is_none(), "it does not tell its clock");
        let name: AgentName = "web-1".parse().unwrap();
        let address = "10.0.0.1:40000".parse().unwrap();
        let direct = direct_address(&hello, address, LinkPreference::from(hello.link()));
        let sealer = Sealer::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        let who = (&name, Fingerprint::of(b"key"));
        let told = newcomer(7, who, address, hello, direct, &sealer);
        assert_eq!(told.incarnation.to_string(), "0123456789abcdef/6e9b1c52-8a3e-4f6f-9d0a-1a2b3c4d5e6f");
        assert_eq!((told.version.as_str(), told.trust.as_str()), ("0.2.0", "token"));
        assert_eq!((told.seen, told.unproved), ((0, 0), Some((1, 4711))), "it has no proof");
        assert_eq!(
            told.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            ["role=web"]
        );
        assert_eq!(told.direct_address.map(|direct| direct.to_string()).as_deref(), Some("10.0.0.1:50051"));
    }
}
