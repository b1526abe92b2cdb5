//! Join tokens for agents, logins for operators, and the operators themselves.
//!
//! Secrets are created here and returned once; the core, and so the store, knows only their hashes.

use tonic::Status;

use super::{Master, enrollment::speaks_our_protocol, invalid};
use crate::{
    domain::{
        control::{CreateToken, CreatedToken, InviteOperator, Invited, TokenView},
        network::HostPort,
        operator::OperatorView,
        session::{LogIn, LogInAnswer},
        time::UnixMs,
    },
    master::{
        core::{
            messages::{Denied, Input, Invitation, NewToken, OperatorIdentity},
            stored::{StoredOperator, StoredToken},
        },
        users::Users,
    },
    sys::hostname::hostname,
    trust::{
        identity::Identity,
        key::CheckedRequest,
        token::{Token, hash_secret},
    },
};

/// Maximum lifetime of a token or a login, in milliseconds: a year.
const MAX_TTL_MS: u64 = 365 * 24 * 3600 * 1000;

fn check_ttl(ttl_ms: u64) -> Result<(), Status> {
    if ttl_ms == 0 || ttl_ms > MAX_TTL_MS {
        return Err(invalid("give it a lifetime of at most a year"));
    }
    Ok(())
}

impl From<StoredToken> for TokenView {
    fn from(token: StoredToken) -> Self {
        Self {
            id: token.id().to_owned(),
            expires_ms: token.expires_ms,
            uses_left: token.uses_left,
            created_ms: Some(token.made_ms).filter(|made| *made > UnixMs(0)),
            created_by: Some(token.made_by).filter(|by| !by.is_empty()),
            terms: token.terms,
        }
    }
}

impl From<StoredOperator> for OperatorView {
    fn from(operator: StoredOperator) -> Self {
        let unused = operator.login.filter(|login| login.used_by.is_none());
        Self {
            name: operator.name,
            role: operator.role,
            unix_user: Some(operator.unix_user).filter(|user| !user.is_empty()),
            keys: operator.keys,
            login_until_ms: unused.map(|login| login.expires_ms),
            added_ms: operator.added_ms,
            added_by: operator.added_by,
            logged_in_ms: Some(operator.logged_in_ms).filter(|when| *when > UnixMs(0)),
            is_revoked: operator.is_revoked,
        }
    }
}

impl Master {
    pub(super) async fn make_token(&self, request: CreateToken, by: String) -> Result<CreatedToken, Status> {
        check_ttl(request.ttl_ms)?;
        if request.uses == 0 {
            return Err(invalid("a token needs at least one use"));
        }
        let token = Token::generate(self.authority.fingerprint());
        let CreateToken { ttl_ms, uses, terms } = request;
        let (hash, terms) = (hash_secret(&token.secret), Box::new(terms));
        let asked = move |reply| Input::CreateToken { hash, ttl_ms, uses, terms, by, reply };
        let NewToken { id, expires_ms, terms } = self.handle.ask(asked).await??;
        Ok(CreatedToken {
            token: token.to_string(),
            expires_ms,
            port: self.port,
            address_guess: address_guess(&self.address),
            id,
            terms: *terms,
        })
    }

    pub(super) async fn tokens(&self) -> Result<Vec<TokenView>, Status> {
        let good = self.handle.ask(Input::ListTokens).await?;
        Ok(good.into_iter().map(Into::into).collect())
    }

    pub(super) async fn invite(&self, request: InviteOperator, by: String) -> Result<Invited, Status> {
        let InviteOperator { name, role, unix_user, ttl_ms } = request;
        let token = match &unix_user {
            None => {
                check_ttl(ttl_ms)?;
                Some(Token::generate(self.authority.fingerprint()))
            }
            Some(user) => {
                check_user(&self.users, user).await?;
                None
            }
        };
        let login = token.as_ref().map(|token| (hash_secret(&token.secret), ttl_ms));
        let unix_user = unix_user.unwrap_or_default();
        let invitation = Box::new(Invitation { name, role, unix_user, login });
        let invited = self.handle.ask(move |reply| Input::Invite { invitation, by, reply }).await??;
        Ok(Invited {
            expires_ms: invited.login_expires_ms,
            token: token.map(|token| token.to_string()),
            port: self.port,
            address_guess: address_guess(&self.address),
        })
    }

    pub(super) async fn operators(&self) -> Result<Vec<OperatorView>, Status> {
        let all = self.handle.ask(Input::ListOperators).await?;
        Ok(all.into_iter().map(Into::into).collect())
    }

    /// Issues an operator's certificate for a key, in exchange for the secret of a login.
    pub(super) async fn admit_operator(&self, request: LogIn) -> Result<LogInAnswer, Status> {
        if let Err(reason) = speaks_our_protocol(request.protocol) {
            return Ok(LogInAnswer::Refused(reason));
        }
        let checked = CheckedRequest::check(&request.certificate_request).map_err(invalid)?;
        let (hash, key) = (hash_secret(&request.secret), checked.fingerprint);
        match self.handle.ask(move |reply| Input::LogIn { hash, key, reply }).await? {
            Ok(OperatorIdentity { name, role }) => {
                let signed = self.authority.sign(checked, &Identity::Operator(name.clone()));
                let certificate = signed.map_err(|error| Status::internal(error.to_string()))?;
                Ok(LogInAnswer::LoggedIn {
                    certificate: certificate.to_vec(),
                    ca_certificate: self.authority.certificate().to_vec(),
                    operator: name,
                    role,
                    hostname: hostname(),
                })
            }
            Err(Denied::Refused(reason) | Denied::NotFound(reason)) => Ok(LogInAnswer::Refused(reason)),
        }
    }
}

/// Checks that a user of this machine exists and can become an operator.
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

/// Returns the address on which the master listens or, if it listens on all of them, the first global one of this machine. This
/// is a guess, since only other machines know which address they can reach.
fn address_guess(bound: &str) -> Option<String> {
    let bound: std::net::SocketAddr = bound.parse().ok()?;
    let port = bound.port();
    if !bound.ip().is_unspecified() {
        return Some(HostPort::new(bound.ip().to_string(), port).to_string());
    }
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
    addresses.find(global).map(|address| HostPort::new(address.to_string(), port).to_string())
}
