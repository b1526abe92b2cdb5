//! Join tokens: a secret that lets agents enroll, and the fingerprint of the CA that they then trust.

use std::{fmt, str::FromStr};

use crate::domain::fingerprint::Fingerprint;
use crate::sys::random;

/// A join token as it is passed to an agent.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The secret. The master stores only its hash.
    pub secret: String,
    /// The fingerprint of the CA that the agent is to trust.
    pub ca: Fingerprint,
}

/// The error for text that is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("that is not a join token; `sloth-runner master token create` on the master's machine prints one")]
pub struct InvalidToken;

/// The prefix of every token.
pub const PREFIX: &str = "sloth1";

impl Token {
    /// Generates a token with a secret of 128 bits.
    #[must_use]
    pub fn generate(ca: Fingerprint) -> Self {
        Self { secret: random::hex(&random::bytes::<16>()), ca }
    }
}

/// Returns the hash of a secret, which the master stores instead of the secret.
#[must_use]
pub fn hash_secret(secret: &str) -> String {
    Fingerprint::of(secret.as_bytes()).to_string()
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{}-{}", self.secret, self.ca)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let [PREFIX, secret, ca] = text.trim().split('-').collect::<Vec<_>>()[..] else {
            return Err(InvalidToken);
        };
        if secret.len() != 32 || !secret.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidToken);
        }
        Ok(Self { secret: secret.to_owned(), ca: ca.parse().map_err(|_| InvalidToken)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_text_and_do_not_show_in_logs() {
        let token = Token::generate(Fingerprint::of(b"ca"));
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        for bad in ["", "sloth1", "sloth1-a-b", "sloth2-0-0"] {
            assert_eq!(bad.parse::<Token>(), Err(InvalidToken), "{bad}");
        }
    }
}
