//! Verifies certificates: the chain must end at the pinned CA. The side that opened the connection checks the
//! names.
//!
//! Certificates are verified at a constant time within the validity of all of them, so that a wrong clock
//! locks no machine out.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::domain::fingerprint::Fingerprint;

/// The time at which certificates are verified: 2020-01-01, within the validity of every certificate of an
/// authority.
const VALIDATION_TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_hours(438_288));

/// The condition under which a CA is trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The CA's certificate is this one.
    Pinned(CertificateDer<'static>),
    /// The CA's certificate, which the peer sends in its chain, has this fingerprint.
    Fingerprint(Fingerprint),
    /// The CA's certificate is the last one that the peer sends: the first master that answers is trusted.
    FirstUse,
}

/// Verifies the certificates of clients and of servers.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    client_needs_certificate: bool,
}

fn refused(error: CertificateError) -> Error {
    Error::InvalidCertificate(error)
}

impl Verifier {
    /// Creates a verifier. `client_needs_certificate` only affects a server.
    #[must_use]
    pub fn new(trust: Trust, provider: Arc<CryptoProvider>, client_needs_certificate: bool) -> Self {
        Self { trust, provider, client_needs_certificate }
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let ca = match &self.trust {
            Trust::Pinned(ca) => ca.clone(),
            Trust::Fingerprint(wanted) => others
                .iter()
                .find(|other| Fingerprint::of(other) == *wanted)
                .ok_or_else(|| refused(CertificateError::UnknownIssuer))?
                .clone()
                .into_owned(),
            Trust::FirstUse => {
                others.last().ok_or_else(|| refused(CertificateError::UnknownIssuer))?.clone().into_owned()
            }
        };
        let bad = |_| refused(CertificateError::BadEncoding);
        let anchor = anchor_from_trusted_cert(&ca).map_err(bad)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(bad)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        leaf.verify_for_usage(algorithms, &[anchor], &[], VALIDATION_TIME, usage, None, None)
            .map(drop)
            .map_err(|_| refused(CertificateError::UnknownIssuer))
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// No configuration here permits TLS 1.2, so its signatures are always rejected.
fn no_tls12() -> Error {
    Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_chain(end_entity, intermediates, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.client_needs_certificate
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_chain(end_entity, intermediates, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
