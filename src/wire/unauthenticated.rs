//! Opens a connection to a master for a client without an identity, which requests one over this connection.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::{
    channel::{Channel, KeepAlive},
    connect::{DialError, dial},
};
use crate::trust::{tls, verify::Trust};

/// A connection without an identity.
#[derive(Debug)]
pub struct Introduced {
    /// The channel for calls.
    pub channel: Channel,
    /// The certificate of the master's CA, which `trust` accepted.
    pub ca: CertificateDer<'static>,
}

/// Dials a master as an unauthenticated peer, and checks that it is a master.
///
/// # Errors
/// When the peer cannot be reached, `trust` does not accept it, or it is not a master.
pub async fn introduce(host: &str, port: u16, trust: Trust) -> Result<Introduced, DialError> {
    let address = crate::domain::network::HostPort::new(host, port).to_string();
    let handshake = |reason: String| DialError::Handshake { address: address.clone(), reason };
    let config = tls::client(None, trust, tls::ALPN_H2).map_err(|error| handshake(error.to_string()))?;
    let dialled = dial(host, port, Arc::new(config), tls::server_name("master")).await?;
    dialled.expect_master()?;
    let ca = dialled.chain.last().cloned().ok_or_else(|| handshake("it sent no CA certificate".into()))?;
    let shaken = Channel::handshake_kept_alive(dialled.stream, KeepAlive::QUICK).await;
    let (channel, connection) = shaken.map_err(|error| handshake(error.to_string()))?;
    // The task ends when the channel is dropped.
    tokio::spawn(connection);
    Ok(Introduced { channel, ca })
}
