//! Peers on the wire for tests: identities of all kinds, and an agent that sends any message.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::Message as _;
use sloth_runner::{
    trust::{
        access::Caller,
        authority::Authority,
        identity::Identity,
        key::Key,
        tls::{self, ALPN_H2, ALPN_TUNNEL, Credentials},
        verify::Trust,
    },
    wire::{
        budget::{Budget, Principal},
        channel::{Channel, KeepAlive},
        connect::dial,
        login::{LoginString, log_in},
        proto::{
            self,
            agent_service_server::{AgentService, AgentServiceServer},
            attach_request, attach_response, session_request, session_response,
        },
        serve::{self, Connected},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::rig::{TestCluster, secret};

/// Returns every method in the compiled proto files.
pub(crate) fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(methods.len() >= 15);
    methods
}

/// Issues credentials for an identity of this CA.
pub(crate) fn credentials(authority: &Authority, identity: &Identity) -> Credentials {
    let key = Key::generate().unwrap();
    let certificate = authority.issue(&key, identity).unwrap();
    Credentials { chain: vec![certificate, authority.certificate().clone()], key: key.to_der() }
}

/// Logs in as a new operator, and returns the credentials.
pub(crate) fn create_operator(rig: &TestCluster, name: &str, role: &str) -> Credentials {
    let address = format!("127.0.0.1:{}", rig.port());
    let line = rig.run(&["master", "operator", "add", name, "--role", role, "--address", &address]);
    let login: LoginString = secret(&line.out).parse().unwrap();
    let key = Key::generate().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let logged_in = runtime.block_on(log_in(&login, &key)).unwrap();
    assert_eq!((logged_in.operator.as_str(), logged_in.role.word()), (name, role));
    Credentials { chain: vec![logged_in.certificate, logged_in.ca], key: key.to_der() }
}

/// An operator that can send anything that the wire format allows.
pub(crate) struct Operator {
    own: Credentials,
    pub port: u16,
}

impl Operator {
    pub(crate) fn log_in(rig: &TestCluster, name: &str, role: &str) -> Arc<Self> {
        Arc::new(Self { own: create_operator(rig, name, role), port: rig.port() })
    }

    /// Returns the TLS configuration of the operator's side.
    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        let own = Credentials { chain: self.own.chain.clone(), key: self.own.key.clone_key() };
        Arc::new(tls::client(Some(own), Trust::Pinned(self.own.chain[1].clone()), ALPN_H2).unwrap())
    }

    /// Connects to the master; `None` if that fails.
    pub(crate) async fn connect(&self) -> Option<Channel> {
        let dialled = dial("127.0.0.1", self.port, self.tls(), tls::server_name("master")).await.ok()?;
        let (channel, connection) =
            Channel::handshake_kept_alive(dialled.stream, KeepAlive::QUICK).await.ok()?;
        tokio::spawn(connection);
        Some(channel)
    }
}

/// Returns the identity of a kind and name.
pub(crate) fn identity_of(kind: &str, name: &str) -> Identity {
    match kind {
        "agent" => Identity::Agent(name.parse().unwrap()),
        "operator" => Identity::Operator(name.parse().unwrap()),
        _ => Identity::Master(name.to_owned()),
    }
}

/// Returns the messages that it sends at the beginning of each session.
pub(crate) type Says = Arc<dyn Fn() -> Vec<session_response::Kind> + Send + Sync>;
/// Returns the messages with which it answers an Attach.
pub(crate) type Answers = Arc<dyn Fn(proto::Open) -> Vec<attach_response::Kind> + Send + Sync>;

/// An agent that can send anything that the wire format allows.
#[derive(Clone)]
pub(crate) struct RogueAgent {
    pub says: Says,
    pub answers: Answers,
    /// The messages that the master sent in its sessions.
    pub heard: Arc<Mutex<Vec<session_request::Kind>>>,
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl AgentService for RogueAgent {
    type SessionStream = Stream<proto::SessionResponse>;
    type AttachStream = Stream<proto::AttachResponse>;

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut requests, heard) = (request.into_inner(), Arc::clone(&self.heard));
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                heard.lock().unwrap().extend(request.kind);
            }
        });
        let (said, stream) = mpsc::channel(64);
        let says = Arc::clone(&self.says);
        tokio::spawn(async move {
            for kind in says() {
                if said.send(Ok(proto::SessionResponse { kind: Some(kind) })).await.is_err() {
                    return;
                }
            }
            said.closed().await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn attach(
        &self,
        request: Request<Streaming<proto::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        let (said, stream) = mpsc::channel(64);
        let answers = Arc::clone(&self.answers);
        tokio::spawn(async move {
            let Ok(Some(first)) = requests.message().await else { return };
            let Some(attach_request::Kind::Open(open)) = first.kind else { return };
            for kind in answers(open) {
                if said.send(Ok(proto::AttachResponse { kind: Some(kind) })).await.is_err() {
                    return;
                }
            }
            while let Ok(Some(_)) = requests.message().await {}
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn signal(
        &self,
        _: Request<proto::SignalRequest>,
    ) -> Result<Response<proto::SignalResponse>, Status> {
        Ok(Response::new(proto::SignalResponse { known: true, incarnation: "x/y".into() }))
    }
}

/// Steals a real agent's identity: the agent is enrolled and stopped, and the caller uses its key from then
/// on.
pub(crate) fn stolen(rig: &mut TestCluster, name: &str) -> (Credentials, Trust) {
    rig.start_agent(name, &[]);
    rig.wait_state(name, "active");
    rig.stop_agent(name);
    rig.wait_state(name, "offline");
    let identity = rig.agent_dir(name).join("identity");
    let file = |name: &str| fs::read(identity.join(name)).unwrap();
    let (ca, key) = (file("ca.der"), Key::load_or_generate(&identity.join("agent.key")).unwrap());
    let chain = vec![file("agent.der").into(), ca.clone().into()];
    (Credentials { chain, key: key.to_der() }, Trust::Pinned(ca.into()))
}

impl RogueAgent {
    /// Dials the master repeatedly, with this agent's identity.
    pub(crate) fn dial_repeatedly(
        self,
        rig: &TestCluster,
        (own, ca): (Credentials, Trust),
    ) -> tokio::runtime::Runtime {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = rig.port();
        runtime.spawn(async move {
            let config = Arc::new(tls::client(Some(own), ca, ALPN_TUNNEL).unwrap());
            loop {
                if let Ok(dialled) =
                    dial("127.0.0.1", port, Arc::clone(&config), tls::server_name("master")).await
                {
                    let connected = Connected {
                        caller: Caller::Peer(Identity::Master("m".parse().unwrap())),
                        address: "master".into(),
                        uid: None,
                        budget: Budget::unlimited(Principal::Master),
                        refusals: None,
                        over: None,
                    };
                    let routes = Routes::new(AgentServiceServer::new(self.clone()));
                    let _ = serve::serve(dialled.stream, routes, connected, CancellationToken::new()).await;
                }
                // An agent pauses, too, before it dials again.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        runtime
    }
}

/// A proxy between an agent and its master. It forwards the agent's connections, or keeps them for the test.
pub(crate) struct Proxy {
    pub port: u16,
    keeps: watch::Sender<bool>,
    kept: mpsc::Receiver<TcpStream>,
    authority: Arc<Authority>,
}

impl Proxy {
    /// Starts a proxy in front of the rig's master, with a copy of the key of its CA.
    pub(crate) async fn new(rig: &TestCluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, master) = (listener.local_addr().unwrap().port(), rig.port());
        let (keeps, kept_here) = watch::channel(false);
        let (keep, kept) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut keeps, keep) = (kept_here.clone(), keep.clone());
                if *keeps.borrow_and_update() {
                    let _ = keep.send(stream).await;
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut master) = TcpStream::connect(("127.0.0.1", master)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut stream, &mut master) => {}
                        _ = keeps.changed() => {}
                    }
                });
            }
        });
        let authority = Arc::new(Authority::load_or_create(&rig.master_dir().join("identity")).unwrap());
        Self { port, keeps, kept, authority }
    }

    /// Keeps the agent's connections from now on, or forwards them. The existing ones end.
    pub(crate) fn keep(&self, keeps: bool) {
        self.keeps.send_replace(keeps);
    }

    /// Accepts the next connection of the agent as its master would, with a certificate of its CA.
    pub(crate) async fn next(&mut self) -> Channel {
        loop {
            let kept = tokio::time::timeout(super::rig::TIMEOUT, self.kept.recv());
            let stream = kept.await.expect("the agent comes again").unwrap();
            let own = credentials(&self.authority, &Identity::Master("1".to_owned()));
            let ca = Trust::Pinned(self.authority.certificate().clone());
            let config = tls::server(own, ca, true, &[ALPN_TUNNEL]).unwrap();
            let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { continue };
            let Ok((channel, connection)) = Channel::handshake_kept_alive(stream, KeepAlive::PATIENT).await
            else {
                continue;
            };
            tokio::spawn(connection);
            return channel;
        }
    }
}
