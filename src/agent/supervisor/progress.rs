//! The progress of a task: whether it has exceeded its time limit, whether it is over, and how it ended. Pure.
//!
//! Must not read a pipe, a clock or the disk: the caller passes in the state.

use std::time::{Duration, Instant};

use super::{
    kill::{Cause, KILL_STEP_INTERVAL, KillState, Order},
    room::DISK_RETRY,
};
use crate::{domain::outcome::Ending, sys::process::ChildEnd};

/// How long after the command's exit its background children may hold the pipes before the end is reported.
const BACKGROUND_GRACE: Duration = Duration::from_secs(2);

/// How the command's own process ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChildExit {
    pub(super) end: ChildEnd,
    pub(super) at: Instant,
    /// Whether no kill was in progress at that time.
    pub(super) by_itself: bool,
}

/// The state of the pipes for the command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipes {
    /// The command, or a process that it has started, holds a pipe open.
    Open,
    /// The command has ended, and a pipe contains unread output that the command itself may have printed.
    Owed,
    Closed,
}

/// Whether the task's ending is known, and written to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndingState {
    NotYet,
    /// The ending is known, but could not be written yet.
    Unwritten,
    Written,
}

/// The current state of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress<'a> {
    /// When the task reaches its time limit.
    pub(super) limit: Option<Instant>,
    pub(super) killing: &'a KillState,
    pub(super) child: Option<ChildExit>,
    pub(super) pipes: Pipes,
    /// Whether output was read that could not be written to the disk.
    pub(super) has_unwritten: bool,
    /// Whether the volume is nearly full, or is memory.
    pub(super) is_tight: bool,
    pub(super) report: EndingState,
}

impl Progress<'_> {
    fn is_killing(&self) -> bool {
        matches!(self.killing, KillState::Begun(..))
    }

    /// Reports whether to kill the command because it has reached its time limit.
    pub(super) fn has_run_too_long(&self, now: Instant) -> bool {
        self.report == EndingState::NotYet
            && self.child.is_none()
            && matches!(self.killing, KillState::No)
            && self.limit.is_some_and(|limit| now >= limit)
    }

    /// Reports whether the end of the task can be reported.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        if self.report != EndingState::NotYet || self.has_unwritten || self.is_killing() {
            return false;
        }
        let Some(gone) = self.child else {
            // Processes that survived KILL may never end.
            return matches!(self.killing, KillState::Done(proof, _) if !proof.left.is_empty());
        };
        match self.pipes {
            Pipes::Open => now >= gone.at + BACKGROUND_GRACE,
            Pipes::Owed => false,
            Pipes::Closed => true,
        }
    }

    /// Returns how the task ended; `None` if neither the command nor a kill has ended.
    pub(super) fn ending(&self) -> Option<Ending> {
        let own = self.child.map(|gone| match gone.end {
            ChildEnd::Exited(code) => Ending::Exited(code),
            ChildEnd::Signaled(signal) => Ending::Signaled(signal),
        });
        let KillState::Done(proof, cause) = self.killing else { return own };
        // The command exited before the order came: the order only killed its background processes.
        if own.is_some() && (proof.ended == 0 || self.child.is_some_and(|gone| gone.by_itself)) {
            return own;
        }
        Some(match cause {
            Cause::Timeout => Ending::TimedOut(proof.clone()),
            Cause::Cancel(Order { by, seal }) => {
                Ending::Cancelled { proof: Some(proof.clone()), by: by.clone(), seal: *seal }
            }
        })
    }

    /// Reports whether nothing is left to do for the task.
    pub(super) fn is_done(&self) -> bool {
        self.report == EndingState::Written && self.pipes == Pipes::Closed && !self.is_killing()
    }

    /// Returns the time until the next check, if nothing else happens; `None` if no check is needed.
    pub(super) fn next_check(&self, now: Instant) -> Option<Duration> {
        let is_written = !self.has_unwritten && self.report != EndingState::Unwritten;
        let disk = (!is_written || self.is_tight).then_some(DISK_RETRY);
        let kill = self.is_killing().then_some(KILL_STEP_INTERVAL);
        // Unread output wakes the poll without a timeout; a kill and a full disk have timeouts of their own.
        let is_held_up = self.pipes == Pipes::Owed || self.is_killing() || self.has_unwritten;
        let due = match (self.report, self.child, self.killing) {
            (EndingState::NotYet, Some(gone), _) => (!is_held_up).then_some(gone.at + BACKGROUND_GRACE),
            (EndingState::NotYet, None, KillState::No) => self.limit,
            _ => None,
        };
        [disk, kill, due.map(|due| due.saturating_duration_since(now))].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::supervisor::kill::Kill,
        domain::outcome::{KillProof, Survivor},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn running() -> Progress<'static> {
        Progress {
            limit: None,
            killing: &KillState::No,
            child: None,
            pipes: Pipes::Open,
            has_unwritten: false,
            is_tight: false,
            report: EndingState::NotYet,
        }
    }

    fn exited(at: Instant) -> ChildExit {
        ChildExit { end: ChildEnd::Exited(3), at, by_itself: true }
    }

    fn killed(at: Instant) -> ChildExit {
        ChildExit { end: ChildEnd::Signaled(15), at, by_itself: false }
    }

    fn begun(now: Instant) -> KillState {
        KillState::Begun(Kill::begin(SECOND, now, 1), Cause::Timeout)
    }

    fn proof(ended: u32, left: u32) -> KillProof {
        let left = (0..left).map(|pid| Survivor { pid, state: "in a system call".into() }).collect();
        KillProof::new(ended, left, 0)
    }

    fn cancelled(ended: u32, left: u32) -> KillState {
        KillState::Done(
            proof(ended, left),
            Cause::Cancel(Order { by: "ana".into(), seal: Some([7; 32].into()) }),
        )
    }

    #[test]
    fn a_command_has_run_too_long_from_its_limit_on_unless_it_has_ended_or_is_killed_already() {
        let now = Instant::now();
        let limited = Progress { limit: Some(now + SECOND), ..running() };
        assert!(!limited.has_run_too_long(now));
        assert!(limited.has_run_too_long(now + SECOND));
        assert!(!running().has_run_too_long(now + SECOND));
        let late = now + 5 * SECOND;
        assert!(!Progress { child: Some(exited(now)), ..limited }.has_run_too_long(late));
        assert!(!Progress { killing: &begun(now), ..limited }.has_run_too_long(late));
        assert!(!Progress { killing: &cancelled(1, 1), ..limited }.has_run_too_long(late));
        let told = Progress { report: EndingState::Written, ..limited };
        assert!(!told.has_run_too_long(late), "what withstood KILL is not killed again");
        assert_eq!(told.next_check(late), None);
    }

    #[test]
    fn it_is_over_when_its_pipes_are_closed_or_only_its_children_hold_them_for_long_enough() {
        let now = Instant::now();
        let over = |progress: Progress<'_>, at| progress.is_over(now + at);
        let gone = Progress { child: Some(exited(now)), ..running() };
        let closed = Progress { pipes: Pipes::Closed, ..gone };
        let owed = Progress { pipes: Pipes::Owed, ..gone };
        assert!(!over(running(), 9 * SECOND), "it runs");
        assert!(
            !over(Progress { pipes: Pipes::Closed, ..running() }, 9 * SECOND),
            "it has closed its pipes itself"
        );
        assert!(over(closed, Duration::ZERO));
        assert!(!over(gone, Duration::ZERO));
        assert!(!over(gone, BACKGROUND_GRACE * 99 / 100));
        assert!(over(gone, BACKGROUND_GRACE));
        assert!(!over(owed, 2 * BACKGROUND_GRACE), "what it printed itself comes first");
        assert!(
            !over(Progress { has_unwritten: true, ..closed }, 2 * BACKGROUND_GRACE),
            "the disk does not take it"
        );
        assert!(
            !over(Progress { killing: &begun(now), ..closed }, 2 * BACKGROUND_GRACE),
            "the proof is not there yet"
        );
        assert!(
            !over(Progress { report: EndingState::Unwritten, ..closed }, 2 * BACKGROUND_GRACE),
            "only once"
        );
        assert!(
            !over(Progress { report: EndingState::Written, ..closed }, 2 * BACKGROUND_GRACE),
            "only once"
        );
        assert!(
            !over(Progress { killing: &cancelled(1, 0), ..running() }, SECOND),
            "its exit is about to be seen"
        );
        assert!(over(Progress { killing: &cancelled(1, 1), ..running() }, SECOND), "KILL does not help");
        assert!(!over(Progress { killing: &cancelled(1, 1), ..owed }, 2 * BACKGROUND_GRACE));
    }

    #[test]
    fn an_order_is_how_it_ended_only_where_it_ended_anything_of_the_command() {
        let now = Instant::now();
        let ending = |killing: &KillState, child| Progress { killing, child, ..running() }.ending();
        let own = Some(Ending::Exited(3));
        let cancel = |ended, left| {
            Some(Ending::Cancelled {
                proof: Some(proof(ended, left)),
                by: "ana".into(),
                seal: Some([7; 32].into()),
            })
        };
        assert_eq!(ending(&KillState::No, None), None);
        assert_eq!(ending(&KillState::No, Some(exited(now))), own);
        assert_eq!(
            ending(&KillState::No, Some(killed(now))),
            Some(Ending::Signaled(15)),
            "somebody else killed it"
        );
        assert_eq!(ending(&cancelled(2, 0), Some(killed(now))), cancel(2, 0));
        assert_eq!(ending(&cancelled(0, 1), None), cancel(0, 1));
        assert_eq!(ending(&cancelled(2, 0), Some(exited(now))), own, "its children were killed");
        assert_eq!(
            ending(&cancelled(0, 0), Some(killed(now))),
            Some(Ending::Signaled(15)),
            "nothing was left to kill"
        );
        let late = KillState::Done(proof(2, 0), Cause::Timeout);
        assert_eq!(ending(&late, Some(killed(now))), Some(Ending::TimedOut(proof(2, 0))));
        assert_eq!(ending(&late, Some(exited(now))), own);
    }

    #[test]
    fn a_task_is_done_when_its_ending_is_written_and_its_pipes_are_closed() {
        let now = Instant::now();
        let done = Progress {
            report: EndingState::Written,
            pipes: Pipes::Closed,
            child: Some(exited(now)),
            ..running()
        };
        assert!(done.is_done());
        assert!(!Progress { report: EndingState::NotYet, ..done }.is_done());
        assert!(!Progress { report: EndingState::Unwritten, ..done }.is_done());
        assert!(!Progress { pipes: Pipes::Open, ..done }.is_done(), "its children may be cancelled");
        assert!(!Progress { killing: &begun(now), ..done }.is_done());
    }

    #[test]
    fn it_is_looked_at_when_something_is_due_and_not_before() {
        let now = Instant::now();
        let look = |progress: Progress<'_>| progress.next_check(now);
        let (gone, limited) = (
            Progress { child: Some(exited(now)), ..running() },
            Progress { limit: Some(now + SECOND / 2), ..running() },
        );
        assert_eq!(look(running()), None);
        assert_eq!(look(limited), Some(SECOND / 2));
        assert_eq!(limited.next_check(now + SECOND), Some(Duration::ZERO));
        assert_eq!(
            look(Progress { child: Some(exited(now)), ..limited }),
            Some(BACKGROUND_GRACE),
            "no limit any more"
        );
        assert_eq!(look(Progress { killing: &begun(now), ..limited }), Some(KILL_STEP_INTERVAL));
        assert_eq!(look(Progress { killing: &cancelled(1, 1), ..limited }), None);
        assert_eq!(look(gone), Some(BACKGROUND_GRACE));
        assert_eq!(look(Progress { pipes: Pipes::Owed, ..gone }), None, "what is owed wakes by being there");
        assert_eq!(look(Progress { report: EndingState::Written, ..gone }), None);
        assert_eq!(look(Progress { killing: &begun(now), ..gone }), Some(KILL_STEP_INTERVAL));
        assert_eq!(gone.next_check(now + BACKGROUND_GRACE), Some(Duration::ZERO));
        let killing = Progress { killing: &begun(now), ..gone };
        assert_eq!(
            killing.next_check(now + BACKGROUND_GRACE),
            Some(KILL_STEP_INTERVAL),
            "no wake-up after the other while it is killed"
        );
        for held in [
            Progress { has_unwritten: true, ..gone },
            Progress { report: EndingState::Unwritten, ..gone },
            Progress { is_tight: true, ..running() },
        ] {
            assert_eq!(held.next_check(now + BACKGROUND_GRACE), Some(DISK_RETRY));
        }
    }
}
