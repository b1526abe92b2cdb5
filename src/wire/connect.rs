//! Opens connections: TCP with a deadline, `TCP_NODELAY`, TLS, and the identity of the other side.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::BufReader,
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    domain::{fingerprint::Fingerprint, network::HostPort},
    trust::{
        identity::{Identity, InvalidIdentity},
        key::key_fingerprint,
    },
};

/// Deadline of connecting and of shaking hands, each.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long an address may take before the name's next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Bytes that one read of a socket may bring: rustls by itself asks for 4 KiB at a time, a quarter of a record. What is
/// never used of it never becomes resident.
const READ: usize = 64 * 1024;

/// Bytes that a socket takes before the network does. What waits behind them can still be overtaken: a key, or another
/// task's output, by the turns that HTTP/2 gives its streams. The kernel by itself takes megabytes, which on a slow line are
/// seconds.
const UNSENT: u32 = 128 * 1024;

/// How long the kernel waits for a peer's machine that acknowledges nothing. By itself it waits a quarter of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Has a socket send at once, take no more than it is about to send, and notice a peer that is gone without a word.
///
/// # Errors
/// When the connection is gone.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let probes = TcpKeepalive::new().with_time(UNACKNOWLEDGED / 3).with_interval(UNACKNOWLEDGED / 3);
    socket.set_tcp_keepalive(&probes)
}

/// A socket that is read in large pieces.
pub(super) fn buffered(stream: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(READ, stream)
}

/// A connection that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP did not come about.
    #[error("{address} does not answer: {}", described(source))]
    Connect {
        /// Where it went.
        address: String,
        /// The cause of the error.
        source: io::Error,
    },
    /// TLS did not come about.
    #[error("{address} answers, but not as a sloth-runner that this side trusts: {reason}")]
    Handshake {
        /// Where it went.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// The peer belongs to the cluster, but is not the expected one.
    #[error("{address} is {found}, not {wanted}")]
    WrongPeer {
        /// Where it went.
        address: String,
        /// Who answered.
        found: String,
        /// Who was meant.
        wanted: String,
    },
}

/// A TLS connection and the certificates of the peer.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TlsStream<BufReader<TcpStream>>,
    /// The peer's chain, its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The address that was reached.
    pub address: String,
}

impl Dialled {
    /// Makes sure that a master answered.
    ///
    /// # Errors
    /// When it is another peer.
    pub fn expect_master(&self) -> Result<(), DialError> {
        let found = match self.peer() {
            Ok((_, Identity::Master(_))) => return Ok(()),
            Ok((_, other)) => other.to_string(),
            Err(error) => error.to_string(),
        };
        Err(DialError::WrongPeer { address: self.address.clone(), found, wanted: "a master".to_owned() })
    }

    /// Who answered.
    ///
    /// # Errors
    /// When its certificate has no identity.
    pub fn peer(&self) -> Result<(String, Identity), InvalidIdentity> {
        match self.chain.first() {
            Some(certificate) => Identity::of(certificate),
            None => Identity::parse(""),
        }
    }

    /// The key of the peer's certificate.
    #[must_use]
    pub fn key(&self) -> Option<Fingerprint> {
        self.chain.first().and_then(key_fingerprint)
    }
}

/// Dials a host and shakes hands.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Dialled, DialError> {
    let address = HostPort::new(host, port).to_string();
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s");
    let connect = |source| DialError::Connect { address: address.clone(), source };
    let stream =
        timeout(DEADLINE, connect_to(host, port)).await.map_err(|_| connect(late()))?.map_err(connect)?;
    set_up(&stream).map_err(connect)?;
    let handshake =
        |error: io::Error| DialError::Handshake { address: address.clone(), reason: explain(&error) };
    let stream = timeout(DEADLINE, TlsConnector::from(config).connect(name, buffered(stream)))
        .await
        .map_err(|_| handshake(late()))?
        .map_err(handshake)?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    Ok(Dialled { stream, chain, address })
}

async fn connect_to(host: &str, port: u16) -> io::Result<TcpStream> {
    connect_to_any(lookup_host((host, port)).await?.collect()).await
}

/// Connects to whichever address answers first. They are tried in their order, each a moment after the one before: a name
/// may have an address that nothing comes back from.
async fn connect_to_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut left = addresses.into_iter();
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(NEXT_ADDRESS), if left.len() > 0 => {}
            else => return Err(last),
        }
    }
}

/// The system's errors, in words for people: without their numbers.
fn described(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let words = nix::errno::Errno::from_raw(code).desc();
    words
        .chars()
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().to_string() + &words[first.len_utf8()..])
}

/// rustls' errors, in words for people.
fn explain(error: &io::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is not of the CA that is pinned here (wrong CA)".to_owned()
        }
        Some(Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "it is another kind of server".to_owned()
        }
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the handshake".to_owned()
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_silent_address_keeps_nobody_from_the_next_one() {
        // A listener whose queue is full does not answer.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap();
        let _first = TcpStream::connect(full).await.unwrap();
        let answers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let good = answers.local_addr().unwrap();
        for addresses in [vec![full, good], vec![closed, full, good], vec![good, full]] {
            let found = timeout(DEADLINE, connect_to_any(addresses)).await.unwrap().unwrap();
            assert_eq!(found.peer_addr().unwrap(), good);
        }
        let refused = connect_to_any(vec![closed, closed]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_to_any(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
