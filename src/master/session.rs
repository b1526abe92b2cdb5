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
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    clock::{Heard, SendClock},
    core::{
        messages::{Input, Newcomer, SessionAccepted, SessionDenied, SessionId, SessionRefusal},
        stored::KnownTask,
    },
    direct::{self, LinkChange, Target, Wanted},
    handle::{Handle, SessionHandle},
    links::Links,
};
use crate::{
    domain::{
        agent::{HEARTBEAT, LinkPreference},
        fingerprint::Fingerprint,
        name::AgentName,
        proposal::{DirectAddress, Proposal},
        revision::Revision,
        session::{
            Closing, DirectState, FromAgent, HeldTask, Hello, Inventory, LinkReport, MasterInfo, Ping,
            RefusalKind, SessionRefused, ToAgent, TrustBasis, Welcome,
        },
    },
    sys::{hostname::hostname, rate::Rate, shutdown::Shutdown},
    trust::{machine::machine_digest, sealer::Sealer},
    wire::{
        PROTOCOL, SOFTWARE_VERSION,
        accept::Accepted,
        agent::AgentClient,
        budget::Budget,
        channel::{Channel, KeepAlive},
        incoming::Incoming,
        metered::Metered,
        protocol_1,
    },
};

/// How long to wait for an agent's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused agent may take to close the connection.
const REFUSAL: Duration = Duration::from_secs(2);
/// Maximum number of messages that wait for a session.
const MAX_QUEUED_MESSAGES: usize = 16;
/// Maximum number of tasks that an agent may report on one connection. A genuine agent has at most some
/// hundreds that no master has acknowledged.
const MAX_INVENTORY: usize = 4_096;
/// Maximum rate of an agent's messages. An agent sends one every few seconds, and a few more when it
/// connects.
const MESSAGES_A_SECOND: u32 = 20;
/// Maximum burst of an agent's messages.
const MESSAGE_BURST: u32 = 200;
/// How long a refused agent waits before it reconnects, in milliseconds.
const RETRY_AFTER_MS: u32 = 10_000;

/// Serves agents' connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    /// The core.
    pub handle: Handle,
    /// The TLS client configuration for direct links.
    pub direct: Arc<ClientConfig>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Ends the sessions when the master ends.
    pub shutdown: Shutdown,
    /// The id of the next session.
    pub next: Arc<AtomicU64>,
    /// The clock by which agents measure the transit time of messages.
    pub clock: SendClock,
    /// Seals what agents store, and verifies what they return.
    pub sealer: Arc<Sealer>,
}

type Orders = mpsc::Sender<ToAgent>;

impl Sessions {
    /// Serves an agent's connection until it ends.
    pub(crate) async fn run(
        self,
        accepted: Accepted,
        name: AgentName,
        key: Fingerprint,
        budget: Arc<Budget>,
    ) {
        let address = accepted.address;
        // Heartbeats keep the connection alive in both directions. HTTP/2 pings are sent only when no
        // heartbeats arrive.
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
        let (requests, outgoing) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let Some((mut answers, hello)) = receive_hello(channel.clone(), outgoing, &name, address).await
        else {
            return;
        };
        let heard = Heard::now(hello.at_ms);
        let major = hello.protocol.major;
        if major != PROTOCOL.major {
            let message = protocol_1::other_protocol(name.as_str(), &hello.version, major);
            tracing::warn!(%address, message, "refused an agent");
            return refuse(&requests, &mut answers, RefusalKind::Protocol, message).await;
        }
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let preference = hello.link;
        let links = Arc::new(Links::new(channel, preference));
        let (orders, ordered) = mpsc::channel(MAX_QUEUED_MESSAGES);
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
                self.close_session(id).await;
                return;
            }
        };
        match answer {
            Ok(Ok(SessionAccepted { revision, proposed })) => {
                tracing::info!(%name, %address, "agent connected");
                let is_accepted = proposed.direct.is_none();
                let welcome = self.welcome(address, revision, proposed, heard);
                let _ = requests.send(ToAgent::Welcome(Box::new(welcome))).await;
                let _ = requests.send(ToAgent::Inventory).await;
                let (news, told) = mpsc::channel(4);
                let _ends_direct = close.clone().drop_guard();
                let wanted = Wanted { preference, direct, is_accepted, accepted };
                self.shutdown.tracker.spawn(direct::keep(
                    Arc::clone(&links),
                    wanted,
                    self.target(&name, key),
                    news,
                    close.clone(),
                ));
                let pump = self.pump(id, requests, links, heard, (&name, key));
                pump.run(answers, ordered, told, &close, &self.shutdown.stop).await;
                tracing::info!(%name, %address, "agent disconnected");
            }
            Ok(Err(SessionDenied { kind, reason: message })) => {
                let reason = match kind {
                    SessionRefusal::UnknownKey => RefusalKind::UnknownKey,
                    SessionRefusal::Duplicate => RefusalKind::Duplicate,
                };
                tracing::warn!(%name, %address, message, "refused an agent");
                refuse(&requests, &mut answers, reason, message).await;
            }
            Err(_) => {}
        }
        self.close_session(id).await;
    }

    fn welcome(
        &self,
        address: SocketAddr,
        revision: Revision,
        proposed: Proposal,
        heard: Option<Heard>,
    ) -> Welcome {
        Welcome {
            protocol: PROTOCOL,
            version: SOFTWARE_VERSION.to_owned(),
            heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(5_000),
            revision: self.sealer.sealed(revision),
            observed_address: address.to_string(),
            machine: machine_digest(),
            user_id: nix::unistd::geteuid().as_raw(),
            proposed,
            sent: self.clock.now(),
            echo: heard.map(Heard::echo),
            masters: vec![MasterInfo { hostname: hostname(), address: None }],
        }
    }

    /// Returns the agent that a direct link must reach.
    fn target(&self, name: &AgentName, key: Fingerprint) -> Target {
        Target {
            name: name.clone(),
            key,
            cluster: self.cluster.to_string(),
            config: Arc::clone(&self.direct),
        }
    }

    fn pump(
        &self,
        id: SessionId,
        requests: mpsc::Sender<ToAgent>,
        links: Arc<Links>,
        heard: Option<Heard>,
        (name, key): (&AgentName, Fingerprint),
    ) -> Pump {
        Pump {
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
            rate: Rate::new(MESSAGES_A_SECOND, MESSAGE_BURST),
        }
    }

    async fn close_session(&self, id: SessionId) {
        self.handle.tell(Input::SessionClosed(id)).await;
        self.handle.unregister(id).await;
    }
}

/// Opens the session and returns the hello of the agent. Returns `None` if there is none. An agent with
/// protocol 1 is refused with a message that says what to upgrade.
async fn receive_hello(
    channel: Channel,
    outgoing: mpsc::Receiver<ToAgent>,
    name: &AgentName,
    address: SocketAddr,
) -> Option<(Incoming<FromAgent>, Hello)> {
    let client = AgentClient::new(channel.clone());
    let begun = async {
        let mut answers = client.session(outgoing).await?;
        match answers.message().await? {
            Some(FromAgent::Hello(hello)) => Ok((answers, *hello)),
            _ => Err(Status::invalid_argument("the first message is no hello")),
        }
    };
    match timeout(HELLO_TIMEOUT, begun).await {
        Ok(Ok(begun)) => return Some(begun),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            match protocol_1::refuse(channel, name.as_str()).await {
                Ok(message) => tracing::warn!(%address, message, "refused an agent"),
                Err(error) => tracing::debug!(%address, %error, %name, "an agent speaks no known protocol"),
            }
        }
        Ok(Err(_)) | Err(_) => {}
    }
    None
}

/// Refuses an agent, and waits until it has received this and closes the connection: a stream that ends at
/// once could overtake the message.
async fn refuse(requests: &Orders, answers: &mut Incoming<FromAgent>, kind: RefusalKind, message: String) {
    let refused = SessionRefused { kind, message, retry_after_ms: RETRY_AFTER_MS };
    if requests.send(ToAgent::Refused(refused)).await.is_ok() {
        let heard = async { while let Ok(Some(_)) = answers.message().await {} };
        let _ = timeout(REFUSAL, heard).await;
    }
}

/// Returns the address for a direct link: the one that the agent reports, completed by the observed one.
/// Returns `None` if there is none or the agent wants only the tunnel.
fn direct_address(hello: &Hello, seen: SocketAddr, preference: LinkPreference) -> Option<DirectAddress> {
    let wants = preference != LinkPreference::Tunnel;
    hello.direct.as_ref().filter(|_| wants)?.seen_at(Some(seen.ip()))
}

fn newcomer(
    session: SessionId,
    (name, fingerprint): (&AgentName, Fingerprint),
    address: SocketAddr,
    hello: Hello,
    direct: Option<DirectAddress>,
    sealer: &Sealer,
) -> Newcomer {
    let claim = hello.seen.revision;
    let is_proved = sealer.verify_state(claim, hello.seen.seal);
    Newcomer {
        session,
        name: name.clone(),
        fingerprint,
        link: hello.link,
        incarnation: hello.incarnation,
        labels: hello.labels,
        version: hello.version.into(),
        address: SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
        direct_address: direct,
        seen: if is_proved { claim } else { Revision::default() },
        unproved: (!is_proved).then_some(claim),
        trust: hello.trust.map(TrustBasis::word).unwrap_or_default().into(),
    }
}

struct Pump {
    handle: Handle,
    id: SessionId,
    requests: Orders,
    links: Arc<Links>,
    last_said: Option<DirectState>,
    clock: SendClock,
    /// The agent's newest message with a send time.
    heard: Option<Heard>,
    sealer: Arc<Sealer>,
    name: AgentName,
    key: Fingerprint,
    /// Number of tasks that the agent may still report.
    may_tell: usize,
    /// Limits the rate of the agent's messages.
    rate: Rate,
}

impl Pump {
    async fn run(
        mut self,
        mut answers: Incoming<FromAgent>,
        mut orders: mpsc::Receiver<ToAgent>,
        mut news: mpsc::Receiver<LinkChange>,
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
                    let revision = *remembered.borrow_and_update();
                    if changed.is_ok() {
                        let revision = Some(self.sealer.sealed(revision));
                        let ping = Ping { revision, ..self.clock.ping(self.heard) };
                        let _ = self.requests.try_send(ToAgent::Ping(ping));
                    }
                }
                answer = answers.message(), if self.rate.is_ready() => match answer {
                    Ok(Some(message)) => {
                        self.rate.take();
                        if !self.heard(message).await {
                            return;
                        }
                    }
                    Ok(None) | Err(_) => return,
                },
                Some(order) = orders.recv() => {
                    let _ = self.requests.try_send(order);
                }
                Some(news) = news.recv() => self.link_changed(news).await,
                _ = beat.tick() => {
                    if self.links.take_contact() {
                        self.handle.tell(Input::Heard(self.id)).await;
                    }
                    // The queue is full only if the connection is stuck; it is closed for its silence.
                    let _ = self.requests.try_send(ToAgent::Ping(self.clock.ping(self.heard)));
                }
                () = close.cancelled() => return,
                () = stop.cancelled() => {
                    let closing = Closing { reason: "the master ends".into(), retry_after_ms: 500 };
                    let _ = self.requests.try_send(ToAgent::Closing(closing));
                    return;
                }
            }
        }
    }

    async fn link_changed(&mut self, news: LinkChange) {
        if self.last_said.replace(news.state) != Some(news.state) {
            // The reason is not sent: it would reveal to the agent what answers at an address of its choice.
            let _ = self.requests.try_send(ToAgent::Link(LinkReport { state: news.state }));
        }
        let LinkChange { state, reason } = news;
        self.handle.tell(Input::LinkChanged { session: self.id, link: state.link(), reason }).await;
    }

    /// Accepts the valid tasks that the agent reports, up to its limit. The number of ignored tasks is
    /// recorded.
    async fn inventory(&mut self, inventory: Inventory) -> Input {
        let Inventory { mut tasks, invalid } = inventory;
        let told = tasks.len() + invalid;
        let taken = told.min(self.may_tell);
        self.may_tell -= taken;
        tasks.truncate(taken);
        let known: Vec<KnownTask> = tasks.into_iter().map(|task| self.known(task)).collect();
        if known.len() < told {
            let ignored = told - known.len();
            let reason = format!("{ignored} tasks are ignored: over {MAX_INVENTORY}, or not valid");
            let who = format!("agent {}", self.name);
            self.handle.tell(Input::Refused { who, what: "invalid tasks".to_owned(), reason }).await;
        }
        Input::InventoryTold(self.id, known)
    }

    fn known(&self, HeldTask { id, spec, started_ms }: HeldTask) -> KnownTask {
        let is_proved = self.sealer.verify_task(self.key, id, &spec);
        KnownTask { id, spec, started_ms, is_proved }
    }

    /// Handles a message of the agent. Returns false when the agent closes the session.
    async fn heard(&mut self, message: FromAgent) -> bool {
        if let FromAgent::Heartbeat { at_ms } = message {
            self.heard = Heard::now(at_ms).or(self.heard);
        }
        let input = match message {
            FromAgent::Facts(facts) => Input::FactsTold(self.id, *facts),
            FromAgent::Closing(closing) => {
                tracing::info!(reason = closing.reason, "an agent closes its session");
                return false;
            }
            FromAgent::Inventory(inventory) => self.inventory(inventory).await,
            FromAgent::Hello(_) | FromAgent::Heartbeat { .. } | FromAgent::Stopping { .. } => {
                Input::Heard(self.id)
            }
        };
        self.handle.tell(input).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ids::Incarnation, proposal::ReportedAddress, revision::SealedRevision};

    #[test]
    fn what_an_agent_says_of_itself_is_understood() {
        let label: crate::domain::name::Label = "role=web".parse().unwrap();
        let revision = Revision { epoch: 1, number: 4711 };
        let hello = Hello {
            protocol: PROTOCOL,
            incarnation: Incarnation::from(
                "0123456789abcdef/6e9b1c52-8a3e-4f6f-9d0a-1a2b3c4d5e6f".to_owned(),
            ),
            version: "0.2.0".into(),
            labels: [(label.key, label.value)].into(),
            direct: Some(ReportedAddress { host: None, port: 50_051 }),
            link: LinkPreference::Auto,
            seen: SealedRevision { revision, seal: None },
            trust: Some(TrustBasis::Token),
            is_stopping: false,
            at_ms: 0,
        };
        assert!(Heard::now(hello.at_ms).is_none(), "it does not send its time");
        let name: AgentName = "web-1".parse().unwrap();
        let address = "10.0.0.1:40000".parse().unwrap();
        let direct = direct_address(&hello, address, hello.link);
        let sealer = Sealer::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        let who = (&name, Fingerprint::of(b"key"));
        let told = newcomer(SessionId(7), who, address, hello, direct, &sealer);
        assert_eq!(told.incarnation.to_string(), "0123456789abcdef/6e9b1c52-8a3e-4f6f-9d0a-1a2b3c4d5e6f");
        assert_eq!((told.version.as_str(), told.trust.as_str()), ("0.2.0", "token"));
        assert_eq!((told.seen, told.unproved), (Revision::default(), Some(revision)), "it has no proof");
        assert_eq!(
            told.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            ["role=web"]
        );
        assert_eq!(told.direct_address.map(|direct| direct.to_string()).as_deref(), Some("10.0.0.1:50051"));
    }
}
