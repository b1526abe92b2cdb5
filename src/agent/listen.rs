//! Accepts direct links, only from the master to which the agent is connected.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_rustls::TlsAcceptor;

use super::{
    enrollment::Enrollment,
    handle::{Agent, DirectFrom},
    link, service,
};
use crate::{
    sys::{descriptors, shutdown::Shutdown},
    trust::{
        access::Caller,
        identity::Identity,
        key::key_fingerprint,
        tls::{self, ALPN_H2},
        verify::Trust,
    },
    wire::{
        accept::{self, Accepted},
        budget::{Budget, Principal},
        crowd::Crowd,
        serve::{self, Connected},
    },
};

/// Maximum number of concurrent connections of masters. There is one master, which opens a new connection
/// when the old one breaks.
const MAX_MASTER_CONNECTIONS: usize = 8;

/// The TLS configuration for direct links while the agent is connected to one master.
struct DirectTls {
    from: DirectFrom,
    cluster: String,
    tls: TlsAcceptor,
}

/// Creates the TLS configuration once for each master: the listener exists before the agent is enrolled, and
/// accepting a connection must be cheap.
#[derive(Clone)]
struct DirectAcceptor {
    agent: Agent,
    enrollment: Arc<Enrollment>,
    ready: Arc<Mutex<Option<Arc<DirectTls>>>>,
}

impl DirectAcceptor {
    /// Returns the TLS configuration; `None` while the agent is connected to no master, since no peer is
    /// allowed then.
    fn ready(&self) -> Option<Arc<DirectTls>> {
        let from = *self.agent.direct_from.borrow();
        if from == DirectFrom::Nobody {
            return None;
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = ready.as_ref().filter(|ready| ready.from == from) {
            return Some(Arc::clone(ready));
        }
        let enrolled = self.enrollment.stored().ok()??;
        let trust = Trust::Pinned(enrolled.ca.clone());
        let config = tls::server(self.enrollment.credentials(&enrolled), trust, true, &[ALPN_H2]).ok()?;
        let made = DirectTls { from, cluster: enrolled.cluster, tls: TlsAcceptor::from(Arc::new(config)) };
        Some(Arc::clone(ready.insert(Arc::new(made))))
    }
}

/// Accepts the master's connections until the agent ends.
pub(crate) async fn accept(
    agent: Agent,
    enrollment: Arc<Enrollment>,
    listener: TcpListener,
    shutdown: Shutdown,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    let crowd = Arc::new(accept::ConnectionLimiter::of_agent());
    let acceptor = DirectAcceptor { agent, enrollment, ready: Arc::default() };
    let masters = Arc::new(Crowd::new(MAX_MASTER_CONNECTIONS, MAX_MASTER_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stop.cancelled() => return,
        };
        // The tunnel exists already, and the last descriptors are reserved for commands.
        let Some((stream, address)) = descriptors::admit(accepted, true).await else { continue };
        let (acceptor, crowd, masters) = (acceptor.clone(), Arc::clone(&crowd), Arc::clone(&masters));
        let shutdown = shutdown.clone();
        let tracker = shutdown.tracker.clone();
        tracker.spawn(async move {
            let Some(ready) = acceptor.ready() else { return };
            let admitted = tokio::select! {
                admitted = crowd.admit(stream, address, ready.tls.clone()) => admitted,
                () = shutdown.stop.cancelled() => None,
            };
            let Some(accepted) = admitted else { return };
            // Only the master counts against the limit.
            let Some(caller) = master_of(&ready, &accepted) else { return };
            // If there are too many, the oldest one is closed: the master may have lost it.
            let member = masters.join(accepted.address.ip());
            tokio::select! {
                () = serve_master(acceptor.agent, caller, accepted, shutdown) => {}
                () = member.sent_away() => {}
            }
        });
    }
}

/// Returns the master behind a connection, if the agent is connected to it.
fn master_of(ready: &DirectTls, accepted: &Accepted) -> Option<Caller> {
    let leaf = accepted.chain.first();
    let identity = leaf.and_then(|leaf| Identity::of(leaf).ok());
    let is_the_masters = match ready.from {
        DirectFrom::Key(key) => leaf.and_then(key_fingerprint) == Some(key),
        DirectFrom::Nobody => false,
    };
    match identity {
        Some((cluster, identity @ Identity::Master(_))) if cluster == ready.cluster && is_the_masters => {
            Some(Caller::Peer(identity))
        }
        found => {
            let found = found.map_or_else(|| "unknown".to_owned(), |(_, identity)| identity.to_string());
            tracing::debug!(address = %accepted.address, found, "closed a connection: it is not the master's");
            None
        }
    }
}

async fn serve_master(agent: Agent, caller: Caller, accepted: Accepted, shutdown: Shutdown) {
    let address = accepted.address.to_string();
    let connected = Connected {
        caller,
        address: address.into(),
        uid: None,
        budget: Budget::unlimited(Principal::Master),
        refusals: None,
        over: None,
    };
    let routes = service::routes(&agent, &shutdown, link::closed_channel());
    let serving = serve::serve(accepted.stream, routes, connected, shutdown.stop.clone());
    tokio::select! {
        _ = serving => {}
        () = shutdown.now.cancelled() => {}
    }
}
