//! Enrolls agents: by token, by the local socket, or by approval of a pending key.
//!
//! Unauthenticated peers write the list of pending keys, so it is bounded, kept in memory only, and its
//! entries expire.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    AgentRow, Contender, Continuation, Core, Enroll, audit,
    jobs::PendingOrder,
    messages::{Denied, Effect, EnrollAnswer, EnrollAsked, Now, ReplyTo, SessionDenied, SessionRefusal},
    stored::{StoredAgent, Write},
};
use crate::domain::{
    bounded::Word,
    code::KeyMark,
    control::Approved,
    fingerprint::{FEWEST_DIGITS, Fingerprint, plain_digits},
    name::{AgentName, Labels},
    network::{neighbourhood_of, source_of},
    proposal::{Accepted, Proposal},
    seal::Seal,
    time::UnixMs,
};

/// Maximum number of pending keys.
const MAX_PENDING_KEYS: usize = 1_000;
/// Maximum number of pending keys from one source.
const MAX_PENDING_PER_SOURCE: usize = 10;
/// How long a pending key is kept after its agent last asked.
const PENDING_KEY_TTL: Duration = Duration::from_hours(24);

/// Shortest time between two messages to watchers that the proposals of waiting keys changed.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(5);

/// A pending key: it waits until an operator approves or rejects it.
#[derive(Clone, Debug)]
pub(super) struct PendingKey {
    pub(super) name: AgentName,
    pub(super) fingerprint: Fingerprint,
    /// The address of the request; `None` for the master's own socket.
    pub(super) from: Option<IpAddr>,
    pub(super) version: Word,
    /// The labels and the address that the agent proposes.
    pub(super) proposal: Proposal,
    /// The agent's proof by its one-time code; `None` if it created no code.
    pub(super) proof: Option<Seal>,
    pub(super) since_ms: UnixMs,
    asked: Duration,
    asked_ms: UnixMs,
}

impl PendingKey {
    /// Returns the source to whose limit the key counts.
    fn source(&self) -> Option<IpAddr> {
        self.from.map(source_of)
    }

    pub(super) fn asked_ms(&self) -> UnixMs {
        self.asked_ms
    }
}

impl Core {
    pub(super) fn on_enroll(&mut self, asked: EnrollAsked, reply: ReplyTo<EnrollAnswer>, now: Now) {
        let row = self.agents.get(&asked.name);
        let known = row.map(|row| row.stored.fingerprint);
        if let Some(row) = row.filter(|row| row.stored.fingerprint == asked.fingerprint) {
            let proof = row.stored.proof;
            return self.reply(reply, EnrollAnswer::Enrolled(proof));
        }
        if let Some(hash) = &asked.token {
            return self.enroll_by_token(&asked, hash, known, reply, now);
        }
        if known.is_none() && asked.trusted_locally {
            let admitted = self.new_agent(&asked, Accepted::all(), now);
            return self.admit(admitted, "the master's own socket", reply, Vec::new(), now);
        }
        match self.policy.enroll {
            Enroll::Any if known.is_none() => {
                let admitted = self.new_agent(&asked, Accepted::all(), now);
                return self.admit(admitted, "--enroll any", reply, Vec::new(), now);
            }
            Enroll::Token => {
                return self.refuse_unauthenticated(
                    reply,
                    "this master enrolls agents by token only; `sloth-runner master token create` creates one",
                    true,
                );
            }
            Enroll::Any | Enroll::Approve => {}
        }
        self.enroll_waiting(asked, known.is_some(), reply, now);
    }

    /// Marks the pending keys as changed, so that watchers receive them.
    fn mark_pending_changed(&mut self) {
        self.agents.next_revision();
        self.waiting_changed = self.agents.revision();
        self.is_waiting_stale = false;
    }

    fn refuse_unauthenticated(
        &mut self,
        reply: ReplyTo<EnrollAnswer>,
        reason: impl Into<String>,
        retry: bool,
    ) {
        self.refused_unauthenticated += 1;
        self.reply(reply, EnrollAnswer::Refused { reason: reason.into(), retry });
    }

    fn enroll_by_token(
        &mut self,
        asked: &EnrollAsked,
        hash: &str,
        known: Option<Fingerprint>,
        reply: ReplyTo<EnrollAnswer>,
        now: Now,
    ) {
        let Some(token) = self.tokens.get_mut(hash) else {
            return self.refuse_unauthenticated(reply, "the join token is unknown, used up, revoked or expired; `sloth-runner master token create` creates a new one", false);
        };
        if token.expires_ms <= now.unix_ms {
            return self.refuse_unauthenticated(
                reply,
                "the join token has expired; `sloth-runner master token create` creates a new one",
                false,
            );
        }
        if token.uses_left == 0 {
            return self.refuse_unauthenticated(
                reply,
                "the join token is used up; `sloth-runner master token create` creates a new one",
                false,
            );
        }
        if let Err(unmet) = token.terms.check(&asked.name, asked.from) {
            return self.refuse_unauthenticated(reply, unmet.to_string(), false);
        }
        if known.is_some() {
            // A token enrolls new names only. An operator decides whether a known name gets a new key.
            return self.enroll_waiting(asked.clone(), true, reply, now);
        }
        token.uses_left -= 1;
        let token = token.clone();
        let accepted = Accepted::hosts(token.terms.direct.clone());
        let mut admitted = self.new_agent(asked, accepted, now);
        admitted.set_labels.extend(token.terms.labels.clone());
        self.admit(admitted, "token", reply, vec![Write::PutToken(token)], now);
    }

    fn enroll_waiting(
        &mut self,
        asked: EnrollAsked,
        key_changed: bool,
        reply: ReplyTo<EnrollAnswer>,
        now: Now,
    ) {
        let same = |key: &&mut PendingKey| key.name == asked.name && key.fingerprint == asked.fingerprint;
        if let Some(key) = self.waiting.iter_mut().find(same) {
            key.asked = now.monotonic;
            key.asked_ms = now.unix_ms;
            // A restarted agent has created a new code.
            key.proof = asked.proof;
            if key.proposal != asked.proposal {
                key.proposal = asked.proposal;
                // A tick notifies the watchers, at most once in [`NOTIFY_INTERVAL`]: a key that changes its
                // proposal repeatedly must not keep them busy.
                self.is_waiting_stale = true;
            }
            return self.reply(reply, EnrollAnswer::Pending { key_changed });
        }
        let source = asked.from.map(source_of);
        let of_source = self.waiting.iter().filter(|key| key.source() == source).count();
        if of_source >= MAX_PENDING_PER_SOURCE {
            return self.refuse_unauthenticated(reply, "too many keys from this address wait for an operator; approve or reject some, or join by token", true);
        }
        if self.waiting.len() >= MAX_PENDING_KEYS && !self.evict_for(source) {
            return self.refuse_unauthenticated(
                reply,
                "too many keys wait for an operator; approve or reject some, or join by token",
                true,
            );
        }
        self.mark_pending_changed();
        self.waiting.push(PendingKey {
            name: asked.name,
            fingerprint: asked.fingerprint,
            from: asked.from,
            version: asked.version,
            proposal: asked.proposal,
            proof: asked.proof,
            since_ms: now.unix_ms,
            asked: now.monotonic,
            asked_ms: now.unix_ms,
        });
        self.reply(reply, EnrollAnswer::Pending { key_changed });
    }

    /// Removes the oldest pending key of the network with the most of them, unless the network of `source`
    /// has as many. Reports whether a key was removed.
    fn evict_for(&mut self, source: Option<IpAddr>) -> bool {
        let neighbourhood = |source: Option<IpAddr>| source.map(neighbourhood_of);
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for key in &self.waiting {
            *counts.entry(neighbourhood(key.source())).or_default() += 1;
        }
        let Some((busiest, most)) = counts.iter().max_by_key(|(_, count)| **count) else { return false };
        if counts.get(&neighbourhood(source)).is_some_and(|own| own >= most) {
            return false;
        }
        // Keys are in the order of arrival.
        let oldest = self.waiting.iter().position(|key| neighbourhood(key.source()) == *busiest);
        if let Some(oldest) = oldest {
            self.waiting.remove(oldest);
        }
        oldest.is_some()
    }

    /// Enrolls a key. The answer is sent when the change is on the disk.
    fn admit(
        &mut self,
        stored: StoredAgent,
        how: &str,
        reply: ReplyTo<EnrollAnswer>,
        mut writes: Vec<Write>,
        now: Now,
    ) {
        let before = self.waiting.len();
        self.waiting.retain(|key| key.fingerprint != stored.fingerprint);
        if self.waiting.len() != before {
            self.mark_pending_changed();
        }
        writes.push(Write::PutAgent(stored.clone()));
        let detail = format!("{how}, key {}", stored.fingerprint);
        writes.push(audit(now, "enrollment", "enroll", stored.name.as_str(), detail));
        self.put_agent(stored, now);
        self.persist(writes, Continuation::answer(reply, EnrollAnswer::Enrolled(None)));
    }

    fn put_agent(&mut self, stored: StoredAgent, now: Now) {
        let row = AgentRow { offline_since: Some(now.monotonic), ..AgentRow::new(stored) };
        self.agents.insert(row);
    }

    fn pending_for(&self, name: &AgentName, digits: &str) -> Vec<PendingKey> {
        self.waiting
            .iter()
            .filter(|key| key.name == *name && (digits.is_empty() || key.fingerprint.begins_with(digits)))
            .cloned()
            .collect()
    }

    /// Returns the only pending key that matches an operator's code or digits.
    ///
    /// # Errors
    /// The reply to the operator if the key cannot be approved with this code or these digits.
    fn meant(&self, name: &AgentName, mark: &KeyMark) -> Result<PendingKey, Denied> {
        let all = self.pending_for(name, "");
        if all.is_empty() {
            return Err(Denied::NotFound(format!("no key waits under the name {name}")));
        }
        let matching: Vec<&PendingKey> = match mark {
            KeyMark::Code(code) => {
                let ca = self.policy.ca;
                let fits = |key: &&PendingKey| {
                    key.proof.is_some_and(|proof| code.is_agent(key.fingerprint, ca, proof))
                };
                all.iter().filter(fits).collect()
            }
            KeyMark::Digits(digits) if plain_digits(digits).len() < FEWEST_DIGITS => {
                let text =
                    format!("give at least {FEWEST_DIGITS} digits of the fingerprint that you compared");
                return Err(Denied::Refused(text));
            }
            KeyMark::Digits(digits) => all.iter().filter(|key| key.fingerprint.begins_with(digits)).collect(),
        };
        match (matching.as_slice(), mark) {
            ([key], KeyMark::Digits(_)) if key.proof.is_some() => Err(Denied::Refused(format!(
                "{name} printed a code when it started: approve it with that, `sloth-runner agent approve {name} CODE`"
            ))),
            ([key], _) => Ok((*key).clone()),
            ([], KeyMark::Code(_)) => Err(Denied::Refused(format!(
                "wrong code for {name}: look for typing errors. If there are none, {name} is not connected to this master, or an attacker is between the two"
            ))),
            ([], KeyMark::Digits(digits)) => {
                let shown: Vec<_> = all.iter().map(|key| key.fingerprint.short()).collect();
                let shown = shown.join(", ");
                Err(Denied::Refused(format!("no key of {name} begins with {digits}; waiting: {shown}")))
            }
            (_, KeyMark::Code(_)) => Err(Denied::Refused(format!("several keys of {name} have that code"))),
            (_, KeyMark::Digits(digits)) => {
                Err(Denied::Refused(format!("several keys of {name} begin with {digits}; give more digits")))
            }
        }
    }

    pub(super) fn on_approve(
        &mut self,
        name: &AgentName,
        mark: &KeyMark,
        shown: &[(Fingerprint, Proposal)],
        by: &str,
        reply: ReplyTo<Result<Approved, Denied>>,
        now: Now,
    ) {
        let key = match self.meant(name, mark) {
            Ok(key) => key,
            Err(denied) => return self.reply(reply, Err(denied)),
        };
        let seen = shown.iter().find(|(fingerprint, _)| *fingerprint == key.fingerprint);
        if !shown.is_empty() && seen.is_none_or(|(_, proposal)| *proposal != key.proposal) {
            let text = match seen {
                Some(_) => format!("{name} proposes other labels, or another address, than you were shown"),
                None => format!("that is another key of {name} than you were shown"),
            };
            return self.refuse(reply, format!("{text}: look again before you approve it"));
        }
        let proposal = seen.map(|(_, proposal)| proposal.clone()).unwrap_or_default();
        self.waiting.retain(|waiting| waiting.fingerprint != key.fingerprint || waiting.name != *name);
        self.mark_pending_changed();
        let replaced = self.agents.contains_key(name);
        if replaced {
            self.close_agent(name, "the agent's key was replaced", now);
        }
        let fingerprint = key.fingerprint;
        let mut accepted = Accepted::default();
        accepted.accept(proposal.clone());
        let mut stored = self.new_row(name, fingerprint, key.version, now);
        (stored.labels, stored.accepted) = (key.proposal.labels, accepted);
        let how = match mark {
            KeyMark::Code(code) => {
                stored.proof = Some(code.prove_master(fingerprint, self.policy.ca));
                "by its code"
            }
            KeyMark::Digits(_) => "by its fingerprint",
        };
        let mut writes = vec![Write::PutAgent(stored.clone())];
        let with = if proposal.is_empty() { String::new() } else { format!(", with {proposal}") };
        writes.push(audit(now, by, "approve", name.as_str(), format!("key {fingerprint}, {how}{with}")));
        self.put_agent(stored, now);
        let approved = Approved { fingerprint, replaced_key: replaced, accepted: proposal };
        self.persist(writes, Continuation::answer(reply, Ok(approved)));
    }

    pub(super) fn on_reject(
        &mut self,
        name: Option<&AgentName>,
        digits: &str,
        by: &str,
        reply: ReplyTo<Result<u32, Denied>>,
        now: Now,
    ) {
        let rejected = match name {
            Some(name) => self.pending_for(name, digits),
            None => self.waiting.clone(),
        };
        let shown = name.map_or("all names", AgentName::as_str);
        if rejected.is_empty() {
            let text = format!("no such key waits under {shown}");
            return self.reply(reply, Err(Denied::NotFound(text)));
        }
        self.mark_pending_changed();
        let gone: HashSet<_> = rejected.iter().map(|key| (&key.name, key.fingerprint)).collect();
        self.waiting.retain(|key| !gone.contains(&(&key.name, key.fingerprint)));
        let count = u32::try_from(rejected.len()).unwrap_or(u32::MAX);
        let writes = vec![audit(now, by, "reject", shown, format!("{count} keys"))];
        self.persist(writes, Continuation::answer(reply, Ok(count)));
    }

    /// Deletes an agent: removes its key, closes its connection, and ends its tasks as lost.
    pub(super) fn on_delete(
        &mut self,
        name: &AgentName,
        by: &str,
        reply: ReplyTo<Result<u32, Denied>>,
        now: Now,
    ) {
        if !self.agents.contains_key(name) {
            let text = self.no_such_agent(name);
            return self.reply(reply, Err(Denied::NotFound(text)));
        }
        let waits_for = self.starting_on(name, now);
        let lost = self.close_agent(name, "the agent was deleted", now);
        self.agents.remove(name);
        let writes = vec![
            Write::DeleteAgent(name.clone()),
            audit(now, by, "delete", name.as_str(), format!("{lost} tasks lost")),
        ];
        let order = PendingOrder::new(reply, Ok(lost), waits_for, now).of_deleted_agent();
        self.persist(writes, Continuation::Ordered(Box::new(order)));
    }

    /// Closes an agent's connections and ends its tasks. Returns how many tasks were ended.
    fn close_agent(&mut self, name: &AgentName, reason: &str, now: Now) -> u32 {
        let Some(row) = self.agents.change(name) else { return 0 };
        let contender = row.contender.take();
        if let Some(session) = row.session.take() {
            self.sessions.remove(&session.id);
            self.effects.push(Effect::CloseSession(session.id));
        }
        if let Some(Contender { newcomer, reply, .. }) = contender {
            self.effects.push(Effect::CloseSession(newcomer.session));
            let denied = SessionDenied { kind: SessionRefusal::UnknownKey, reason: reason.to_owned() };
            self.reply(reply, Err(denied));
        }
        self.lose_tasks_of(name, reason, now)
    }

    pub(super) fn tick_waiting(&mut self, now: Now) {
        let before = self.waiting.len();
        self.waiting.retain(|key| now.monotonic.saturating_sub(key.asked) < PENDING_KEY_TTL);
        let is_due = now.monotonic.saturating_sub(self.waiting_told) >= NOTIFY_INTERVAL;
        if self.waiting.len() != before || (self.is_waiting_stale && is_due) {
            self.waiting_told = now.monotonic;
            self.mark_pending_changed();
        }
    }

    /// Creates the row of an agent that is enrolled, with what is accepted of its proposals.
    fn new_agent(&self, asked: &EnrollAsked, accepted: Accepted, now: Now) -> StoredAgent {
        let row = self.new_row(&asked.name, asked.fingerprint, asked.version.clone(), now);
        StoredAgent { labels: asked.proposal.labels.clone(), accepted, ..row }
    }

    /// Creates the row of a new key. Labels that operators set, and a drain, belong to the name and are kept.
    fn new_row(&self, name: &AgentName, fingerprint: Fingerprint, version: Word, now: Now) -> StoredAgent {
        let known = self.agents.get(name);
        StoredAgent {
            name: name.clone(),
            fingerprint,
            enrolled_ms: now.unix_ms,
            last_seen_ms: UnixMs(0),
            labels: Labels::new(),
            set_labels: known.map(|row| row.stored.set_labels.clone()).unwrap_or_default(),
            accepted: Accepted::default(),
            version,
            address: String::new(),
            trust: Word::default(),
            drain: known.and_then(|row| row.stored.drain.clone()),
            proof: None,
            ahead: None,
        }
    }
}
