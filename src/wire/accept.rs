//! Accepting TLS connections from anyone, with bounded work: silent ones wait outside, handshakes take turns.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{io::BufReader, net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connect::{DEADLINE, buffered, set_up};
use crate::sys::socket::source_of;

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
/// Connections at once of one source that wait for their turn, or have it.
const WAITING_OF_ONE: usize = 4_096;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream<BufReader<TcpStream>>,
    /// The peer's chain, empty for a stranger.
    pub chain: Vec<CertificateDer<'static>>,
    /// The ALPN name, empty when none was spoken.
    pub alpn: Vec<u8>,
    /// Where it came from.
    pub address: SocketAddr,
}

/// The doorkeeper of one port.
#[derive(Debug)]
pub struct Door {
    handshakes: Semaphore,
    sources: Mutex<HashMap<IpAddr, Source>>,
}

impl Default for Door {
    fn default() -> Self {
        Self { handshakes: Semaphore::new(HANDSHAKES), sources: Mutex::default() }
    }
}

/// What is under way of one source.
#[derive(Debug)]
struct Source {
    silent: usize,
    waiting: usize,
    turns: Arc<Semaphore>,
}

impl Default for Source {
    fn default() -> Self {
        Self { silent: 0, waiting: 0, turns: Arc::new(Semaphore::new(HANDSHAKES_OF_ONE)) }
    }
}

/// A connection's place at the door, given back when it is dropped.
struct Place<'a> {
    door: &'a Door,
    source: IpAddr,
    is_silent: bool,
    /// The turns of its source.
    turns: Arc<Semaphore>,
}

impl Place<'_> {
    /// It has said hello. None when too many of its source have.
    fn wait(mut self) -> Option<Self> {
        let mut sources = self.door.sources();
        let source = sources.get_mut(&self.source)?;
        if source.waiting >= WAITING_OF_ONE {
            return None;
        }
        source.silent -= 1;
        source.waiting += 1;
        drop(sources);
        self.is_silent = false;
        Some(self)
    }
}

impl Door {
    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, address: IpAddr) -> Option<Place<'_>> {
        let mut sources = self.sources();
        if sources.values().map(|source| source.silent).sum::<usize>() >= SILENT_OF_ALL {
            return None;
        }
        let key = source_of(address);
        let source = sources.entry(key).or_default();
        if source.silent >= SILENT_OF_ONE {
            return None;
        }
        source.silent += 1;
        Some(Place { door: self, source: key, is_silent: true, turns: Arc::clone(&source.turns) })
    }

    /// Lets a connection in, or drops it: when it says nothing, no TLS, or shows a certificate of another CA.
    pub async fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        tls: TlsAcceptor,
    ) -> Option<Accepted> {
        set_up(&stream).ok()?;
        let place = self.place(address.ip())?;
        timeout(SILENCE, hello(&stream)).await.ok()??;
        let place = place.wait()?;
        let shaking = async {
            let _own_turn = place.turns.acquire().await.ok()?;
            let _turn = self.handshakes.acquire().await.ok()?;
            match timeout(DEADLINE, tls.accept(buffered(stream))).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "no TLS handshake");
                    None
                }
                Err(_) => None,
            }
        };
        // Whoever dials does not wait for longer either.
        let stream = timeout(DEADLINE, shaking).await.ok()??;
        drop(place);
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let alpn = session.alpn_protocol().unwrap_or_default().to_vec();
        Some(Accepted { stream, chain, alpn, address })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut sources = self.door.sources();
        if let Some(source) = sources.get_mut(&self.source) {
            *if self.is_silent { &mut source.silent } else { &mut source.waiting } -= 1;
            if source.silent == 0 && source.waiting == 0 {
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
        // What is there already would be told of again at once.
        tokio::time::sleep(PIECES).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_are_capped_by_source_and_in_all() {
        let door = Door::default();
        let places: Vec<_> = (0..SILENT_OF_ONE).map(|_| door.place([10, 0, 0, 1].into()).unwrap()).collect();
        assert!(door.place([10, 0, 0, 1].into()).is_none());
        assert!(door.place([10, 0, 0, 2].into()).is_some());
        drop(places);
        let waiting = door.place([10, 0, 0, 1].into()).unwrap().wait().unwrap();
        let others: Vec<_> = (0..SILENT_OF_ONE).map(|_| door.place([10, 0, 0, 1].into()).unwrap()).collect();
        drop((waiting, others));
        assert!(door.sources().is_empty());
    }
}
