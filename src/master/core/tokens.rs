//! Join tokens: creates, lists and revokes them. `enrolling` decides on the agents that use them.

use std::time::Duration;

use super::{
    Continuation, Core, audit,
    messages::{Denied, NewToken, Now, ReplyTo},
    stored::{StoredToken, Write},
};
use crate::domain::terms::Terms;

impl Core {
    pub(super) fn on_create_token(
        &mut self,
        hash: String,
        (ttl_ms, uses, terms): (u64, u32, Terms),
        by: &str,
        reply: ReplyTo<Result<NewToken, Denied>>,
        now: Now,
    ) {
        let token = StoredToken {
            hash,
            expires_ms: now.unix_ms + Duration::from_millis(ttl_ms),
            uses_left: uses,
            made_ms: now.unix_ms,
            made_by: by.to_owned(),
            terms,
        };
        let answer = NewToken {
            id: token.id().to_owned(),
            expires_ms: token.expires_ms,
            terms: Box::new(token.terms.clone()),
        };
        let gone = self.tokens.extract_if(|_, token| !token.is_valid(now.unix_ms));
        let mut writes: Vec<Write> = gone.map(|(hash, _)| Write::DeleteToken(hash)).collect();
        let mut detail = format!("{uses} uses, {} s", ttl_ms / 1000);
        let terms = token.terms.to_string();
        if !terms.is_empty() {
            detail.push_str("; ");
            detail.push_str(&terms);
        }
        writes.push(audit(now, by, "create token", token.id(), detail));
        writes.push(Write::PutToken(token.clone()));
        self.tokens.insert(token.hash.clone(), token);
        self.persist(writes, Continuation::answer(reply, Ok(answer)));
    }

    /// Returns the tokens with which agents can still join, sorted by the time at which they expire.
    pub(super) fn good_tokens(&self, now: Now) -> Vec<StoredToken> {
        let good = self.tokens.values().filter(|token| token.is_valid(now.unix_ms));
        let mut good: Vec<StoredToken> = good.cloned().collect();
        good.sort_unstable_by(|one, other| (one.expires_ms, &one.hash).cmp(&(other.expires_ms, &other.hash)));
        good
    }

    pub(super) fn on_revoke_token(
        &mut self,
        id: &str,
        by: &str,
        reply: ReplyTo<Result<u32, Denied>>,
        now: Now,
    ) {
        let mut good = self.tokens.values().filter(|token| token.is_valid(now.unix_ms));
        let hash = good.find(|token| token.id() == id).map(|token| token.hash.clone());
        let Some(token) = hash.and_then(|hash| self.tokens.remove(&hash)) else {
            let text =
                format!("no agent can join with a token {id}; `sloth-runner master token list` shows all");
            return self.reply(reply, Err(Denied::NotFound(text)));
        };
        let uses_left = token.uses_left;
        let record = audit(now, by, "revoke token", token.id(), format!("{uses_left} uses left"));
        let writes = vec![Write::DeleteToken(token.hash), record];
        self.persist(writes, Continuation::answer(reply, Ok(uses_left)));
    }
}
