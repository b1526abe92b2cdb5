//! The core's state, and its steps.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    enrolling::PendingKey,
    jobs::{LiveJob, LiveJobs, PendingOrder},
    messages::{
        Answer, Effect, Input, Newcomer, Now, PendingAnswer, Refusable, ReplyTo, SessionAccepted,
        SessionDenied, SessionId, WriteId,
    },
    persisting::Continuation,
    refusals::Refusals,
    registry::Registry,
    stored::{StoredAgent, StoredJob, StoredOperator, StoredToken, Write},
    views::StatusView,
    watched::{self, PastJobs},
};
use crate::domain::{
    agent::{AgentState, Facts, LinkKind},
    fingerprint::Fingerprint,
    ids::Incarnation,
    job::LastJob,
    name::{AgentName, Labels, OperatorName},
    proposal::{DirectAddress, Proposal},
    time::UnixMs,
};

/// How the master treats a key that asks to enroll without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enroll {
    /// The key waits until an operator approves it.
    #[default]
    Approve,
    /// The key is enrolled at once: for test environments.
    Any,
    /// The key is refused.
    Token,
}

/// The settings with which a master was started.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How keys without a token are treated.
    pub enroll: Enroll,
    /// Maximum number of bytes of a task's output that are kept.
    pub output_cap: u64,
    /// The fingerprint of the master's CA, which proofs by one-time codes cover.
    pub ca: Fingerprint,
}

/// Default of [`Policy::output_cap`]: 1 GiB.
pub const OUTPUT_CAP: u64 = 1024 * 1024 * 1024;

impl Default for Policy {
    fn default() -> Self {
        Self { enroll: Enroll::Approve, output_cap: OUTPUT_CAP, ca: Fingerprint::of(&[]) }
    }
}

/// The state that was loaded from the store.
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
    /// The last job of each agent.
    pub last_jobs: Vec<(AgentName, LastJob)>,
    /// The highest job number.
    pub last_number: u64,
    /// The store's epoch.
    pub epoch: u64,
    /// The store's revision.
    pub revision: u64,
    /// Counts the starts of masters on this store. Attempts of a later start are higher than those of an earlier one.
    pub term: u64,
    /// The time that was last used to determine ages, in milliseconds since the Unix epoch; 0 for never.
    pub judged_ms: UnixMs,
    /// Why the term could not be written. Nothing new is accepted until it is written.
    pub trouble: Option<String>,
}

/// The session of a connected agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) incarnation: Incarnation,
    pub(super) heard: Duration,
    pub(super) heard_ms: UnixMs,
    pub(super) link: LinkKind,
    pub(super) link_reason: String,
    pub(super) direct_address: Option<DirectAddress>,
    pub(super) facts: Option<Facts>,
}

/// A second connection with the key of a connected agent.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) newcomer: Box<Newcomer>,
    pub(super) reply: ReplyTo<Result<SessionAccepted, SessionDenied>>,
    /// The deadline for an answer of the first connection, which is closed for the contender then.
    pub(super) until: Duration,
}

/// An agent of the registry.
#[derive(Debug)]
pub(super) struct AgentRow {
    pub(super) stored: StoredAgent,
    /// The labels in effect: the accepted ones, overridden by those that operators set.
    pub(super) labels: Arc<Labels>,
    /// Reported labels that are not accepted; `None` if there are none.
    pub(super) proposed: Option<Arc<Labels>>,
    pub(super) session: Option<Session>,
    /// When it went offline or was enrolled, on the monotonic clock; `None` while it is connected, or if that
    /// was before this master started.
    pub(super) offline_since: Option<Duration>,
    /// A second connection with the same key.
    pub(super) contender: Option<Contender>,
    /// The state that was last reported to watchers.
    pub(super) shown: AgentState,
    /// The agent's last job.
    pub(super) last_job: Option<LastJob>,
}

impl AgentRow {
    pub(super) fn new(stored: StoredAgent) -> Self {
        let mut row = Self {
            stored,
            labels: Arc::default(),
            proposed: None,
            session: None,
            offline_since: None,
            contender: None,
            shown: watched::INITIAL_STATE,
            last_job: None,
        };
        row.merge_labels();
        row
    }

    /// Reports whether the agent was connected or enrolled since this master started.
    pub(super) fn was_seen(&self) -> bool {
        self.session.is_some() || self.offline_since.is_some()
    }

    /// Returns the agent's session if it has this id.
    pub(super) fn session_of(&mut self, id: SessionId) -> Option<&mut Session> {
        self.session.as_mut().filter(|session| session.id == id)
    }

    pub(super) fn merge_labels(&mut self) {
        let StoredAgent { labels: brought, set_labels: set, accepted, .. } = &self.stored;
        let mut labels = accepted.counting(brought);
        labels.extend(set.clone());
        self.labels = Arc::new(labels);
        let proposed = accepted.proposed(brought, set);
        self.proposed = (!proposed.is_empty()).then(|| Arc::new(proposed));
    }

    /// Returns what the agent proposes and what is not accepted.
    pub(super) fn proposal(&self) -> Proposal {
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
    pub(super) policy: Policy,
    pub(super) agents: Registry,
    pub(super) sessions: HashMap<SessionId, AgentName>,
    pub(super) waiting: Vec<PendingKey>,
    /// The registry's revision at the last change of the pending keys.
    pub(super) waiting_changed: u64,
    /// Whether a pending key has changed its proposal since watchers were last notified.
    pub(super) is_waiting_stale: bool,
    /// When a tick last notified watchers of pending keys, on the monotonic clock.
    pub(super) waiting_told: Duration,
    pub(super) tokens: HashMap<String, StoredToken>,
    pub(super) operators: BTreeMap<OperatorName, StoredOperator>,
    pub(super) jobs: LiveJobs,
    pub(super) past: PastJobs,
    pub(super) continuations: HashMap<WriteId, Continuation>,
    /// Writes that revoke rights. When one succeeds, agents remember the store's revision, so that a restored
    /// backup from before is detected.
    pub(super) ending_rights: HashSet<WriteId>,
    pub(super) last_write: WriteId,
    /// The highest job number that was assigned.
    pub(super) last_number: u64,
    /// The highest number of a job that has begun.
    pub(super) last_begun: u64,
    pub(super) epoch: u64,
    pub(super) revision: u64,
    /// The store's revision when this master started. If an agent that connects for the first time since then
    /// has seen a later one, the store was restored, however far this master's own writes have come.
    pub(super) first_revision: u64,
    pub(super) term: u64,
    /// The time that was last used to determine ages. No job is recorded as ended before it, whatever the
    /// clock says.
    pub(super) judged_ms: UnixMs,
    /// Number of Attach calls for tasks that are no longer live.
    pub(super) facts_attempts: u64,
    /// Recorded orders that are answered when none of their tasks can start any more.
    pub(super) orders: Vec<PendingOrder>,
    /// Why the store cannot record new jobs at the moment.
    pub(super) store_trouble: Option<String>,
    /// Why there is no room for the output of new jobs.
    room_trouble: Option<String>,
    pub(super) refused_unauthenticated: u64,
    pub(super) refusals: Refusals,
    pub(super) effects: Vec<Effect>,
}

impl Core {
    /// Creates a core that continues from the stored state.
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

    /// Processes one input, and returns the effects to perform.
    #[must_use]
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        if let Some(input) = self.refuse_if_store_fails(input) {
            self.take(input, now);
        }
        self.settle_jobs(now);
        self.answer_orders(now);
        // An order that has expired may have ended tasks.
        self.settle_jobs(now);
        self.mark_watched();
        std::mem::take(&mut self.effects)
    }

    /// Refuses an input that would begin something which cannot be recorded. Inputs that end something pass:
    /// their record is retried until the disk accepts it.
    fn refuse_if_store_fails(&mut self, input: Input) -> Option<Input> {
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
            Input::IsEnrolled(name, key, reply) => self.show_enrollment(&name, key, reply),
            Input::Snapshot(reply) => self.show_snapshot(reply, now),
            Input::ShowAgents(names, reply) => self.show_agents(&names, reply, now),
            Input::ShowWaiting(reply) => self.show_waiting(reply, now),
            Input::WatchFleet { seen, numbers_seen, behind, reply } => {
                self.show_fleet((seen, numbers_seen, behind.as_ref()), reply, now);
            }
            Input::WatchJobs { seen, reply } => self.show_jobs(seen, reply),
            Input::Status(reply) => self.show_status(reply),
            Input::SessionOpened(newcomer, reply) => self.on_session_opened(newcomer, reply, now),
            Input::Heard(session) => self.on_contact(session, now),
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
            Input::JudgedAt(ms, reply) => self.on_retention_time(ms, reply),
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

    pub(super) fn reply<A: Answer>(&mut self, to: ReplyTo<A>, answer: A) {
        self.effects.push(Effect::Reply(to.ticket(), Box::new(answer.into())));
    }

    pub(super) fn refuse<A: Refusable>(&mut self, to: ReplyTo<A>, reason: String) {
        self.reply(to, A::refused(reason));
    }

    pub(super) fn give(&mut self, answer: PendingAnswer) {
        let (to, reply) = answer.give();
        self.effects.push(Effect::Reply(to, reply));
    }

    fn on_tick(&mut self, now: Now) {
        if self.store_trouble.is_some() && self.continuations.is_empty() {
            // Every write increments the store's revision, so this one shows whether the disk accepts writes
            // again.
            self.persist(Vec::new(), Continuation::MayBeLost);
        }
        self.tick_agents(now);
        self.mark_state_changes(now);
        self.tick_waiting(now);
        self.tick_jobs(now);
        self.tick_refusals(now);
    }

    /// Returns why no new job may begin; empty if it may.
    pub(super) fn refusal_of_jobs(&self) -> String {
        if let Some(trouble) = &self.store_trouble {
            format!("the master cannot record jobs: {trouble}")
        } else if let Some(trouble) = &self.room_trouble {
            format!("the master has no space for more output: {trouble}; running commands continue")
        } else {
            String::new()
        }
    }

    pub(super) fn status(&self) -> StatusView {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        StatusView {
            agents: count(self.agents.len()),
            connected: count(self.agents.values().filter(|row| row.session.is_some()).count()),
            pending: count(self.waiting.len()),
            active_jobs: count(self.jobs.values().filter(|job| job.is_active()).count()),
            refusing_jobs: self.refusal_of_jobs(),
            held_back: self.held_back(),
            restore_warning: self.warning_of_restore(),
            refused_unauthenticated: self.refused_unauthenticated,
        }
    }

    pub(super) fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let name = self.sessions.get(&id)?;
        self.agents.get_mut_unmarked(name)?.session_of(id)
    }
}

/// Creates an audit record.
pub(super) fn audit(
    now: Now,
    actor: &str,
    action: &'static str,
    subject: &str,
    detail: impl Into<String>,
) -> Write {
    Write::Audit {
        at_ms: now.unix_ms,
        actor: actor.to_owned(),
        action,
        subject: subject.to_owned(),
        detail: detail.into(),
    }
}
