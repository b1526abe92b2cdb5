//! Fingerprints: the SHA-256 of a key or certificate in DER, for people to compare.

use std::{fmt, str::FromStr};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256 of a public key (`SubjectPublicKeyInfo`) or of a CA's certificate, both in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint([u8; 32]);

/// Minimum number of digits of a fingerprint with which a person can approve a key.
pub const FEWEST_DIGITS: usize = 8;

/// The error for text that is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a fingerprint: give its 64 hexadecimal digits")]
pub struct InvalidFingerprint(String);

impl Fingerprint {
    /// Returns the fingerprint of these bytes.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reports whether it begins with these digits, in either case and with or without colons.
    #[must_use]
    pub fn begins_with(&self, digits: &str) -> bool {
        let wanted = plain_digits(digits);
        !wanted.is_empty() && self.to_string().starts_with(&wanted)
    }

    /// Returns the first 16 digits, which are enough to approve a key.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..16].to_owned()
    }
}

/// Returns the text in upper case, without the colons and spaces that people put between digits.
#[must_use]
pub fn plain_digits(text: &str) -> String {
    text.chars().filter(|c| !": ".contains(*c)).collect::<String>().to_ascii_uppercase()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let invalid = || InvalidFingerprint(text.to_owned());
        let digits = plain_digits(text);
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_compared_as_people_write_them() {
        let print = Fingerprint::of(b"key");
        let text = print.to_string();
        assert_eq!(text.parse(), Ok(print));
        assert_eq!(text.to_lowercase().parse(), Ok(print));
        assert!(print.begins_with(&text[..8].to_lowercase()));
        assert!(print.begins_with(&format!("{}:{}", &text[..2], &text[2..8])));
        assert!(!print.begins_with("") && !print.begins_with("zz"));
        assert!("12".parse::<Fingerprint>().is_err());
        assert!("zz".repeat(32).parse::<Fingerprint>().is_err());
    }
}
