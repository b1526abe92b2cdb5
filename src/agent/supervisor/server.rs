//! The supervisor's process: listens on its socket, keeps shims ready, and reports them to the connector.
//!
//! Must not depend on the wire protocol, tokio or any task: the connector sends tasks directly to the shims.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::DirBuilderExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    command::Account,
    lifetime::Lifetime,
    pool::{Pool, PoolEvent},
    protocol::{Lines, SupervisorReply, SupervisorRequest, TaskRequest, line},
    reserve::{Reserve, is_out_of_processes},
    shim::Shim,
    staging,
};
use crate::{
    agent::{
        emergency::is_disk_failure,
        layout::{Area, Layout, SUPERVISOR_SOCKET},
    },
    domain::{SOFTWARE_VERSION, ids::TaskId, outcome::AGENT_STOP},
    sys::{
        lock::{self, Lock},
        process::{boot_id, give_back_memory, reap},
        socket,
    },
};

/// How long to wait for an earlier supervisor to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between TERM and KILL for tasks that still run after the grace of the stop, in milliseconds.
const KILL_GRACE_MS: u32 = 1_000;

/// Runs a supervisor until neither a connector nor a task needs it. In a forked shim, runs the shim's tasks instead.
///
/// # Errors
/// When another supervisor has locked the directory, or the directory cannot be used.
pub(crate) fn run(layout: &Layout, ready: impl FnOnce()) -> io::Result<()> {
    let mut lock = take_lock(layout)?;
    lock.write_pid()?;
    DirBuilder::new().recursive(true).mode(0o700).create(layout.tasks())?;
    remove_left_over(layout)?;
    let listener = listen(layout)?;
    listener.set_nonblocking(true)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    ready();
    let supervisor = Supervisor {
        layout: layout.clone(),
        listener,
        signals,
        clients: Vec::new(),
        lifetime: Lifetime::begin(Instant::now()),
        pool: Pool::new(layout.clone()),
        reserve: Reserve::new(Instant::now(), layout.is_one_of_many()),
    };
    let (account, boot) = (Account::look_up(), boot_id()?);
    give_back_memory();
    // A new shim drops everything that belongs to the supervisor before it begins, including the lock.
    match supervisor.serve() {
        Ok(Role::Supervisor) => Ok(()),
        Ok(Role::Shim(supervisor)) => {
            drop(lock);
            Shim { layout, account: &account, boot: &boot, supervisor }.run()
        }
        Err(error) => Err(error),
    }
}

/// Listens for the connector; in the emergency directory if no socket can be created on the disk.
fn listen(layout: &Layout) -> io::Result<UnixListener> {
    match socket::listen(&layout.supervisor_socket(), 0o600) {
        Err(error) if is_disk_failure(&error) => {
            socket::listen(&layout.emergency().create()?.join(SUPERVISOR_SOCKET), 0o600).map_err(|_| error)
        }
        listening => listening,
    }
}

/// Takes the supervisor's lock. Waits for an earlier supervisor that is about to end.
fn take_lock(layout: &Layout) -> io::Result<Lock> {
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        if let Some(lock) = Lock::try_take(&layout.supervisor_lock())? {
            return Ok(lock);
        }
        if Instant::now() >= until {
            return Err(io::Error::other("another supervisor holds this directory"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The role of this process when the supervisor's loop returns.
enum Role {
    /// The supervisor, which has finished.
    Supervisor,
    /// A forked shim, with its socket to the supervisor.
    Shim(UnixStream),
}

struct Client {
    socket: UnixStream,
    lines: Lines,
    is_connector: bool,
    /// Whether it has ordered the agent to stop.
    waits_for_end: bool,
}

struct Supervisor {
    layout: Layout,
    listener: UnixListener,
    signals: SignalFd,
    clients: Vec<Client>,
    lifetime: Lifetime,
    pool: Pool,
    reserve: Reserve,
}

impl Supervisor {
    fn serve(mut self) -> io::Result<Role> {
        loop {
            if self.reserve.adjust(Instant::now()) {
                self.notify_connector(&SupervisorReply::ProcessShortage { is_short: false });
            }
            let ready = self.wait()?;
            if ready.is_nothing()
                && self.lifetime.accepts_tasks()
                && let Some(line) = self.adjust()
            {
                return Ok(Role::Shim(line));
            }
            for news in self.pool.read_reports(&ready.shims) {
                let reply = match news {
                    PoolEvent::Ready(shim) => SupervisorReply::Ready { shim },
                    PoolEvent::Failed(reason) => SupervisorReply::Failed { reason },
                    PoolEvent::NoProcess => {
                        self.release_reserve();
                        continue;
                    }
                };
                self.notify_connector(&reply);
            }
            if ready.signalled {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                for (pid, _) in reap() {
                    self.pool.ended(pid);
                    self.reserve.ended(pid);
                }
            }
            if ready.connecting
                && let Ok((socket, _)) = self.listener.accept()
            {
                self.clients.push(Client {
                    socket,
                    lines: Lines::default(),
                    is_connector: false,
                    waits_for_end: false,
                });
            }
            for index in ready.clients.into_iter().rev() {
                match self.read_requests(index) {
                    Ok(RequestOutcome::Alive) => {}
                    Ok(RequestOutcome::BecomeShim(line)) => return Ok(Role::Shim(line)),
                    Ok(RequestOutcome::End) => return self.end(),
                    Ok(RequestOutcome::Gone) | Err(_) => {
                        self.clients.swap_remove(index);
                        let is_there = self.connector().is_some();
                        self.lifetime.note_connector(is_there, Instant::now());
                    }
                }
            }
            if self.is_done() {
                return self.end();
            }
        }
    }

    /// Reports the number of remaining tasks to the clients that ordered the stop, and ends.
    fn end(mut self) -> io::Result<Role> {
        let left = u32::try_from(live_tasks(&self.layout)?.len()).unwrap_or(u32::MAX);
        for index in
            (0..self.clients.len()).filter(|index| self.clients[*index].waits_for_end).collect::<Vec<_>>()
        {
            let _ = self.reply(index, &SupervisorReply::Stopped { left });
        }
        Ok(Role::Supervisor)
    }

    /// Prepares a shim. If there are no free process ids, releases the reserve and tries again.
    fn prepare_shim(&mut self) -> io::Result<Option<UnixStream>> {
        match self.pool.want() {
            Err(error) if is_out_of_processes(&error) && self.release_reserve() => self.pool.want(),
            wanted => wanted,
        }
    }

    fn release_reserve(&mut self) -> bool {
        let was_held = self.reserve.release(Instant::now());
        self.notify_connector(&SupervisorReply::ProcessShortage { is_short: true });
        was_held
    }

    /// Adjusts the number of shims. When the last shim is gone, returns unused memory to the kernel.
    fn adjust(&mut self) -> Option<UnixStream> {
        let had_shims = !self.pool.is_empty();
        let fresh = self.pool.adjust();
        if had_shims && self.pool.is_empty() {
            give_back_memory();
        }
        fresh
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.clients.iter().map(|client| PollFd::new(client.socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.pool.sockets().map(|socket| PollFd::new(socket, PollFlags::POLLIN)));
        let timeout = self.lifetime.next_check(Instant::now());
        let timeout = timeout.or_else(|| self.pool.adjust_after());
        let timeout = [timeout, self.reserve.next_check(Instant::now())].into_iter().flatten().min();
        let timeout =
            timeout.map_or(PollTimeout::NONE, |wait| PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds.iter().map(|entry| entry.any() == Some(true));
        let (signalled, connecting) = (ready.next() == Some(true), ready.next() == Some(true));
        let clients = ready.by_ref().take(self.clients.len()).enumerate();
        let clients = clients.filter_map(|(index, says)| says.then_some(index)).collect();
        Ok(Ready { signalled, connecting, clients, shims: ready.collect() })
    }

    fn read_requests(&mut self, index: usize) -> io::Result<RequestOutcome> {
        let client = &mut self.clients[index];
        if !client.lines.read_from(&client.socket)? {
            return Ok(RequestOutcome::Gone);
        }
        while let Some(request) = self.clients[index].lines.take()? {
            match request {
                // A connector of another version starts its own supervisor, so that commands run as in that
                // version.
                SupervisorRequest::Connector { version } if version != SOFTWARE_VERSION => {
                    return Ok(RequestOutcome::End);
                }
                SupervisorRequest::Connector { .. } => {
                    self.clients[index].is_connector = true;
                    self.lifetime.note_connector(true, Instant::now());
                    let ready: Vec<i32> = self.pool.ready().collect();
                    for shim in ready {
                        self.reply(index, &SupervisorReply::Ready { shim })?;
                    }
                }
                SupervisorRequest::Prepare => match self.prepare_shim() {
                    Ok(None) => {}
                    Ok(Some(line)) => return Ok(RequestOutcome::BecomeShim(line)),
                    Err(error) => {
                        self.reply(index, &SupervisorReply::Failed { reason: error.to_string() })?;
                    }
                },
                SupervisorRequest::Stop { grace_ms } => self.stop(index, grace_ms)?,
                SupervisorRequest::End => return Ok(RequestOutcome::End),
            }
        }
        Ok(RequestOutcome::Alive)
    }

    fn reply(&mut self, index: usize, reply: &SupervisorReply) -> io::Result<()> {
        (&self.clients[index].socket).write_all(&line(reply))
    }

    /// Sends a message to the connector, if there is one. An error is ignored, since the connector is about
    /// to end then.
    fn notify_connector(&mut self, reply: &SupervisorReply) {
        if let Some(index) = self.connector() {
            let _ = self.reply(index, reply);
        }
    }

    fn connector(&self) -> Option<usize> {
        self.clients.iter().position(|client| client.is_connector)
    }

    fn stop(&mut self, person: usize, grace_ms: u32) -> io::Result<()> {
        let running = live_tasks(&self.layout)?.len();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        self.clients[person].waits_for_end = true;
        self.reply(person, &SupervisorReply::Stopping { running })?;
        if let Some(index) = self.connector() {
            return self.reply(index, &SupervisorReply::StopOrdered { grace_ms });
        }
        self.lifetime.stop(Duration::from_millis(grace_ms.into()), Instant::now());
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        let now = Instant::now();
        if !self.lifetime.may_end(now) {
            return false;
        }
        // A disk that cannot be read says nothing about the running tasks.
        let Ok(live) = live_tasks(&self.layout) else { return false };
        if self.lifetime.take_due_kill(now) {
            for id in &live {
                self.kill(*id);
            }
        }
        live.is_empty()
    }

    /// Orders a task's process to kill the task, if the process can be reached.
    fn kill(&self, id: TaskId) {
        let kill = TaskRequest::Kill { by: AGENT_STOP.into(), seal: None, grace_ms: KILL_GRACE_MS };
        if let Ok(mut task) = socket::connect(&self.layout.task(id).socket()) {
            let _ = task.write_all(&line(&kill));
        }
    }
}

/// Removes the directories of shims that were killed while they waited for a task.
fn remove_left_over(layout: &Layout) -> io::Result<()> {
    for area in [Area::Disk, Area::Memory] {
        let Some(tasks) = layout.tasks_in(area) else { continue };
        // A disk that cannot be read must not keep the agent from reaching its running commands.
        let Ok(entries) = fs::read_dir(tasks) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(spare) =
                name.to_str().and_then(Layout::shim_of_spare).and_then(|shim| layout.spare_in(area, shim))
            else {
                continue;
            };
            // A shim that is alive is about to remove its own directory.
            let is_unlocked = spare.lock().try_exists().is_ok_and(|exists| !exists);
            if is_unlocked || !lock::is_held(&spare.lock()).unwrap_or(true) {
                match staging::remove(&spare) {
                    // On a disk that cannot be written, the directory stays until a later start.
                    Err(error) if !is_disk_failure(&error) => return Err(error),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Returns the tasks whose process is alive.
///
/// # Errors
/// When the tasks directory or a lock cannot be read.
pub(crate) fn live_tasks(layout: &Layout) -> io::Result<Vec<TaskId>> {
    let mut live = Vec::new();
    for id in known_tasks(layout)? {
        if is_live(layout, id)? {
            live.push(id);
        }
    }
    Ok(live)
}

/// Reports whether a task's process is alive.
///
/// # Errors
/// When its lock cannot be read.
pub(crate) fn is_live(layout: &Layout, id: TaskId) -> io::Result<bool> {
    let path = layout.task(id).lock();
    // A disk error says nothing about the process. Only a missing lock file means that there is none. The
    // directory of a finished task can be removed at any time.
    match lock::is_held(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        held => held,
    }
}

/// Returns the tasks that have a directory.
///
/// # Errors
/// When the tasks directory cannot be read.
pub(crate) fn known_tasks(layout: &Layout) -> io::Result<Vec<TaskId>> {
    let mut known = Vec::new();
    for tasks in [Area::Disk, Area::Memory].into_iter().filter_map(|area| layout.tasks_in(area)) {
        let entries = match fs::read_dir(tasks) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            known.extend(entry?.file_name().to_str().and_then(|name| name.parse::<TaskId>().ok()));
        }
    }
    Ok(known)
}

struct Ready {
    signalled: bool,
    connecting: bool,
    clients: Vec<usize>,
    /// Whether the socket of each shim is readable.
    shims: Vec<bool>,
}

impl Ready {
    fn is_nothing(&self) -> bool {
        let is_silent = self.clients.is_empty() && !self.shims.contains(&true);
        is_silent && !self.signalled && !self.connecting
    }
}

enum RequestOutcome {
    Alive,
    Gone,
    End,
    BecomeShim(UnixStream),
}

#[cfg(test)]
mod tests;
