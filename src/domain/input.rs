//! The kinds of standard input that an operator can give to a command.

use serde::{Deserialize, Serialize};

use super::bounded::Word;

/// Maximum number of unacknowledged bytes of input. The sender keeps them until they are acknowledged, to
/// send them again on another connection. No process between sender and command holds more.
pub const WINDOW: u64 = 1024 * 1024;

/// Maximum number of bytes of input in one message.
pub const CHUNK: usize = 64 * 1024;

/// A command's standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandardInput {
    /// `/dev/null`.
    #[default]
    Nothing,
    /// A pipe to which an operator's input is written.
    Stream,
    /// A pseudo-terminal, which is also the command's output.
    Terminal(Terminal),
}

impl StandardInput {
    /// Reports whether the command can get input from an operator.
    #[must_use]
    pub fn is_fed(&self) -> bool {
        *self != Self::Nothing
    }
}

/// The terminal of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The value of `TERM`.
    pub kind: Word,
    /// The number of rows.
    pub rows: u16,
    /// The number of columns.
    pub columns: u16,
}
