//! Accepting TLS connections from anyone, with bounded work: silent ones wait outside, handshakes take turns.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{io::BufReader, net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connect::{DEADLINE, buffered};

/// Handshakes at once.
const HANDSHAKES: usize = 64;
/// How long a connection may say nothing before its first byte.
const SILENCE: Duration = Duration::from_secs(5);
/// Silent connections at once of one source address.
const SILENT_OF_ONE: usize = 64;
/// Silent connections at once in all.
const SILENT_OF_ALL: usize = 2_048;

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
    silent: Mutex<HashMap<IpAddr, usize>>,
}

impl Default for Door {
    fn default() -> Self {
        Self { handshakes: Semaphore::new(HANDSHAKES), silent: Mutex::default() }
    }
}

/// A place among the silent ones, given back when it is dropped.
struct SilentPlace<'a> {
    door: &'a Door,
    source: IpAddr,
}

impl Door {
    fn place(&self, source: IpAddr) -> Option<SilentPlace<'_>> {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.values().sum::<usize>() >= SILENT_OF_ALL {
            return None;
        }
        let count = silent.entry(source).or_default();
        if *count >= SILENT_OF_ONE {
            return None;
        }
        *count += 1;
        Some(SilentPlace { door: self, source })
    }

    /// Lets a connection in, or drops it: when it says nothing, no TLS, or shows a certificate of another CA.
    pub async fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        tls: TlsAcceptor,
    ) -> Option<Accepted> {
        stream.set_nodelay(true).ok()?;
        {
            let _place = self.place(address.ip().to_canonical())?;
            let first = timeout(SILENCE, stream.peek(&mut [0])).await.ok()?.ok()?;
            if first == 0 {
                return None;
            }
        }
        let stream = {
            let _turn = self.handshakes.acquire().await.ok()?;
            match timeout(DEADLINE, tls.accept(buffered(stream))).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "no TLS handshake");
                    return None;
                }
                Err(_) => return None,
            }
        };
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let alpn = session.alpn_protocol().unwrap_or_default().to_vec();
        Some(Accepted { stream, chain, alpn, address })
    }
}

impl Drop for SilentPlace<'_> {
    fn drop(&mut self) {
        let mut silent = self.door.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = silent.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                silent.remove(&self.source);
            }
        }
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
        assert!(door.place([10, 0, 0, 1].into()).is_some());
        assert!(door.silent.lock().unwrap().is_empty());
    }
}
