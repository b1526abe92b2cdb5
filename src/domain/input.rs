//! The kinds of standard input that an operator can give to a command.

use serde::{Deserialize, Serialize};

use super::bounded::Word;

/// Maximum number of bytes of input on the way to a command. The sender keeps them until they are acknowledged, to send
/// them again on another connection; no process between holds more.
pub const WINDOW: u64 = 1024 * 1024;

/// Bytes of input in one message.
pub const CHUNK: usize = 64 * 1024;

/// A command's standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandardInput {
    /// `/dev/null`.
    #[default]
    Nothing,
    /// A pipe, into which an operator's bytes go.
    Stream,
    /// A terminal, which is its output too.
    Terminal(Terminal),
}

impl StandardInput {
    /// Whether an operator feeds it.
    #[must_use]
    pub fn is_fed(&self) -> bool {
        *self != Self::Nothing
    }
}

/// A terminal as a command finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its kind, for `TERM`.
    pub kind: Word,
    /// Rows of cells.
    pub rows: u16,
    /// Columns of cells.
    pub columns: u16,
}
