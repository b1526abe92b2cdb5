//! Verifies certificates: the chain must end at the pinned CA. Whoever opened the connection checks the names.
//!
//! Certificates are judged at a constant moment inside every one's life, so that no clock can lock anyone out.

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

/// 2020-01-01, after the beginning and before the end of every certificate that an authority makes.
const JUDGED_AT: UnixTime = UnixTime::since_unix_epoch(Duration::from_hours(438_288));

/// What makes a CA the right one.
#[derive(Clone, Debug)]
pub enum Trust {
    /// It is this certificate.
    Pinned(CertificateDer<'static>),
    /// Its certificate, which the peer sends along, has this fingerprint.
    Fingerprint(Fingerprint),
    /// It is whatever the peer sends along; whoever answers first is believed.
    FirstUse,
}

/// Checks peers' certificates, in either role.
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
    /// A verifier. `client_needs_certificate` only matters to a server.
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
        leaf.verify_for_usage(algorithms, &[anchor], &[], JUDGED_AT, usage, None, None)
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

/// TLS 1.2 is not in any configuration here, so nothing of it can be valid.
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
