//! The direct link's listener: only the master gets in that the agent is connected to itself.

use std::{net::TcpListener, sync::Arc};

use tokio_rustls::TlsAcceptor;

use super::{
    enrollment::{Enrolled, Enrollment},
    link, service,
    state::Agent,
};
use crate::{
    sys::shutdown::Shutdown,
    trust::{
        access::Caller,
        identity::Identity,
        key::key_fingerprint,
        tls::{self, ALPN_H2},
        verify::Trust,
    },
    wire::{
        accept::{Accepted, Door},
        budget::{Budget, Principal},
        crowd::Crowd,
        serve::{self, Connected},
    },
};

/// Connections of masters at once. There is one master, and at times a second connection while the first one breaks.
const MAX_MASTERS: usize = 8;

/// Accepts the master's connections until the agent ends.
///
/// The identity is read anew for each connection, since the listener is there before the agent is enrolled.
pub async fn accept(agent: Agent, enrollment: Arc<Enrollment>, listener: TcpListener, shutdown: Shutdown) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    let door = Arc::new(Door::of_agent());
    let masters = Arc::new(Crowd::new(MAX_MASTERS, MAX_MASTERS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stop.cancelled() => return,
        };
        let Ok((stream, address)) = accepted else {
            // Out of descriptors: whoever waits outside is taken when some are free again.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let (agent, enrollment, door) = (agent.clone(), Arc::clone(&enrollment), Arc::clone(&door));
        let masters = Arc::clone(&masters);
        let shutdown = shutdown.clone();
        let tracker = shutdown.tracker.clone();
        tracker.spawn(async move {
            let Ok(Some(enrolled)) = enrollment.stored() else { return };
            let Ok(tls) = acceptor(&enrollment, &enrolled) else { return };
            let admitted = tokio::select! {
                admitted = door.admit(stream, address, tls) => admitted,
                () = shutdown.stop.cancelled() => None,
            };
            if let Some(accepted) = admitted {
                // The oldest may be one that a master lost without a word.
                let member = masters.join(accepted.address.ip());
                tokio::select! {
                    () = serve_master(agent, enrolled, accepted, shutdown) => {}
                    () = member.sent_away() => {}
                }
            }
        });
    }
}

fn acceptor(enrollment: &Enrollment, enrolled: &Enrolled) -> Result<TlsAcceptor, rustls::Error> {
    let trust = Trust::Pinned(enrolled.ca.clone());
    let config = tls::server(enrollment.credentials(enrolled), trust, true, &[ALPN_H2])?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve_master(agent: Agent, enrolled: Enrolled, accepted: Accepted, shutdown: Shutdown) {
    let leaf = accepted.chain.first();
    let identity = leaf.and_then(|leaf| Identity::of(leaf).ok());
    let key = leaf.and_then(key_fingerprint);
    let is_the_masters = key.is_some() && key == *agent.master_key.borrow();
    let caller = match identity {
        Some((cluster, identity @ Identity::Master(_))) if cluster == enrolled.cluster && is_the_masters => {
            Caller::Peer(identity)
        }
        found => {
            // Nobody else has anything to say here.
            let found = found.map_or_else(|| "nobody".to_owned(), |(_, identity)| identity.to_string());
            tracing::debug!(address = %accepted.address, found, "closed a connection: it is not the master's");
            return;
        }
    };
    let address = accepted.address.to_string();
    let connected = Connected {
        caller,
        address: address.into(),
        uid: None,
        budget: Budget::unlimited(Principal::Master),
        refusals: None,
        over: None,
    };
    let routes = service::routes(&agent, &shutdown, link::no_news());
    let serving = serve::serve(accepted.stream, routes, connected, shutdown.stop.clone());
    tokio::select! {
        _ = serving => {}
        () = shutdown.now.cancelled() => {}
    }
}
