//! Operators: the people and programs that can use the master, and their roles. Does not depend on
//! certificates or connections.

use std::{str::FromStr, time::Duration};

use super::{fingerprint::Fingerprint, name::OperatorName, time::UnixMs};

/// The rights of an operator. Each role includes the rights of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Can read everything.
    Viewer,
    /// Can also start and cancel jobs.
    Operator,
    /// Can also enroll and delete agents, and manage operators.
    Admin,
}

impl Role {
    /// Returns the role's name, as the store and the wire use it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// The error for a word that is not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid role {0:?}: use viewer (read only), operator (run commands) or admin (manage agents and operators)"
)]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(word: &str) -> Result<Self, InvalidRole> {
        let all = [Self::Viewer, Self::Operator, Self::Admin];
        all.into_iter().find(|role| role.word() == word).ok_or_else(|| InvalidRole(word.to_owned()))
    }
}

/// An operator as clients see it. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorView {
    /// The operator's name.
    pub name: OperatorName,
    /// The role.
    pub role: Role,
    /// The user of the master's machine that is this operator, identified by the Unix socket.
    pub unix_user: Option<String>,
    /// The keys with which the operator can connect.
    pub keys: Vec<Fingerprint>,
    /// When an unused login expires; `None` if there is none.
    pub login_until_ms: Option<UnixMs>,
    /// When it was added.
    pub added_ms: UnixMs,
    /// The operator who added it.
    pub added_by: String,
    /// When it last logged in.
    pub logged_in_ms: Option<UnixMs>,
    /// Whether the operator was revoked.
    pub is_revoked: bool,
}

/// The state of an operator's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorState {
    /// The operator can connect.
    Active,
    /// The operator has an unused login, which is valid for this time.
    Invited(Duration),
    /// The login expired unused, and the operator has no key and no Unix user.
    Expired,
    /// The operator was revoked.
    Revoked,
}

impl OperatorState {
    /// Returns the state's name, as in tables and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Invited(_) => "invited",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl OperatorView {
    /// Its state at a time.
    #[must_use]
    pub fn state(&self, now_ms: UnixMs) -> OperatorState {
        let left = self.login_until_ms.unwrap_or_default().since(now_ms);
        match () {
            () if self.is_revoked => OperatorState::Revoked,
            () if !left.is_zero() => OperatorState::Invited(left),
            () if self.unix_user.is_none() && self.keys.is_empty() => OperatorState::Expired,
            () => OperatorState::Active,
        }
    }
}
