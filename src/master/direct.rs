//! Opens the direct link to an agent and keeps it open, if its address is accepted.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::links::Links;
use crate::{
    domain::{
        agent::LinkPreference,
        fingerprint::Fingerprint,
        name::AgentName,
        proposal::{DirectAddress, acceptance},
        session::DirectState,
    },
    trust::{identity::Identity, tls},
    wire::{
        channel::{Channel, Connection, KeepAlive},
        connect::{DialError, dial},
    },
};

/// Delay before the first new attempt when a direct link breaks or cannot be opened. It is short, since an
/// agent may not listen yet.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest time between two attempts; each pause is twice as long as the one before it.
const MAX_RETRY: Duration = Duration::from_mins(5);

/// A change of an agent's direct link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkChange {
    /// The new state of the link.
    pub state: DirectState,
    /// The reason, as text for operators.
    pub reason: String,
}

/// An agent's settings for a direct link.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Which link the agent prefers.
    pub preference: LinkPreference,
    /// The address of the direct link; `None` if there is none or only the tunnel is wanted.
    pub direct: Option<DirectAddress>,
    /// Whether this address is already accepted.
    pub is_accepted: bool,
    /// Notified when the address is accepted.
    pub accepted: Arc<Notify>,
}

/// The agent that must answer on a direct link.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The agent's name, which its certificate must contain.
    pub name: AgentName,
    /// The key of its certificate. Certificates do not expire, and an earlier key of this name may belong to
    /// another machine.
    pub key: Fingerprint,
    /// The cluster that its certificate must contain.
    pub cluster: String,
    /// The master's TLS client configuration.
    pub config: Arc<ClientConfig>,
}

impl Target {
    /// Connects to the agent. Only a complete handshake with the certificate of this agent counts, since a
    /// proxy may accept any connection.
    async fn dial(&self, direct: &DirectAddress) -> Result<(Channel, Connection), DialError> {
        let server = tls::server_name(self.name.as_str());
        let dialled = dial(direct.host(), direct.port(), Arc::clone(&self.config), server).await?;
        let wanted = (self.cluster.clone(), Identity::Agent(self.name.clone()));
        let found = dialled.peer();
        let has_key = dialled.key() == Some(self.key);
        if found.as_ref() == Ok(&wanted) && !has_key {
            return Err(DialError::WrongPeer {
                address: dialled.address,
                found: format!("an earlier key of {}", self.name),
                wanted: wanted.1.to_string(),
            });
        }
        if found.as_ref() != Ok(&wanted) {
            return Err(DialError::WrongPeer {
                address: dialled.address,
                found: found.map_or_else(|error| error.to_string(), |(_, found)| found.to_string()),
                wanted: wanted.1.to_string(),
            });
        }
        let address = dialled.address;
        // The link is idle while no task runs, so only keepalives detect that it is dead.
        Channel::handshake_kept_alive(dialled.stream, KeepAlive::QUICK)
            .await
            .map_err(|error| DialError::Handshake { address, reason: error.to_string() })
    }
}

/// Reports which link is used. If a direct link is wanted, opens it when its address is accepted, and keeps
/// it open until the session ends.
pub(super) async fn keep(
    links: Arc<Links>,
    wanted: Wanted,
    target: Target,
    news: mpsc::Sender<LinkChange>,
    close: CancellationToken,
) {
    let Wanted { preference, direct, is_accepted, accepted } = wanted;
    let Some(direct) = direct else {
        let reason = match preference {
            LinkPreference::Tunnel => "the agent was started with --link tunnel",
            LinkPreference::Direct => "the agent wants a direct link, but listens on nothing",
            LinkPreference::Auto => {
                "the agent listens on nothing (no --port, --bind-address or --report-address)"
            }
        };
        let _ = news.send(LinkChange { state: DirectState::Unwanted, reason: reason.to_owned() }).await;
        return;
    };
    let keep = async {
        if !is_accepted {
            let reason = format!(
                "the agent reports {direct}, which is tried once it is accepted: `{}`",
                acceptance(&target.name)
            );
            let _ = news.send(LinkChange { state: DirectState::Proposed, reason }).await;
            accepted.notified().await;
        }
        let mut pause = FIRST_RETRY;
        loop {
            match target.dial(&direct).await {
                Ok((channel, connection)) => {
                    links.change_direct(Some(channel));
                    let reason = format!("{direct} answers");
                    let _ = news.send(LinkChange { state: DirectState::Connected, reason }).await;
                    let ended = connection.await;
                    links.change_direct(None);
                    let why = ended.map_or_else(|error| error.to_string(), |()| "closed".to_owned());
                    let reason = format!("the direct link broke ({why}); using the tunnel");
                    let _ = news.send(LinkChange { state: DirectState::Unreachable, reason }).await;
                    pause = FIRST_RETRY;
                }
                Err(error) => {
                    let reason = format!("{error}; using the tunnel");
                    let _ = news.send(LinkChange { state: DirectState::Unreachable, reason }).await;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(MAX_RETRY);
        }
    };
    tokio::select! {
        () = keep => {}
        () = close.cancelled() => {}
    }
    links.change_direct(None);
}
