//! TLS configurations: only TLS 1.3, only ring, our own verifier, and the ALPN names that identify the
//! protocol.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use super::verify::{Trust, Verifier};

/// Ordinary gRPC. Must never change: a peer with another name gets no explanation, only a failed handshake.
pub const ALPN_H2: &[u8] = b"h2";
/// The dialling side serves HTTP/2 on the connection, and the accepting side is its client. Must never
/// change.
pub const ALPN_TUNNEL: &[u8] = b"sloth-tunnel/1";

/// A certificate chain and the private key of its first certificate.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate, followed by the CA's certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the certificate.
    pub key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Returns a copy. `PrivateKeyDer` does not implement `Clone`.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Returns the TLS configuration of the accepting side.
///
/// # Errors
/// If the key does not match the certificate.
pub fn server(
    own: Credentials,
    trust: Trust,
    client_needs_certificate: bool,
    alpn: &[&[u8]],
) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let verifier = Verifier::new(trust, Arc::clone(&provider), client_needs_certificate);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(own.chain, own.key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Returns the TLS configuration of the dialling side. `own` is `None` for an unauthenticated peer.
///
/// # Errors
/// If the key does not match the certificate.
pub fn client(own: Option<Credentials>, trust: Trust, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = Verifier::new(trust, Arc::clone(&provider), false);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(own.chain, own.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// Returns the server name to send in the handshake. Identities are compared after the handshake. This name
/// is only the key of the session cache, so it must differ between peers.
///
/// # Panics
/// Never: the name consists of hexadecimal digits and a fixed suffix.
#[must_use]
pub fn server_name(peer: &str) -> ServerName<'static> {
    let digest = crate::domain::fingerprint::Fingerprint::of(peer.as_bytes()).to_string();
    ServerName::try_from(format!("{}.sloth-runner", &digest[..32])).expect("a DNS name")
}
