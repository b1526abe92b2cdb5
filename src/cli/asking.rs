//! Asks questions on a terminal. Without one, the caller decides what to do.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::output::{note, stderr_is_terminal};

/// Longest answer that is read.
const LONGEST: u64 = 64;

/// Whether somebody is there to be asked.
#[must_use]
pub(super) fn may_ask() -> bool {
    io::stdin().is_terminal() && stderr_is_terminal()
}

/// Asks a question. Anything but yes is no.
///
/// # Errors
/// When the answer cannot be read.
pub(super) fn agrees(question: &str) -> io::Result<bool> {
    note(&format!("{question} Type yes, or anything else for no:"));
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), LONGEST).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
