//! The access table: who may make which call. Everything else is denied, on both sides.

use super::identity::Identity;
use crate::domain::operator::Role;

/// The caller of a method, as proven by its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A peer without a certificate, or whose certificate is not, or no longer, in the registry.
    Unauthenticated,
    /// A holder of a certificate of the cluster's CA that is not an operator's.
    Peer(Identity),
    /// A name without rights: an operator's certificate with an unknown or revoked key, or a local user who
    /// is not an operator.
    Unknown(String),
    /// An operator, by certificate or by the socket's peer credentials.
    Operator {
        /// The operator's name, for the audit table.
        name: String,
        /// The operator's role.
        role: Role,
        /// Whether the call came over the local Unix socket.
        local: bool,
    },
}

impl Caller {
    /// Whether the caller is an operator with the role `Admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        matches!(self, Self::Operator { role: Role::Admin, .. })
    }
}

/// The identity or role that a method requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Any caller, with or without an identity.
    Nothing,
    /// Any identity of the cluster.
    Identity,
    /// An operator of at least this role.
    Role(Role),
    /// A master.
    Master,
    /// An operator on the local Unix socket.
    LocalSocket,
}

/// The requirement of each method. The key is the path in the HTTP/2 request.
const TABLE: &[(&str, Need)] = &[
    ("/sloth.v2.EnrollmentService/Enroll", Need::Nothing),
    ("/sloth.v2.EnrollmentService/LogIn", Need::Nothing),
    ("/sloth.v2.AgentService/Session", Need::Master),
    ("/sloth.v2.AgentService/Attach", Need::Master),
    ("/sloth.v2.AgentService/Signal", Need::Master),
    ("/sloth.v1.AgentService/Session", Need::Master),
    ("/sloth.v2.ControlService/GetStatus", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/ListAgents", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/FollowJob", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/WatchJob", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/WatchAgents", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/WatchJobs", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/ListJobs", Need::Role(Role::Viewer)),
    ("/sloth.v2.ControlService/StartJob", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/SendInput", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/CancelJob", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/RerunJob", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/DeleteJob", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/PromoteJob", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/StopJob", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/ApproveAgent", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/RejectAgent", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/DeleteAgent", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/LabelAgents", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/StopAgent", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/CreateToken", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/ListTokens", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/RevokeToken", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/DrainAgents", Need::Role(Role::Operator)),
    ("/sloth.v2.ControlService/InviteOperator", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/ListOperators", Need::Role(Role::Admin)),
    ("/sloth.v2.ControlService/RevokeOperator", Need::Role(Role::Admin)),
    ("/grpc.health.v1.Health/Check", Need::Identity),
    ("/grpc.health.v1.Health/Watch", Need::Identity),
    ("/grpc.health.v1.Health/List", Need::Identity),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::LocalSocket),
];

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller has no identity, and the call requires one.
    #[error("this call needs an identity; on the master's own machine root has one without any set-up")]
    NoIdentity,
    /// The caller has an identity that this master does not know.
    #[error(
        "{0} is not, or no longer, an operator of this master; an admin can add it: `sloth-runner master operator add`"
    )]
    Unknown(String),
    /// The caller is known, but does not meet the requirement of the call.
    #[error("{who} may not do this: it needs {needed}")]
    NotAllowed {
        /// The caller.
        who: String,
        /// The role or identity that the call requires.
        needed: String,
    },
    /// The table has no row for the method. Such methods are never served.
    #[error("there is no such call in this version")]
    NoSuchMethod,
}

/// Whether the table has a row for a method.
#[must_use]
pub fn has_row(path: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == path)
}

/// Whether a method changes state, so that its caller may have to wait until the change is stored.
#[must_use]
pub fn changes(path: &str) -> bool {
    let looks = ["ListTokens", "ListOperators", "SendInput"];
    let is_look = looks.iter().any(|name| path.rsplit('/').next() == Some(name));
    let need = TABLE.iter().find(|(known, _)| *known == path).map(|(_, need)| need);
    !is_look && matches!(need, Some(Need::Nothing | Need::Role(Role::Operator | Role::Admin)))
}

/// Checks whether a caller may call a method.
///
/// # Errors
/// Returns why the call is denied.
pub fn check(caller: &Caller, path: &str) -> Result<(), Denied> {
    let Some((_, need)) = TABLE.iter().find(|(known, _)| *known == path) else {
        return Err(Denied::NoSuchMethod);
    };
    let allowed = match (need, caller) {
        (Need::Nothing, _)
        | (Need::Identity, Caller::Peer(_) | Caller::Operator { .. })
        | (Need::Master, Caller::Peer(Identity::Master(_))) => true,
        (_, Caller::Unauthenticated) => return Err(Denied::NoIdentity),
        (_, Caller::Unknown(name)) => return Err(Denied::Unknown(name.clone())),
        (Need::Role(needed), Caller::Operator { role, .. }) => role >= needed,
        (Need::LocalSocket, Caller::Operator { local, .. }) => *local,
        (Need::Role(_) | Need::LocalSocket, Caller::Peer(_))
        | (Need::Master, Caller::Peer(_) | Caller::Operator { .. }) => false,
    };
    if allowed {
        return Ok(());
    }
    let who = match caller {
        Caller::Unauthenticated => "an unauthenticated peer".to_owned(),
        Caller::Unknown(name) => name.clone(),
        Caller::Peer(identity) => identity.to_string(),
        Caller::Operator { name, role, .. } => format!("{name} ({})", role.word()),
    };
    let needed = match need {
        Need::Nothing | Need::Identity => "an identity".to_owned(),
        Need::Role(role) => format!("the role {}", role.word()),
        Need::Master => "to be this agent's master".to_owned(),
        Need::LocalSocket => "the master's own socket".to_owned(),
    };
    Err(Denied::NotAllowed { who, needed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(role: Role) -> Caller {
        Caller::Operator { name: "ana".into(), role, local: false }
    }

    #[test]
    fn what_is_not_in_the_table_is_denied() {
        let path = "/sloth.v2.ControlService/Nothing";
        assert_eq!(check(&operator(Role::Admin), path), Err(Denied::NoSuchMethod));
    }

    #[test]
    fn roles_include_the_ones_below_them() {
        let job = "/sloth.v2.ControlService/StartJob";
        assert!(check(&operator(Role::Viewer), job).is_err());
        assert!(check(&operator(Role::Operator), job).is_ok());
        assert!(check(&operator(Role::Admin), job).is_ok());
        assert_eq!(check(&Caller::Unauthenticated, job), Err(Denied::NoIdentity));
    }
}
