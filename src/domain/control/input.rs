//! Standard input that an operator sends to a command.

use bytes::Bytes;

use crate::domain::ids::JobReference;

/// Bytes for a command's standard input. They are never copied between decoder and encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stdin {
    /// The offset of the first byte in the standard input.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether this is the end of the input.
    pub is_end: bool,
}

/// The size of a terminal, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Its rows.
    pub rows: u16,
    /// Its columns.
    pub columns: u16,
}

/// How far a command has read its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputTaken {
    /// Bytes that it has read.
    pub offset: u64,
    /// Whether the command reads no more input.
    pub is_over: bool,
}

/// What an operator sends to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputRequest {
    /// The job whose command gets the input; the first message.
    Job(JobReference),
    /// The next bytes. They can be sent only after the first answer.
    Stdin(Stdin),
    /// The operator's terminal has a new size.
    WindowSize(WindowSize),
}

/// How much input the operator can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputProgress {
    /// Send from this offset, even if later bytes were sent before. The first answer, and sent again whenever
    /// the agent has reconnected.
    SendFrom(u64),
    /// The command has read up to this offset. At most [`WINDOW`](crate::domain::input::WINDOW) bytes beyond
    /// it can be sent.
    Taken(InputTaken),
}
