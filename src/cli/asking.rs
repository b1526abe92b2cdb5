//! Asks questions on a terminal. Without one, the caller decides what to do.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::output::{note, stderr_is_terminal};

/// Maximum length of an answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 64;

/// Whether a person can be asked: standard input and standard error are terminals.
#[must_use]
pub(super) fn can_prompt() -> bool {
    io::stdin().is_terminal() && stderr_is_terminal()
}

/// Asks a question and returns whether the answer is yes. Every other answer means no.
///
/// # Errors
/// If the answer cannot be read.
pub(super) fn agrees(question: &str) -> io::Result<bool> {
    note(&format!("{question} Type yes, or anything else for no:"));
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), MAX_ANSWER_BYTES).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
