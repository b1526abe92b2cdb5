//! Connects to the master, serves HTTP/2 on that connection (the tunnel), and reconnects.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::{sync::mpsc, time::Instant};

use super::{
    core::Input,
    enrollment::{Enrolled, Enrollment, EnrollmentResult},
    handle::{Agent, ConnectionState, DirectFrom},
    service::routes,
    session::MasterMessage,
};
use crate::{
    domain::{
        agent::OFFLINE_AFTER, fingerprint::Fingerprint, name::AgentName, network::HostPort,
        session::RefusalKind,
    },
    sys::{random, shutdown::Shutdown},
    trust::{
        access::Caller,
        identity::Identity,
        tls::{self, ALPN_TUNNEL},
        verify::Trust,
    },
    wire::{
        budget::{Budget, Principal},
        connect::{DialError, dial},
        serve::{self, Connected},
    },
};

/// Maximum pause between two attempts to reach the master.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The first pause.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// How long to wait for the master's first message on a new connection.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// The pauses between attempts: exponential with a maximum and jitter.
#[derive(Debug)]
pub(crate) struct BackOff(Duration);

impl BackOff {
    /// Returns a back-off that starts with the shortest pause.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self(SHORTEST_PAUSE)
    }

    /// Returns the next pause: between half of the current one and all of it. Doubles the current one.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause / 2 + random::share_of(pause / 2)
    }
}

impl Default for BackOff {
    fn default() -> Self {
        Self::new()
    }
}

/// The reason for which a connection ended, and what to do next.
enum Ended {
    /// Try again after the pause of the back-off.
    Broken(String),
    /// Try again after this pause.
    Later(Duration, String),
    /// The master does not know the key: enroll again.
    Forgotten,
}

/// Keeps the agent connected until it ends.
pub(crate) async fn keep_connected(
    agent: Agent,
    enrollment: Arc<Enrollment>,
    master: HostPort,
    shutdown: Shutdown,
) {
    let mut back_off = BackOff::new();
    let mut said = String::new();
    while !shutdown.stop.is_cancelled() {
        let enrolled = tokio::select! {
            enrolled = enroll(&agent, &enrollment, &mut back_off) => enrolled,
            () = shutdown.stop.cancelled() => return,
        };
        agent.tell(Input::BelongTo(Fingerprint::of(&enrolled.ca))).await;
        agent.trust.send_replace(enrollment.trust());
        let connected_at = Instant::now();
        let ended = connect(&agent, &enrollment, &enrolled, &master, &shutdown).await;
        if connected_at.elapsed() > LONGEST_PAUSE {
            back_off = BackOff::new();
        }
        let (pause, reason) = match ended {
            Ended::Broken(reason) => (back_off.pause(), reason),
            Ended::Later(pause, reason) => (pause.max(back_off.pause()), reason),
            Ended::Forgotten => {
                tracing::warn!("the master does not know this agent's key; enrolling again");
                if let Err(error) = enrollment.forget() {
                    tracing::error!(%error, "cannot delete the certificate");
                }
                agent.standing.send_replace(ConnectionState::Connecting);
                continue;
            }
        };
        if shutdown.stop.is_cancelled() {
            return;
        }
        if reason != said {
            tracing::warn!(reason, "no connection to the master; keeps trying");
            said.clone_from(&reason);
        }
        agent.standing.send_replace(ConnectionState::Unreachable(reason));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stop.cancelled() => return,
        }
    }
}

/// Returns the command with which an operator approves a waiting agent.
#[must_use]
pub(crate) fn approval(name: &AgentName, fingerprint: &str, code: Option<&str>) -> String {
    match code {
        Some(code) => format!("sloth-runner agent approve {name} {code}"),
        None => format!("sloth-runner agent approve {name} --fingerprint {}", &fingerprint[..16]),
    }
}

/// Requests an identity until the agent has one.
async fn enroll(agent: &Agent, enrollment: &Enrollment, back_off: &mut BackOff) -> Enrolled {
    let mut said: Option<ConnectionState> = None;
    loop {
        let stored = enrollment.stored().unwrap_or_else(|error| {
            tracing::error!(%error, "the stored identity is not usable");
            None
        });
        if let Some(enrolled) = stored {
            return enrolled;
        }
        let (standing, pause) = match enrollment.ask().await {
            Ok(EnrollmentResult::Enrolled(enrolled)) => {
                tracing::info!(ca = %crate::domain::fingerprint::Fingerprint::of(&enrolled.ca), "enrolled");
                return enrolled;
            }
            Ok(EnrollmentResult::Pending { fingerprint, key_changed, code, retry_after }) => {
                let code = code.map(|code| code.to_string());
                (
                    ConnectionState::Pending { fingerprint: fingerprint.to_string(), key_changed, code },
                    retry_after,
                )
            }
            Ok(EnrollmentResult::Refused { reason, retry_after: Some(pause) }) => {
                (ConnectionState::Unreachable(reason), pause)
            }
            Ok(EnrollmentResult::Refused { reason, retry_after: None }) => {
                (ConnectionState::Refused(reason), LONGEST_PAUSE)
            }
            Err(error) => (ConnectionState::Unreachable(error.to_string()), back_off.pause()),
        };
        if said.as_ref() != Some(&standing) {
            match &standing {
                ConnectionState::Pending { fingerprint, code, .. } => {
                    let approve = approval(&agent.description.name, fingerprint, code.as_deref());
                    tracing::info!(fingerprint, "waits for an operator: {approve}");
                }
                ConnectionState::Unreachable(reason) | ConnectionState::Refused(reason) => {
                    tracing::warn!(reason, "not enrolled; keeps trying");
                }
                ConnectionState::Connecting | ConnectionState::Active(_) => {}
            }
            said = Some(standing.clone());
        }
        agent.standing.send_replace(standing);
        tokio::time::sleep(pause + random::share_of(pause / 5)).await;
    }
}

fn tunnel_config(enrollment: &Enrollment, enrolled: &Enrolled) -> Result<ClientConfig, rustls::Error> {
    tls::client(Some(enrollment.credentials(enrolled)), Trust::Pinned(enrolled.ca.clone()), ALPN_TUNNEL)
}

/// Refuses direct links again when it is dropped: the agent is connected to no master any more.
struct RefuseDirectOnDrop<'a>(&'a Agent);

impl Drop for RefuseDirectOnDrop<'_> {
    fn drop(&mut self) {
        self.0.direct_from.send_replace(DirectFrom::Nobody);
    }
}

/// Dials the master and serves it until the connection ends.
async fn connect(
    agent: &Agent,
    enrollment: &Enrollment,
    enrolled: &Enrolled,
    HostPort { host, port }: &HostPort,
    shutdown: &Shutdown,
) -> Ended {
    let config = match tunnel_config(enrollment, enrolled) {
        Ok(config) => Arc::new(config),
        Err(error) => return Ended::Broken(format!("the identity is not usable: {error}")),
    };
    let dialled = match dial(host, *port, config, tls::server_name("master")).await {
        Ok(dialled) => dialled,
        Err(error) => return Ended::Broken(error.to_string()),
    };
    let caller = match dialled.peer() {
        Ok((cluster, identity @ Identity::Master(_))) if cluster == enrolled.cluster => {
            Caller::Peer(identity)
        }
        found => {
            let found = found.map_or_else(|error| error.to_string(), |(_, found)| found.to_string());
            let (address, wanted) = (dialled.address, "a master of this cluster".to_owned());
            return Ended::Broken(DialError::WrongPeer { address, found, wanted }.to_string());
        }
    };
    agent.direct_from.send_replace(dialled.key().map_or(DirectFrom::Nobody, DirectFrom::Key));
    let _gone = RefuseDirectOnDrop(agent);
    let (heard, mut news) = mpsc::channel(8);
    // Only the service keeps a sender, so that the channel closes with the connection.
    let routes = routes(agent, shutdown, heard);
    let connected = Connected {
        caller,
        address: dialled.address.clone().into(),
        uid: None,
        budget: Budget::unlimited(Principal::Master),
        refusals: None,
        over: None,
    };
    let serving = serve::serve(dialled.stream, routes, connected, shutdown.stop.clone());
    let mut serving = std::pin::pin!(serving);
    let mut deadline = Instant::now() + WELCOME_TIMEOUT;
    let mut later = None;
    loop {
        tokio::select! {
            // The last message of the master is handled before the end of the connection.
            biased;
            Some(heard) = news.recv() => match heard {
                MasterMessage::Welcome => {
                    tracing::info!(master = dialled.address, "connected");
                    deadline = Instant::now() + OFFLINE_AFTER;
                }
                MasterMessage::Alive => deadline = Instant::now() + OFFLINE_AFTER,
                MasterMessage::Refused { kind: RefusalKind::UnknownKey, .. } => return Ended::Forgotten,
                MasterMessage::Refused { message, retry_after, .. } => {
                    return Ended::Later(retry_after, message);
                }
                MasterMessage::Closing { retry_after } => later = Some(retry_after),
            },
            result = &mut serving => {
                let reason = match result {
                    Ok(()) => format!("{} closed the connection", dialled.address),
                    Err(error) => format!("the connection to {} broke: {}", dialled.address, explain(&error)),
                };
                return match later {
                    Some(pause) => Ended::Later(pause, reason),
                    None => Ended::Broken(reason),
                };
            }
            () = tokio::time::sleep_until(deadline) => {
                // TCP would detect a cut connection only after a long time; a new connection is faster.
                return Ended::Broken(format!("{} has gone silent", dialled.address));
            }
            // The Hello of the next session reports the new incarnation.
            () = agent.incarnation_changed.notified() => {
                return Ended::Broken("the agent's memory of tasks was removed".to_owned());
            }
            () = shutdown.now.cancelled() => return Ended::Broken("the agent ends".to_owned()),
        }
    }
}

/// Returns the text of the innermost cause of hyper's error.
fn explain(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Returns the sender of a closed channel, for connections without a session.
#[must_use]
pub(crate) fn closed_channel() -> mpsc::Sender<MasterMessage> {
    mpsc::channel(1).0
}
