//! The keeper's process: it listens on the keeper's socket and forks a process for each task.
//!
//! Must not know the wire, tokio, or what a task prints.

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
    time::{ClockId, clock_gettime},
};

use super::{
    command::Account,
    protocol::{KeeperReply, KeeperRequest, Lines, StartTask, TaskRecord, TaskRequest, line},
    spare::{Spares, Waiting},
    task,
};
use crate::{
    agent::layout::Layout,
    domain::ids::TaskId,
    sys::{
        clock,
        lock::{self, Lock},
        process::{boot_id, give_back_memory, reap},
        socket,
    },
};

/// How long nothing happens before more is made for later tasks: commands that run, here or for others on the same
/// machine, come first.
const PREPARE_AFTER: Duration = Duration::from_secs(1);
/// The same where nothing is ready: one command after the other leaves no more time, and the end of the last one is told
/// by then.
const PREPARE_SOON: Duration = Duration::from_millis(2);
/// How long processes wait for tasks after the last one came: an idle machine is not to be burdened with them.
const EXPECT_MORE: Duration = Duration::from_mins(1);
/// A keeper with no tasks and no network half ends after this.
const IDLE: Duration = Duration::from_mins(1);
/// How often a keeper that ends the agent by itself looks whether tasks are left.
const STOPPING_STEP: Duration = Duration::from_millis(200);

/// Runs a keeper until it has nothing left to keep. In a forked task this runs the task instead.
///
/// # Errors
/// When another keeper holds the directory, or it cannot be used.
pub fn run(layout: &Layout, ready: impl FnOnce()) -> io::Result<()> {
    let mut lock = Lock::try_take(&layout.keeper_lock())?
        .ok_or_else(|| io::Error::other("another keeper holds this directory"))?;
    lock.write_pid()?;
    DirBuilder::new().recursive(true).mode(0o700).create(layout.tasks())?;
    forget_unbegun(layout)?;
    let listener = socket::listen(&layout.keeper_socket(), 0o600)?;
    listener.set_nonblocking(true)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    ready();
    let keeper = Keeper {
        layout: layout.clone(),
        boot: boot_id()?,
        listener,
        signals,
        clients: Vec::new(),
        alone_since: Some(Instant::now()),
        stopping: None,
        spares: Spares::new(layout.clone()),
        last_start: None,
    };
    let account = Account::look_up();
    give_back_memory();
    // All that belongs to the keeper is dropped before a task begins, its lock too.
    match keeper.serve() {
        Ok(Role::Keeper) => Ok(()),
        Ok(Role::Task(waiting)) => {
            drop(lock);
            task::run(waiting, layout, &account)
        }
        Err(error) => Err(error),
    }
}

/// What this process is when the keeper's loop returns.
enum Role {
    /// The keeper, which is done.
    Keeper,
    /// A fork of it that runs a task, once it is told which.
    Task(Waiting),
}

struct Client {
    socket: UnixStream,
    lines: Lines,
    is_network_half: bool,
}

struct Keeper {
    layout: Layout,
    boot: String,
    listener: UnixListener,
    signals: SignalFd,
    clients: Vec<Client>,
    /// Since when there is no network half.
    alone_since: Option<Instant>,
    /// When the tasks are killed, where no network half sees to it.
    stopping: Option<Instant>,
    /// For later tasks.
    spares: Spares,
    /// When the last task came.
    last_start: Option<Instant>,
}

impl Keeper {
    fn serve(mut self) -> io::Result<Role> {
        loop {
            let ready = self.wait()?;
            if ready.is_nothing()
                && self.is_short()
                && let Some(waiting) = self.spares.make_one(self.expects_more())
            {
                return Ok(Role::Task(waiting));
            }
            if ready.signalled {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                for (pid, _) in reap() {
                    self.spares.ended(pid);
                }
            }
            if self.spares.has_processes() && !self.expects_more() {
                self.spares.end_processes();
                give_back_memory();
            }
            if ready.connecting
                && let Ok((socket, _)) = self.listener.accept()
            {
                self.clients.push(Client { socket, lines: Lines::default(), is_network_half: false });
            }
            for index in ready.clients.into_iter().rev() {
                match self.hear(index) {
                    Ok(Heard::Alive) => {}
                    Ok(Heard::BecomeTask(waiting)) => return Ok(Role::Task(waiting)),
                    Ok(Heard::End) => return Ok(Role::Keeper),
                    Ok(Heard::Gone) | Err(_) => {
                        self.clients.swap_remove(index);
                    }
                }
            }
            if self.is_done()? {
                return Ok(Role::Keeper);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.clients.iter().map(|client| PollFd::new(client.socket.as_fd(), PollFlags::POLLIN)));
        let timeout = match (self.stopping, self.alone_since) {
            _ if self.is_short() && self.spares.is_out() => Some(PREPARE_SOON),
            _ if self.is_short() => Some(PREPARE_AFTER),
            (Some(_), _) => Some(STOPPING_STEP),
            (None, Some(since)) => {
                Some((since + IDLE).saturating_duration_since(Instant::now()) + STOPPING_STEP)
            }
            (None, None) if self.spares.has_processes() => Some(EXPECT_MORE),
            (None, None) => None,
        };
        let timeout =
            timeout.map_or(PollTimeout::NONE, |wait| PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |entry: &PollFd<'_>| entry.any() == Some(true);
        Ok(Ready {
            signalled: is_ready(&fds[0]),
            connecting: is_ready(&fds[1]),
            clients: (0..self.clients.len()).filter(|index| is_ready(&fds[index + 2])).collect(),
        })
    }

    /// Whether something is to be made for later tasks.
    fn is_short(&self) -> bool {
        let may_come = self.stopping.is_none() && self.alone_since.is_none();
        may_come && self.spares.is_short(self.expects_more())
    }

    /// Whether a task came so lately that another one is likely.
    fn expects_more(&self) -> bool {
        self.last_start.is_some_and(|last| last.elapsed() < EXPECT_MORE)
    }

    fn hear(&mut self, index: usize) -> io::Result<Heard> {
        let client = &mut self.clients[index];
        if !client.lines.read_from(&client.socket)? {
            if client.is_network_half {
                self.alone_since = Some(Instant::now());
            }
            return Ok(Heard::Gone);
        }
        while let Some(request) = self.clients[index].lines.take()? {
            match request {
                KeeperRequest::NetworkHalf => {
                    self.clients[index].is_network_half = true;
                    self.alone_since = None;
                }
                KeeperRequest::Start(start) => {
                    let id = start.id;
                    let reply = match self.start(*start) {
                        Ok(Started::Here) => KeeperReply::Started(id),
                        Ok(Started::Before) => KeeperReply::Known(id),
                        Ok(Started::InChild(waiting)) => return Ok(Heard::BecomeTask(waiting)),
                        Err(error) => KeeperReply::Failed { id, reason: error.to_string() },
                    };
                    self.reply(index, &reply)?;
                }
                KeeperRequest::Stop { grace_ms } => self.stop(index, grace_ms)?,
                KeeperRequest::End => return Ok(Heard::End),
            }
        }
        Ok(Heard::Alive)
    }

    fn reply(&mut self, index: usize, reply: &KeeperReply) -> io::Result<()> {
        (&self.clients[index].socket).write_all(&line(reply))
    }

    /// Makes the task known by naming its directory, then tells the process that runs it.
    fn start(&mut self, start: StartTask) -> io::Result<Started> {
        let StartTask { id, spec, agent } = start;
        let layout = self.layout.task(id);
        let record = line(&TaskRecord {
            id,
            spec,
            agent,
            boot: self.boot.clone(),
            started_unix_ms: clock::unix_ms(),
            started_boottime_ns: boottime_ns()?,
        });
        self.last_start = Some(Instant::now());
        let mut spare = self.spares.take()?;
        if !spare.become_task(&layout, &record)? {
            return Ok(Started::Before);
        }
        let result = if spare.tell_process(&record) {
            Ok(Started::Here)
        } else {
            match spare.start_process() {
                Ok(Some(waiting)) => return Ok(Started::InChild(waiting)),
                Ok(None) if spare.tell_process(&record) => Ok(Started::Here),
                Ok(None) => Err(io::Error::other("its process was killed")),
                Err(error) => Err(error),
            }
        };
        if result.is_err() {
            // Nothing ran, so nothing may look as if it had.
            let _ = fs::remove_dir_all(layout.root());
        }
        result
    }

    fn stop(&mut self, person: usize, grace_ms: u32) -> io::Result<()> {
        let running = live_tasks(&self.layout)?.len();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        self.reply(person, &KeeperReply::Stopping { running })?;
        if let Some(index) = self.clients.iter().position(|client| client.is_network_half) {
            self.reply(index, &KeeperReply::StopOrdered { grace_ms })
        } else {
            self.stopping = Some(Instant::now() + Duration::from_millis(grace_ms.into()));
            Ok(())
        }
    }

    fn is_done(&mut self) -> io::Result<bool> {
        if let Some(kill_at) = self.stopping {
            let live = live_tasks(&self.layout)?;
            if Instant::now() >= kill_at {
                for id in &live {
                    let kill = TaskRequest::Kill { by: "agent stop".into(), grace_ms: 1_000 };
                    if let Ok(mut task) = socket::connect(&self.layout.task(*id).socket()) {
                        let _ = task.write_all(&line(&kill));
                    }
                }
                // The next order would cut the grace of this one short.
                self.stopping = Some(Instant::now() + Duration::from_secs(5));
            }
            return Ok(live.is_empty());
        }
        match self.alone_since {
            Some(since) if since.elapsed() >= IDLE => Ok(live_tasks(&self.layout)?.is_empty()),
            _ => Ok(false),
        }
    }
}

/// Removes what a keeper left that was killed between making a task's directory and forking its process: nothing of
/// such a task ever ran, so it may still be started. Only a keeper may do this, since only keepers make directories.
fn forget_unbegun(layout: &Layout) -> io::Result<()> {
    for id in known_tasks(layout)? {
        let task = layout.task(id);
        let has_begun = fs::metadata(task.lock()).is_ok_and(|lock| lock.len() > 0);
        if !has_begun && !task.ending().exists() && !is_live(layout, id)? {
            fs::remove_dir_all(task.root())?;
        }
    }
    Ok(())
}

/// Tasks whose process lives.
///
/// # Errors
/// When the directory cannot be read.
pub fn live_tasks(layout: &Layout) -> io::Result<Vec<TaskId>> {
    let mut live = Vec::new();
    for id in known_tasks(layout)? {
        if is_live(layout, id)? {
            live.push(id);
        }
    }
    Ok(live)
}

/// Whether a task's process lives.
///
/// # Errors
/// When its lock cannot be read.
pub fn is_live(layout: &Layout, id: TaskId) -> io::Result<bool> {
    let path = layout.task(id).lock();
    if !path.exists() {
        return Ok(false);
    }
    lock::is_held(&path)
}

/// Tasks that have a directory.
///
/// # Errors
/// When it cannot be read.
pub fn known_tasks(layout: &Layout) -> io::Result<Vec<TaskId>> {
    let entries = match fs::read_dir(layout.tasks()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut known = Vec::new();
    for entry in entries {
        known.extend(entry?.file_name().to_str().and_then(|name| name.parse::<TaskId>().ok()));
    }
    Ok(known)
}

/// Nanoseconds since boot, time asleep included.
///
/// # Errors
/// Never on Linux.
pub fn boottime_ns() -> io::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let (seconds, nanoseconds) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    Ok(seconds * 1_000_000_000 + nanoseconds)
}

struct Ready {
    signalled: bool,
    connecting: bool,
    clients: Vec<usize>,
}

impl Ready {
    fn is_nothing(&self) -> bool {
        !self.signalled && !self.connecting && self.clients.is_empty()
    }
}

enum Heard {
    Alive,
    Gone,
    End,
    BecomeTask(Waiting),
}

enum Started {
    Here,
    Before,
    InChild(Waiting),
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use super::*;
    use crate::domain::ids::RunId;

    #[test]
    fn only_a_task_of_which_nothing_ever_ran_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let made = |number: u128, lock: &str, ending: bool| {
            let task = layout.task(TaskId { run: RunId::from_parts(1, number), index: 0 });
            create_dir_all(task.root()).unwrap();
            fs::write(task.lock(), lock).unwrap();
            if ending {
                fs::write(task.ending(), "{}").unwrap();
            }
            task
        };
        let unbegun = made(1, "", false);
        let begun = made(2, "77\n", false);
        let ended = made(3, "", true);
        forget_unbegun(&layout).unwrap();
        let exist = [&unbegun, &begun, &ended].map(|task| task.root().exists());
        assert_eq!(exist, [false, true, true]);
    }
}
