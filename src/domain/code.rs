//! One-time codes, by which an agent and a master that have never met verify each other.
//!
//! A waiting agent makes a code and shows it on its own machine; it sends it to nobody. An operator who reads it there types it
//! at the master. Both then hold a secret that nobody between them has, and prove to each other by it which key and which CA
//! they mean: who answers in the master's place, or passes on what the two say with another key or CA, has no proof that fits.

use std::{fmt, str::FromStr};

use ring::hmac;

use super::{fingerprint::Fingerprint, seal::Seal};

/// Bytes of a code: 80 bits, which nobody finds by trying.
const BYTES: usize = 10;
/// Signs of a code as text.
const SIGNS: usize = 16;
/// Signs that stand together.
const GROUP: usize = 4;
/// Crockford's base 32: no I, L, O and U, which are taken for others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A one-time code: `7K2M-QX4P-9D3A-WZ8T`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; BYTES]);

/// How an operator says which of the keys that wait under a name is approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMark {
    /// The first digits of its fingerprint.
    Digits(String),
    /// The code that its agent printed.
    Code(Code),
}

/// Text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is not a code: the agent printed 16 letters and digits when it started, as in 7K2M-QX4P-9D3A-WZ8T"
)]
pub struct InvalidCode;

impl Code {
    /// A new code; the caller passes where chance comes from.
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

    /// An agent's proof that it has this key, made the code, and was shown this CA.
    #[must_use]
    pub fn prove_agent(&self, key: Fingerprint, ca: Fingerprint) -> Seal {
        self.prove("agent", key, ca)
    }

    /// Whether the agent with this key made the code, and was shown this CA.
    #[must_use]
    pub fn is_agent(&self, key: Fingerprint, ca: Fingerprint, proof: Seal) -> bool {
        self.is_proof("agent", key, ca, proof)
    }

    /// A master's proof that an operator who knows the code enrolled this key, and that this CA is its own.
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

    /// In either case, with or without hyphens and spaces; what is taken for another sign is read as that.
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
