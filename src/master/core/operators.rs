//! Operators: their logins and keys, and what happens when they are revoked.
//!
//! Every connection is checked here, so this is the revocation list too. Knows neither certificates nor
//! sockets.

use std::time::Duration;

use super::{
    Continuation, Core, audit,
    messages::{
        ConnectionIdentity, Denied, Effect, Invitation, InvitedOperator, Now, OperatorIdentity, Principal,
        ReplyTo,
    },
    stored::{StoredLogin, StoredOperator, Write},
};
use crate::domain::{
    fingerprint::Fingerprint,
    name::{OperatorName, nearest},
    operator::Role,
    time::UnixMs,
};

/// Maximum number of keys of one operator, one for each machine.
const MAX_KEYS_PER_OPERATOR: usize = 20;

impl Core {
    /// Returns the name and role of the operator with this identity; `None` if there is none or it was
    /// revoked.
    pub(super) fn identify(&self, who: &ConnectionIdentity) -> Option<Principal> {
        let known = match who {
            ConnectionIdentity::Key(name, key) => {
                self.operators.get(name).filter(|operator| operator.keys.contains(key))
            }
            ConnectionIdentity::UnixUser(user) => {
                // A revoked operator may have had the same Unix user.
                let is_known =
                    |operator: &&StoredOperator| operator.unix_user == *user && !operator.is_revoked;
                self.operators.values().find(is_known)
            }
        };
        let known = known.filter(|operator| !operator.is_revoked)?;
        Some(Principal { name: known.name.to_string(), role: known.role })
    }

    pub(super) fn on_invite(
        &mut self,
        asked: Invitation,
        by: &str,
        reply: ReplyTo<Result<InvitedOperator, Denied>>,
        now: Now,
    ) {
        let known = self.operators.get(&asked.name).filter(|known| !known.is_revoked);
        let refusal = match (known, asked.role) {
            (Some(known), Some(_)) => Some(format!(
                "{} is an operator already ({}); `sloth-runner master operator login {}` gives it another login",
                known.name,
                known.role.word(),
                known.name
            )),
            (Some(known), None) if !known.unix_user.is_empty() => Some(format!(
                "{} is the user {} of the master's machine, and needs no login",
                known.name, known.unix_user
            )),
            (None, None) => Some(self.unknown_operator_message(&asked.name)),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return self.refuse(reply, refusal);
        }
        let same_user = |other: &&StoredOperator| {
            !other.is_revoked && other.unix_user == asked.unix_user && other.name != asked.name
        };
        if !asked.unix_user.is_empty()
            && let Some(other) = self.operators.values().find(same_user)
        {
            let text = format!("the user {} is the operator {} already", asked.unix_user, other.name);
            return self.refuse(reply, text);
        }
        let login = asked.login.map(|(hash, ttl_ms)| StoredLogin {
            hash,
            expires_ms: now.unix_ms + Duration::from_millis(ttl_ms),
            used_by: None,
        });
        let login_expires_ms = login.as_ref().map(|login| login.expires_ms);
        let operator = match (known, asked.role) {
            (Some(known), _) => StoredOperator { login, ..known.clone() },
            (None, role) => StoredOperator {
                name: asked.name.clone(),
                role: role.unwrap_or(Role::Viewer),
                unix_user: asked.unix_user,
                keys: Vec::new(),
                login,
                added_ms: now.unix_ms,
                added_by: by.to_owned(),
                logged_in_ms: UnixMs(0),
                is_revoked: false,
            },
        };
        let detail = if operator.unix_user.is_empty() {
            operator.role.word().to_owned()
        } else {
            format!("{}, user {}", operator.role.word(), operator.unix_user)
        };
        let writes = vec![audit(now, by, "invite operator", operator.name.as_str(), detail)];
        let answer = InvitedOperator { login_expires_ms };
        self.put_operator(operator, writes, Continuation::answer(reply, Ok(answer)));
    }

    /// Stores an operator, and makes open connections check their identity again.
    fn put_operator(&mut self, operator: StoredOperator, mut writes: Vec<Write>, continuation: Continuation) {
        writes.push(Write::PutOperator(operator.clone()));
        self.operators.insert(operator.name.clone(), operator);
        self.effects.push(Effect::OperatorsChanged);
        self.persist(writes, continuation);
    }

    /// Registers a key for the operator whose login has the secret with this hash.
    pub(super) fn on_log_in(
        &mut self,
        hash: &str,
        key: Fingerprint,
        reply: ReplyTo<Result<OperatorIdentity, Denied>>,
        now: Now,
    ) {
        let has_login =
            |operator: &&StoredOperator| operator.login.as_ref().is_some_and(|login| login.hash == hash);
        let another = "ask for another: `sloth-runner master operator login NAME` on the master's machine";
        let Some(operator) = self.operators.values().find(has_login) else {
            return self.refuse_login(reply, format!("the login string is not known here; {another}"));
        };
        let mut operator = operator.clone();
        let Some(login) = operator.login.as_mut() else { return };
        if operator.is_revoked {
            return self.refuse_login(reply, format!("{} was revoked", operator.name));
        }
        match login.used_by {
            // A retry of the same request, whose answer was lost.
            Some(used_by) if used_by == key => {
                let identity = OperatorIdentity { name: operator.name, role: operator.role };
                return self.reply(reply, Ok(identity));
            }
            Some(_) => {
                return self.refuse_login(reply, format!("the login string was used already; {another}"));
            }
            None if login.expires_ms <= now.unix_ms => {
                return self.refuse_login(reply, format!("the login string has expired; {another}"));
            }
            None => {}
        }
        if operator.keys.len() >= MAX_KEYS_PER_OPERATOR {
            let text = format!(
                "{} has logged in on {MAX_KEYS_PER_OPERATOR} machines; revoke it and add it again",
                operator.name
            );
            return self.refuse_login(reply, text);
        }
        login.used_by = Some(key);
        operator.keys.push(key);
        operator.logged_in_ms = now.unix_ms;
        let name = operator.name.as_str();
        let writes = vec![audit(now, name, "log in", name, format!("key {key}"))];
        let identity = OperatorIdentity { name: operator.name.clone(), role: operator.role };
        self.put_operator(operator, writes, Continuation::answer(reply, Ok(identity)));
    }

    fn refuse_login(&mut self, reply: ReplyTo<Result<OperatorIdentity, Denied>>, reason: String) {
        self.refused_unauthenticated += 1;
        self.refuse(reply, reason);
    }

    pub(super) fn on_revoke(
        &mut self,
        name: &OperatorName,
        by: &str,
        reply: ReplyTo<Result<u32, Denied>>,
        now: Now,
    ) {
        let Some(operator) = self.operators.get(name).filter(|operator| !operator.is_revoked) else {
            let text = self.unknown_operator_message(name);
            return self.reply(reply, Err(Denied::NotFound(text)));
        };
        let keys = u32::try_from(operator.keys.len()).unwrap_or(u32::MAX);
        let revoked = StoredOperator { is_revoked: true, keys: Vec::new(), login: None, ..operator.clone() };
        let writes = vec![audit(now, by, "revoke operator", name.as_str(), format!("{keys} keys"))];
        self.put_operator(revoked, writes, Continuation::answer(reply, Ok(keys)));
    }

    fn unknown_operator_message(&self, name: &OperatorName) -> String {
        if self.operators.contains_key(name) {
            return format!(
                "{name} was revoked; `sloth-runner master operator add {name} --role ROLE` adds it again"
            );
        }
        match nearest(name.as_str(), self.operators.keys().map(OperatorName::as_str)).as_slice() {
            [] => format!("no such operator: {name}; `sloth-runner master operator list` shows all"),
            near => format!("no such operator: {name}; did you mean {}?", near.join(" or ")),
        }
    }
}
