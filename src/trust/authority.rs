//! The master's certificate authority, which is created on the first start.
//!
//! Certificates never expire: the registry is the revocation list, and a machine must not be locked out by a clock.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::{
    identity::Identity,
    key::{CheckedRequest, Key, KeyError},
};
use crate::{
    domain::fingerprint::Fingerprint,
    sys::{
        paths::{read_optional, write_private},
        random,
    },
};

/// The authority of one cluster.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    cluster: String,
}

/// Sets the validity of a certificate. [`super::verify`] checks certificates at a constant time within it.
fn set_validity(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    // RFC 5280, 4.1.2.5: "no well-defined expiration date".
    params.not_after = date_time_ymd(9999, 12, 31);
}

impl Authority {
    /// Reads the authority from a data directory, or creates it there on the first start.
    ///
    /// # Errors
    /// If its files cannot be read, written or parsed.
    pub fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        let key = Key::load_or_generate(&directory.join("ca.key"))?;
        let path = directory.join("ca.der");
        let file = |source| KeyError::File { path: path.display().to_string(), source };
        let der = if let Some(der) = read_optional(&path).map_err(file)? {
            der
        } else {
            let der = new_ca(&key)?.to_vec();
            write_private(&path, &der, true).map_err(file)?;
            der
        };
        let certificate = CertificateDer::from(der);
        let cluster = cluster_of(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key.0)?;
        Ok(Self { issuer, certificate, cluster })
    }

    /// The cluster's name, the trust domain of its identities.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The fingerprint of the CA's certificate, as agents pin it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Issues a certificate for the key of a request. Names in the request are ignored.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign(
        &self,
        request: CheckedRequest,
        identity: &Identity,
    ) -> Result<CertificateDer<'static>, KeyError> {
        let request = CertificateSigningRequestParams {
            params: self.leaf(identity)?,
            public_key: request.request.public_key,
        };
        Ok(request.signed_by(&self.issuer)?.der().clone())
    }

    /// Issues a certificate for a key of this process.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue(&self, key: &Key, identity: &Identity) -> Result<CertificateDer<'static>, KeyError> {
        Ok(self.leaf(identity)?.signed_by(&key.0, &self.issuer)?.der().clone())
    }

    fn leaf(&self, identity: &Identity) -> Result<CertificateParams, KeyError> {
        let mut params = CertificateParams::default();
        set_validity(&mut params);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.uri(&self.cluster).try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match identity {
            // Masters and agents both accept connections and open them.
            Identity::Master(_) | Identity::Agent(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Identity::Operator(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

fn new_ca(key: &Key) -> Result<CertificateDer<'static>, KeyError> {
    let cluster = format!("sloth-{}", random::hex(&random::bytes::<4>()));
    let mut params = CertificateParams::default();
    set_validity(&mut params);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cluster.clone());
    // The certificate contains the cluster's name, so that name and key always match.
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{cluster}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(&key.0)?.der().clone())
}

/// Returns the name of the cluster of a CA certificate.
///
/// # Errors
/// If it is not the CA certificate of a sloth-runner cluster.
pub fn cluster_of(ca: &CertificateDer<'_>) -> Result<String, KeyError> {
    let no_ca = || KeyError::Format(rcgen::Error::CouldNotParseCertificate);
    let parsed = webpki::EndEntityCert::try_from(ca).map_err(|_| no_ca())?;
    let name = parsed.valid_uri_names().next().and_then(|uri| uri.strip_prefix("spiffe://"));
    name.map(str::to_owned).ok_or_else(no_ca)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path()).unwrap();
        let again = Authority::load_or_create(dir.path()).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.cluster(), again.cluster());
        let other = Authority::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(first.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_signed_request_carries_our_name_and_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let key = Key::generate().unwrap();
        let request = CheckedRequest::check(&key.certificate_request().unwrap()).unwrap();
        let identity = Identity::Agent("web-1".parse().unwrap());
        let certificate = authority.sign(request, &identity).unwrap();
        assert_eq!(Identity::of(&certificate).unwrap(), (authority.cluster().to_owned(), identity));
        assert_eq!(crate::trust::key::key_fingerprint(&certificate), Some(key.fingerprint()));
    }
}
