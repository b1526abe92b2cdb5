//! The agent's decisions about tasks: which one is started, resumed or refused. Pure.
//!
//! Nothing is ever started a second time because someone forgot, and nothing is started by a permission that was on its
//! way for too long: an operator may have cancelled the task meanwhile, or its deadline may have passed.

use std::collections::HashMap;

use crate::domain::{
    ids::{Incarnation, TaskId},
    revision::SealedRevision,
};

/// What a master asks for in the first message of an Attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which task.
    pub id: TaskId,
    /// Of two calls for one task the higher one wins.
    pub attempt: u64,
    /// Until when it may be started where it is unknown, on this machine's clock; `None` when it may not.
    pub start_until: Option<Boottime>,
    /// The incarnation for which that holds.
    pub incarnation: Incarnation,
    /// Whether an administrator started it.
    pub by_admin: bool,
}

/// Why an agent on its master's machine does not run an operator's command.
const FOR_ADMINS_ONLY: &str = "this agent is on the master's machine, where a command could make its operator an administrator: \
                               it accepts those of administrators only, unless it was started with --trust-operators";

/// A moment on `CLOCK_BOOTTIME`, which counts the time that the machine was suspended, in milliseconds.
pub type Boottime = u64;

/// What the agent's disk knows of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It has a directory: it was started.
    Spooled,
    /// It ended, and the master has said that it knows.
    Finished,
    /// The agent promised never to start it.
    NeverStarted,
    /// The agent knows nothing of the task.
    Nothing,
}

/// What to do about an Attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it, then stream it.
    Start,
    /// Stream it.
    Resume,
    /// Answer with how it ended.
    Recall,
    /// Answer that it was promised never to be started, and was not.
    Promised,
    /// Answer that it is not known here. Nothing has to be written down for that: another incarnation is not started.
    OtherIncarnation(&'static str),
    /// Write down the promise never to start it, then answer that it is not known here.
    Promise,
    /// Answer that the permission has expired. The master may send a new one.
    Expired,
    /// Answer that it will not be started.
    Refuse(String),
    /// A call with this attempt has its place.
    Superseded(u64),
}

/// The state on which the agent's decisions are based.
#[derive(Debug)]
pub struct Core {
    incarnation: Incarnation,
    attempts: HashMap<TaskId, u64>,
    stopping: bool,
    /// The agent is on the master's machine and could read its keys: only administrators may run commands here.
    guards_master: bool,
    seen: SealedRevision,
}

impl Core {
    /// Creates the state of an agent that has seen this revision of the master's store.
    #[must_use]
    pub fn new(incarnation: Incarnation, seen: SealedRevision) -> Self {
        Self { incarnation, attempts: HashMap::new(), stopping: false, guards_master: false, seen }
    }

    /// The agent has lost its memory of tasks, and begins another incarnation.
    pub fn renew(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
    }

    /// This life of the agent's memory.
    #[must_use]
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Whether the agent is ending.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// From now on nothing new is started.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Says whether only administrators may run commands here.
    pub fn guard_master(&mut self, guards_master: bool) {
        self.guards_master = guards_master;
    }

    /// The highest revision of the master's store that was seen.
    #[must_use]
    pub fn seen(&self) -> SealedRevision {
        self.seen
    }

    /// Forgets the revision: the agent has another master.
    pub fn forget_seen(&mut self) {
        self.seen = SealedRevision::default();
    }

    /// Notes a revision; the highest counts.
    pub fn see(&mut self, revision: SealedRevision) {
        self.seen = self.seen.max(revision);
    }

    /// Decides on an Attach and remembers its attempt.
    pub fn open(&mut self, asked: &Asked, knowledge: Knowledge, now: Boottime) -> Decision {
        if let Some(attempt) = self.attempts.get(&asked.id).filter(|known| **known >= asked.attempt) {
            return Decision::Superseded(*attempt);
        }
        self.attempts.insert(asked.id, asked.attempt);
        match knowledge {
            Knowledge::Spooled => Decision::Resume,
            Knowledge::Finished => Decision::Recall,
            Knowledge::NeverStarted => Decision::Promised,
            Knowledge::Nothing if asked.incarnation != self.incarnation => {
                Decision::OtherIncarnation(asked.incarnation.loss_seen_by(&self.incarnation))
            }
            Knowledge::Nothing => match asked.start_until {
                None => Decision::Promise,
                Some(until) if now > until => Decision::Expired,
                Some(_) if self.stopping => Decision::Refuse("the agent is stopping".to_owned()),
                Some(_) if self.guards_master && !asked.by_admin => {
                    Decision::Refuse(FOR_ADMINS_ONLY.to_owned())
                }
                Some(_) => Decision::Start,
            },
        }
    }

    /// Forgets a task's attempts, once the disk remembers the task for good.
    pub fn forget(&mut self, id: TaskId) {
        self.attempts.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::JobId;

    /// The clock in these tests.
    const NOW: Boottime = 1_000;

    fn asked(attempt: u64, may_start: bool, boot: &str) -> Asked {
        Asked {
            id: TaskId { job: JobId::from_parts(1, 2), index: 0 },
            attempt,
            start_until: may_start.then_some(NOW),
            incarnation: Incarnation::new("dir", boot),
            by_admin: false,
        }
    }

    fn seen(epoch: u64, revision: u64) -> SealedRevision {
        SealedRevision { revision: (epoch, revision).into(), seal: None }
    }

    fn core() -> Core {
        Core::new(Incarnation::new("dir", "boot"), SealedRevision::default())
    }

    #[test]
    fn a_task_is_started_once_and_only_by_who_may() {
        use Decision as D;
        use Knowledge as K;
        let table = [
            (asked(1, true, "boot"), K::Nothing, D::Start),
            (asked(1, true, "boot"), K::Spooled, D::Resume),
            (asked(1, true, "boot"), K::Finished, D::Recall),
            (asked(1, true, "boot"), K::NeverStarted, D::Promised),
            (asked(1, false, "boot"), K::Nothing, D::Promise),
            (asked(1, true, "older"), K::Nothing, D::OtherIncarnation("the machine was rebooted")),
            (asked(1, false, "older"), K::Spooled, D::Resume),
        ];
        for (asked, knowledge, decision) in table {
            assert_eq!(core().open(&asked, knowledge, NOW), decision, "{asked:?} {knowledge:?}");
        }
    }

    #[test]
    fn a_permission_that_expired_starts_nothing_and_promises_nothing() {
        let decision = core().open(&asked(1, true, "boot"), Knowledge::Nothing, NOW + 1);
        assert_eq!(decision, Decision::Expired);
        let mut core = core();
        core.open(&asked(1, true, "boot"), Knowledge::Nothing, NOW + 1);
        let again = Asked { start_until: Some(NOW + 500), ..asked(2, true, "boot") };
        assert_eq!(core.open(&again, Knowledge::Nothing, NOW + 1), Decision::Start);
    }

    #[test]
    fn the_higher_attempt_wins_and_a_late_lower_one_starts_nothing() {
        let mut core = core();
        let answer = core.open(&asked(2, false, "boot"), Knowledge::Nothing, NOW);
        assert_eq!(answer, Decision::Promise);
        let late = core.open(&asked(1, true, "boot"), Knowledge::Nothing, NOW);
        assert_eq!(late, Decision::Superseded(2));
        let same = core.open(&asked(2, true, "boot"), Knowledge::Nothing, NOW);
        assert_eq!(same, Decision::Superseded(2));
    }

    #[test]
    fn a_stopping_agent_resumes_but_starts_nothing() {
        let mut core = core();
        core.stop();
        assert_eq!(core.open(&asked(1, true, "boot"), Knowledge::Spooled, NOW), Decision::Resume);
        let refused = core.open(&asked(2, true, "boot"), Knowledge::Nothing, NOW);
        assert!(matches!(refused, Decision::Refuse(_)));
    }

    #[test]
    fn on_the_masters_machine_operators_who_are_no_administrators_start_nothing() {
        let mut core = core();
        core.guard_master(true);
        let by = |by_admin, attempt| Asked { by_admin, ..asked(attempt, true, "boot") };
        assert_eq!(core.open(&by(true, 1), Knowledge::Nothing, NOW), Decision::Start);
        assert!(matches!(core.open(&by(false, 2), Knowledge::Nothing, NOW), Decision::Refuse(_)));
        assert_eq!(
            core.open(&by(false, 3), Knowledge::Spooled, NOW),
            Decision::Resume,
            "it was started before"
        );
        core.guard_master(false);
        assert_eq!(core.open(&by(false, 4), Knowledge::Nothing, NOW), Decision::Start);
    }

    #[test]
    fn only_higher_revisions_are_remembered_and_a_new_epoch_is_higher() {
        let mut core = core();
        core.see(seen(0, 9));
        core.see(seen(0, 3));
        assert_eq!(core.seen(), seen(0, 9));
        core.see(seen(1, 1));
        assert_eq!(core.seen(), seen(1, 1));
        let proved = SealedRevision { seal: Some([7; 32].into()), ..seen(1, 1) };
        core.see(proved);
        core.see(seen(1, 1));
        assert_eq!(core.seen(), proved, "a proof that comes later is kept");
    }

    #[test]
    fn what_is_forgotten_may_be_asked_anew_and_another_master_counts_from_the_beginning() {
        let mut core = core();
        assert!(!core.is_stopping());
        core.see(seen(3, 9));
        core.forget_seen();
        assert_eq!(core.seen(), SealedRevision::default());
        core.open(&asked(5, false, "boot"), Knowledge::Nothing, NOW);
        core.forget(asked(5, false, "boot").id);
        // The disk knows it by now, so that a lower attempt is answered and starts nothing.
        let answer = core.open(&asked(1, true, "boot"), Knowledge::NeverStarted, NOW);
        assert_eq!(answer, Decision::Promised);
        core.stop();
        assert!(core.is_stopping());
    }
}
