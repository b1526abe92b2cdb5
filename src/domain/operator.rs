//! Operators: who may talk to the master, and what each may do. Knows neither certificates nor connections.

use std::str::FromStr;

use super::{fingerprint::Fingerprint, name::OperatorName};

/// What an operator may do. Each role may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May look.
    Viewer,
    /// May run and cancel.
    Operator,
    /// May let agents in and put them out.
    Admin,
}

impl Role {
    /// The word for it, as the store keeps it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A word that is no role.
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
    /// What it may do.
    pub role: Role,
    /// The user of the master's machine that it is, known by the socket.
    pub unix_user: Option<String>,
    /// The keys with which it may connect.
    pub keys: Vec<Fingerprint>,
    /// Until when a login that was not used yet is valid.
    pub login_until_ms: Option<u64>,
    /// When it was added.
    pub added_ms: u64,
    /// The operator who added it.
    pub added_by: String,
    /// When it logged in last.
    pub logged_in_ms: Option<u64>,
    /// It may do nothing any more.
    pub is_revoked: bool,
}

/// Whether an operator can use its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorState {
    /// It can.
    Active,
    /// It has a login that is still valid for this time, in milliseconds.
    Invited(u64),
    /// Its login was not used in time, and it has no other way in.
    Expired,
    /// It may do nothing any more.
    Revoked,
}

impl OperatorState {
    /// The word for it.
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
    pub fn state(&self, now_ms: u64) -> OperatorState {
        let left_ms = self.login_until_ms.unwrap_or(0).saturating_sub(now_ms);
        match left_ms {
            _ if self.is_revoked => OperatorState::Revoked,
            1.. => OperatorState::Invited(left_ms),
            0 if self.unix_user.is_none() && self.keys.is_empty() => OperatorState::Expired,
            0 => OperatorState::Active,
        }
    }
}
