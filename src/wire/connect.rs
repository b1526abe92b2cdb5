//! Opens connections: TCP with a timeout, `TCP_NODELAY`, TLS, and the identity of the peer.

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

/// Timeout of a TCP connect, and of a TLS handshake.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for an address before the next address of the name is tried in parallel (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Size of the read buffer of a socket, in bytes. rustls reads only 4 KiB at a time by default, a quarter of
/// a record. Unused pages of the buffer never become resident.
const READ: usize = 64 * 1024;

/// Maximum number of unsent bytes in a socket's buffer. A key press or the output of a different task can
/// overtake data that waits in HTTP/2, because HTTP/2 alternates between its streams. By default the kernel
/// buffers megabytes, which take seconds on a slow line.
const UNSENT: u32 = 128 * 1024;

/// How long the kernel waits for an acknowledgment before it closes the connection. The default is a quarter
/// of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Configures a socket to send immediately, to buffer little, and to detect a peer that disappears without
/// notice.
///
/// # Errors
/// When the connection has ended.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let probes = TcpKeepalive::new().with_time(UNACKNOWLEDGED / 3).with_interval(UNACKNOWLEDGED / 3);
    socket.set_tcp_keepalive(&probes)
}

/// Wraps a socket in a large read buffer.
pub(super) fn buffered(stream: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(READ, stream)
}

/// The error for a connection that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP failed.
    #[error("{address} does not answer: {}", described(source))]
    Connect {
        /// The address that was dialled.
        address: String,
        /// The cause of the error.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("{address} answers, but is not a sloth-runner that this side trusts: {reason}")]
    Handshake {
        /// The address that was dialled.
        address: String,
        /// The reason, for people.
        reason: String,
    },
    /// The peer belongs to the cluster, but is not the expected one.
    #[error("{address} is {found}, not {wanted}")]
    WrongPeer {
        /// The address that was dialled.
        address: String,
        /// The peer that answered.
        found: String,
        /// The expected peer.
        wanted: String,
    },
}

/// A TLS connection and the certificates of the peer.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TlsStream<BufReader<TcpStream>>,
    /// The peer's certificate chain, with its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The address that was reached.
    pub address: String,
}

impl Dialled {
    /// Checks that the peer is a master.
    ///
    /// # Errors
    /// When the peer is not a master, or its certificate has no identity.
    pub fn expect_master(&self) -> Result<(), DialError> {
        let found = match self.peer() {
            Ok((_, Identity::Master(_))) => return Ok(()),
            Ok((_, other)) => other.to_string(),
            Err(error) => error.to_string(),
        };
        Err(DialError::WrongPeer { address: self.address.clone(), found, wanted: "a master".to_owned() })
    }

    /// Returns the peer's name and identity.
    ///
    /// # Errors
    /// When its certificate has no identity.
    pub fn peer(&self) -> Result<(String, Identity), InvalidIdentity> {
        match self.chain.first() {
            Some(certificate) => Identity::of(certificate),
            None => Identity::parse(""),
        }
    }

    /// Returns the fingerprint of the key in the peer's certificate.
    #[must_use]
    pub fn key(&self) -> Option<Fingerprint> {
        self.chain.first().and_then(key_fingerprint)
    }
}

/// Opens a TCP connection to a host and completes the TLS handshake.
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

/// Connects to the address that answers first. The addresses are tried in order. The next attempt starts when
/// an attempt fails or after 250 ms, because a name can have an address that never answers.
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

/// Formats a system error for people, without its number.
fn described(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let words = nix::errno::Errno::from_raw(code).desc();
    words
        .chars()
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().to_string() + &words[first.len_utf8()..])
}

/// Formats a TLS error for people.
fn explain(error: &io::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate was not issued by the CA that is pinned here (wrong CA)".to_owned()
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
        // A listener with a full queue does not answer.
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
