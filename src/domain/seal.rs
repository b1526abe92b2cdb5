//! Seals: a master's proof of its own messages, which agents store and return. Opaque to everyone else.
//! `trust::sealer` creates and checks them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A seal: a MAC of 256 bits. As text it is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Seal([u8; 32]);

/// The error for bytes or text that are not a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is not a seal: it has 32 bytes, or 64 hexadecimal digits")]
pub struct InvalidSeal;

impl Seal {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Seal {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Seal {
    type Error = InvalidSeal;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidSeal> {
        bytes.try_into().map(Self).map_err(|_| InvalidSeal)
    }
}

impl TryFrom<String> for Seal {
    type Error = InvalidSeal;

    fn try_from(text: String) -> Result<Self, InvalidSeal> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(InvalidSeal);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
            *byte =
                digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or(InvalidSeal)?;
        }
        Ok(Self(bytes))
    }
}

impl From<Seal> for String {
    fn from(seal: Seal) -> Self {
        seal.to_string()
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_survive_bytes_and_text() {
        let seal = Seal::from(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        assert_eq!(Seal::try_from(&seal.as_bytes()[..]), Ok(seal));
        assert_eq!(Seal::try_from(seal.to_string()), Ok(seal));
        assert_eq!(Seal::try_from(&seal.as_bytes()[1..]), Err(InvalidSeal));
        for bad in [String::new(), "g".repeat(64), "0".repeat(63), "é".repeat(32)] {
            assert_eq!(Seal::try_from(bad), Err(InvalidSeal));
        }
    }
}
