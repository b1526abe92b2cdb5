//! A shim: a process that runs one task after the other, each in a directory of its own.
//!
//! The supervisor usually forks it before there is a task: a new process takes longer to start and to touch
//! its memory for the first time than many commands take to run. With a task it depends on no other process;
//! without one it ends with its supervisor.

use std::{
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{getpid, setsid},
};

use super::{
    command::{Account, rehearse},
    listener::Client,
    protocol::{Lines, ShimOrder, ShimReport, StartTask, TaskRecord, TaskReply, TaskRequest, line},
    staging::{self, StagingDirectory},
    task::{self, ClaimedTask, ShimResources},
};
use crate::{
    agent::{finished::is_recorded, incarnation::keep_promises_out, layout::Layout},
    domain::{frame::MAX_PAYLOAD, ids::TaskId, time::UnixMs},
    sys::{
        clock::{self, boottime_ns},
        process::has_children,
    },
};

/// How long a shim waits before it reports that it is free, if its job may have tasks on other agents, too.
/// The report wakes the supervisor, and the tasks of other agents on the same machine have priority.
const FREE_REPORT_DELAY: Duration = Duration::from_millis(300);

/// The state of a shim that all of its tasks share.
pub(super) struct Shim<'a> {
    /// The paths of the agent's files.
    pub(super) layout: &'a Layout,
    /// The user as which commands run.
    pub(super) account: &'a Account,
    /// The kernel's boot id.
    pub(super) boot: &'a str,
    /// The socket to the supervisor, which closes it to end the shim.
    pub(super) supervisor: UnixStream,
}

impl Shim<'_> {
    /// Runs tasks until one of them leaves processes behind, or the supervisor closes the socket. The caller
    /// is a new fork, and exits when this returns.
    ///
    /// # Errors
    /// When the process cannot be set up, or cannot wait for events; its task is lost then.
    pub(super) fn run(self) -> io::Result<()> {
        setsid()?;
        prctl::set_child_subreaper(true)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        // TERM, too: when a service manager ends all processes, this one still reports how the command ended.
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let mut orders = Lines::default();
        let mut buffer = Vec::with_capacity(MAX_PAYLOAD);
        rehearse(self.account);
        loop {
            let place = match StagingDirectory::make(self.layout, getpid().as_raw()) {
                Ok(place) => place,
                Err(error) => {
                    self.report(&ShimReport::Failed { reason: error.to_string() });
                    return Ok(());
                }
            };
            self.report(&ShimReport::Ready);
            let Some((start, client)) = self.wait_for_start(&place)? else {
                place.remove();
                return Ok(());
            };
            let Some(beginning) = self.begin(place, start, client, boottime_ns) else { continue };
            let is_alone = beginning.record.spec.target == beginning.record.agent;
            let tools = ShimResources { account: self.account, signals: &signals, buffer: &mut buffer };
            let busy = || self.report(&ShimReport::Busy);
            task::run(beginning, tools, busy, || self.report(&ShimReport::NoProcess))?;
            if has_children() {
                // The processes that are left must not become descendants of another task.
                return Ok(());
            }
            if !is_alone {
                self.wait_unless_the_supervisor_ends(FREE_REPORT_DELAY);
            }
            self.report(&ShimReport::Free);
            if !self.wait_for_order(&mut orders)? {
                return Ok(());
            }
        }
    }

    /// Sends a report to the supervisor. An error is ignored, since the supervisor has ended then.
    fn report(&self, report: &ShimReport) {
        let _ = (&self.supervisor).write_all(&line(report));
    }

    /// Begins the task by renaming the directory to its id. Returns `None` if the task did not begin. The
    /// client gets the reason, unless the directory was removed, so that the client has to try another shim.
    /// `now` returns nanoseconds since boot.
    fn begin(
        &self,
        mut place: StagingDirectory,
        start: StartTask,
        client: Client,
        now: impl Fn() -> u64,
    ) -> Option<ClaimedTask> {
        let StartTask { id, spec, agent, start_until_ns } = start;
        let is_too_late = || start_until_ns.is_some_and(|until| now() > until);
        if is_too_late() {
            place.remove();
            client.answer(&TaskReply::Expired);
            return None;
        }
        let record = TaskRecord {
            id,
            spec,
            agent,
            boot: self.boot.to_owned(),
            started_unix_ms: UnixMs(clock::unix_ms()),
            started_boottime_ns: boottime_ns(),
        };
        let reply = match place.claim(self.layout, id, &line(&record)) {
            // The disk was slow. Nothing was started, and without its directory the task counts as never
            // started.
            Ok(Some(layout)) if is_too_late() => {
                let _ = staging::remove(&layout);
                TaskReply::Expired
            }
            // While this process was stopped, the connector has ended and another one may have promised the
            // master that the task is never started.
            Ok(Some(layout)) if client.is_gone() && !self.may_still_begin(id) => {
                let _ = staging::remove(&layout);
                return None;
            }
            Ok(Some(layout)) => return Some(ClaimedTask { record, layout, place, client }),
            Ok(None) => TaskReply::Known,
            // The tasks directory was removed, and the directory of this shim with it. The client tries
            // another shim.
            Err(_) if place.is_gone() => return None,
            Err(error) => TaskReply::Failed { reason: error.to_string() },
        };
        place.remove();
        client.answer(&reply);
        None
    }

    /// Reports whether nothing is recorded against the start of a task that has its directory. False if the
    /// disk cannot be read. Keeps promises out meanwhile: one that is written later finds the directory.
    fn may_still_begin(&self, id: TaskId) -> bool {
        let Ok(_lock) = keep_promises_out(&self.layout.directory_id()) else { return false };
        let records = [Some(self.layout.finished()), self.layout.emergency_finished()];
        records.into_iter().flatten().all(|path| is_recorded(&path, id).is_ok_and(|recorded| !recorded))
    }

    /// Waits for the next task. Returns it and the client that sent it; `None` if the supervisor has closed
    /// the socket.
    fn wait_for_start(&self, place: &StagingDirectory) -> io::Result<Option<(StartTask, Client)>> {
        let mut clients: Vec<Client> = Vec::new();
        loop {
            let mut fds = vec![
                PollFd::new(self.supervisor.as_fd(), PollFlags::POLLIN),
                PollFd::new(place.listener.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(clients.iter().map(|client| PollFd::new(client.socket.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|entry| entry.any() == Some(true)).collect();
            for index in (0..clients.len()).rev().filter(|index| ready[index + 2]) {
                match start_of(&mut clients[index]) {
                    Ok(Some(start)) => return Ok(Some((start, clients.swap_remove(index)))),
                    Ok(None) => {}
                    Err(_) => drop(clients.swap_remove(index)),
                }
            }
            if ready[1]
                && let Ok((socket, _)) = place.listener.accept()
            {
                socket.set_nonblocking(true)?;
                clients.push(Client::new(socket));
            }
            // The supervisor sends no orders to a shim that waits for a task, so this is the end of the
            // stream.
            if ready[0] {
                return Ok(None);
            }
        }
    }

    fn wait_unless_the_supervisor_ends(&self, time: Duration) {
        // Only the end of the stream is expected on this socket. Anything else shortens the pause, which is
        // harmless.
        let mut line = [PollFd::new(self.supervisor.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut line, PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO));
    }

    /// Waits for the order to prepare for another task. Returns false if the supervisor has closed the
    /// socket.
    fn wait_for_order(&self, orders: &mut Lines) -> io::Result<bool> {
        loop {
            if let Some(ShimOrder::Prepare) = orders.take()? {
                return Ok(true);
            }
            if !orders.read_from(&self.supervisor)? {
                return Ok(false);
            }
        }
    }
}

/// Reads from a client. Returns the task when its line is complete; an error if the client is gone or sends
/// another request.
fn start_of(client: &mut Client) -> io::Result<Option<StartTask>> {
    if !client.lines.read_from(&client.socket)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match client.lines.take()? {
        Some(TaskRequest::Start(start)) => Ok(Some(*start)),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::*;
    use crate::{
        agent::{core::FinalRecord, finished::FinishedTasks, incarnation::DirectoryId},
        domain::{
            command::TaskSpec,
            ids::{Incarnation, JobId},
        },
        sys::disk::Disk,
    };

    fn id() -> TaskId {
        TaskId { job: JobId::from_parts(1, 1), index: 0 }
    }

    /// Lets a shim begin a task whose permission expires at 100 ns, with a clock that returns `moments` in
    /// order. Returns whether the task began, and the reply to the client.
    fn begin(layout: &Layout, moments: &[u64], before: impl FnOnce()) -> (bool, Option<TaskReply>) {
        let account = Account::look_up();
        let shim =
            Shim { layout, account: &account, boot: "boot", supervisor: UnixStream::pair().unwrap().0 };
        let place = StagingDirectory::make(layout, 1).unwrap();
        let start =
            StartTask { id: id(), spec: TaskSpec::example(), agent: "a".into(), start_until_ns: Some(100) };
        let (socket, connector) = UnixStream::pair().unwrap();
        let looks = Cell::new(0);
        let now = || {
            looks.set(looks.get() + 1);
            moments[looks.get() - 1]
        };
        before();
        let has_begun = shim.begin(place, start, Client::new(socket), now).is_some();
        let mut lines = Lines::default();
        let is_told = lines.read_from(&connector).unwrap();
        (has_begun, is_told.then(|| lines.take().unwrap().unwrap()))
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::with_emergency(dir.path(), dir.path().join("memory"));
        fs::create_dir(layout.tasks()).unwrap();
        (dir, layout)
    }

    #[test]
    fn a_task_begins_until_its_permission_expires_and_not_after_a_slow_disk() {
        for (moments, begins) in [(&[99, 100][..], true), (&[101], false), (&[100, 101], false)] {
            let (_dir, layout) = layout();
            let (has_begun, told) = begin(&layout, moments, || {});
            assert_eq!(has_begun, begins, "{moments:?}");
            assert_eq!(layout.task(id()).root().exists(), begins, "{moments:?}");
            assert!(!layout.spare(1).root().exists());
            assert_eq!(matches!(told, Some(TaskReply::Expired)), !begins, "{moments:?}: {told:?}");
        }
    }

    #[test]
    fn a_shim_whose_place_was_removed_says_nothing_so_that_another_one_is_asked() {
        let (_dir, layout) = layout();
        let (has_begun, told) = begin(&layout, &[0, 0], || fs::remove_dir_all(layout.tasks()).unwrap());
        assert!(!has_begun);
        assert!(told.is_none(), "{told:?}");
    }

    #[test]
    fn a_task_that_has_a_directory_is_known_and_begins_no_second_time() {
        let (_dir, layout) = layout();
        assert!(begin(&layout, &[0, 0], || {}).0);
        let (has_begun, told) = begin(&layout, &[0, 0], || {});
        assert!(!has_begun);
        assert!(matches!(told, Some(TaskReply::Known)), "{told:?}");
    }

    #[test]
    fn a_task_of_a_connector_that_is_gone_begins_unless_the_next_one_has_promised_that_it_will_not() {
        let promise = |layout: &Layout| {
            let record = FinalRecord::NeverStarted(Incarnation::new("dir", "boot"));
            let mut finished = FinishedTasks::open(&Disk::default(), &layout.finished(), 1).unwrap();
            finished.insert(id(), 1, record).unwrap();
        };
        for (is_promised, begins) in [(false, true), (true, false)] {
            let (_dir, layout) = layout();
            let account = Account::look_up();
            let shim = Shim {
                layout: &layout,
                account: &account,
                boot: "boot",
                supervisor: UnixStream::pair().unwrap().0,
            };
            let place = StagingDirectory::make(&layout, 1).unwrap();
            let start =
                StartTask { id: id(), spec: TaskSpec::example(), agent: "a".into(), start_until_ns: None };
            let client = Client::new(UnixStream::pair().unwrap().0);
            DirectoryId::open(&layout, true).unwrap();
            if is_promised {
                promise(&layout);
            }
            assert_eq!(shim.begin(place, start, client, || 0).is_some(), begins);
            assert_eq!(layout.task(id()).root().exists(), begins);
        }
    }

    #[test]
    fn a_shim_continues_when_its_supervisor_wants_it_to_and_ends_with_it() {
        let (supervisor, end) = UnixStream::pair().unwrap();
        let (_dir, layout) = layout();
        let account = Account::look_up();
        let shim = Shim { layout: &layout, account: &account, boot: "boot", supervisor };
        let mut orders = Lines::default();
        (&end).write_all(&line(&ShimOrder::Prepare)).unwrap();
        assert!(shim.wait_for_order(&mut orders).unwrap());
        drop(end);
        assert!(!shim.wait_for_order(&mut orders).unwrap());
    }
}
