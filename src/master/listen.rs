//! Accepts connections: on the port, where the certificate and ALPN determine the kind of connection, and on
//! the local socket.

use std::{
    hash::Hash,
    net::{IpAddr, TcpListener},
    os::unix::net::UnixListener,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::UCred},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use super::{
    core::messages::{ConnectionIdentity, Input, Principal as Known},
    service::Master,
    session::Sessions,
};
use crate::{
    domain::{fingerprint::Fingerprint, name::AgentName, network::source_of, operator::Role},
    sys::descriptors,
    trust::{access::Caller, identity::Identity, key::key_fingerprint, tls::ALPN_TUNNEL},
    wire::{
        accept::{Accepted, ConnectionLimiter},
        budget::{Budget, Principal},
        crowd::{Crowd, Member},
        serve::{self, Connected, Refusal},
    },
};

/// Maximum number of concurrent connections of unauthenticated peers. Each is closed after
/// [`UNAUTHENTICATED_TIMEOUT`].
const MAX_UNAUTHENTICATED: usize = 256;
/// Maximum number of these from one source.
const MAX_UNAUTHENTICATED_PER_SOURCE: usize = 8;
/// How long an unauthenticated peer may stay connected: enrolling takes one call.
const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of refused calls of one connection that wait to be recorded.
const MAX_QUEUED_REFUSALS: usize = 16;

/// The port, and what its connections need.
#[derive(Clone)]
pub(crate) struct Port {
    /// The services.
    pub master: Master,
    /// Their routes.
    pub routes: Routes,
    /// Serves agents' connections.
    pub sessions: Sessions,
    /// Accepts TLS connections.
    pub tls: TlsAcceptor,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The unauthenticated peers.
    pub unauthenticated: Arc<Crowd<IpAddr>>,
}

/// Returns the limiter for connections of unauthenticated peers.
#[must_use]
pub(crate) fn unauthenticated<K: Eq + Hash + Copy>() -> Arc<Crowd<K>> {
    Arc::new(Crowd::new(MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_SOURCE))
}

impl Port {
    /// Accepts connections until the master ends.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let shutdown = self.master.shutdown.clone();
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot listen"),
        };
        let door = Arc::new(ConnectionLimiter::of_master());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.stop.cancelled() => return,
            };
            let Some((stream, address)) = descriptors::admit(accepted, true).await else { continue };
            let (port, door) = (self.clone(), Arc::clone(&door));
            let now = shutdown.now.clone();
            shutdown.tracker.spawn(async move {
                let admitted = tokio::select! {
                    admitted = door.admit(stream, address, port.tls.clone()) => admitted,
                    () = port.master.shutdown.stop.cancelled() => None,
                };
                let Some(accepted) = admitted else { return };
                tokio::select! {
                    () = port.serve(accepted) => {}
                    () = now.cancelled() => {}
                }
            });
        }
    }

    async fn serve(self, accepted: Accepted) {
        let source = accepted.address.ip();
        let Some(certificate) = accepted.chain.first() else {
            if accepted.alpn == ALPN_TUNNEL {
                return;
            }
            return self.serve_unauthenticated(accepted, Caller::Unauthenticated).await;
        };
        let identity = Identity::of(certificate).ok().filter(|(cluster, _)| **cluster == *self.cluster);
        let key = key_fingerprint(certificate);
        match (identity, key, accepted.alpn == ALPN_TUNNEL) {
            (Some((_, Identity::Agent(name))), Some(key), true) => {
                self.serve_agent(accepted, name, key).await;
            }
            (Some((_, Identity::Operator(name))), Some(key), false) => {
                let visit = OperatorConnection {
                    shown: name.to_string(),
                    who: ConnectionIdentity::Key(name, key),
                    address: accepted.address.to_string().into(),
                    uid: None,
                    unauthenticated: self.master.budgets.of(Principal::Source(source_of(source))),
                };
                let join = || self.unauthenticated.join(source);
                serve_operator(&self.master, self.routes, accepted.stream, visit, join).await;
            }
            // The certificate states an identity, but the registry has not confirmed that it is still valid.
            (Some((_, identity)), _, false) => {
                self.serve_unauthenticated(accepted, Caller::Peer(identity)).await;
            }
            _ => {}
        }
    }

    /// Serves an agent. If the registry does not know its key, for example because the agent was deleted, the
    /// session informs the agent of this within the limits for unauthenticated peers.
    async fn serve_agent(&self, accepted: Accepted, name: AgentName, key: Fingerprint) {
        let asked = name.clone();
        let known = self.master.handle.ask(move |reply| Input::IsEnrolled(asked, key, reply)).await;
        let source = accepted.address.ip();
        if matches!(known, Ok(true)) {
            let budget = self.master.budgets.of(Principal::Agent(name.clone()));
            // Its other connections are alive or about to be closed: the agent reconnects later.
            let Ok(_place) = budget.connection() else { return };
            return Box::pin(self.sessions.clone().run(accepted, name, key, budget)).await;
        }
        let unauthenticated = self.unauthenticated.join(source);
        let budget = self.master.budgets.of(Principal::Source(source_of(source)));
        let session = Box::pin(self.sessions.clone().run(accepted, name, key, budget));
        tokio::select! {
            _ = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT, session) => {}
            () = unauthenticated.sent_away() => {}
        }
    }

    /// Serves an unauthenticated peer, within the limits of number and time for such peers.
    async fn serve_unauthenticated(&self, accepted: Accepted, caller: Caller) {
        let source = accepted.address.ip();
        let unauthenticated = self.unauthenticated.join(source);
        let budget = self.master.budgets.of(Principal::Source(source_of(source)));
        let address = accepted.address.to_string().into();
        let connected = Connected { caller, address, uid: None, budget, refusals: None, over: None };
        let stop = self.master.shutdown.stop.clone();
        // A connection error concerns only the caller.
        let call = serve::serve(accepted.stream, self.routes.clone(), connected, stop);
        tokio::select! {
            _ = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT, call) => {}
            () = unauthenticated.sent_away() => {}
        }
    }
}

/// A connection that claims to be an operator's.
struct OperatorConnection {
    who: ConnectionIdentity,
    /// The claimed identity as text, for a caller that is not an operator.
    shown: String,
    address: Arc<str>,
    /// The user id of the peer on the local socket; `None` on the port.
    uid: Option<u32>,
    /// Its budget if it is not an operator's.
    unauthenticated: Arc<Budget>,
}

impl OperatorConnection {
    async fn caller(&self, master: &Master) -> Caller {
        let who = self.who.clone();
        match master.handle.ask(move |reply| Input::Identify(who, reply)).await {
            Ok(Some(Known { name, role })) => Caller::Operator { name, role, local: self.uid.is_some() },
            _ => Caller::Unknown(self.shown.clone()),
        }
    }
}

/// Serves an operator until its rights change. A caller that is not an operator, or has too many connections,
/// counts as an unauthenticated peer: each of its calls is refused with the reason.
async fn serve_operator<S, K>(
    master: &Master,
    routes: Routes,
    stream: S,
    visit: OperatorConnection,
    join: impl Fn() -> Member<K>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    K: Eq + Hash + Copy,
{
    // Subscribed before the first lookup, so that no change is missed.
    let mut rights = master.handle.operators();
    let caller = visit.caller(master).await;
    let budget = match &caller {
        Caller::Operator { name, .. } => master.budgets.of(Principal::Operator(name.clone())),
        Caller::Unauthenticated | Caller::Peer(_) | Caller::Unknown(_) => Arc::clone(&visit.unauthenticated),
    };
    let (place, over) = match budget.connection() {
        Ok(place) => (Some(place), None),
        Err(met) => (None, Some(met)),
    };
    let (refusals, mut refused) = mpsc::channel(MAX_QUEUED_REFUSALS);
    let connected = Connected {
        caller: caller.clone(),
        address: Arc::clone(&visit.address),
        uid: visit.uid,
        budget,
        refusals: Some(refusals),
        over,
    };
    let serving = serve::serve(stream, routes, connected, master.shutdown.stop.clone());
    let mut serving = std::pin::pin!(serving);
    let Caller::Operator { name, .. } = &caller else {
        let unauthenticated = join();
        tokio::select! {
            _ = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT, serving) => {}
            () = unauthenticated.sent_away() => {}
        }
        return;
    };
    let unauthenticated = place.is_none().then(&join);
    let too_long = async {
        match &unauthenticated {
            Some(unauthenticated) => {
                let _ = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT, unauthenticated.sent_away()).await;
            }
            None => std::future::pending().await,
        }
    };
    let mut too_long = std::pin::pin!(too_long);
    let tell = async |Refusal { what, reason }| {
        master.handle.tell(Input::Refused { who: name.clone(), what, reason }).await;
    };
    loop {
        tokio::select! {
            // A connection error concerns only the caller.
            _ = &mut serving => break,
            () = &mut too_long => break,
            Some(refusal) = refused.recv() => tell(refusal).await,
            changed = rights.changed() => {
                if changed.is_err() || visit.caller(master).await != caller {
                    tracing::info!(operator = visit.shown, "closed a connection: its operator's rights changed");
                    break;
                }
            }
        }
    }
    // Refusals are also recorded if the caller has closed the connection at once.
    while let Ok(refusal) = refused.try_recv() {
        tell(refusal).await;
    }
}

/// Accepts connections on the local socket until the master ends.
pub(crate) async fn accept_local(master: Master, routes: Routes, listener: UnixListener) {
    let shutdown = master.shutdown.clone();
    let listener = listener.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen on the socket"),
    };
    let unauthenticated = unauthenticated::<u32>();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stop.cancelled() => return,
        };
        let Some((stream, _)) = descriptors::admit(accepted, false).await else { continue };
        let Ok(peer) = stream.peer_cred() else { continue };
        let (master, routes, shutdown) = (master.clone(), routes.clone(), shutdown.clone());
        let unauthenticated = Arc::clone(&unauthenticated);
        let tracker = shutdown.tracker.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = serve_local(&master, routes, stream, peer, &unauthenticated) => {}
                () = shutdown.now.cancelled() => {}
            }
        });
    }
}

/// Serves a connection on the local socket. The master's own user and root are admins without limits; for all
/// other users the list of operators decides.
async fn serve_local(
    master: &Master,
    routes: Routes,
    stream: UnixStream,
    peer: UCred,
    unauthenticated: &Crowd<u32>,
) {
    let (uid, address): (u32, Arc<str>) = (peer.uid(), "local".into());
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        let name = format!("{LOCAL}{}", master.users.name_of_admin(login_of(uid, peer.pid())).await);
        let budget = Budget::unlimited(Principal::Operator(name.clone()));
        let caller = Caller::Operator { name, role: Role::Admin, local: true };
        let connected = Connected { caller, address, uid: Some(uid), budget, refusals: None, over: None };
        let _ = serve::serve(stream, routes, connected, master.shutdown.stop.clone()).await;
        return;
    }
    // Until its name is known, the peer is unauthenticated.
    let member = unauthenticated.join(uid);
    let user = tokio::select! {
        user = master.users.name(uid) => user,
        () = member.sent_away() => return,
    };
    drop(member);
    let visit = OperatorConnection {
        shown: format!("the user {user}"),
        who: ConnectionIdentity::UnixUser(user),
        address,
        uid: Some(uid),
        unauthenticated: master.budgets.of(Principal::User(uid)),
    };
    serve_operator(master, routes, stream, visit, || unauthenticated.join(uid)).await;
}

/// Prefix of the name of a user who is an admin on the local socket. No operator in the registry can have
/// such a name.
const LOCAL: &str = "local:";

/// Returns the name for the audit table: the login user behind sudo if the kernel knows one, else the user.
fn login_of(uid: u32, pid: Option<i32>) -> u32 {
    /// The value of the kernel for a process without a login (`AUDIT_UID_UNSET`).
    const UNSET: u32 = u32::MAX;
    pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok())
        .and_then(|text| text.trim().parse().ok())
        .filter(|login| *login != UNSET)
        .unwrap_or(uid)
}
