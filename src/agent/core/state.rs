//! The state on which the agent's decisions are based, and its steps. Leaves the questions about tasks to `deciding`.

use std::collections::HashMap;

use super::{
    left_over::LeftOver,
    master_clock::MasterClock,
    messages::{Boottime, Decision, DiskError, Effect, Input, Introduction, OpenedAttach, Reply},
    task::{Question, Task},
};
use crate::domain::{
    fingerprint::Fingerprint,
    ids::{Incarnation, TaskId},
    reply_to::ReplyTo,
    revision::SealedRevision,
    session::{Echo, SentAt},
};

/// How long a permission to start waits for the master's clock, in milliseconds. The first message of the
/// session contains the clock, and may arrive after the permission.
pub(super) const WAIT_FOR_CLOCK_MS: u64 = 2_000;

/// A caller that opens an Attach.
pub(super) type Opener = ReplyTo<Result<Decision, DiskError>>;

/// An Attach whose permission cannot be dated before more is known of the master's clock.
#[derive(Debug)]
pub(super) struct Undated {
    pub(super) attach: Box<OpenedAttach>,
    pub(super) reply: Opener,
    /// When the permission counts as expired.
    pub(super) until: Boottime,
}

/// The state on which the agent's decisions are based.
#[derive(Debug)]
pub struct Core {
    pub(super) incarnation: Incarnation,
    pub(super) tasks: HashMap<TaskId, Task>,
    pub(super) undated: Vec<Undated>,
    pub(super) left_over: LeftOver,
    pub(super) is_stopping: bool,
    /// The agent is on the master's machine and could read its keys: only administrators may run commands here.
    pub(super) admins_only: bool,
    seen: SealedRevision,
    /// The CA of the master whose store has that revision.
    seen_of: Option<Fingerprint>,
    /// What is known of the clock of the connected master; `None` before its first message.
    pub(super) master_clock: Option<MasterClock>,
    pub(super) now: Boottime,
    pub(super) effects: Vec<Effect>,
}

impl Core {
    /// Creates the state of an agent that has seen this revision of the store of the master with this CA.
    #[must_use]
    pub fn new(incarnation: Incarnation, (seen_of, seen): (Option<Fingerprint>, SealedRevision)) -> Self {
        Self {
            incarnation,
            tasks: HashMap::new(),
            undated: Vec::new(),
            left_over: LeftOver::default(),
            is_stopping: false,
            admins_only: false,
            seen,
            seen_of,
            master_clock: None,
            now: 0,
            effects: Vec::new(),
        }
    }

    /// Adds finished tasks whose directories an earlier connector has left over.
    #[must_use]
    pub fn with_left_over(mut self, finished: impl IntoIterator<Item = TaskId>, now: Boottime) -> Self {
        for id in finished {
            self.left_over.add(id, now);
        }
        self
    }

    /// Processes an input, and returns its effects. `now` must not decrease.
    pub fn step(&mut self, input: Input, now: Boottime) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Open(attach, reply) => {
                self.note_revision(attach.revision);
                let date_by = now.saturating_add(WAIT_FOR_CLOCK_MS);
                self.ask(attach.id, Question::Open { attach, reply, date_by });
            }
            Input::Promise { id, attempt, reply } => self.ask(id, Question::Promise { attempt, reply }),
            Input::Cancel(id, reply) => self.ask(id, Question::Cancel(reply)),
            Input::Finish(id, ending, reply) => self.ask(id, Question::Finish(ending, reply)),
            Input::AttachEnded { id, attempt } => self.attach_ended(id, attempt),
            Input::LookedUp(id, knowledge) => self.looked_up(id, knowledge),
            Input::Recorded(id, result) => self.recorded(id, result),
            Input::StartEnded(id, end) => self.start_ended(id, end),
            Input::MemoryReplaced(incarnation) => {
                self.incarnation = incarnation;
                self.effects.push(Effect::ReportIncarnation);
            }
            Input::CheckMemory => self.effects.push(Effect::CheckMemory),
            Input::BelongTo(ca) => self.belong_to(ca),
            Input::Welcomed { admins_only, revision, sent, echo } => {
                // Before the clock is noted, since that decides on the Attaches that wait for it.
                self.admins_only = admins_only;
                self.note_revision(revision);
                self.save_seen();
                self.note_master_clock(sent, echo);
            }
            Input::Pinged { revision, sent, echo } => {
                if let Some(revision) = revision {
                    self.note_revision(revision);
                    self.save_seen();
                }
                self.note_master_clock(sent, echo);
            }
            Input::Stop => {
                self.is_stopping = true;
                self.effects.push(Effect::ReportStopping);
            }
            Input::RemoveLeftOver(reply) => self.left_over.remove_now(reply),
            Input::Removed => self.left_over.removed(),
            Input::Introduce(reply) => {
                let introduction = Introduction {
                    incarnation: self.incarnation.clone(),
                    seen: self.seen,
                    is_stopping: self.is_stopping,
                };
                self.reply(reply, introduction);
            }
            Input::ListStarting(reply) => {
                let starting = self.tasks.iter().filter(|(_, task)| task.is_starting());
                let mut starting: Vec<TaskId> = starting.map(|(id, _)| *id).collect();
                starting.sort_unstable();
                self.reply(reply, starting);
            }
            Input::Tick => {}
        }
        self.retry_undated(|undated| now >= undated.until);
        self.left_over.begin_removal(now, &mut self.effects);
        std::mem::take(&mut self.effects)
    }

    /// Returns when the core needs the next [`Input::Tick`]; `None` if it needs none.
    #[must_use]
    pub fn due(&self) -> Option<Boottime> {
        let dated = self.undated.iter().map(|undated| undated.until).min();
        [dated, self.left_over.due()].into_iter().flatten().min()
    }

    pub(super) fn reply<A: Into<Reply>>(&mut self, to: ReplyTo<A>, answer: A) {
        self.effects.push(Effect::Reply(to.ticket(), answer.into()));
    }

    fn note_revision(&mut self, revision: SealedRevision) {
        self.seen = self.seen.max(revision);
    }

    pub(super) fn save_seen(&mut self) {
        self.effects.push(Effect::SaveSeen(self.seen_of, self.seen));
    }

    /// Forgets the revision of another master's store: it says nothing about this one's.
    fn belong_to(&mut self, ca: Fingerprint) {
        if self.seen_of.is_some_and(|known| known != ca) {
            self.seen = SealedRevision::default();
        }
        self.seen_of = Some(ca);
    }

    fn note_master_clock(&mut self, sent: SentAt, echo: Option<Echo>) {
        self.master_clock = Some(MasterClock::note(self.master_clock, sent, echo, self.now));
        self.retry_undated(|_| true);
    }

    /// Decides again on Attaches that wait for the master's clock.
    fn retry_undated(&mut self, which: impl Fn(&Undated) -> bool) {
        for Undated { attach, reply, until } in
            self.undated.extract_if(.., |undated| which(undated)).collect::<Vec<_>>()
        {
            self.ask(attach.id, Question::Open { attach, reply, date_by: until });
        }
    }
}
