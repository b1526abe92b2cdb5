//! Logs in: registers an operator's key at a master, with a login string that is valid once.

use std::{fmt, str::FromStr, time::Duration};

use rustls::pki_types::CertificateDer;

use super::{PROTOCOL, connect::DialError, enrollment, status::CallError, unauthenticated::introduce};
use crate::{
    domain::{
        name::OperatorName,
        network::HostPort,
        operator::Role,
        session::{LogIn, LogInAnswer},
    },
    trust::{
        identity::Identity,
        key::{Key, KeyError, key_fingerprint},
        token::Token,
        verify::Trust,
    },
};

/// Maximum number of attempts when the answer to a login is lost. A new attempt is safe: a used secret stays
/// valid for the same key, and only for it.
const TRIES: u32 = 3;
/// The delay before the next attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// A login string: a secret, the CA to trust, and the master's address, as `TOKEN@HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginString {
    /// The secret, and the CA's fingerprint.
    pub token: Token,
    /// The host name or address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The error for text that is not a login string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is not a login string; `sloth-runner master operator add NAME --role ROLE` on the master's machine prints one"
)]
pub struct InvalidLogin;

impl FromStr for LoginString {
    type Err = InvalidLogin;

    fn from_str(text: &str) -> Result<Self, InvalidLogin> {
        let (token, address) = text.trim().split_once('@').ok_or(InvalidLogin)?;
        let HostPort { host, port } = HostPort::parse(address, None).map_err(|_| InvalidLogin)?;
        Ok(Self { token: token.parse().map_err(|_| InvalidLogin)?, host, port })
    }
}

impl fmt::Display for LoginString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.token, HostPort::new(&self.host, self.port))
    }
}

/// The identity that a master has issued to an operator.
#[derive(Debug)]
pub struct LoggedIn {
    /// The operator's certificate.
    pub certificate: CertificateDer<'static>,
    /// The master's CA.
    pub ca: CertificateDer<'static>,
    /// The operator's name.
    pub operator: OperatorName,
    /// The operator's role.
    pub role: Role,
    /// The master's host name.
    pub hostname: String,
}

/// The reason why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The master cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The master refused the login.
    #[error("the master refuses the login: {0}")]
    Refused(String),
    /// The key or the certificate request is not valid.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate in the answer is not for this key, operator or CA.
    #[error("the master's certificate is not for this key; is the version the same?")]
    NotForUs,
}

/// Registers a key for an operator.
///
/// # Errors
/// See [`LoginError`].
pub async fn log_in(login: &LoginString, key: &Key) -> Result<LoggedIn, LoginError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let introduced = introduce(&login.host, login.port, Trust::Fingerprint(login.token.ca)).await?;
        let request = LogIn {
            protocol: PROTOCOL,
            secret: login.token.secret.clone(),
            certificate_request: key.certificate_request()?,
        };
        return match enrollment::log_in(introduced.channel, request).await {
            Ok(LogInAnswer::LoggedIn { certificate, ca_certificate, operator, role, hostname }) => {
                let certificate = CertificateDer::from(certificate);
                let is_ours = key_fingerprint(&certificate) == Some(key.fingerprint())
                    && ca_certificate == introduced.ca.as_ref()
                    && matches!(Identity::of(&certificate), Ok((_, Identity::Operator(name))) if name == operator);
                if !is_ours {
                    return Err(LoginError::NotForUs);
                }
                Ok(LoggedIn { certificate, ca: introduced.ca, operator, role, hostname })
            }
            Ok(LogInAnswer::Refused(reason)) => Err(LoginError::Refused(reason)),
            Err(error) if error.is_broken_connection() && tries < TRIES => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => Err(error.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fingerprint::Fingerprint;

    #[test]
    fn login_strings_survive_text() {
        let token = Token::generate(Fingerprint::of(b"ca"));
        for (host, port) in [("prod.example", 50053), ("2001:db8::1", 1)] {
            let login = LoginString { token: token.clone(), host: host.to_owned(), port };
            assert_eq!(login.to_string().parse(), Ok(login));
        }
        for bad in ["", "@", "x@host:1", &format!("{token}"), &format!("{token}@host")] {
            assert_eq!(bad.parse::<LoginString>(), Err(InvalidLogin), "{bad}");
        }
    }
}
