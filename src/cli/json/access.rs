//! Join tokens and operators.

use serde::Serialize;

use crate::domain::{
    control::TokenView,
    fingerprint::Fingerprint,
    name::{Labels, OperatorName},
    network::{Hosts, Network},
    operator::OperatorView,
    terms::Terms,
    time::UnixMs,
};

/// `master token list`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct TokenList<'a> {
    tokens: Vec<TokenObject<'a>>,
}

impl<'a> TokenList<'a> {
    pub(in crate::cli) fn new(tokens: &'a [TokenView]) -> Self {
        Self { tokens: tokens.iter().map(TokenObject::new).collect() }
    }
}

/// A join token. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct TokenObject<'a> {
    id: &'a str,
    uses_left: u32,
    expires_ms: UnixMs,
    created_ms: Option<UnixMs>,
    created_by: Option<&'a str>,
    terms: TermsObject<'a>,
}

/// The conditions for joining with a token, and what the joining agents get.
#[derive(Debug, Serialize)]
struct TermsObject<'a> {
    labels: &'a Labels,
    names: Option<String>,
    from: &'a [Network],
    report_address: &'a [Hosts],
}

impl<'a> TokenObject<'a> {
    fn new(token: &'a TokenView) -> Self {
        let Terms { labels, names, from, direct } = &token.terms;
        Self {
            id: &token.id,
            uses_left: token.uses_left,
            expires_ms: token.expires_ms,
            created_ms: token.created_ms,
            created_by: token.created_by.as_deref(),
            terms: TermsObject {
                labels,
                names: names.as_ref().map(ToString::to_string),
                from,
                report_address: direct,
            },
        }
    }
}

/// `master operator list`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct OperatorList<'a> {
    operators: Vec<OperatorObject<'a>>,
}

impl<'a> OperatorList<'a> {
    pub(in crate::cli) fn new(operators: &'a [OperatorView], now_ms: u64) -> Self {
        Self { operators: operators.iter().map(|operator| OperatorObject::new(operator, now_ms)).collect() }
    }
}

/// An operator. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct OperatorObject<'a> {
    name: &'a OperatorName,
    role: &'static str,
    unix_user: Option<&'a str>,
    keys: &'a [Fingerprint],
    /// `active`, `invited`, `expired` or `revoked`.
    state: &'static str,
    login_until_ms: Option<UnixMs>,
    added_ms: UnixMs,
    added_by: &'a str,
    logged_in_ms: Option<UnixMs>,
    revoked: bool,
}

impl<'a> OperatorObject<'a> {
    fn new(operator: &'a OperatorView, now_ms: u64) -> Self {
        Self {
            name: &operator.name,
            role: operator.role.word(),
            unix_user: operator.unix_user.as_deref(),
            keys: &operator.keys,
            state: operator.state(UnixMs(now_ms)).word(),
            login_until_ms: operator.login_until_ms,
            added_ms: operator.added_ms,
            added_by: &operator.added_by,
            logged_in_ms: operator.logged_in_ms,
            revoked: operator.is_revoked,
        }
    }
}
