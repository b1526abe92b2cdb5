//! Requests about join tokens and operators.

use crate::domain::{name::OperatorName, operator::Role, terms::Terms, time::UnixMs};

/// Creates a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateToken {
    /// How long it is valid, in milliseconds.
    pub ttl_ms: u64,
    /// How many agents can join with it.
    pub uses: u32,
    /// Its terms: which agents can join with it, and what they get.
    pub terms: Terms,
}

/// A new join token. Its secret is in this answer only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedToken {
    /// The secret and the CA's fingerprint, in the form that an agent takes.
    pub token: String,
    /// When it expires.
    pub expires_ms: UnixMs,
    /// The port on which the master listens.
    pub port: u16,
    /// The address, with port, at which agents probably reach the master.
    pub address_guess: Option<String>,
    /// The id by which it is listed and revoked.
    pub id: String,
    /// Its terms.
    pub terms: Terms,
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// Its id: the first 8 hexadecimal digits of its secret's SHA-256, in upper case.
    pub id: String,
    /// When it expires.
    pub expires_ms: UnixMs,
    /// How many more agents can join with it.
    pub uses_left: u32,
    /// When it was created; `None` if that was not recorded.
    pub created_ms: Option<UnixMs>,
    /// The operator who created it; `None` if that was not recorded.
    pub created_by: Option<String>,
    /// Its terms.
    pub terms: Terms,
}

/// Revokes a join token. Agents that have joined with it stay enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeToken {
    /// Its id.
    pub id: String,
}

/// Adds an operator, or issues another login to an existing one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteOperator {
    /// The operator's name.
    pub name: OperatorName,
    /// The role of a new operator; `None` for an existing one.
    pub role: Option<Role>,
    /// The user of the master's machine that is this operator. Such an operator needs no login.
    pub unix_user: Option<String>,
    /// How long the login is valid, in milliseconds.
    pub ttl_ms: u64,
}

/// A login for an operator. Its secret is in this answer only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The secret and the CA's fingerprint; `None` for a user of the master's machine.
    pub token: Option<String>,
    /// When the login expires; `None` if there is no login.
    pub expires_ms: Option<UnixMs>,
    /// The port on which the master listens.
    pub port: u16,
    /// The address, with port, at which other machines probably reach the master.
    pub address_guess: Option<String>,
}

/// Revokes an operator: its keys and its open connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeOperator {
    /// The operator's name.
    pub name: OperatorName,
}
