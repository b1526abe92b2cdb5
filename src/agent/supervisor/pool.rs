//! The pool of shims: how many are ready, which ones prepare for a task, and which ones end. Does not depend
//! on tasks.

use std::{
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use super::{
    protocol::{Lines, ShimOrder, ShimReport, line},
    staging,
};
use crate::{
    agent::layout::Layout,
    sys::process::{Forked, fork},
};

/// The number of shims that wait for tasks while commands keep coming: they often come in short bursts.
const READY_SHIMS: usize = 2;
/// How long the supervisor must be idle before it prepares a shim for a later task: commands that run, of
/// this agent or of others on the same machine, have priority.
const PREPARE_AFTER: Duration = Duration::from_secs(1);
/// The same if no shim is ready or preparing. Commands in sequence leave no more time than this, and the end
/// of the last command has been reported by then.
const PREPARE_SOON: Duration = Duration::from_millis(2);
/// How long shims wait for another task after the last one: they must not burden an idle machine.
const KEEP_READY_FOR: Duration = Duration::from_mins(1);

/// The state of a shim, as it last reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShimState {
    /// The shim prepares for a task.
    Preparing,
    /// The shim waits for a task, or has just begun one.
    Ready,
    /// The shim runs a task, or is about to end.
    Busy,
    /// The shim has finished its task, and waits for an order to prepare.
    Free,
}

#[derive(Debug)]
struct Shim {
    pid: i32,
    /// A shim without a task ends when this is closed.
    socket: UnixStream,
    lines: Lines,
    standing: ShimState,
}

/// A report of a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PoolEvent {
    /// The shim with this process id waits for a task.
    Ready(i32),
    /// A shim could not prepare for a task, for this reason.
    Failed(String),
    /// A shim could not start its command: there are no free process ids.
    NoProcess,
}

/// The shims of a supervisor, and whether the machine can create more of them.
#[derive(Debug)]
pub(super) struct Pool {
    layout: Layout,
    shims: Vec<Shim>,
    /// When a shim was last known to have a task, or was last requested.
    last_task: Option<Instant>,
    /// False after a shim could not be created or prepared, until the next request for one.
    can_fork: bool,
}

impl Pool {
    /// Returns an empty pool.
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, shims: Vec::new(), last_task: None, can_fork: true }
    }

    /// Reports whether there is no shim in any state.
    pub(super) fn is_empty(&self) -> bool {
        self.shims.is_empty()
    }

    fn count(&self, standings: &[ShimState]) -> usize {
        self.shims.iter().filter(|shim| standings.contains(&shim.standing)).count()
    }

    /// Returns the number of shims that are ready or preparing.
    fn available(&self) -> usize {
        self.count(&[ShimState::Preparing, ShimState::Ready])
    }

    /// Returns the number of surplus shims without a task.
    fn spare(&self) -> usize {
        let idle = self.available() + self.count(&[ShimState::Free]);
        idle.saturating_sub(if self.expects_more() { READY_SHIMS } else { 0 })
    }

    /// Reports whether a task was started recently, so that another task is likely.
    fn expects_more(&self) -> bool {
        self.last_task.is_some_and(|last| last.elapsed() < KEEP_READY_FOR)
    }

    /// Returns the idle time after which [`Self::adjust`] is due, if new tasks can arrive; `None` if it is
    /// not needed.
    pub(super) fn adjust_after(&self) -> Option<Duration> {
        let is_short = self.can_fork && self.expects_more() && self.available() < READY_SHIMS;
        if is_short && self.available() == 0 {
            Some(PREPARE_SOON)
        } else if is_short || self.spare() > 0 {
            Some(PREPARE_AFTER)
        } else if self.available() > 0 {
            Some(KEEP_READY_FOR)
        } else {
            None
        }
    }

    /// Ends the surplus shims, or prepares another one. In a new shim process, returns its socket to the
    /// supervisor. After a failure, no shim is prepared until the next call of [`Self::want`].
    pub(super) fn adjust(&mut self) -> Option<UnixStream> {
        let mut spare = self.spare();
        self.shims.retain(|shim| {
            let goes = spare > 0 && matches!(shim.standing, ShimState::Free | ShimState::Ready);
            spare -= usize::from(goes);
            !goes
        });
        if self.can_fork && self.expects_more() && self.available() < READY_SHIMS {
            let prepared = self.prepare();
            self.can_fork = prepared.is_ok();
            return prepared.unwrap_or(None);
        }
        None
    }

    /// Prepares another shim immediately. In a new shim process, returns its socket to the supervisor.
    ///
    /// # Errors
    /// When the kernel cannot create another process.
    pub(super) fn want(&mut self) -> io::Result<Option<UnixStream>> {
        self.can_fork = true;
        self.last_task = Some(Instant::now());
        self.prepare()
    }

    fn prepare(&mut self) -> io::Result<Option<UnixStream>> {
        if let Some(free) = self.shims.iter_mut().find(|shim| shim.standing == ShimState::Free)
            && (&free.socket).write_all(&line(&ShimOrder::Prepare)).is_ok()
        {
            free.standing = ShimState::Preparing;
            return Ok(None);
        }
        let (own, socket) = UnixStream::pair()?;
        match fork()? {
            Forked::Parent(pid) => {
                let (pid, lines, standing) = (pid.as_raw(), Lines::default(), ShimState::Preparing);
                self.shims.push(Shim { pid, socket, lines, standing });
                Ok(None)
            }
            Forked::Child => Ok(Some(own)),
        }
    }

    /// Returns the process ids of the shims that are ready.
    pub(super) fn ready(&self) -> impl Iterator<Item = i32> + '_ {
        self.shims.iter().filter(|shim| shim.standing == ShimState::Ready).map(|shim| shim.pid)
    }

    /// Returns the sockets of all shims, for polling.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.shims.iter().map(|shim| shim.socket.as_fd())
    }

    /// Reads the reports of the shims. `lines` is whether each of [`Self::sockets`] is readable.
    pub(super) fn read_reports(&mut self, lines: &[bool]) -> Vec<PoolEvent> {
        let mut news = Vec::new();
        for (shim, _) in self.shims.iter_mut().zip(lines).filter(|(_, says)| **says) {
            // A shim that has ended is removed when it is reaped.
            if !shim.lines.read_from(&shim.socket).unwrap_or(false) {
                shim.standing = ShimState::Busy;
            }
            while let Ok(Some(report)) = shim.lines.take() {
                shim.standing = match report {
                    ShimReport::Ready => {
                        news.push(PoolEvent::Ready(shim.pid));
                        ShimState::Ready
                    }
                    ShimReport::Failed { reason } => {
                        self.can_fork = false;
                        news.push(PoolEvent::Failed(reason));
                        ShimState::Busy
                    }
                    ShimReport::NoProcess => {
                        news.push(PoolEvent::NoProcess);
                        continue;
                    }
                    ShimReport::Busy => {
                        self.last_task = Some(Instant::now());
                        ShimState::Busy
                    }
                    ShimReport::Free => {
                        self.last_task = Some(Instant::now());
                        ShimState::Free
                    }
                };
            }
        }
        news
    }

    /// Removes the shim with this process id, if there is one.
    pub(super) fn ended(&mut self, pid: i32) {
        let before = self.shims.len();
        self.shims.retain(|shim| shim.pid != pid);
        if self.shims.len() < before {
            // It may have been killed while it waited for a task.
            let _ = staging::remove(&self.layout.spare(pid));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _};

    use super::*;
    use ShimState::{Busy, Free, Preparing, Ready};

    /// Returns a pool of shims in these states, with process ids from 1, and the shims' ends of the sockets.
    /// `expects_more` is whether a task was started recently.
    fn pool(standings: &[ShimState], expects_more: bool) -> (Pool, Vec<UnixStream>) {
        let mut pool = Pool::new(Layout::new(std::path::Path::new("/nowhere")));
        pool.last_task = expects_more.then(Instant::now);
        let mut ends = Vec::new();
        for (pid, standing) in (1..).zip(standings) {
            let (socket, end) = UnixStream::pair().unwrap();
            pool.shims.push(Shim { pid, socket, lines: Lines::default(), standing: *standing });
            ends.push(end);
        }
        (pool, ends)
    }

    fn standings(pool: &Pool) -> Vec<(i32, ShimState)> {
        pool.shims.iter().map(|shim| (shim.pid, shim.standing)).collect()
    }

    #[test]
    fn the_pool_is_adjusted_soon_if_shims_are_missing_and_later_if_there_are_too_many() {
        for (doing, expects_more, after) in [
            (&[][..], false, None),
            (&[Busy], false, None),
            (&[], true, Some(PREPARE_SOON)),
            (&[Busy, Busy], true, Some(PREPARE_SOON)),
            (&[Free], true, Some(PREPARE_SOON)),
            (&[Ready], true, Some(PREPARE_AFTER)),
            (&[Preparing, Busy], true, Some(PREPARE_AFTER)),
            (&[Ready, Preparing], true, Some(KEEP_READY_FOR)),
            (&[Ready, Ready, Ready], true, Some(PREPARE_AFTER)),
            (&[Ready, Ready, Free], true, Some(PREPARE_AFTER)),
            (&[Ready, Ready], false, Some(PREPARE_AFTER)),
            (&[Free], false, Some(PREPARE_AFTER)),
        ] {
            assert_eq!(pool(doing, expects_more).0.adjust_after(), after, "{doing:?} {expects_more}");
        }
        let (mut pool, _) = pool(&[], true);
        pool.can_fork = false;
        assert_eq!(pool.adjust_after(), None, "the machine gives none");
    }

    #[test]
    fn shims_that_are_not_wanted_go_and_none_that_has_something_to_do() {
        let doing = [Ready, Busy, Preparing, Free, Ready];
        let (mut idle, _ends) = pool(&doing, false);
        assert!(idle.adjust().is_none());
        assert_eq!(standings(&idle), [(2, Busy), (3, Preparing)]);

        let (mut expecting, _ends) = pool(&[Ready, Busy, Ready, Ready, Ready], true);
        assert!(expecting.adjust().is_none());
        assert_eq!(standings(&expecting), [(2, Busy), (4, Ready), (5, Ready)]);
        assert!(expecting.adjust().is_none());
        assert_eq!(standings(&expecting).len(), 3);
    }

    #[test]
    fn one_that_is_free_is_told_to_make_ready_before_a_new_one_is_made() {
        let (mut pool, mut ends) = pool(&[Busy, Ready, Free], true);
        assert!(pool.adjust().is_none());
        assert_eq!(standings(&pool), [(1, Busy), (2, Ready), (3, Preparing)]);
        let order = line(&ShimOrder::Prepare);
        let mut heard = vec![0; order.len()];
        ends[2].read_exact(&mut heard).unwrap();
        assert_eq!(heard, order);
    }

    #[test]
    fn reports_of_shims_change_their_state() {
        let (mut pool, mut ends) = pool(&[Preparing, Preparing, Ready, Busy, Preparing], false);
        let failed = ShimReport::Failed { reason: "no room".into() };
        let reports = [ShimReport::Ready, failed, ShimReport::Busy, ShimReport::Free];
        for (end, report) in ends.iter_mut().zip(&reports) {
            end.write_all(&line(report)).unwrap();
        }
        // The last shim has ended.
        ends.pop();
        assert_eq!(pool.ready().collect::<Vec<_>>(), [3]);
        let news = pool.read_reports(&[true, true, true, true, true]);
        assert_eq!(news, [PoolEvent::Ready(1), PoolEvent::Failed("no room".into())]);
        assert_eq!(standings(&pool), [(1, Ready), (2, Busy), (3, Busy), (4, Free), (5, Busy)]);
        assert_eq!(pool.ready().collect::<Vec<_>>(), [1]);
        assert!(pool.expects_more() && !pool.can_fork);
    }

    #[test]
    fn nothing_is_left_of_a_shim_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (mut pool, _ends) = pool(&[Ready, Busy], false);
        pool.layout = Layout::new(dir.path());
        for pid in [1, 2, 3] {
            fs::create_dir_all(pool.layout.spare(pid).root()).unwrap();
        }
        pool.ended(2);
        pool.ended(3);
        assert_eq!(standings(&pool), [(1, Ready)]);
        assert!(!pool.is_empty());
        let is_there = [1, 2, 3].map(|pid| pool.layout.spare(pid).root().exists());
        assert_eq!(is_there, [true, false, true], "the third is none of its shims");
        pool.ended(1);
        assert!(pool.is_empty());
    }
}
