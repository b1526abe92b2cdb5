//! The version of the protocol.

use crate::domain::session::Protocol;

/// The protocol that this version of the program speaks.
pub const PROTOCOL: Protocol = Protocol { major: 2, minor: 0 };
