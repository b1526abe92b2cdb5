//! A reserve of process ids: a child of the supervisor, whose threads occupy ids and do nothing. When the
//! machine, or the agent's share of it, has no free ids, the child is killed, so that the agent can still run
//! a command that fixes the problem.
//!
//! Does not depend on commands.

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

/// The number of reserved process ids: for a shim, a shell, and some programs that the shell starts.
const RESERVED_IDS: usize = 8;
/// The stack size of a thread, in bytes. The threads only sleep.
const STACK_BYTES: usize = 16 * 1024;
/// The pause before the reserve is taken again after a release or a failure: the machine needs the ids.
const RETAKE_DELAY: Duration = Duration::from_secs(30);

/// The reserve of process ids.
#[derive(Debug)]
pub(super) struct Reserve {
    child: Option<Pid>,
    /// When to take the reserve, if it is not held.
    due: Instant,
    /// Whether the reserve is never taken.
    is_disabled: bool,
}

impl Reserve {
    /// Returns a reserve that is not held yet. It is due immediately, unless it `is_disabled`.
    pub(super) fn new(now: Instant, is_disabled: bool) -> Self {
        Self { child: None, due: now, is_disabled }
    }

    /// Takes the reserve if that is due. Returns true if it was taken now.
    pub(super) fn adjust(&mut self, now: Instant) -> bool {
        if self.is_disabled || self.child.is_some() || now < self.due {
            return false;
        }
        self.due = now + RETAKE_DELAY;
        let supervisor = getpid();
        match fork() {
            Ok(Forked::Child) => occupy_ids(supervisor),
            Ok(Forked::Parent(pid)) => {
                self.child = Some(pid);
                true
            }
            Err(_) => false,
        }
    }

    /// Releases the reserve. Returns false if it was not held.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        self.due = now + RETAKE_DELAY;
        let Some(child) = self.child.take() else { return false };
        // Waits for the child, since its ids are in use until it is reaped.
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
        true
    }

    /// Notes that a process has ended, in case it is the child.
    pub(super) fn ended(&mut self, pid: i32) {
        self.child.take_if(|child| child.as_raw() == pid);
    }

    /// Returns the time until [`Self::adjust`] is due; `None` if the reserve is held or off.
    pub(super) fn next_check(&self, now: Instant) -> Option<Duration> {
        (self.child.is_none() && !self.is_disabled).then(|| self.due.saturating_duration_since(now))
    }
}

/// Reports whether an error means that there are no free process ids.
pub(super) fn is_out_of_processes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Occupies the ids, in the child, until the supervisor kills it or ends.
fn occupy_ids(supervisor: Pid) -> ! {
    // Among others, the supervisor's lock and sockets.
    close_inherited();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    // The supervisor may have ended before the signal was requested.
    if getppid() != supervisor {
        std::process::exit(0);
    }
    let _ = SigSet::all().thread_unblock();
    for _ in 1..RESERVED_IDS {
        let idle = || loop {
            std::thread::park();
        };
        let _ = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(idle);
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
        assert_eq!(Reserve::new(now, true).next_check(now), None);
        let mut reserve = Reserve::new(now, false);
        assert_eq!(reserve.next_check(now), Some(Duration::ZERO));
        assert!(!reserve.release(now), "nothing is held");
        assert!(!reserve.adjust(now), "not at once");
        assert_eq!(reserve.next_check(now), Some(RETAKE_DELAY));
        reserve.child = Some(Pid::from_raw(7));
        assert_eq!(reserve.next_check(now), None);
        assert!(!reserve.adjust(now + RETAKE_DELAY), "it is held");
        reserve.ended(8);
        assert!(reserve.child.is_some());
        reserve.ended(7);
        assert!(reserve.child.is_none());
    }

    #[test]
    fn a_lack_of_process_ids_is_distinguished_from_other_errors() {
        assert!(is_out_of_processes(&nix::errno::Errno::EAGAIN.into()));
        assert!(!is_out_of_processes(&nix::errno::Errno::ENOENT.into()));
    }
}
