//! Killing a task with proof: TERM, a grace, KILL, until nothing is left below this process, and a count of it.
//!
//! Runs in the task's own process, which is the subreaper of all that the command ever started.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    domain::outcome::{KillProof, Survivor},
    sys::process::{children, descendants, has_children},
};

/// How long KILL is repeated before what still lives is named as left over.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);
/// How often the tree is walked while it is being killed.
pub const STEP: Duration = Duration::from_millis(10);

/// A kill under way.
#[derive(Debug)]
pub struct Kill {
    kill_at: Instant,
    seen: HashSet<(i32, u64)>,
    told: HashSet<(i32, u64)>,
}

impl Kill {
    /// Begins a kill. The first [`Self::step`] sends TERM.
    #[must_use]
    pub fn begin(grace: Duration, now: Instant) -> Self {
        Self { kill_at: now + grace, seen: HashSet::new(), told: HashSet::new() }
    }

    /// Brings the KILL forward.
    pub fn hurry(&mut self, grace: Duration, now: Instant) {
        self.kill_at = self.kill_at.min(now + grace);
    }

    /// Walks the tree once; the proof when nothing is left of it, or when KILL does not help.
    pub fn step(&mut self, now: Instant) -> Option<KillProof> {
        let alive = descendants();
        for process in &alive {
            let key = (process.pid, process.started);
            self.seen.insert(key);
            if now >= self.kill_at {
                process.signal(&[Signal::SIGKILL]);
            } else if self.told.insert(key) {
                // A stopped process would sit on its TERM for ever.
                process.signal(&[Signal::SIGTERM, Signal::SIGCONT]);
            }
        }
        // A walk may miss some: it is no snapshot, and `/proc` may hide other users' processes. That nothing is left is
        // believed of the kernel alone, which knows what this subreaper has below it.
        let is_over = alive.is_empty() && !has_children();
        if !is_over && now < self.kill_at + GIVE_UP_AFTER {
            return None;
        }
        let mut left: Vec<Survivor> = alive
            .iter()
            .map(|process| Survivor {
                pid: process.pid.unsigned_abs(),
                state: process.state_word().to_owned(),
            })
            .collect();
        if !is_over && left.is_empty() {
            let hidden =
                |pid: i32| Survivor { pid: pid.unsigned_abs(), state: "hidden from the agent".to_owned() };
            left.extend(children().into_iter().map(hidden));
        }
        let ended = self.seen.len().saturating_sub(left.len());
        Some(KillProof { ended: u32::try_from(ended).unwrap_or(u32::MAX), left })
    }
}

/// Why the tree is being killed.
#[derive(Debug)]
pub(super) enum Cause {
    Timeout,
    Cancel(String),
}

/// How far the killing of a task's tree is.
#[derive(Debug)]
pub(super) enum Killing {
    No,
    Begun(Kill, Cause),
    Done(KillProof, Cause),
}

impl Killing {
    /// Takes an order, which may come twice: what it has ended stays ended by it.
    pub(super) fn order(&mut self, by: String, grace: Duration, now: Instant) {
        match self {
            Self::Begun(kill, _) => kill.hurry(grace, now),
            Self::Done(proof, _) if proof.left.is_empty() => {}
            Self::No | Self::Done(..) => *self = Self::Begun(Kill::begin(grace, now), Cause::Cancel(by)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_comes_when_the_grace_is_over_and_an_order_can_only_bring_it_forward() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let mut kill = Kill::begin(seconds(10), now);
        assert_eq!(kill.kill_at, now + seconds(10));
        kill.hurry(seconds(20), now);
        assert_eq!(kill.kill_at, now + seconds(10));
        kill.hurry(seconds(3), now);
        assert_eq!(kill.kill_at, now + seconds(3));
    }

    #[test]
    fn what_withstood_a_kill_is_killed_again_when_that_is_asked_for() {
        let left = vec![Survivor { pid: 7, state: "in a system call".into() }];
        let mut killing = Killing::Done(KillProof { ended: 3, left }, Cause::Cancel("ana".into()));
        killing.order("bob".into(), Duration::ZERO, Instant::now());
        assert!(matches!(killing, Killing::Begun(_, Cause::Cancel(by)) if by == "bob"));
    }

    #[test]
    fn an_order_that_comes_again_does_not_take_the_proof_from_the_first() {
        let proof = KillProof { ended: 3, left: Vec::new() };
        let mut killing = Killing::Done(proof.clone(), Cause::Cancel("ana".to_owned()));
        killing.order("ana".to_owned(), Duration::from_secs(5), Instant::now());
        assert!(matches!(killing, Killing::Done(kept, _) if kept == proof));
    }
}
