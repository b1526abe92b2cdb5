//! The master's decisions: `step(Input, Now) -> Effects`. Pure; the actor performs the effects.
//!
//! A reply or a dispatch waits until the write that it depends on has succeeded. The result of a write is an input.

mod agents;
mod enrolling;
mod jobs;
pub mod messages;
mod operators;
mod persisting;
mod refusals;
mod registry;
mod selecting;
mod showing;
pub mod snapshot;
pub mod stored;
mod tokens;
pub mod views;
mod watched;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use messages::{
    Answer, Effect, Input, Newcomer, Now, PendingAnswer, Refusable, ReplyTo, SessionAccepted, SessionDenied,
    SessionId, WriteId,
};
use stored::{StoredAgent, StoredJob, StoredOperator, StoredToken, Write};
use views::StatusView;

use self::{
    enrolling::WaitingKey,
    jobs::{LiveJob, LiveJobs, PendingOrder},
    persisting::Continuation,
    refusals::Refusals,
    registry::Registry,
    watched::PastJobs,
};
use crate::domain::{
    agent::{AgentState, Facts, LinkKind},
    fingerprint::Fingerprint,
    ids::Incarnation,
    job::LastJob,
    name::{AgentName, Labels, OperatorName},
    proposal::{DirectAddress, Proposal},
};

/// What becomes of a key that asks to be let in without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enroll {
    /// It waits for an operator.
    #[default]
    Approve,
    /// It is let in: for a lab.
    Any,
    /// It is refused.
    Token,
}

/// How a master was started.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What becomes of keys without a token.
    pub enroll: Enroll,
    /// Most bytes of a task's output that are kept.
    pub output_cap: u64,
    /// The fingerprint of the master's CA, which agents and operators mean by their codes.
    pub ca: Fingerprint,
}

/// Most bytes of a task's output that are kept, unless somebody says otherwise: 1 GiB.
pub const OUTPUT_CAP: u64 = 1024 * 1024 * 1024;

impl Default for Policy {
    fn default() -> Self {
        Self { enroll: Enroll::Approve, output_cap: OUTPUT_CAP, ca: Fingerprint::of(&[]) }
    }
}

/// What a store remembered.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The registry.
    pub agents: Vec<StoredAgent>,
    /// All join tokens.
    pub tokens: Vec<StoredToken>,
    /// All operators, revoked ones too.
    pub operators: Vec<StoredOperator>,
    /// Jobs that have not ended.
    pub jobs: Vec<StoredJob>,
    /// What agents did last.
    pub last_jobs: Vec<(AgentName, LastJob)>,
    /// The highest number of a job.
    pub last_number: u64,
    /// The store's epoch.
    pub epoch: u64,
    /// The store's revision.
    pub revision: u64,
    /// Counts the starts of masters on this store. Attempts of a later start are higher than those of an earlier one.
    pub term: u64,
    /// The time by which ages were judged last, in milliseconds since the Unix epoch; 0 for never.
    pub judged_ms: u64,
    /// Why the term could not be written; nothing new begins before it is.
    pub trouble: Option<String>,
}

/// A connected agent.
#[derive(Debug)]
struct Session {
    id: SessionId,
    incarnation: Incarnation,
    heard: Duration,
    heard_ms: u64,
    link: LinkKind,
    link_reason: String,
    direct_address: Option<DirectAddress>,
    facts: Option<Facts>,
}

/// A second connection with the key of a connected agent.
#[derive(Debug)]
struct Contender {
    newcomer: Box<Newcomer>,
    reply: ReplyTo<Result<SessionAccepted, SessionDenied>>,
    /// Until when the first connection may answer. It is closed for the contender then.
    until: Duration,
}

/// An agent of the registry.
#[derive(Debug)]
struct AgentRow {
    stored: StoredAgent,
    /// What counts of what it brings, and what operators set over that.
    labels: Arc<Labels>,
    /// What it brings and what does not count; `None` where all counts.
    proposed: Option<Arc<Labels>>,
    session: Option<Session>,
    /// Since when it is offline on the monotonic clock; only known for what this master saw.
    offline_since: Option<Duration>,
    /// A second connection with the same key.
    contender: Option<Contender>,
    /// The state that watchers were told.
    shown: AgentState,
    /// What it did last.
    last_job: Option<LastJob>,
}

impl AgentRow {
    fn new(stored: StoredAgent) -> Self {
        let mut row = Self {
            stored,
            labels: Arc::default(),
            proposed: None,
            session: None,
            offline_since: None,
            contender: None,
            shown: watched::UNSEEN,
            last_job: None,
        };
        row.merge_labels();
        row
    }

    /// Whether this master has had it here, or let it in.
    fn was_here(&self) -> bool {
        self.session.is_some() || self.offline_since.is_some()
    }

    /// Its connection, if it is this one.
    fn session_of(&mut self, id: SessionId) -> Option<&mut Session> {
        self.session.as_mut().filter(|session| session.id == id)
    }

    fn merge_labels(&mut self) {
        let StoredAgent { labels: brought, set_labels: set, accepted, .. } = &self.stored;
        let mut labels = accepted.counting(brought);
        labels.extend(set.clone());
        self.labels = Arc::new(labels);
        let proposed = accepted.proposed(brought, set);
        self.proposed = (!proposed.is_empty()).then(|| Arc::new(proposed));
    }

    /// What it says of itself and what does not count, or not yet.
    fn proposal(&self) -> Proposal {
        let direct = self.session.as_ref().and_then(|session| session.direct_address.as_ref());
        Proposal {
            labels: self.proposed.as_deref().cloned().unwrap_or_default(),
            direct: direct.filter(|direct| !self.stored.accepted.may_dial(direct)).cloned(),
        }
    }
}

/// The master's state.
#[derive(Debug)]
pub struct Core {
    policy: Policy,
    agents: Registry,
    sessions: HashMap<SessionId, AgentName>,
    waiting: Vec<WaitingKey>,
    /// The registry's revision when keys came to wait, or went.
    waiting_changed: u64,
    /// Some of them propose something else since, and when that was told last.
    is_waiting_stale: bool,
    waiting_told: Duration,
    tokens: HashMap<String, StoredToken>,
    operators: BTreeMap<OperatorName, StoredOperator>,
    jobs: LiveJobs,
    past: PastJobs,
    continuations: HashMap<WriteId, Continuation>,
    /// Writes after which somebody has fewer rights: agents are to remember the store's state then, so that a backup from
    /// before is noticed.
    ending_rights: HashSet<WriteId>,
    last_write: WriteId,
    /// The highest number that a job has got.
    last_number: u64,
    /// The highest of those that have begun.
    last_begun: u64,
    epoch: u64,
    revision: u64,
    /// The store's revision when this master began. An agent that is here for the first time since has seen no later one,
    /// or the store was restored; what this master has written meanwhile proves nothing.
    first_revision: u64,
    term: u64,
    /// The time by which ages were judged last. No job ends before it, whatever the clock says.
    judged_ms: u64,
    /// Counts the Attach calls for tasks that are not live any more.
    facts_attempts: u64,
    /// Orders to cancel that are written down and wait for agents' words.
    orders: Vec<PendingOrder>,
    /// Why the store does not take new jobs at the moment.
    store_trouble: Option<String>,
    /// Why there is no room for the output of new jobs.
    room_trouble: Option<String>,
    refused_unauthenticated: u64,
    refusals: Refusals,
    effects: Vec<Effect>,
}

impl Core {
    /// A core that continues from what the store remembered.
    #[must_use]
    pub fn new(policy: Policy, remembered: Remembered, now: Now) -> Self {
        let mut core = Self {
            policy,
            agents: Registry::new(remembered.agents.into_iter().map(AgentRow::new)),
            sessions: HashMap::new(),
            waiting: Vec::new(),
            waiting_changed: 0,
            is_waiting_stale: false,
            waiting_told: Duration::ZERO,
            tokens: remembered.tokens.into_iter().map(|token| (token.hash.clone(), token)).collect(),
            operators: remembered.operators.into_iter().map(|known| (known.name.clone(), known)).collect(),
            jobs: LiveJobs::default(),
            past: PastJobs::default(),
            continuations: HashMap::new(),
            ending_rights: HashSet::new(),
            last_write: WriteId::default(),
            last_number: remembered.last_number,
            last_begun: remembered.last_number,
            epoch: remembered.epoch,
            revision: remembered.revision,
            first_revision: remembered.revision,
            term: remembered.term,
            judged_ms: remembered.judged_ms,
            facts_attempts: 0,
            orders: Vec::new(),
            store_trouble: remembered.trouble,
            room_trouble: None,
            refused_unauthenticated: 0,
            refusals: Refusals::default(),
            effects: Vec::new(),
        };
        if core.store_trouble.is_some() {
            let term = Write::PutTerm(core.term);
            core.persist(vec![term], Continuation::MustBeWritten);
        }
        for (name, last) in remembered.last_jobs {
            if let Some(row) = core.agents.change(&name) {
                row.last_job = Some(last);
            }
        }
        for stored in remembered.jobs {
            let id = stored.job.id;
            core.jobs.insert(LiveJob::from_store(stored, core.first_attempt(), now));
            core.mark_job(id);
        }
        core
    }

    /// Takes one step.
    #[must_use]
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        if let Some(input) = self.unless_in_trouble(input) {
            self.take(input, now);
        }
        self.settle_jobs(now);
        self.answer_orders(now);
        // An order that has expired may have ended tasks.
        self.settle_jobs(now);
        self.mark_watched();
        std::mem::take(&mut self.effects)
    }

    /// Refuses what would begin something that cannot be recorded. What ends something is taken all the same: its record
    /// is kept until the disk takes it.
    fn unless_in_trouble(&mut self, input: Input) -> Option<Input> {
        let Some(trouble) = &self.store_trouble else { return Some(input) };
        let reason = format!("the master cannot record it: {trouble}");
        match input {
            Input::Enroll(_, reply) => self.refuse(reply, reason),
            Input::Approve { reply, .. } => self.refuse(reply, reason),
            Input::Label { reply, .. } => self.refuse(reply, reason),
            Input::Accept { reply, .. } => self.refuse(reply, reason),
            Input::CreateToken { reply, .. } => self.refuse(reply, reason),
            Input::Invite { reply, .. } => self.refuse(reply, reason),
            Input::LogIn { reply, .. } => self.refuse(reply, reason),
            Input::Promote { reply, .. } => self.refuse(reply, reason),
            other => return Some(other),
        }
        None
    }

    fn take(&mut self, input: Input, now: Now) {
        match input {
            Input::Tick => self.on_tick(now),
            Input::Enroll(asked, reply) => self.on_enroll(asked, reply, now),
            Input::Approve { name, mark, shown, by, reply } => {
                self.on_approve(&name, &mark, &shown, &by, reply, now);
            }
            Input::Reject { name, digits, by, reply } => {
                self.on_reject(name.as_ref(), &digits, &by, reply, now);
            }
            Input::Delete { name, by, reply } => self.on_delete(&name, &by, reply, now),
            Input::Label { choice, changes, by, reply } => {
                self.on_label(&choice, &changes, &by, reply, now);
            }
            Input::Accept { choice, shown, by, reply } => self.on_accept(&choice, &shown, &by, reply, now),
            Input::Stop { name, grace_ms, by, reply } => self.on_stop(&name, grace_ms, &by, reply, now),
            Input::CreateToken { hash, ttl_ms, uses, terms, by, reply } => {
                self.on_create_token(hash, (ttl_ms, uses, *terms), &by, reply, now);
            }
            Input::ListTokens(reply) => self.show_tokens(reply, now),
            Input::RevokeToken { id, by, reply } => self.on_revoke_token(&id, &by, reply, now),
            Input::Drain { choice, reason, by, reply } => {
                self.on_drain(&choice, reason, &by, reply, now);
            }
            Input::Invite { invitation, by, reply } => self.on_invite(*invitation, &by, reply, now),
            Input::Revoke { name, by, reply } => self.on_revoke(&name, &by, reply, now),
            Input::LogIn { hash, key, reply } => self.on_log_in(&hash, key, reply, now),
            Input::ListOperators(reply) => self.show_operators(reply),
            Input::Refused { who, what, reason } => self.on_refused(who, what, reason, now),
            Input::Identify(who, reply) => self.show_operator(&who, reply),
            Input::IsEnrolled(name, key, reply) => self.show_whether_enrolled(&name, key, reply),
            Input::Snapshot(reply) => self.show_snapshot(reply, now),
            Input::ShowAgents(names, reply) => self.show_agents(&names, reply, now),
            Input::ShowWaiting(reply) => self.show_waiting(reply, now),
            Input::WatchFleet { seen, numbers_seen, behind, reply } => {
                self.show_fleet((seen, numbers_seen, behind.as_ref()), reply, now);
            }
            Input::WatchJobs { seen, reply } => self.show_jobs(seen, reply),
            Input::Status(reply) => self.show_status(reply),
            Input::SessionOpened(newcomer, reply) => self.on_session_opened(newcomer, reply, now),
            Input::Heard(session) => self.on_heard(session, now),
            Input::FactsTold(session, facts) => self.on_facts(session, facts, now),
            Input::InventoryTold(session, known) => self.on_inventory(session, known, now),
            Input::LookedUp(session, found) => self.on_looked_up(session, found, now),
            Input::LinkChanged { session, link, reason } => self.on_link_changed(session, link, reason),
            Input::SessionClosed(session) => self.on_session_closed(session, now),
            Input::StartJob(asked, reply) => self.on_start_job(*asked, reply, now),
            Input::Cancel { job, tasks, grace_ms, by, reply } => {
                self.on_cancel(job, &tasks, grace_ms, &by, reply, now);
            }
            Input::Promote { job, by, reply } => self.on_promote(job, &by, reply, now),
            Input::StopJob { job, by, reply } => self.on_stop_job(job, &by, reply, now),
            Input::Compared { id, agrees } => self.on_compared(id, agrees),
            Input::DeleteJob { job, reason, by, reply } => self.on_delete_job(job, reason, &by, reply, now),
            Input::Room(trouble) => self.room_trouble = trouble,
            Input::JudgedAt(ms, reply) => self.on_judged(ms, reply),
            Input::FindJob(job, reply) => self.show_job(job, reply),
            Input::FindJobToRepeat(job, reply) => self.show_job_to_repeat(job, reply),
            Input::ListEnded { agent, outcome, reply } => {
                self.show_ended_jobs(agent.as_ref(), &outcome, reply);
            }
            Input::TaskStarted { id, attempt, elapsed_ms } => {
                self.on_task_started(id, attempt, elapsed_ms, now);
            }
            Input::TaskEnded { id, outcome, end_offset, duration_ns } => {
                self.on_task_ended(id, outcome, end_offset, duration_ns, now);
            }
            Input::TaskUnknown { id, attempt, incarnation } => {
                self.on_task_unknown(id, attempt, &incarnation, now);
            }
            Input::AttachLost { id, session, attempt, superseded_by } => {
                self.on_attach_lost(id, session, attempt, superseded_by, now);
            }
            Input::SignalAnswered { id, known, incarnation } => {
                self.on_signal_answered(id, known, &incarnation, now);
            }
            Input::TaskWaits(id, by, waiting) => self.on_task_waits(id, by, waiting),
            Input::Persisted(token, revision) => self.on_persisted(token, revision, now),
            Input::PersistDelayed(token, reason) => self.on_persist_delayed(token, reason),
            Input::PersistFailed(token, reason) => self.on_persist_failed(token, reason),
            Input::PersistConflict(token) => self.on_persist_conflict(token),
        }
    }

    fn reply<A: Answer>(&mut self, to: ReplyTo<A>, answer: A) {
        self.effects.push(Effect::Reply(to.ticket(), Box::new(answer.into())));
    }

    fn refuse<A: Refusable>(&mut self, to: ReplyTo<A>, reason: String) {
        self.reply(to, A::refused(reason));
    }

    fn give(&mut self, answer: PendingAnswer) {
        let (to, reply) = answer.give();
        self.effects.push(Effect::Reply(to, reply));
    }

    fn on_tick(&mut self, now: Now) {
        if self.store_trouble.is_some() && self.continuations.is_empty() {
            // Every write counts the store's revision, so this one tells whether the disk takes writes again.
            self.persist(Vec::new(), Continuation::MayBeLost);
        }
        self.tick_agents(now);
        self.mark_late(now);
        self.tick_waiting(now);
        self.tick_jobs(now);
        self.tick_refusals(now);
    }

    /// Why no new job may begin; empty when it may.
    fn refusal_of_jobs(&self) -> String {
        if let Some(trouble) = &self.store_trouble {
            format!("the master cannot record jobs: {trouble}")
        } else if let Some(trouble) = &self.room_trouble {
            format!("the master has no space for more output: {trouble}; running commands continue")
        } else {
            String::new()
        }
    }

    fn status(&self) -> StatusView {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        StatusView {
            agents: count(self.agents.len()),
            connected: count(self.agents.values().filter(|row| row.session.is_some()).count()),
            pending: count(self.waiting.len()),
            active_jobs: count(self.jobs.values().filter(|job| job.is_active()).count()),
            refusing_jobs: self.refusal_of_jobs(),
            held_back: self.held_back(),
            ahead: self.warning_of_restore(),
            refused_unauthenticated: self.refused_unauthenticated,
        }
    }

    fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let name = self.sessions.get(&id)?;
        self.agents.touch(name)?.session_of(id)
    }
}

/// An audit record.
fn audit(now: Now, actor: &str, action: &'static str, subject: &str, detail: impl Into<String>) -> Write {
    Write::Audit {
        at_ms: now.unix_ms,
        actor: actor.to_owned(),
        action,
        subject: subject.to_owned(),
        detail: detail.into(),
    }
}

#[cfg(test)]
mod tests;
