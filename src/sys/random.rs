//! Random bytes from the operating system.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Fills an array with random bytes.
///
/// # Panics
/// When the kernel provides no random bytes: the program cannot continue safely.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// Returns a random part of `span`, from 0 up to but not including `span`.
#[must_use]
pub fn share_of(span: std::time::Duration) -> std::time::Duration {
    let dice = u32::from_le_bytes(bytes());
    span.mul_f64(f64::from(dice) / (f64::from(u32::MAX) + 1.0))
}

/// Returns bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
