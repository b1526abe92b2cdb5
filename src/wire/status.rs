//! Turns the failure of a call into a message for people.

use tonic::{Code, Status};

use super::convert::InvalidMessage;

/// Why a call to the master failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The master answered, and refused.
    #[error("{0}")]
    Refused(String),
    /// The master answered that what the call is about does not exist, or no longer.
    #[error("{0}")]
    NotFound(String),
    /// The master cannot read what it has stored.
    #[error("{0}")]
    DataLoss(String),
    /// The master answered something that this version does not understand.
    #[error("the master's answer is not valid: {0}; upgrade this program if the master is newer")]
    Invalid(String),
    /// The connection to the master broke.
    #[error("the connection to the master broke{0}")]
    Disconnected(String),
    /// The master does not know the call.
    #[error("this master is too old for that: upgrade it ({0})")]
    TooOld(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unimplemented => Self::TooOld(message),
            // hyper reports a broken connection as one of these, with its own words.
            Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled
                if std::error::Error::source(&status).is_some() || message.is_empty() =>
            {
                Self::Disconnected(String::new())
            }
            Code::Unavailable => Self::Disconnected(format!(": {message}")),
            Code::NotFound => Self::NotFound(message),
            Code::DataLoss => Self::DataLoss(message),
            _ if message.is_empty() => Self::Refused(format!("the master refused ({})", status.code())),
            _ => Self::Refused(message),
        }
    }
}

impl CallError {
    /// Whether the master answered that it will not do it: asking again changes nothing.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NotFound(_) | Self::DataLoss(_) | Self::Invalid(_))
    }

    /// Whether nobody knows what became of the call, since the connection broke.
    #[must_use]
    pub fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

/// Bytes of a refusal's text: more would not fit into the headers that carry it.
const MAX_REFUSAL: usize = 2 * 1024;

/// A refusal, with as much of its text as a status carries. Its lines stay lines.
pub fn refusal(code: Code, text: impl std::fmt::Display) -> Status {
    let mut text = text.to_string();
    if text.len() > MAX_REFUSAL {
        text.truncate(text.floor_char_boundary(MAX_REFUSAL));
        text.push('…');
    }
    Status::new(code, text)
}

impl From<InvalidMessage> for Status {
    fn from(invalid: InvalidMessage) -> Self {
        refusal(Code::InvalidArgument, invalid)
    }
}

impl From<InvalidMessage> for CallError {
    fn from(invalid: InvalidMessage) -> Self {
        Self::Invalid(invalid.to_string())
    }
}
