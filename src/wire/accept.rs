//! Accepts TLS connections with a bounded amount of work: silent connections wait, handshakes are limited and have a low
//! priority.

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

/// Handshakes at once.
const HANDSHAKES: usize = 64;
/// Those of one source: it must not take all turns, however slowly it shakes hands.
const HANDSHAKES_OF_ONE: usize = 32;
/// How long a connection may take to say hello.
const SILENCE: Duration = Duration::from_secs(5);
/// How often it is looked for the rest of a hello that came in pieces.
const PIECES: Duration = Duration::from_millis(20);
/// Connections at once of one source that have not said hello.
const SILENT_OF_ONE: usize = 64;
/// The same in all.
const SILENT_OF_ALL: usize = 2_048;
/// Connections at once of one source that wait for their turn, or have it: a whole fleet may stand behind one address.
const WAITING_OF_ONE: usize = 4_096;
/// The same at an agent's door, to which its master comes alone.
const WAITING_AT_AGENT: usize = 32;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream<BufReader<TcpStream>>,
    /// The peer's chain, empty for an unauthenticated peer.
    pub chain: Vec<CertificateDer<'static>>,
    /// The ALPN name, empty when none was spoken.
    pub alpn: Vec<u8>,
    /// Where it came from.
    pub address: SocketAddr,
}

/// The doorkeeper of one port.
#[derive(Debug)]
pub struct ConnectionLimiter {
    handshakes: Semaphore,
    /// Where handshakes are made.
    threads: Option<&'static Handle>,
    silent: Crowd<IpAddr>,
    /// Connections at once of one source that wait for their turn, or have it.
    waiting_of_one: usize,
    sources: Mutex<HashMap<IpAddr, Source>>,
}

/// What of one source has said hello and is not in yet.
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

/// A connection that waits for its turn, or has it, until this is dropped.
struct Permit<'a> {
    door: &'a ConnectionLimiter,
    source: IpAddr,
    /// The turns of its source.
    turns: Arc<Semaphore>,
}

impl ConnectionLimiter {
    /// A master's door.
    #[must_use]
    pub fn of_master() -> Self {
        Self::new(WAITING_OF_ONE)
    }

    /// An agent's door.
    #[must_use]
    pub fn of_agent() -> Self {
        Self::new(WAITING_AT_AGENT)
    }

    fn new(waiting_of_one: usize) -> Self {
        // Connections that say nothing leave most of the process's descriptors to others.
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

    /// A place for a connection that has said hello; `None` when too many of its source wait.
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

    /// Makes the handshake, which costs more than all else that an unauthenticated peer can ask for.
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

    /// Lets a connection in, or drops it: when it says nothing, no TLS, or shows a certificate of another CA.
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
        // The dialling side does not wait for longer either.
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

/// Waits until a connection has said a whole hello: a TLS record of a handshake. None when it says something else.
async fn hello(stream: &TcpStream) -> Option<()> {
    /// Content type, version, and length of a record (RFC 8446, section 5.1).
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
        // Connections that are there already would be reported again at once.
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
