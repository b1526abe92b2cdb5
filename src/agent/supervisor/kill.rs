//! Kills a task and proves it: sends TERM, waits for the grace, then sends KILL until this process has no
//! descendants; counts the processes.
//!
//! Runs in the task's shim, which is the subreaper of all processes that the command has started.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    domain::{
        bounded::Word,
        outcome::{KillProof, Survivor},
        seal::Seal,
    },
    sys::process::{ProcessEntry, children, descendants, has_children, own_group, signal_group, started_now},
};

/// How long KILL is repeated before the remaining processes are reported as left over.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);
/// How often the tree is walked while it is being killed.
pub(crate) const KILL_STEP_INTERVAL: Duration = Duration::from_millis(10);

/// A kill in progress.
///
/// TERM is sent only once, to the processes that exist when the kill begins. Processes that a command starts
/// during its cleanup are left alone until the grace is over.
#[derive(Debug)]
pub(crate) struct Kill {
    kill_at: Instant,
    /// When it began, in clock ticks since boot, as in field 22 of `proc_pid_stat(5)`.
    began: u64,
    /// The descendants of this process that were found: their ids and start times.
    seen: HashSet<(i32, u64)>,
    /// The process groups that have received TERM.
    signalled_groups: HashSet<i32>,
}

/// The signal for a process that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KillSignal {
    None,
    /// TERM to its whole process group.
    TermGroup,
    /// TERM to this process only.
    Term,
    Kill,
}

/// TERM, and CONT: a stopped process handles TERM only after it is continued.
const TERM: [Signal; 2] = [Signal::SIGTERM, Signal::SIGCONT];

impl Kill {
    /// Begins a kill. `ticks` is the current time in clock ticks since boot: processes that were started
    /// later get no TERM. The first [`Self::step`] sends TERM.
    #[must_use]
    pub(crate) fn begin(grace: Duration, now: Instant, ticks: u64) -> Self {
        Self { kill_at: now + grace, began: ticks, seen: HashSet::new(), signalled_groups: HashSet::new() }
    }

    /// Shortens the grace to `grace` from `now`. Never extends it.
    pub(crate) fn shorten_grace(&mut self, grace: Duration, now: Instant) {
        self.kill_at = self.kill_at.min(now + grace);
    }

    /// Walks the process tree once and sends the signals that are due. Returns the proof when no process is
    /// left, or when KILL has no effect.
    pub(crate) fn step(&mut self, now: Instant) -> Option<KillProof> {
        let (alive, own_group) = (descendants(), own_group());
        let is_first = self.seen.is_empty();
        for process in &alive {
            match self.notice(process, own_group, is_first, now) {
                KillSignal::None => {}
                KillSignal::TermGroup => signal_group(process.group, &TERM),
                KillSignal::Term => process.signal(&TERM),
                KillSignal::Kill => process.signal(&[Signal::SIGKILL]),
            }
        }
        // A walk may miss processes: it is not atomic, and `/proc` may hide the processes of other users. So
        // only the kernel, which knows the children of this subreaper, can confirm that none is left.
        let left = left(&alive, || has_children().then(children));
        self.proof(alive.len(), left, now)
    }

    /// Returns the signal for a process that was found. The processes of the first walk existed when the kill
    /// began. A process that a later walk finds also existed then if its start time is earlier. A group is
    /// signalled as a whole.
    fn notice(&mut self, process: &ProcessEntry, own_group: i32, is_first: bool, now: Instant) -> KillSignal {
        let is_new = self.seen.insert((process.pid, process.started));
        if now >= self.kill_at {
            return KillSignal::Kill;
        }
        let was_there = is_first || process.started < self.began;
        if !is_new || !was_there || self.signalled_groups.contains(&process.group) {
            return KillSignal::None;
        }
        // A process that was just started has no group of its own yet. 0 is a group outside this container; a
        // signal to group 1 would reach all processes.
        if process.group == own_group || process.group <= 1 {
            return KillSignal::Term;
        }
        self.signalled_groups.insert(process.group);
        KillSignal::TermGroup
    }

    /// Returns the proof if the kill is over. `alive` is the number of found processes that are alive, `left`
    /// are the remaining processes.
    fn proof(&self, alive: usize, left: Vec<Survivor>, now: Instant) -> Option<KillProof> {
        let ended = self.seen.len().saturating_sub(alive);
        let is_over = left.is_empty() || now >= self.kill_at + GIVE_UP_AFTER;
        is_over.then(|| KillProof::new(u32::try_from(ended).unwrap_or(u32::MAX), left, 0))
    }
}

fn survivor(pid: i32, state: &str) -> Survivor {
    Survivor { pid: pid.unsigned_abs(), state: state.into() }
}

/// Returns the remaining processes: those that the walk found, or else the children that the kernel knows and
/// `/proc` hides. Their ids may be unknown, too.
fn left(alive: &[ProcessEntry], hidden: impl FnOnce() -> Option<Vec<i32>>) -> Vec<Survivor> {
    if !alive.is_empty() {
        return alive.iter().map(|process| survivor(process.pid, process.state_word())).collect();
    }
    let Some(mut pids) = hidden() else { return Vec::new() };
    if pids.is_empty() {
        pids.push(0);
    }
    pids.into_iter().map(|pid| survivor(pid, "hidden from the agent")).collect()
}

/// An order to kill: the name of the operator, and the master's seal on the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) by: Word,
    pub(super) seal: Option<Seal>,
}

/// The reason for which the process tree is killed.
#[derive(Debug)]
pub(super) enum Cause {
    Timeout,
    Cancel(Order),
}

/// The state of the kill of a task's process tree.
#[derive(Debug)]
pub(super) enum KillState {
    No,
    Begun(Kill, Cause),
    Done(KillProof, Cause),
}

impl KillState {
    /// Handles an order to kill. An order can arrive twice: a kill that left no process keeps its proof and
    /// its cause.
    pub(super) fn order(&mut self, order: Order, grace: Duration, now: Instant) {
        match self {
            Self::Begun(kill, _) => kill.shorten_grace(grace, now),
            Self::Done(proof, _) if proof.left.is_empty() => {}
            Self::No | Self::Done(..) => {
                *self = Self::Begun(Kill::begin(grace, now, started_now()), Cause::Cancel(order));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(by: &str) -> Order {
        Order { by: by.into(), seal: None }
    }

    #[test]
    fn a_kill_comes_when_the_grace_is_over_and_an_order_can_only_bring_it_forward() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let mut kill = Kill::begin(seconds(10), now, 1);
        assert_eq!(kill.kill_at, now + seconds(10));
        kill.shorten_grace(seconds(20), now);
        assert_eq!(kill.kill_at, now + seconds(10));
        kill.shorten_grace(seconds(3), now);
        assert_eq!(kill.kill_at, now + seconds(3));
    }

    const OWN: i32 = 5;

    fn process(pid: i32, group: i32, started: u64) -> ProcessEntry {
        ProcessEntry { pid, state: 'S', group, started }
    }

    #[test]
    fn term_is_sent_once_to_existing_processes_and_kill_repeatedly_to_the_rest() {
        let now = Instant::now();
        let mut kill = Kill::begin(Duration::from_secs(1), now, 100);
        let mut first = |pid, group, started| kill.notice(&process(pid, group, started), OWN, true, now);
        assert_eq!(first(7, 7, 100), KillSignal::TermGroup, "started just before");
        assert_eq!(first(8, 7, 20), KillSignal::None, "told with its group");
        assert_eq!(first(9, 9, 20), KillSignal::TermGroup, "a group of its own");
        assert_eq!(first(10, OWN, 100), KillSignal::Term, "not the whole group of what kills");
        let almost = now + Duration::from_millis(999);
        let mut later = |pid, group, started| kill.notice(&process(pid, group, started), OWN, false, almost);
        assert_eq!(later(7, 7, 100), KillSignal::None);
        assert_eq!(later(11, 7, 100), KillSignal::None, "a handler has started it");
        assert_eq!(later(12, 12, 100), KillSignal::None, "in a group of its own, too");
        assert_eq!(later(13, 13, 99), KillSignal::TermGroup, "the first walk has missed it");
        assert_eq!(later(14, 13, 99), KillSignal::None);
        let late = now + Duration::from_secs(1);
        for _ in 0..2 {
            for (pid, group, started) in [(7, 7, 100), (11, 7, 100), (12, 12, 100), (15, 15, 200)] {
                let notice = kill.notice(&process(pid, group, started), OWN, false, late);
                assert_eq!(notice, KillSignal::Kill, "{pid}");
            }
        }
        assert_eq!(kill.seen.len(), 9);
    }

    #[test]
    fn the_proof_comes_when_nothing_is_left_or_when_kill_has_not_helped_for_long() {
        let now = Instant::now();
        let mut kill = Kill::begin(Duration::from_secs(1), now, 1);
        for pid in [7, 8, 9] {
            kill.notice(&process(pid, 7, 1), OWN, true, now);
        }
        assert_eq!(kill.proof(0, vec![], now), Some(KillProof::new(3, vec![], 0)));
        let slow = || vec![survivor(7, "disk wait")];
        let given_up = now + Duration::from_secs(1) + GIVE_UP_AFTER;
        assert_eq!(kill.proof(1, slow(), now), None);
        assert_eq!(kill.proof(1, slow(), now + Duration::from_secs(1) + GIVE_UP_AFTER * 99 / 100), None);
        assert_eq!(kill.proof(1, slow(), given_up), Some(KillProof::new(2, slow(), 0)));
        let proof = kill.proof(0, slow(), given_up);
        assert_eq!(proof, Some(KillProof::new(3, slow(), 0)), "it was never found");
    }

    #[test]
    fn left_processes_are_found_or_hidden_with_or_without_ids() {
        let found = [ProcessEntry { state: 'D', ..process(7, 7, 1) }];
        assert_eq!(left(&found, || Some(vec![8])), [survivor(7, "disk wait")]);
        assert_eq!(left(&[], || None), []);
        let pids = |pids| left(&[], || Some(pids)).iter().map(|left| left.pid).collect::<Vec<_>>();
        assert_eq!(pids(vec![7, 8]), [7, 8]);
        assert_eq!(pids(vec![]), [0]);
    }

    #[test]
    fn what_withstood_a_kill_is_killed_again_when_that_is_asked_for() {
        let left = vec![Survivor { pid: 7, state: "in a system call".into() }];
        let mut killing = KillState::Done(KillProof::new(3, left, 0), Cause::Cancel(order("ana")));
        killing.order(order("bob"), Duration::ZERO, Instant::now());
        assert!(matches!(killing, KillState::Begun(_, Cause::Cancel(by)) if by == order("bob")));
    }

    #[test]
    fn an_order_that_comes_again_does_not_take_the_proof_from_the_first() {
        let proof = KillProof::new(3, Vec::new(), 0);
        let mut killing = KillState::Done(proof.clone(), Cause::Cancel(order("ana")));
        killing.order(order("ana"), Duration::from_secs(5), Instant::now());
        assert!(matches!(killing, KillState::Done(kept, _) if kept == proof));
    }
}
