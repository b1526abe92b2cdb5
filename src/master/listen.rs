//! The master's two doors: the port, where TLS and ALPN say what a connection is, and the machine's own socket.

use std::{net::TcpListener, os::unix::net::UnixListener, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::UCred},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use super::{
    core::messages::{Input, Reply, Who},
    service::Master,
    session::Sessions,
};
use crate::{
    trust::{
        access::{Caller, Role},
        identity::Identity,
        key::key_fingerprint,
        tls::ALPN_TUNNEL,
    },
    wire::{
        accept::{Accepted, Door},
        serve::{self, Connected, Refusal},
    },
};

/// Connections of strangers at once; each is closed after [`STRANGER_TIME`].
const STRANGERS: usize = 256;
/// How long a stranger may stay: enrolling takes one call.
const STRANGER_TIME: Duration = Duration::from_secs(15);

/// Refused calls of one connection that may wait to be recorded.
const REFUSALS: usize = 16;

/// What the port's connections are served with.
#[derive(Clone)]
pub struct Port {
    /// The services.
    pub master: Master,
    /// Their routes.
    pub routes: Routes,
    /// Agents' connections.
    pub sessions: Sessions,
    /// TLS.
    pub tls: TlsAcceptor,
    /// The cluster's name.
    pub cluster: Arc<str>,
}

impl Port {
    /// Accepts connections until the master ends.
    pub async fn accept(self, listener: TcpListener) {
        let shutdown = self.master.shutdown.clone();
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot listen"),
        };
        let door = Arc::new(Door::default());
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.stop.cancelled() => return,
            };
            let Ok((stream, address)) = accepted else {
                // Out of descriptors: whoever waits outside is taken when some are free again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (port, door, strangers) = (self.clone(), Arc::clone(&door), Arc::clone(&strangers));
            let now = shutdown.now.clone();
            shutdown.tracker.spawn(async move {
                let admitted = tokio::select! {
                    admitted = door.admit(stream, address, port.tls.clone()) => admitted,
                    () = port.master.shutdown.stop.cancelled() => None,
                };
                let Some(accepted) = admitted else { return };
                tokio::select! {
                    () = port.serve(accepted, strangers) => {}
                    () = now.cancelled() => {}
                }
            });
        }
    }

    async fn serve(self, accepted: Accepted, strangers: Arc<Semaphore>) {
        let Some(certificate) = accepted.chain.first() else {
            if accepted.alpn == ALPN_TUNNEL {
                return;
            }
            return self.serve_nobody(accepted, Caller::Stranger, &strangers).await;
        };
        let identity = Identity::of(certificate).ok().filter(|(cluster, _)| **cluster == *self.cluster);
        let key = key_fingerprint(certificate);
        match (identity, key, accepted.alpn == ALPN_TUNNEL) {
            (Some((_, Identity::Agent(name))), Some(key), true) => {
                self.sessions.clone().run(accepted, name, key).await;
            }
            (Some((_, Identity::Operator(name))), Some(key), false) => {
                let address = accepted.address.to_string().into();
                let visit = Visit { shown: name.to_string(), who: Who::Key(name, key), address, uid: None };
                serve_operator(&self.master, self.routes, accepted.stream, visit, &strangers).await;
            }
            // Its certificate says who it is, and nobody has asked the registry whether it still is that.
            (Some((_, identity)), _, false) => {
                self.serve_nobody(accepted, Caller::Peer(identity), &strangers).await;
            }
            _ => {}
        }
    }

    /// Serves somebody who is nobody here, in a stranger's place and time. Whoever finds no room is dropped, and asks again.
    async fn serve_nobody(&self, accepted: Accepted, caller: Caller, strangers: &Semaphore) {
        let Ok(_place) = strangers.try_acquire() else { return };
        let address = accepted.address.to_string().into();
        let connected = Connected { caller, address, uid: None, refusals: None };
        let stop = self.master.shutdown.stop.clone();
        // How a caller's connection ends is the caller's business.
        let call = serve::serve(accepted.stream, self.routes.clone(), connected, stop);
        let _ = tokio::time::timeout(STRANGER_TIME, call).await;
    }
}

/// A connection that says who it is.
struct Visit {
    who: Who,
    /// Who it is, for people, where nobody knows it.
    shown: String,
    address: Arc<str>,
    /// The user behind a Unix socket.
    uid: Option<u32>,
}

impl Visit {
    async fn caller(&self, master: &Master) -> Caller {
        let who = self.who.clone();
        match master.handle.ask(move |reply| Input::Identify(who, reply)).await {
            Ok(Reply::Identified(Some((name, role)))) => {
                Caller::Operator { name, role, local: self.uid.is_some() }
            }
            _ => Caller::Unknown(self.shown.clone()),
        }
    }
}

/// Serves an operator for as long as it has the rights that it came with. Whom nobody knows is told so, in the time and
/// the places of strangers.
async fn serve_operator<S>(master: &Master, routes: Routes, stream: S, visit: Visit, strangers: &Semaphore)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Held before the first question, so that no change falls between the two.
    let mut rights = master.handle.operators();
    let caller = visit.caller(master).await;
    let (refusals, mut refused) = mpsc::channel(REFUSALS);
    let connected = Connected {
        caller: caller.clone(),
        address: Arc::clone(&visit.address),
        uid: visit.uid,
        refusals: Some(refusals),
    };
    let serving = serve::serve(stream, routes, connected, master.shutdown.stop.clone());
    let Caller::Operator { name, .. } = &caller else {
        let Ok(_place) = strangers.try_acquire() else { return };
        let _ = tokio::time::timeout(STRANGER_TIME, serving).await;
        return;
    };
    let tell = async |Refusal { method, reason }| {
        let what = method.rsplit('/').next().unwrap_or_default().to_owned();
        master.handle.tell(Input::Refused { who: name.clone(), what, reason }).await;
    };
    let mut serving = std::pin::pin!(serving);
    loop {
        tokio::select! {
            // How a caller's connection ends is the caller's business.
            _ = &mut serving => break,
            Some(refusal) = refused.recv() => tell(refusal).await,
            changed = rights.changed() => {
                if changed.is_err() || visit.caller(master).await != caller {
                    tracing::info!(operator = visit.shown, "closed a connection: its operator's rights changed");
                    break;
                }
            }
        }
    }
    // Whoever hangs up at once was refused all the same.
    while let Ok(refusal) = refused.try_recv() {
        tell(refusal).await;
    }
}

/// Accepts connections on the machine's own socket until the master ends.
pub async fn accept_local(master: Master, routes: Routes, listener: UnixListener) {
    let shutdown = master.shutdown.clone();
    let listener = listener.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen on the socket"),
    };
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let (master, routes, shutdown) = (master.clone(), routes.clone(), shutdown.clone());
        let strangers = Arc::clone(&strangers);
        let tracker = shutdown.tracker.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = serve_local(&master, routes, stream, peer, &strangers) => {}
                () = shutdown.now.cancelled() => {}
            }
        });
    }
}

/// The master's own user and root are admins; of everybody else on the machine the list of operators decides.
async fn serve_local(
    master: &Master,
    routes: Routes,
    stream: UnixStream,
    peer: UCred,
    strangers: &Semaphore,
) {
    let (uid, address): (u32, Arc<str>) = (peer.uid(), "local".into());
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        let name = master.users.name(login_of(uid, peer.pid())).await;
        let caller = Caller::Operator { name, role: Role::Admin, local: true };
        let connected = Connected { caller, address, uid: Some(uid), refusals: None };
        let _ = serve::serve(stream, routes, connected, master.shutdown.stop.clone()).await;
        return;
    }
    let user = master.users.name(uid).await;
    let shown = format!("the user {user}");
    let visit = Visit { who: Who::UnixUser(user), shown, address, uid: Some(uid) };
    serve_operator(master, routes, stream, visit, strangers).await;
}

/// Whom the audit table names: the login user behind sudo where the kernel knows one, else the user.
fn login_of(uid: u32, pid: Option<i32>) -> u32 {
    /// What the kernel says when nobody logged in (`AUDIT_UID_UNSET`).
    const UNSET: u32 = u32::MAX;
    pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok())
        .and_then(|text| text.trim().parse().ok())
        .filter(|login| *login != UNSET)
        .unwrap_or(uid)
}
