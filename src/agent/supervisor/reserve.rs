//! Room for processes that the supervisor holds: a child whose threads take process ids and do nothing. When the machine, or the
//! agent's share of it, has no further ids, the child ends, and the agent can still run a command that repairs that.
//!
//! Knows nothing of commands.

use std::{
    io,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, getpid, getppid, pause},
};

use crate::sys::process::{Forked, close_inherited, fork};

/// Process ids that are held: for a shim, a shell, and some programs that it starts.
const HELD: usize = 8;
/// A thread's stack: it needs next to none.
const STACK: usize = 16 * 1024;
/// How long what was given up is not taken again: the machine needs it.
const TAKE_AGAIN: Duration = Duration::from_secs(30);

/// What is held.
#[derive(Debug)]
pub(super) struct Reserve {
    child: Option<Pid>,
    /// When it is tried to take it, where it is not held.
    due: Instant,
    /// It is never taken.
    is_off: bool,
}

impl Reserve {
    /// Nothing yet; due at once, unless it `is_off`.
    pub(super) fn new(now: Instant, is_off: bool) -> Self {
        Self { child: None, due: now, is_off }
    }

    /// Takes it where it is due. True when it was not held and is now.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        if self.is_off || self.child.is_some() || now < self.due {
            return false;
        }
        self.due = now + TAKE_AGAIN;
        let supervisor = getpid();
        match fork() {
            Ok(Forked::Child) => hold(supervisor),
            Ok(Forked::Parent(pid)) => {
                self.child = Some(pid);
                true
            }
            Err(_) => false,
        }
    }

    /// Gives it up. False when it was not held.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        self.due = now + TAKE_AGAIN;
        let Some(child) = self.child.take() else { return false };
        // Killed and waited for, or its ids would still be taken.
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
        true
    }

    /// Notes that a process has ended, where it is the child.
    pub(super) fn ended(&mut self, pid: i32) {
        self.child.take_if(|child| child.as_raw() == pid);
    }

    /// After what time [`Self::settle`] is due.
    pub(super) fn next_look(&self, now: Instant) -> Option<Duration> {
        (self.child.is_none() && !self.is_off).then(|| self.due.saturating_duration_since(now))
    }
}

/// Whether an error says that there are no further process ids.
pub(super) fn is_short(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Holds the ids, in the child, until the supervisor ends it or is gone.
fn hold(supervisor: Pid) -> ! {
    // The supervisor's lock and sockets among them.
    close_inherited();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    // It may be gone already.
    if getppid() != supervisor {
        std::process::exit(0);
    }
    let _ = SigSet::all().thread_unblock();
    for _ in 1..HELD {
        let idle = || loop {
            std::thread::park();
        };
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(idle);
    }
    loop {
        pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_taken_again_after_a_while() {
        let now = Instant::now();
        assert_eq!(Reserve::new(now, true).next_look(now), None);
        let mut reserve = Reserve::new(now, false);
        assert_eq!(reserve.next_look(now), Some(Duration::ZERO));
        assert!(!reserve.give_up(now), "nothing is held");
        assert!(!reserve.settle(now), "not at once");
        assert_eq!(reserve.next_look(now), Some(TAKE_AGAIN));
        reserve.child = Some(Pid::from_raw(7));
        assert_eq!(reserve.next_look(now), None);
        assert!(!reserve.settle(now + TAKE_AGAIN), "it is held");
        reserve.ended(8);
        assert!(reserve.child.is_some());
        reserve.ended(7);
        assert!(reserve.child.is_none());
    }

    #[test]
    fn no_room_for_a_process_is_told_from_other_troubles() {
        assert!(is_short(&nix::errno::Errno::EAGAIN.into()));
        assert!(!is_short(&nix::errno::Errno::ENOENT.into()));
    }
}
