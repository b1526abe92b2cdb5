//! Converts the failure of a call to a message for people.

use tonic::{Code, Status};

use super::convert::InvalidMessage;

/// The error for a failed call to the master.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The master refused the call.
    #[error("{0}")]
    Refused(String),
    /// The object of the call does not exist, or no longer exists.
    #[error("{0}")]
    NotFound(String),
    /// The master cannot read its stored data.
    #[error("{0}")]
    DataLoss(String),
    /// The master's answer is not valid for this version.
    #[error("the master's answer is not valid: {0}; upgrade this program if the master is newer")]
    Invalid(String),
    /// The connection to the master broke.
    #[error("the connection to the master broke{0}")]
    Disconnected(String),
    /// The master does not know this call.
    #[error("this master is too old for that: upgrade it ({0})")]
    TooOld(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unimplemented => Self::TooOld(message),
            // hyper reports a broken connection as one of these codes, with a source or without a message.
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
    /// Reports whether the master answered and refused, so that another attempt would fail in the same way.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NotFound(_) | Self::DataLoss(_) | Self::Invalid(_))
    }

    /// Reports whether the connection broke, so that the result of the call is unknown.
    #[must_use]
    pub fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

/// Maximum size of a refusal's text, in bytes. A longer text does not fit into the response headers.
const MAX_REFUSAL: usize = 2 * 1024;

/// Creates a status. Truncates a text that is too long for a status. Line breaks are kept.
pub(crate) fn refusal(code: Code, text: impl std::fmt::Display) -> Status {
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
