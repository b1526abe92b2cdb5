//! Join tokens and operators.

use super::{
    InvalidMessage, InvalidProposal,
    proposal::{fingerprint_in, fingerprint_out},
};
use crate::{
    domain::{
        control::{
            CreateToken, CreatedToken, InviteOperator, Invited, RevokeOperator, RevokeToken, TokenView,
        },
        name::InvalidName,
        operator::{OperatorView, Role},
        time::UnixMs,
    },
    wire::{
        bounds::{OutOfBounds, short_text},
        proto,
    },
};

/// The error for an operator that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperator {
    /// The operator's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The operator's role is missing, or this version does not know it.
    #[error("a role that this version does not know")]
    Role,
    /// The fingerprint of one of the operator's keys is not valid.
    #[error(transparent)]
    Key(#[from] InvalidProposal),
}

/// The error for a token that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The token's terms are not valid.
    #[error(transparent)]
    Terms(#[from] InvalidProposal),
    /// The master's port is higher than 65535.
    #[error("port {0}")]
    Port(u32),
    /// The token's id is too long.
    #[error(transparent)]
    Id(#[from] OutOfBounds),
}

fn port_in(port: u32) -> Result<u16, InvalidToken> {
    u16::try_from(port).map_err(|_| InvalidToken::Port(port))
}

impl From<Role> for proto::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

pub(super) fn role_in(role: proto::Role) -> Option<Role> {
    match role {
        proto::Role::Unspecified => None,
        proto::Role::Viewer => Some(Role::Viewer),
        proto::Role::Operator => Some(Role::Operator),
        proto::Role::Admin => Some(Role::Admin),
    }
}

impl From<OperatorView> for proto::Operator {
    fn from(operator: OperatorView) -> Self {
        Self {
            name: operator.name.into(),
            role: proto::Role::from(operator.role).into(),
            unix_user: operator.unix_user,
            keys: operator.keys.into_iter().map(fingerprint_out).collect(),
            login_until_ms: operator.login_until_ms.map(|moment| moment.0),
            added_ms: operator.added_ms.0,
            added_by: operator.added_by,
            logged_in_ms: operator.logged_in_ms.map(|moment| moment.0),
            revoked: operator.is_revoked,
        }
    }
}

impl TryFrom<proto::Operator> for OperatorView {
    type Error = InvalidOperator;

    fn try_from(operator: proto::Operator) -> Result<Self, InvalidOperator> {
        Ok(Self {
            role: role_in(operator.role()).ok_or(InvalidOperator::Role)?,
            name: operator.name.try_into()?,
            unix_user: operator.unix_user,
            keys: operator.keys.iter().map(|key| fingerprint_in(key)).collect::<Result<_, _>>()?,
            login_until_ms: operator.login_until_ms.map(UnixMs),
            added_ms: UnixMs(operator.added_ms),
            added_by: operator.added_by,
            logged_in_ms: operator.logged_in_ms.map(UnixMs),
            is_revoked: operator.revoked,
        })
    }
}

impl From<InviteOperator> for proto::InviteOperatorRequest {
    fn from(invite: InviteOperator) -> Self {
        Self {
            name: invite.name.into(),
            role: invite.role.map_or(proto::Role::Unspecified, Into::into).into(),
            unix_user: invite.unix_user,
            ttl_ms: invite.ttl_ms,
        }
    }
}

impl TryFrom<proto::InviteOperatorRequest> for InviteOperator {
    type Error = InvalidMessage;

    fn try_from(request: proto::InviteOperatorRequest) -> Result<Self, InvalidMessage> {
        // An unknown role must not be read as a missing role, which is allowed here.
        let role = proto::Role::try_from(request.role).map_err(|_| InvalidOperator::Role)?;
        let unix_user = request.unix_user.filter(|user| !user.is_empty());
        Ok(Self {
            name: request.name.try_into()?,
            role: role_in(role),
            unix_user: unix_user.map(|user| short_text(user, "a user")).transpose()?,
            ttl_ms: request.ttl_ms,
        })
    }
}

impl From<Invited> for proto::InviteOperatorResponse {
    fn from(invited: Invited) -> Self {
        Self {
            token: invited.token,
            expires_ms: invited.expires_ms.map(|moment| moment.0),
            port: invited.port.into(),
            address_guess: invited.address_guess,
        }
    }
}

impl TryFrom<proto::InviteOperatorResponse> for Invited {
    type Error = InvalidToken;

    fn try_from(invited: proto::InviteOperatorResponse) -> Result<Self, InvalidToken> {
        Ok(Self {
            token: invited.token,
            expires_ms: invited.expires_ms.map(UnixMs),
            port: port_in(invited.port)?,
            address_guess: invited.address_guess,
        })
    }
}

impl From<RevokeOperator> for proto::RevokeOperatorRequest {
    fn from(revoke: RevokeOperator) -> Self {
        Self { name: revoke.name.into() }
    }
}

impl TryFrom<proto::RevokeOperatorRequest> for RevokeOperator {
    type Error = InvalidName;

    fn try_from(request: proto::RevokeOperatorRequest) -> Result<Self, InvalidName> {
        Ok(Self { name: request.name.try_into()? })
    }
}

impl From<CreateToken> for proto::CreateTokenRequest {
    fn from(create: CreateToken) -> Self {
        Self { ttl_ms: create.ttl_ms, uses: create.uses, terms: Some(create.terms.into()) }
    }
}

impl TryFrom<proto::CreateTokenRequest> for CreateToken {
    type Error = InvalidProposal;

    fn try_from(request: proto::CreateTokenRequest) -> Result<Self, InvalidProposal> {
        let terms = request.terms.unwrap_or_default().try_into()?;
        Ok(Self { ttl_ms: request.ttl_ms, uses: request.uses, terms })
    }
}

impl From<CreatedToken> for proto::CreateTokenResponse {
    fn from(created: CreatedToken) -> Self {
        Self {
            token: created.token,
            expires_ms: created.expires_ms.0,
            port: created.port.into(),
            address_guess: created.address_guess,
            id: created.id,
            terms: Some(created.terms.into()),
        }
    }
}

impl TryFrom<proto::CreateTokenResponse> for CreatedToken {
    type Error = InvalidToken;

    fn try_from(created: proto::CreateTokenResponse) -> Result<Self, InvalidToken> {
        Ok(Self {
            token: created.token,
            expires_ms: UnixMs(created.expires_ms),
            port: port_in(created.port)?,
            address_guess: created.address_guess,
            id: created.id,
            terms: created.terms.unwrap_or_default().try_into()?,
        })
    }
}

impl From<TokenView> for proto::Token {
    fn from(token: TokenView) -> Self {
        Self {
            id: token.id,
            expires_ms: token.expires_ms.0,
            uses_left: token.uses_left,
            created_ms: token.created_ms.map(|moment| moment.0),
            created_by: token.created_by,
            terms: Some(token.terms.into()),
        }
    }
}

impl TryFrom<proto::Token> for TokenView {
    type Error = InvalidToken;

    fn try_from(token: proto::Token) -> Result<Self, InvalidToken> {
        Ok(Self {
            id: token.id,
            expires_ms: UnixMs(token.expires_ms),
            uses_left: token.uses_left,
            created_ms: token.created_ms.map(UnixMs),
            created_by: token.created_by,
            terms: token.terms.unwrap_or_default().try_into()?,
        })
    }
}

impl From<RevokeToken> for proto::RevokeTokenRequest {
    fn from(revoke: RevokeToken) -> Self {
        Self { id: revoke.id }
    }
}

impl TryFrom<proto::RevokeTokenRequest> for RevokeToken {
    type Error = InvalidToken;

    fn try_from(request: proto::RevokeTokenRequest) -> Result<Self, InvalidToken> {
        Ok(Self { id: short_text(request.id, "a token's id")? })
    }
}
