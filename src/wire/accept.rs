//! Accepts TLS connections with a bounded amount of work: silent connections are limited, and handshakes are
//! limited and run at a low priority.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{io::BufReader, net::TcpStream, runtime::Handle, sync::Semaphore, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connect::{DEADLINE, buffered, set_up},
    crowd::Crowd,
};
use crate::{
    domain::network::source_of,
    sys::{descriptors, giving_way::giving_way},
};

/// Maximum number of simultaneous handshakes.
const HANDSHAKES: usize = 64;
/// Maximum number of simultaneous handshakes of one source, so that a slow source does not block the others.
const HANDSHAKES_OF_ONE: usize = 32;
/// How long a connection can take to send its `ClientHello`.
const SILENCE: Duration = Duration::from_secs(5);
/// The delay before a partial `ClientHello` is checked again.
const PIECES: Duration = Duration::from_millis(20);
/// Maximum number of connections of one source that have not sent a `ClientHello`.
const SILENT_OF_ONE: usize = 64;
/// Maximum number of connections of all sources that have not sent a `ClientHello`.
const SILENT_OF_ALL: usize = 2_048;
/// Maximum number of connections of one source that wait for a handshake or are in one. A whole fleet can be
/// behind one address.
const WAITING_OF_ONE: usize = 4_096;
/// The same maximum for an agent's port. Only the agent's master connects to it.
const WAITING_AT_AGENT: usize = 32;

/// A connection with a completed TLS handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream<BufReader<TcpStream>>,
    /// The peer's certificate chain; empty for an unauthenticated peer.
    pub chain: Vec<CertificateDer<'static>>,
    /// The ALPN protocol; empty if none was negotiated.
    pub alpn: Vec<u8>,
    /// The peer's address.
    pub address: SocketAddr,
}

/// Limits the connections to one port until their handshakes are complete.
#[derive(Debug)]
pub struct ConnectionLimiter {
    handshakes: Semaphore,
    /// The low-priority threads for handshakes; `None` if they could not be created.
    threads: Option<&'static Handle>,
    silent: Crowd<IpAddr>,
    /// Maximum number of connections of one source that wait for a handshake or are in one.
    waiting_of_one: usize,
    sources: Mutex<HashMap<IpAddr, Source>>,
}

/// The connections of one source that have sent a `ClientHello` but have not completed the handshake.
#[derive(Debug)]
struct Source {
    waiting: usize,
    turns: Arc<Semaphore>,
}

impl Default for Source {
    fn default() -> Self {
        Self { waiting: 0, turns: Arc::new(Semaphore::new(HANDSHAKES_OF_ONE)) }
    }
}

/// A permit for a connection that waits for a handshake or is in one. The connection is counted until the
/// permit is dropped.
struct Permit<'a> {
    door: &'a ConnectionLimiter,
    source: IpAddr,
    /// Limits the simultaneous handshakes of the source.
    turns: Arc<Semaphore>,
}

impl ConnectionLimiter {
    /// Creates the limiter of a master's port.
    #[must_use]
    pub fn of_master() -> Self {
        Self::new(WAITING_OF_ONE)
    }

    /// Creates the limiter of an agent's port.
    #[must_use]
    pub fn of_agent() -> Self {
        Self::new(WAITING_AT_AGENT)
    }

    fn new(waiting_of_one: usize) -> Self {
        // Silent connections use only a small part of the process's file descriptors.
        let silent = descriptors::limit()
            .map_or(SILENT_OF_ALL, |limit| (limit / 8).clamp(SILENT_OF_ONE, SILENT_OF_ALL));
        Self {
            handshakes: Semaphore::new(HANDSHAKES),
            threads: giving_way(),
            silent: Crowd::new(silent, SILENT_OF_ONE),
            waiting_of_one,
            sources: Mutex::default(),
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit for a connection that has sent a `ClientHello`; `None` if too many connections of its
    /// source wait.
    fn wait(&self, address: IpAddr) -> Option<Permit<'_>> {
        let source = source_of(address);
        let mut sources = self.sources();
        let known = sources.entry(source).or_default();
        if known.waiting >= self.waiting_of_one {
            return None;
        }
        known.waiting += 1;
        let turns = Arc::clone(&known.turns);
        drop(sources);
        Some(Permit { door: self, source, turns })
    }

    /// Performs the handshake, the most expensive operation that an unauthenticated peer can request.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        tls: TlsAcceptor,
    ) -> io::Result<TlsStream<BufReader<TcpStream>>> {
        let handshake = tls.accept(buffered(stream));
        match self.threads {
            Some(threads) => AbortOnDropHandle::new(threads.spawn(handshake)).await?,
            None => handshake.await,
        }
    }

    /// Performs the handshake of a connection. Drops the connection and returns `None` if the peer does not
    /// send a valid TLS handshake in time, presents a certificate of an unknown CA, or exceeds a limit.
    pub async fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        tls: TlsAcceptor,
    ) -> Option<Accepted> {
        set_up(&stream).ok()?;
        let silent = self.silent.join(address.ip());
        tokio::select! {
            heard = timeout(SILENCE, hello(&stream)) => heard.ok()??,
            () = silent.sent_away() => return None,
        }
        drop(silent);
        let place = self.wait(address.ip())?;
        let shaking = async {
            let _own_turn = place.turns.acquire().await.ok()?;
            let _turn = self.handshakes.acquire().await.ok()?;
            match timeout(DEADLINE, self.shake_hands(stream, tls)).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "no TLS handshake");
                    None
                }
                Err(_) => None,
            }
        };
        // The side that opened the connection has the same timeout.
        let stream = timeout(DEADLINE, shaking).await.ok()??;
        drop(place);
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let alpn = session.alpn_protocol().unwrap_or_default().to_vec();
        Some(Accepted { stream, chain, alpn, address })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut sources = self.door.sources();
        if let Some(source) = sources.get_mut(&self.source) {
            source.waiting -= 1;
            if source.waiting == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Waits for a complete `ClientHello`: a TLS record of a handshake. Returns `None` if the peer sends other
/// data or closes the connection.
async fn hello(stream: &TcpStream) -> Option<()> {
    /// The size of a record's header: content type, version, and length (RFC 8446, section 5.1).
    const HEAD: usize = 5;
    const HANDSHAKE: u8 = 22;
    const LONGEST: usize = 16 * 1024;
    let mut record = vec![0; HEAD + LONGEST];
    loop {
        let count = stream.peek(&mut record).await.ok()?;
        if count == 0 || record[0] != HANDSHAKE {
            return None;
        }
        if count >= HEAD {
            let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
            if length > LONGEST {
                return None;
            }
            if count >= HEAD + length {
                return Some(());
            }
        }
        // Without this delay, `peek` would immediately return the same bytes again.
        tokio::time::sleep(PIECES).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_wait_for_their_turn_are_capped_by_source_and_counted_until_they_are_in() {
        let door = ConnectionLimiter::of_master();
        let address = || IpAddr::from([10, 0, 0, 1]);
        let waiting: Vec<_> = (0..WAITING_OF_ONE).map(|_| door.wait(address()).unwrap()).collect();
        assert!(door.wait(address()).is_none());
        assert!(door.wait([10, 0, 0, 2].into()).is_some());
        drop(waiting);
        assert!(door.wait(address()).is_some());
        assert!(door.sources().is_empty());
    }
}
