//! One-time codes, with which an agent and a master that have never met verify each other.
//!
//! A pending agent generates a code and prints it on its own machine; it never sends the code. An operator
//! reads it there and types it at the master. Both sides then share a secret that nothing between them knows.
//! With it each side proves which key and which CA it means. A machine that impersonates the master, or
//! relays the messages with another key or CA, cannot produce a valid proof.

use std::{fmt, str::FromStr};

use ring::hmac;

use super::{fingerprint::Fingerprint, seal::Seal};

/// The size of a code in bytes: 80 bits, too many to guess.
const BYTES: usize = 10;
/// The number of characters of a code as text.
const SIGNS: usize = 16;
/// The number of characters between two hyphens.
const GROUP: usize = 4;
/// Crockford's base 32, without I, L, O and U, which are easily confused with others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A one-time code: `7K2M-QX4P-9D3A-WZ8T`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; BYTES]);

/// How an operator identifies the key to approve among the pending keys with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMark {
    /// The first digits of its fingerprint.
    Digits(String),
    /// The code that its agent printed.
    Code(Code),
}

/// The error for text that is not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is not a code: the agent printed 16 letters and digits when it started, as in 7K2M-QX4P-9D3A-WZ8T"
)]
pub struct InvalidCode;

impl Code {
    /// Creates a code from random bytes of the caller.
    #[must_use]
    pub fn from_random(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    fn mac(&self, who: &str, key: Fingerprint, ca: Fingerprint) -> (hmac::Key, Vec<u8>) {
        let statement = format!("sloth-runner first contact\n{who}\n{key}\n{ca}\n");
        (hmac::Key::new(hmac::HMAC_SHA256, &self.0), statement.into_bytes())
    }

    fn prove(&self, who: &str, key: Fingerprint, ca: Fingerprint) -> Seal {
        let (mac, statement) = self.mac(who, key, ca);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&mac, &statement).as_ref());
        bytes.into()
    }

    fn is_proof(&self, who: &str, key: Fingerprint, ca: Fingerprint, proof: Seal) -> bool {
        let (mac, statement) = self.mac(who, key, ca);
        hmac::verify(&mac, &statement, proof.as_bytes()).is_ok()
    }

    /// Returns an agent's proof that it has this key, generated the code, and was shown this CA.
    #[must_use]
    pub fn prove_agent(&self, key: Fingerprint, ca: Fingerprint) -> Seal {
        self.prove("agent", key, ca)
    }

    /// Reports whether the agent with this key generated the code and was shown this CA.
    #[must_use]
    pub fn is_agent(&self, key: Fingerprint, ca: Fingerprint, proof: Seal) -> bool {
        self.is_proof("agent", key, ca, proof)
    }

    /// Returns a master's proof that an operator who knows the code enrolled this key, and that this CA is
    /// its own.
    #[must_use]
    pub fn prove_master(&self, key: Fingerprint, ca: Fingerprint) -> Seal {
        self.prove("master", key, ca)
    }

    /// Reports whether a master with this CA knows the code for this key.
    #[must_use]
    pub fn is_master(&self, key: Fingerprint, ca: Fingerprint, proof: Seal) -> bool {
        self.is_proof("master", key, ca, proof)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        for place in 0..SIGNS {
            if place > 0 && place % GROUP == 0 {
                f.write_str("-")?;
            }
            let sign = (bits >> (5 * (SIGNS - 1 - place))) & 31;
            write!(f, "{}", char::from(ALPHABET[usize::try_from(sign).unwrap_or(0)]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

impl FromStr for Code {
    type Err = InvalidCode;

    /// Parses a code in upper or lower case, with or without hyphens and spaces. Characters that are easily
    /// confused with another one are read as that one.
    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        let (mut bits, mut signs) = (0u128, 0);
        for sign in text.chars().filter(|sign| !"- ".contains(*sign)) {
            let sign = match sign.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                sign => sign,
            };
            let value = ALPHABET.iter().position(|known| char::from(*known) == sign).ok_or(InvalidCode)?;
            signs += 1;
            if signs > SIGNS {
                return Err(InvalidCode);
            }
            bits = bits << 5 | value as u128;
        }
        if signs != SIGNS {
            return Err(InvalidCode);
        }
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&bits.to_be_bytes()[16 - BYTES..]);
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_being_read_aloud_and_typed() {
        for seed in 0..100u8 {
            let code = Code::from_random([seed, 1, 2, 250, seed ^ 0xff, 31, 63, 127, seed / 2, 8]);
            let text = code.to_string();
            assert_eq!(text.len(), 19, "{text}");
            assert_eq!(text.parse(), Ok(code.clone()));
            assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(code.clone()));
            assert_eq!(text.replace('0', "o").replace('1', "l").parse(), Ok(code));
        }
        for bad in ["", "7K2M", "7K2M-QX4P-9D3A-WZ8", "7K2M-QX4P-9D3A-WZ8TT", "7K2M-QX4P-9D3A-WZ8U"] {
            assert_eq!(bad.parse::<Code>(), Err(InvalidCode), "{bad}");
        }
    }

    #[test]
    fn a_proof_is_good_for_one_key_one_ca_and_one_side() {
        let (code, other) = (Code::from_random([1; BYTES]), Code::from_random([2; BYTES]));
        let (key, ca) = (Fingerprint::of(b"key"), Fingerprint::of(b"ca"));
        let (agent, master) = (code.prove_agent(key, ca), code.prove_master(key, ca));
        assert!(code.is_agent(key, ca, agent) && code.is_master(key, ca, master));
        assert!(!code.is_agent(key, ca, master) && !code.is_master(key, ca, agent), "an echo is no answer");
        assert!(!other.is_agent(key, ca, agent) && !other.is_master(key, ca, master));
        let (thief, false_ca) = (Fingerprint::of(b"thief"), Fingerprint::of(b"false"));
        assert!(!code.is_agent(thief, ca, agent) && !code.is_agent(key, false_ca, agent));
        assert!(!code.is_master(thief, ca, master) && !code.is_master(key, false_ca, master));
    }
}
