//! Private keys: created where they are used, stored in files that only their owner can read, never sent.

use std::{io, path::Path};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use webpki::EndEntityCert;

use crate::domain::fingerprint::Fingerprint;
use crate::sys::paths::{read_optional, write_private};

/// A private key (ECDSA on P-256).
#[derive(Debug)]
pub struct Key(pub(super) KeyPair);

/// A key or certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot use the key file {path}: {source}")]
    File {
        /// The path of the file.
        path: String,
        /// The cause of the error.
        source: io::Error,
    },
    /// The key or certificate cannot be parsed or created.
    #[error("invalid key or certificate: {0}")]
    Format(#[from] rcgen::Error),
}

impl Key {
    /// Generates a new key.
    ///
    /// # Errors
    /// If the kernel provides no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// Reads a key in PEM format, or generates and stores one if the file does not exist.
    ///
    /// # Errors
    /// If the file cannot be read, written or parsed.
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.display().to_string(), source };
        if let Some(pem) = read_optional(path).map_err(file)? {
            return Ok(Self(KeyPair::from_pem(&String::from_utf8_lossy(&pem))?));
        }
        let key = Self::generate()?;
        write_private(path, key.0.serialize_pem().as_bytes(), true).map_err(file)?;
        Ok(key)
    }

    /// Returns the fingerprint of the public key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0.subject_public_key_info())
    }

    /// Creates a certificate request. Its signature proves possession of this key.
    ///
    /// # Errors
    /// If signing fails.
    pub fn certificate_request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }

    /// Returns the private key in PEM format. Store it only in a file that no one but its owner can read.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Returns the private key in the form that rustls uses.
    #[must_use]
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

/// A certificate request whose signature was verified.
#[derive(Debug)]
pub struct CheckedRequest {
    /// The fingerprint of the request's public key.
    pub fingerprint: Fingerprint,
    pub(super) request: CertificateSigningRequestParams,
}

/// Maximum size of a certificate request, in bytes. A request with an ECDSA key has about 200 bytes.
const MAX_REQUEST_BYTES: usize = 4096;

impl CheckedRequest {
    /// Parses a request and verifies that its sender holds the private key.
    ///
    /// # Errors
    /// If it is not a certificate request or its signature is invalid.
    pub fn check(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(rcgen::Error::CouldNotParseCertificationRequest.into());
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))?;
        let fingerprint = Fingerprint::of(&request.public_key.subject_public_key_info());
        Ok(Self { fingerprint, request })
    }
}

/// Returns the fingerprint of the key in a certificate; `None` if the certificate cannot be parsed.
#[must_use]
pub fn key_fingerprint(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some(Fingerprint::of(&parsed.subject_public_key_info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_prove_the_key_and_keys_survive_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = Key::load_or_generate(&path).unwrap();
        let again = Key::load_or_generate(&path).unwrap();
        assert_eq!(key.fingerprint(), again.fingerprint());

        let mut request = key.certificate_request().unwrap();
        assert_eq!(CheckedRequest::check(&request).unwrap().fingerprint, key.fingerprint());
        *request.last_mut().unwrap() ^= 1;
        assert!(CheckedRequest::check(&request).is_err());
        assert!(CheckedRequest::check(b"garbage").is_err());
    }
}
