//! The live state of agents: sessions, lateness, identity, and how agents are shown.

use std::time::Duration;

use super::{
    AgentRow, Contender, Continuation, Core, Session, audit,
    messages::{
        Denied, Effect, Newcomer, Now, ReplyTo, SessionAccepted, SessionDenied, SessionId, SessionRefusal,
    },
    snapshot::no_such_agent,
    stored::Write,
};
use crate::domain::{
    agent::{AgentState, AgentView, Facts, LastSeen, LinkKind, OFFLINE_AFTER, START_WITHIN},
    bounded::{Reason, Word},
    name::{AgentName, Labels},
    revision::Revision,
    target::fold::fold_some,
    text::form,
    time::{UnixMs, milliseconds},
};

/// Advice to operators when the store was restored from a backup.
const RESTORED_ADVICE: &str = "Running tasks continue there, and no new tasks start; start the master once with --restored, or delete an agent that you do not trust";

/// How long a session may take to answer a ping when a second connection shows the same key.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

impl Core {
    pub(super) fn on_facts(&mut self, session: SessionId, facts: Facts, now: Now) {
        self.on_contact(session, now);
        if let Some(name) = self.sessions.get(&session)
            && let Some(session) = self.agents.tell(name).and_then(|row| row.session_of(session))
        {
            session.facts = Some(facts);
        }
    }

    pub(super) fn on_link_changed(&mut self, session: SessionId, link: LinkKind, reason: String) {
        if let Some(name) = self.sessions.get(&session)
            && let Some(session) = self.agents.change(name).and_then(|row| row.session_of(session))
        {
            session.link = link;
            session.link_reason = reason;
        }
    }

    pub(super) fn on_session_opened(
        &mut self,
        newcomer: Box<Newcomer>,
        reply: ReplyTo<Result<SessionAccepted, SessionDenied>>,
        now: Now,
    ) {
        let row = self.agents.get_mut_unmarked(&newcomer.name);
        let Some(row) = row.filter(|row| row.stored.fingerprint == newcomer.fingerprint) else {
            let reason = format!(
                "the key of {} is not (or no longer) registered here; the agent enrolls again",
                newcomer.name
            );
            return self.reply(reply, Err(SessionDenied { kind: SessionRefusal::UnknownKey, reason }));
        };
        let Some(old) = &row.session else {
            return self.accept_session(*newcomer, reply, now);
        };
        let old = old.id;
        let until = now.monotonic + PING_TIMEOUT;
        if let Some(displaced) = row.contender.replace(Contender { newcomer, reply, until }) {
            let text = "a third connection with this key took the place of this one";
            self.refuse_duplicate(displaced.reply, text);
        }
        self.effects.push(Effect::Ping(old));
    }

    /// Refuses a connection because another one with the same key is in use.
    fn refuse_duplicate(
        &mut self,
        reply: ReplyTo<Result<SessionAccepted, SessionDenied>>,
        reason: impl Into<String>,
    ) {
        let denied = SessionDenied { kind: SessionRefusal::Duplicate, reason: reason.into() };
        self.reply(reply, Err(denied));
    }

    fn accept_session(
        &mut self,
        newcomer: Newcomer,
        reply: ReplyTo<Result<SessionAccepted, SessionDenied>>,
        now: Now,
    ) {
        let name = newcomer.name.clone();
        let Some(row) = self.agents.change(&name) else { return };
        let revision = if row.was_seen() { self.revision } else { self.first_revision };
        let state = Revision { epoch: self.epoch, number: revision };
        // Kept until an operator resolves it: the store's revision may have caught up when the agent connects
        // again.
        let ahead = row.stored.ahead.or((newcomer.seen > state).then_some(newcomer.seen));
        let unproved = newcomer.unproved.filter(|claim| *claim > state);
        let is_ahead_news = row.stored.ahead != ahead;
        let mut accepted = row.stored.accepted.clone();
        accepted.heard(&newcomer.labels, newcomer.direct_address.as_ref());
        let is_new = is_ahead_news
            || row.stored.accepted != accepted
            || row.stored.labels != newcomer.labels
            || row.stored.version != newcomer.version
            || row.stored.address != newcomer.address
            || row.stored.trust != newcomer.trust;
        row.stored.labels = newcomer.labels;
        row.stored.accepted = accepted;
        row.merge_labels();
        row.stored.version = newcomer.version;
        row.stored.address = newcomer.address;
        row.stored.trust = newcomer.trust;
        row.stored.ahead = ahead;
        row.stored.last_seen_ms = now.unix_ms;
        row.offline_since = None;
        row.session = Some(Session {
            id: newcomer.session,
            incarnation: newcomer.incarnation,
            heard: now.monotonic,
            heard_ms: now.unix_ms,
            link: LinkKind::Tunnel,
            link_reason: String::new(),
            direct_address: newcomer.direct_address,
            facts: None,
        });
        let (stored, proposed) = (row.stored.clone(), row.proposal());
        self.sessions.insert(newcomer.session, name.clone());
        self.reply(reply, Ok(SessionAccepted { revision: self.store_revision(), proposed }));
        if is_new {
            // That the agent is ahead must not be lost: the store's revision may have caught up when it
            // connects again.
            let continuation =
                if is_ahead_news { Continuation::MustBeWritten } else { Continuation::MayBeLost };
            self.persist(vec![Write::PutAgent(stored)], continuation);
        }
        if let Some(Revision { epoch, number }) = unproved {
            let reason =
                format!("it has no proof that the store was in epoch {epoch}, revision {number}: ignored");
            self.on_refused(format!("agent {name}"), "a later state of the store".to_owned(), reason, now);
        }
        self.agent_is_back(&name, now);
    }

    pub(super) fn on_contact(&mut self, id: SessionId, now: Now) {
        let Some(session) = self.session_mut(id) else { return };
        session.heard = now.monotonic;
        session.heard_ms = now.unix_ms;
        let Some(name) = self.sessions.get(&id).cloned() else { return };
        let Some(row) = self.agents.get_mut_unmarked(&name) else { return };
        // The first session answers, so the second connection is from a clone of its machine and is refused.
        if let Some(Contender { newcomer, reply, .. }) = row.contender.take() {
            let text = format!(
                "{name} is connected from {} and answers; this connection from {} has the same key, as a cloned machine would: delete its data directory and give it its own --name",
                row.stored.address, newcomer.address
            );
            self.refuse_duplicate(reply, text);
            let reason = format!("from {}: a cloned machine, or a copied key", newcomer.address);
            self.on_refused(
                format!("agent {name}"),
                "a second connection with its key".to_owned(),
                reason,
                now,
            );
        }
    }

    pub(super) fn on_session_closed(&mut self, id: SessionId, now: Now) {
        if let Some(name) = self.sessions.remove(&id) {
            self.end_session(&name, id, now);
            return;
        }
        // A second connection that closed before it was answered.
        let mut left = Vec::new();
        for row in self.agents.iter_mut_unmarked() {
            if let Some(contender) = row.contender.take_if(|contender| contender.newcomer.session == id) {
                left.push(contender.reply);
            }
        }
        for reply in left {
            self.refuse_duplicate(reply, "the connection ended before it was answered");
        }
    }

    fn end_session(&mut self, name: &AgentName, id: SessionId, now: Now) {
        let Some(row) = self.agents.change(name) else { return };
        let Some(session) = row.session.take_if(|session| session.id == id) else { return };
        row.stored.last_seen_ms = session.heard_ms;
        row.offline_since = Some(session.heard);
        let stored = row.stored.clone();
        let contender = row.contender.take();
        self.persist(vec![Write::PutAgent(stored)], Continuation::MayBeLost);
        self.agent_is_gone(name, session.heard_ms, now);
        if let Some(Contender { newcomer, reply, .. }) = contender {
            self.accept_session(*newcomer, reply, now);
        }
    }

    pub(super) fn tick_agents(&mut self, now: Now) {
        let mut silent = Vec::new();
        for (name, row) in self.agents.iter() {
            let Some(session) = &row.session else { continue };
            let is_dead = now.monotonic.saturating_sub(session.heard) >= OFFLINE_AFTER;
            let is_replaced =
                row.contender.as_ref().is_some_and(|contender| contender.until <= now.monotonic);
            if is_dead || is_replaced {
                silent.push((name.clone(), session.id));
            }
        }
        for (name, id) in silent {
            self.effects.push(Effect::CloseSession(id));
            self.sessions.remove(&id);
            self.end_session(&name, id, now);
        }
    }

    pub(super) fn on_stop(
        &mut self,
        name: &AgentName,
        grace_ms: u32,
        by: &str,
        reply: ReplyTo<Result<u32, Denied>>,
        now: Now,
    ) {
        let Some(row) = self.agents.get(name) else {
            let text = self.no_such_agent(name);
            return self.reply(reply, Err(Denied::NotFound(text)));
        };
        let Some(session) = &row.session else {
            let text = format!("{name} is offline; `sloth-runner agent stop` on its machine ends it");
            return self.refuse(reply, text);
        };
        let session = session.id;
        let running = self.tasks_on(name);
        self.effects.push(Effect::StopAgent { session, grace_ms });
        let writes = vec![audit(now, by, "stop", name.as_str(), format!("{running} tasks run there"))];
        self.persist(writes, Continuation::answer(reply, Ok(running)));
    }

    /// Returns why no task may start on an agent that has seen a later state of the store; `None` if it has
    /// not.
    pub(super) fn refusal_of_ahead(&self, name: &AgentName) -> Option<String> {
        self.agents.get(name)?.stored.ahead?;
        Some(format!(
            "{name} has seen a later state of this master's store: the store was restored from a backup. {RESTORED_ADVICE}"
        ))
    }

    /// Returns a warning that names the agents that have seen a later state of the store; empty if there are
    /// none.
    pub(super) fn warning_of_restore(&self) -> String {
        let ahead = self.agents.iter().filter(|(_, row)| row.stored.ahead.is_some());
        let ahead: Vec<&str> = ahead.map(|(name, _)| name.as_str()).collect();
        if ahead.is_empty() {
            return String::new();
        }
        let have = form(ahead.len(), "has", "have");
        format!(
            "{} {have} seen a later state of this master's store: the store was restored from a backup. {RESTORED_ADVICE}",
            fold_some(ahead)
        )
    }

    pub(super) fn no_such_agent(&self, name: &AgentName) -> String {
        let is_waiting = self.waiting.iter().any(|key| key.name == *name);
        no_such_agent(name, is_waiting, self.agents.keys())
    }

    /// Reports whether the master started so recently that agents may not have reconnected yet.
    pub(super) fn is_fresh(now: Now) -> bool {
        now.monotonic < START_WITHIN
    }

    /// Returns the views of the agents that still exist.
    pub(super) fn agent_views(&self, wanted: &[AgentName], now: Now) -> Vec<AgentView> {
        let view = |name: &AgentName| Some(Self::agent_view(name, self.agents.get(name)?, now));
        wanted.iter().filter_map(view).collect()
    }

    /// Returns an agent's view for clients.
    pub(super) fn agent_view(name: &AgentName, row: &AgentRow, now: Now) -> AgentView {
        let stored = &row.stored;
        let state = row.state(now);
        let hint = match (&row.session, state) {
            (Some(session), AgentState::Late) => {
                let silent = now.monotonic.saturating_sub(session.heard).as_secs();
                format!("no heartbeat for {silent} s")
            }
            (None, _) if stored.last_seen_ms == UnixMs(0) => "enrolled, but never connected yet".to_owned(),
            (None, _) if !row.was_seen() && Self::is_fresh(now) => {
                "not back yet since the master's start".to_owned()
            }
            (None, _) => "not connected; is it running, and does it reach this master?".to_owned(),
            (Some(session), _) => {
                let troubles = session.facts.iter().flat_map(|facts| &facts.troubles);
                troubles.map(Reason::as_str).collect::<Vec<_>>().join("; ")
            }
        };
        let hint = match &stored.drain {
            Some(drain) if hint.is_empty() => drain.to_string(),
            Some(drain) => format!("{hint}; {drain}"),
            None => hint,
        };
        let last_seen_ms = row.session.as_ref().map_or(stored.last_seen_ms, |session| session.heard_ms);
        AgentView {
            name: name.clone(),
            state,
            link: row.session.as_ref().map(|session| session.link),
            link_reason: row.session.as_ref().map_or_else(String::new, |session| session.link_reason.clone()),
            address: stored.address.clone(),
            direct_address: row.session.as_ref().and_then(|session| session.direct_address.clone()),
            version: stored.version.clone(),
            labels: Labels::clone(&row.labels),
            set_labels: stored.set_labels.clone(),
            reported_labels: stored.labels.clone(),
            proposed: row.proposal(),
            last_seen: (last_seen_ms > UnixMs(0)).then(|| seen_at(last_seen_ms, now)),
            fingerprint: stored.fingerprint,
            hint,
            enrolled_ms: stored.enrolled_ms,
            trust: stored.trust.clone(),
            facts: row.session.as_ref().and_then(|session| session.facts.clone()),
            key_changed: false,
            has_code: false,
            offline_since_ms: row
                .session
                .is_none()
                .then_some(stored.last_seen_ms)
                .filter(|ms| *ms > UnixMs(0)),
            last_job: row.last_job.clone(),
            drain: stored.drain.clone(),
        }
    }

    pub(super) fn pending_views(&self, now: Now) -> impl Iterator<Item = AgentView> {
        self.waiting.iter().map(move |key| {
            let key_changed = self.agents.contains_key(&key.name);
            let approve = match key.proof {
                Some(_) => format!("agent approve {} CODE, with the code that it printed", key.name),
                None => format!("agent approve {} --fingerprint {}", key.name, key.fingerprint.short()),
            };
            let hint = if key_changed {
                format!("another key claims this name. A new machine: give it its own --name. Reinstalled: {approve}")
            } else {
                approve
            };
            AgentView {
                name: key.name.clone(),
                state: AgentState::Pending,
                link: None,
                link_reason: String::new(),
                address: key.from.map_or_else(|| "this machine".to_owned(), |from| from.to_string()),
                direct_address: None,
                version: key.version.clone(),
                labels: Labels::new(),
                set_labels: Labels::new(),
                // The labels of a pending key are part of its proposal.
                reported_labels: Labels::new(),
                proposed: key.proposal.clone(),
                last_seen: Some(seen_at(key.asked_ms(), now)),
                fingerprint: key.fingerprint,
                hint,
                enrolled_ms: key.since_ms,
                trust: Word::default(),
                facts: None,
                key_changed,
                has_code: key.proof.is_some(),
                offline_since_ms: None,
                last_job: None,
                drain: None,
            }
        })
    }
}

fn seen_at(at_ms: UnixMs, now: Now) -> LastSeen {
    LastSeen { at_ms, ago_ms: milliseconds(now.unix_ms.since(at_ms)) }
}
