//! Standard input that an operator sends to a command.

use bytes::Bytes;

use crate::domain::ids::JobReference;

/// Bytes for a command's standard input. They are not copied on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stdin {
    /// Bytes of standard input before these.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Nothing follows.
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
    /// It reads nothing more.
    pub is_over: bool,
}

/// What an operator sends to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputRequest {
    /// The job that gets it; the first message.
    Job(JobReference),
    /// The next bytes; none before the first answer.
    Stdin(Stdin),
    /// The operator's terminal has a new size.
    WindowSize(WindowSize),
}

/// What the operator can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputProgress {
    /// Send from this offset, whatever was sent before: the first answer, and whenever the agent was reached again.
    SendFrom(u64),
    /// The command has read this much. At most [`WINDOW`](crate::domain::input::WINDOW) bytes from there can be sent.
    Taken(InputTaken),
}
