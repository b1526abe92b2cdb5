//! Join tokens for agents, logins for operators, and the operators themselves.
//!
//! Secrets are made here and told once; the core, and so the store, know their hashes only.

use tonic::{Request, Response, Status};

use super::{
    Master,
    control::{invalid, name},
    enrollment::speaks_our_protocol,
    refusal,
};
use crate::{
    domain::{name::AgentName, terms::Terms},
    master::{
        core::{
            messages::{Input, Invitation, Reply},
            stored::{StoredOperator, StoredToken},
        },
        users::Users,
    },
    sys::socket::shown_address,
    trust::{
        identity::Identity,
        key::CheckedRequest,
        token::{Token, hash_secret},
    },
    wire::{
        InvalidMessage,
        bounds::short_text,
        proto::{self, log_in_response::Kind},
    },
};

/// Longest life of a token or a login, in milliseconds: a year.
const LONGEST_TTL_MS: u64 = 365 * 24 * 3600 * 1000;

fn check_ttl(ttl_ms: u64) -> Result<(), Status> {
    if ttl_ms == 0 || ttl_ms > LONGEST_TTL_MS {
        return Err(invalid("give it a life of at most a year"));
    }
    Ok(())
}

impl From<StoredToken> for proto::Token {
    fn from(token: StoredToken) -> Self {
        Self {
            id: token.id().to_owned(),
            expires_ms: token.expires_ms,
            uses_left: token.uses_left,
            made_ms: token.made_ms,
            made_by: token.made_by,
            terms: Some(token.terms.into()),
        }
    }
}

impl From<StoredOperator> for proto::Operator {
    fn from(operator: StoredOperator) -> Self {
        let unused = operator.login.filter(|login| login.used_by.is_none());
        Self {
            name: operator.name.into(),
            role: operator.role.word().to_owned(),
            unix_user: operator.unix_user,
            keys: operator.keys.iter().map(ToString::to_string).collect(),
            login_until_ms: unused.map_or(0, |login| login.expires_ms),
            added_ms: operator.added_ms,
            added_by: operator.added_by,
            logged_in_ms: operator.logged_in_ms,
            revoked: operator.is_revoked,
        }
    }
}

impl Master {
    pub(super) async fn make_token(
        &self,
        request: proto::CreateTokenRequest,
        by: String,
    ) -> Result<Response<proto::CreateTokenResponse>, Status> {
        check_ttl(request.ttl_ms)?;
        if request.uses == 0 {
            return Err(invalid("a token needs at least one use"));
        }
        let terms = Box::new(Terms::try_from(request.terms.unwrap_or_default())?);
        let token = Token::generate(self.authority.fingerprint());
        let (hash, ttl_ms, uses) = (hash_secret(&token.secret), request.ttl_ms, request.uses);
        let asked = move |reply| Input::CreateToken { hash, ttl_ms, uses, terms, by, reply };
        match self.handle.ask(asked).await? {
            Reply::TokenCreated { id, expires_ms, terms } => Ok(Response::new(proto::CreateTokenResponse {
                token: token.to_string(),
                expires_ms,
                port: self.port.into(),
                address_guess: address_guess(self.port),
                id,
                terms: Some((*terms).into()),
            })),
            other => Err(refusal(other)),
        }
    }

    pub(super) async fn tokens(&self) -> Result<Response<proto::ListTokensResponse>, Status> {
        match self.handle.ask(Input::ListTokens).await? {
            Reply::Tokens(good) => {
                let tokens = good.into_iter().map(Into::into).collect();
                Ok(Response::new(proto::ListTokensResponse { tokens }))
            }
            other => Err(refusal(other)),
        }
    }

    pub(super) async fn invite(
        &self,
        request: proto::InviteOperatorRequest,
        by: String,
    ) -> Result<Response<proto::InviteOperatorResponse>, Status> {
        let name: AgentName = name(&request.name)?;
        let role = Some(short_text(request.role, "a role")?).filter(|role| !role.is_empty());
        let role = role.map(|role| role.parse()).transpose().map_err(invalid)?;
        let unix_user = short_text(request.unix_user, "a user")?;
        let token = if unix_user.is_empty() {
            check_ttl(request.ttl_ms)?;
            Some(Token::generate(self.authority.fingerprint()))
        } else {
            check_user(&self.users, &unix_user).await?;
            None
        };
        let login = token.as_ref().map(|token| (hash_secret(&token.secret), request.ttl_ms));
        let invitation = Box::new(Invitation { name, role, unix_user, login });
        match self.handle.ask(move |reply| Input::Invite { invitation, by, reply }).await? {
            Reply::Invited { expires_ms } => Ok(Response::new(proto::InviteOperatorResponse {
                token: token.map_or_else(String::new, |token| token.to_string()),
                expires_ms,
                port: self.port.into(),
                address_guess: address_guess(self.port),
            })),
            other => Err(refusal(other)),
        }
    }

    pub(super) async fn operators(&self) -> Result<Response<proto::ListOperatorsResponse>, Status> {
        match self.handle.ask(Input::ListOperators).await? {
            Reply::Operators(all) => {
                let operators = all.into_iter().map(Into::into).collect();
                Ok(Response::new(proto::ListOperatorsResponse { operators }))
            }
            other => Err(refusal(other)),
        }
    }

    /// Gives a key an operator's certificate, for a login's secret.
    pub(super) async fn admit_operator(
        &self,
        request: Request<proto::LogInRequest>,
    ) -> Result<Response<proto::LogInResponse>, Status> {
        let request = request.into_inner();
        let answer = |kind| Ok(Response::new(proto::LogInResponse { kind: Some(kind) }));
        if let Err(reason) = speaks_our_protocol(request.protocol) {
            return answer(Kind::Refused(reason));
        }
        let checked = CheckedRequest::check(&request.certificate_request).map_err(InvalidMessage::because)?;
        let (hash, key) = (hash_secret(&request.secret), checked.fingerprint);
        match self.handle.ask(move |reply| Input::LogIn { hash, key, reply }).await? {
            Reply::LoggedIn { name, role } => {
                let certificate = self
                    .authority
                    .sign(checked, &Identity::Operator(name.clone()))
                    .map_err(|error| Status::internal(error.to_string()))?;
                answer(Kind::LoggedIn(proto::LoggedIn {
                    certificate: certificate.to_vec().into(),
                    ca_certificate: self.authority.certificate().to_vec().into(),
                    operator: name.into(),
                    role: role.word().to_owned(),
                    hostname: hostname(),
                }))
            }
            Reply::Refused(reason) => answer(Kind::Refused(reason)),
            other => Err(refusal(other)),
        }
    }
}

/// A user of this machine that can be made an operator.
async fn check_user(users: &Users, name: &str) -> Result<(), Status> {
    let found = users.named(name).await.map_err(|error| Status::unavailable(error.to_string()))?;
    let Some(user) = found else {
        return Err(invalid(format!("there is no user {name} on the master's machine")));
    };
    if user.uid.is_root() || user.uid == nix::unistd::geteuid() {
        return Err(invalid(format!("{name} is an admin of this master already")));
    }
    Ok(())
}

pub(super) fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The first global address of this machine, with the port; a guess, since only others know what they reach.
fn address_guess(port: u16) -> String {
    let global = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        std::net::IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| std::net::IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| std::net::IpAddr::V6(v6.ip())))
    });
    addresses.find(global).map_or_else(String::new, |address| shown_address(&address.to_string(), port))
}
