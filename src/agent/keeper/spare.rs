//! What later tasks need, made while the keeper has nothing to do: their directories, and for as long as commands keep
//! coming the processes that will run them. On many machines both take longer than a short command. Knows no tasks.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        net::{UnixListener, UnixStream},
    },
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    agent::layout::{Layout, TaskLayout},
    sys::{
        lock::Lock,
        process::{Forked, fork},
        socket,
    },
};

/// How many are kept ready: commands often come in short bursts.
const READY: usize = 2;

/// What is ready.
#[derive(Debug)]
pub(super) struct Spares {
    layout: Layout,
    ready: Vec<Spare>,
    /// False after the machine did not give one.
    can_make: bool,
}

impl Spares {
    /// Nothing yet.
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, ready: Vec::new(), can_make: true }
    }

    /// Whether something could be made; processes only where they are wanted.
    pub(super) fn is_short(&self, with_processes: bool) -> bool {
        let is_complete = |spare: &Spare| spare.process.is_some() || !with_processes;
        self.can_make && (self.ready.len() < READY || !self.ready.iter().all(is_complete))
    }

    /// Whether nothing at all is ready.
    pub(super) fn is_out(&self) -> bool {
        self.ready.is_empty()
    }

    /// Makes one more, or the process of one. What the machine does not give is asked for again with the next task.
    /// In that process this returns its side.
    pub(super) fn make_one(&mut self, with_process: bool) -> Option<Waiting> {
        let made = self.try_make_one(with_process);
        self.can_make = made.is_ok();
        made.unwrap_or(None)
    }

    fn try_make_one(&mut self, with_process: bool) -> io::Result<Option<Waiting>> {
        if self.ready.iter().all(|spare| spare.process.is_some() || !with_process) {
            self.ready.push(self.make()?);
        }
        match self.ready.iter_mut().find(|spare| spare.process.is_none()) {
            Some(spare) if with_process => spare.start_process(),
            _ => Ok(None),
        }
    }

    /// Ends the processes that wait; their directories stay ready.
    pub(super) fn end_processes(&mut self) {
        for spare in &mut self.ready {
            spare.process = None;
        }
    }

    /// Notes that a process has ended, where it is one that waited.
    pub(super) fn ended(&mut self, pid: i32) {
        for spare in &mut self.ready {
            spare.process.take_if(|(waiting, _)| *waiting == pid);
        }
    }

    /// Whether processes wait.
    pub(super) fn has_processes(&self) -> bool {
        self.ready.iter().any(|spare| spare.process.is_some())
    }

    /// One that is ready, or is made now.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub(super) fn take(&mut self) -> io::Result<Spare> {
        self.can_make = true;
        self.ready.pop().map_or_else(|| self.make(), Ok)
    }

    fn make(&self) -> io::Result<Spare> {
        Spare::make(self.layout.spare(self.ready.len()))
    }
}

/// A task's directory with its lock taken and its socket bound, and perhaps the process that will run the task.
#[derive(Debug)]
pub(super) struct Spare {
    place: TaskLayout,
    record: File,
    lock: Lock,
    listener: UnixListener,
    /// Its id, and the line to it; it ends when that is closed before it was told of a task.
    process: Option<(i32, UnixStream)>,
}

/// What such a process has: its task comes later.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where the task's record comes from, as a line.
    pub(super) keeper: UnixStream,
    /// Held until this process ends.
    pub(super) lock: Lock,
    /// Bound to the task's socket.
    pub(super) listener: UnixListener,
}

impl Spare {
    /// Makes one, in place of whatever another keeper left.
    fn make(place: TaskLayout) -> io::Result<Self> {
        match fs::remove_dir_all(place.root()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(place.root())?;
        let create = |path| OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let record = create(place.record())?;
        // Written when the task ends.
        create(place.unfinished_ending())?;
        let lock = Lock::try_take(&place.lock())?.ok_or(io::ErrorKind::WouldBlock)?;
        let listener = socket::listen(&place.socket(), 0o600)?;
        Ok(Self { place, record, lock, listener, process: None })
    }

    /// Starts the process. In it this returns its side, and all else that the keeper has must be dropped.
    ///
    /// # Errors
    /// When the kernel has no room for it.
    pub(super) fn start_process(&mut self) -> io::Result<Option<Waiting>> {
        let (keeper, process) = UnixStream::pair()?;
        let (lock, listener) = (self.lock.try_clone()?, self.listener.try_clone()?);
        match fork()? {
            Forked::Parent(pid) => {
                self.process = Some((pid.as_raw(), process));
                Ok(None)
            }
            Forked::Child => Ok(Some(Waiting { keeper, lock, listener })),
        }
    }

    /// Makes it the directory of a task, at once and with its record in it. False when the task has one already.
    ///
    /// # Errors
    /// When the disk does not take it; there is no such task then.
    pub(super) fn become_task(&mut self, task: &TaskLayout, record: &[u8]) -> io::Result<bool> {
        self.record.write_all(record)?;
        match renameat_with(CWD, self.place.root(), CWD, task.root(), RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the task to the process. False when there is none, or it is gone without having heard of it.
    pub(super) fn tell_process(&mut self, record: &[u8]) -> bool {
        // Half a line is no task, so what could not be written whole was not heard.
        self.process.take().is_some_and(|(_, mut process)| process.write_all(record).is_ok())
    }
}
