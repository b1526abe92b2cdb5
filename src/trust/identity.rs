//! Identities: SPIFFE IDs in certificates, exactly one in each. Roles are defined elsewhere.

use std::fmt;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::domain::name::{AgentName, MasterName, OperatorName};

/// The identity in a certificate, within one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A master, by its id.
    Master(String),
    /// An agent, by its name.
    Agent(AgentName),
    /// An operator, by its name.
    Operator(OperatorName),
}

/// A certificate from which no identity can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate has no sloth-runner identity: {0}")]
pub struct InvalidIdentity(String);

impl Identity {
    /// Returns the SPIFFE ID in the trust domain `cluster`.
    #[must_use]
    pub fn uri(&self, cluster: &str) -> String {
        format!("spiffe://{cluster}{self}")
    }

    /// Parses the cluster and the identity from a SPIFFE ID.
    ///
    /// # Errors
    /// If the URI does not have exactly the form that [`Self::uri`] returns.
    pub fn parse(uri: &str) -> Result<(String, Self), InvalidIdentity> {
        let invalid = || InvalidIdentity(uri.chars().take(200).collect());
        let rest = uri.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let [cluster, kind, name] = rest.split('/').collect::<Vec<_>>()[..] else {
            return Err(invalid());
        };
        let identity = match kind {
            // A master's id has the characters of a name.
            "master" => Self::Master(name.parse::<MasterName>().map_err(|_| invalid())?.into()),
            "agent" => Self::Agent(name.parse().map_err(|_| invalid())?),
            "operator" => Self::Operator(name.parse().map_err(|_| invalid())?),
            _ => return Err(invalid()),
        };
        if cluster.is_empty() { Err(invalid()) } else { Ok((cluster.to_owned(), identity)) }
    }

    /// Reads the cluster and the identity from a certificate. The caller must have verified its chain.
    ///
    /// # Errors
    /// If the certificate does not have exactly one URI name, or if that URI is not an identity.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<(String, Self), InvalidIdentity> {
        let parsed =
            EndEntityCert::try_from(certificate).map_err(|error| InvalidIdentity(error.to_string()))?;
        let mut uris = parsed.valid_uri_names();
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::parse(uri),
            _ => Err(InvalidIdentity("it does not have exactly one name".to_owned())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(id) => write!(f, "/master/{id}"),
            Self::Agent(name) => write!(f, "/agent/{name}"),
            Self::Operator(name) => write!(f, "/operator/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_strictly() {
        let agent = Identity::Agent("web-1".parse().unwrap());
        assert_eq!(Identity::parse(&agent.uri("c1")), Ok(("c1".to_owned(), agent)));
        for bad in [
            "",
            "spiffe://c1",
            "spiffe://c1/agent",
            "spiffe://c1/agent/",
            "spiffe://c1/agent/a/b",
            "spiffe://c1/root/a",
            "spiffe:///agent/a",
            "https://c1/agent/a",
            "spiffe://c1/agent/../x",
        ] {
            assert!(Identity::parse(bad).is_err(), "{bad}");
        }
    }
}
