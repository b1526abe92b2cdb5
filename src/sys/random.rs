//! Random bytes from the operating system.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Fills an array with random bytes.
///
/// # Panics
/// When the kernel has no randomness to give; nothing safe could continue then.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// A random share of `span`, from 0 up to but not including it.
#[must_use]
pub fn share_of(span: std::time::Duration) -> std::time::Duration {
    let dice = u32::from_le_bytes(bytes());
    span.mul_f64(f64::from(dice) / (f64::from(u32::MAX) + 1.0))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
