//! A task: its process starts the command, spools what it prints, kills it on order and writes down how it ended.
//!
//! Must not know what the process was before, or is after: it depends on nothing else that runs, not on the keeper, not on
//! the network half.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signalfd::SignalFd,
};

use super::{
    command::{Account, Started, start_command},
    input::Input,
    kill::{Cause, Kill, Killing, STEP},
    listener::Client,
    output::{Output, Piece},
    place::Place,
    protocol::{TaskEnding, TaskRecord, TaskReply, TaskRequest, line},
    worker::LASTING,
};
use crate::{
    agent::{layout::TaskLayout, spool},
    domain::{
        command::TaskSpec,
        frame::Stream,
        outcome::{Ending, KillProof, Outcome},
    },
    sys::{
        disk::Disk,
        file::volume_used_percent,
        process::{ChildEnd, descendants, reap},
    },
};

/// How long after the command's exit its background children may hold the pipes before the end is reported.
const LINGER: Duration = Duration::from_secs(2);
/// Unacknowledged bytes at which the command waits while somebody reads: the road is slower than the command.
const CAP_ATTACHED: u64 = 32 * 1024 * 1024;
/// The same while nobody reads: the network is away, and the command should go on as long as it can.
const CAP_DETACHED: u64 = 1024 * 1024 * 1024;
/// Per cent of the volume above which no task's unacknowledged output grows over a segment, whoever reads: the machine
/// needs the rest, and all tasks together must not take it.
const VOLUME_CAP: u8 = 90;
/// How often a full disk is tried again.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// A task that begins.
pub(super) struct Beginning {
    pub(super) record: TaskRecord,
    /// Its directory.
    pub(super) layout: TaskLayout,
    /// The same directory's lock and socket.
    pub(super) place: Place,
    /// Who started it.
    pub(super) client: Client,
}

/// What a process has for any task.
pub(super) struct Tools<'a> {
    /// Whose commands it runs.
    pub(super) account: &'a Account,
    /// SIGCHLD, and what would end this process.
    pub(super) signals: &'a SignalFd,
    /// What is read goes here.
    pub(super) buffer: &'a mut Vec<u8>,
}

/// Runs a task until it has ended and its pipes are closed; calls `lasts` once when that takes longer than [`LASTING`].
///
/// # Errors
/// When the process cannot wait for anything any more; the task is lost then.
pub(super) fn run(beginning: Beginning, tools: Tools<'_>, lasts: impl FnOnce()) -> io::Result<()> {
    let started = Instant::now();
    let result = start_command(&beginning.record, tools.account);
    beginning.client.answer(&TaskReply::Started);
    match result {
        Ok(command) => {
            Supervisor::new(beginning, command, tools.signals, started).run(tools.buffer, lasts)?;
        }
        Err(reason) => {
            let outcome = Outcome::from(Ending::Refused(reason));
            let ending = TaskEnding { outcome, end_offset: 0, duration_ns: 0 };
            beginning.client.answer(&TaskReply::Ended { ending: ending.clone() });
            while beginning.place.write_ending(&beginning.layout, &line(&ending)).is_err() {
                std::thread::sleep(DISK_RETRY);
            }
        }
    }
    Ok(())
}

/// Output that the disk does not take.
struct Unwritten {
    stream: Stream,
    time_ns: u64,
    payload: Vec<u8>,
    /// Why not.
    error: String,
}

/// How the command's own process ended.
struct ChildGone {
    end: ChildEnd,
    at: Instant,
    /// Nothing was being killed then.
    by_itself: bool,
}

/// The process's state.
struct Supervisor<'a> {
    layout: TaskLayout,
    spec: TaskSpec,
    place: Place,
    signals: &'a SignalFd,
    child: i32,
    /// Its standard output, or its terminal, and its standard error: those that may still say something.
    outputs: Vec<Output>,
    input: Input,
    started: Instant,
    spool: spool::SpoolWriter,
    /// Read from a pipe, but not yet taken by the disk.
    unwritten: Option<Unwritten>,
    /// The volume is nearly full, as it was found when this much was spooled, and when.
    room: (bool, u64, Instant),
    clients: Vec<Client>,
    killing: Killing,
    child_end: Option<ChildGone>,
    ending: Option<TaskEnding>,
    is_ending_written: bool,
}

impl<'a> Supervisor<'a> {
    fn new(beginning: Beginning, command: Started, signals: &'a SignalFd, started: Instant) -> Self {
        let Beginning { record, layout, place, mut client } = beginning;
        client.follow();
        let stderr = command.stderr.map(|pipe| Output::new(Stream::Stderr, pipe));
        let outputs = [Output::new(Stream::Stdout, command.stdout)].into_iter().chain(stderr).collect();
        Self {
            spool: spool::SpoolWriter::new(Disk::default(), layout.spool()),
            layout,
            spec: record.spec,
            place,
            signals,
            child: command.pid,
            outputs,
            input: command.input,
            started,
            unwritten: None,
            room: (false, 0, started),
            clients: vec![client],
            killing: Killing::No,
            child_end: None,
            ending: None,
            is_ending_written: false,
        }
    }

    fn run(mut self, buffer: &mut Vec<u8>, lasts: impl FnOnce()) -> io::Result<()> {
        let mut lasts = Some(lasts);
        loop {
            let now = Instant::now();
            self.advance(now);
            if self.is_ending_written && self.outputs.is_empty() && !self.is_killing() {
                return Ok(());
            }
            let until_it_lasts = (self.started + LASTING).saturating_duration_since(now);
            if until_it_lasts.is_zero()
                && let Some(lasts) = lasts.take()
            {
                lasts();
            }
            self.wait_and_handle(buffer, lasts.is_some().then_some(until_it_lasts))?;
        }
    }

    fn is_killing(&self) -> bool {
        matches!(self.killing, Killing::Begun(..))
    }

    /// Whether there is room for more output.
    fn may_read(&self) -> bool {
        let cap = if self.clients.iter().any(|client| client.reads) { CAP_ATTACHED } else { CAP_DETACHED };
        let cap = if self.room.0 { cap.min(spool::SEGMENT) } else { cap };
        self.ending.is_some()
            || (self.unwritten.is_none() && self.spool.end() - self.spool.acknowledged() < cap)
    }

    /// Why the command is held back, where that is the disk's fault.
    fn held_by_disk(&self) -> String {
        match &self.unwritten {
            Some(unwritten) => format!("the agent's disk does not take its output: {}", unwritten.error),
            None if self.room.0 && !self.may_read() => {
                format!(
                    "the agent's volume is over {VOLUME_CAP} % full: its output waits until the master has it"
                )
            }
            None => String::new(),
        }
    }

    /// Looks how full the volume is, once a segment, and once a second while it is nearly full.
    fn look_at_room(&mut self, now: Instant) {
        let (is_tight, at, when) = self.room;
        let is_due =
            if is_tight { now >= when + DISK_RETRY } else { self.spool.end() >= at + spool::SEGMENT };
        if is_due {
            // A volume that does not tell is one that has room.
            let used = volume_used_percent(self.layout.root()).unwrap_or(0);
            self.room = (used > VOLUME_CAP, self.spool.end(), now);
        }
    }

    /// Everything that is due by time or by state.
    fn advance(&mut self, now: Instant) {
        self.look_at_room(now);
        if let Some(mut unwritten) = self.unwritten.take()
            && let Err(error) = self.spool.append(unwritten.stream, unwritten.time_ns, &unwritten.payload)
        {
            unwritten.error = error.to_string();
            self.unwritten = Some(unwritten);
        }
        if let Some(timeout) = self.spec.timeout_ms
            && matches!(self.killing, Killing::No)
            && now >= self.started + Duration::from_millis(timeout)
            && !self.has_command_ended()
        {
            let grace = Duration::from_millis(self.spec.kill_grace_ms.into());
            self.killing = Killing::Begun(Kill::begin(grace, now), Cause::Timeout);
        }
        self.step_kill(now);
        match &self.ending {
            None if self.is_over(now) => self.end(now),
            // A disk that does not take it must not turn a known end into a lost one.
            Some(ending) if !self.is_ending_written => {
                self.is_ending_written = self.place.write_ending(&self.layout, &line(ending)).is_ok();
            }
            None | Some(_) => {}
        }
        self.answer_waiting();
    }

    fn step_kill(&mut self, now: Instant) {
        self.killing = match std::mem::replace(&mut self.killing, Killing::No) {
            Killing::Begun(mut kill, cause) => match kill.step(now) {
                Some(proof) => Killing::Done(proof, cause),
                None => Killing::Begun(kill, cause),
            },
            other => other,
        };
    }

    fn is_over(&self, now: Instant) -> bool {
        let killed = match &self.killing {
            Killing::Begun(..) => return false,
            // What survived KILL may hold the pipes for ever.
            Killing::Done(proof, _) => !proof.left.is_empty(),
            Killing::No => false,
        };
        if self.unwritten.is_some() {
            return false;
        }
        let Some(gone) = &self.child_end else { return killed };
        self.outputs.is_empty() || (!self.is_owed() && now >= gone.at + LINGER)
    }

    /// Whether something is left to read that the command may have printed itself.
    fn is_owed(&self) -> bool {
        self.outputs.iter().any(Output::is_owed)
    }

    fn end(&mut self, now: Instant) {
        let is_own = self.child_end.as_ref().is_some_and(|gone| gone.by_itself);
        let own_end = self.child_end.as_ref().map(|gone| match gone.end {
            ChildEnd::Exited(code) => Ending::Exited(code),
            ChildEnd::Signaled(signal) => Ending::Signaled(signal),
        });
        let ending = match (std::mem::replace(&mut self.killing, Killing::No), own_end) {
            // The order came when the command had ended by itself, and concerned what it left behind.
            (Killing::Done(..), Some(own)) if is_own => own,
            (Killing::Done(KillProof { ended: 0, .. }, _) | Killing::No, Some(own)) => own,
            (Killing::Done(proof, Cause::Timeout), _) => Ending::TimedOut(proof),
            (Killing::Done(proof, Cause::Cancel(by)), _) => Ending::Cancelled { proof: Some(proof), by },
            (Killing::No | Killing::Begun(..), _) => return,
        };
        let background = if self.outputs.is_empty() { 0 } else { descendants().len() };
        let until = self.child_end.as_ref().map_or(now, |gone| gone.at);
        let ending = TaskEnding {
            outcome: Outcome { ending, background: u32::try_from(background).unwrap_or(u32::MAX) },
            end_offset: self.spool.end(),
            duration_ns: nanoseconds(until.duration_since(self.started)),
        };
        self.is_ending_written = self.place.write_ending(&self.layout, &line(&ending)).is_ok();
        self.ending = Some(ending);
    }

    fn answer_waiting(&mut self) {
        let (ending, end, taken) = (self.ending.as_ref(), self.spool.end(), self.input.taken());
        let held = self.held_by_disk();
        self.clients.retain_mut(|client| {
            client.tell_held(&held) && client.answer_input(taken) && client.answer_wait(ending, end)
        });
    }

    fn timeout(&self, now: Instant, longest: Option<Duration>) -> PollTimeout {
        let mut wait = longest;
        let mut at_most = |duration: Duration| {
            wait = Some(wait.map_or(duration, |wait| wait.min(duration)));
        };
        if self.is_killing() {
            at_most(STEP);
        }
        let is_ending_unwritten = self.ending.is_some() && !self.is_ending_written;
        if self.unwritten.is_some() || self.room.0 || is_ending_unwritten {
            at_most(DISK_RETRY);
        }
        if let Some(gone) = &self.child_end {
            // What is owed wakes this by being there; a kill and a full disk are looked at in steps of their own.
            let is_held_up = self.is_owed() || self.is_killing() || self.unwritten.is_some();
            if self.ending.is_none() && !is_held_up {
                at_most((gone.at + LINGER).saturating_duration_since(now));
            }
        } else if let (Some(timeout), Killing::No) = (self.spec.timeout_ms, &self.killing) {
            let due = self.started + Duration::from_millis(timeout);
            at_most(due.saturating_duration_since(now));
        }
        // Rounded up, or the loop would spin through the last millisecond.
        wait.map_or(PollTimeout::NONE, |wait| {
            PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        })
    }

    fn wait_and_handle(&mut self, buffer: &mut Vec<u8>, longest: Option<Duration>) -> io::Result<()> {
        let read = self.may_read();
        let fd = |fd: BorrowedFd<'_>| -> i32 { std::os::fd::AsRawFd::as_raw_fd(&fd) };
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.place.listener.as_fd(), PollFlags::POLLIN),
        ];
        let outputs = self.outputs.iter().filter(|_| read);
        fds.extend(outputs.map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)));
        let input = self.input.writable();
        let input_fd = input.map(fd);
        fds.extend(input.map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
        fds.extend(self.clients.iter().map(|client| PollFd::new(client.socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, self.timeout(Instant::now(), longest)) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<i32> =
            fds.iter().filter(|entry| entry.any() == Some(true)).map(|entry| fd(entry.as_fd())).collect();
        drop(fds);
        let is_ready = |wanted: BorrowedFd<'_>| ready.contains(&fd(wanted));

        let signalled = is_ready(self.signals.as_fd());
        let connecting = is_ready(self.place.listener.as_fd());
        let readable: Vec<usize> =
            (0..self.clients.len()).filter(|index| is_ready(self.clients[*index].socket.as_fd())).collect();
        let printed = self.outputs.iter().filter(|output| is_ready(output.as_fd()));
        let printed: Vec<Stream> = printed.map(|output| output.stream).collect();

        if input_fd.is_some_and(|fd| ready.contains(&fd)) {
            self.input.write();
        }
        for stream in printed {
            if self.may_read() {
                self.read(stream, buffer);
            }
        }
        // Last but the exit: a client that is told of new output finds it in the spool.
        for index in readable.into_iter().rev() {
            if !self.hear(index) {
                self.clients.swap_remove(index);
            }
        }
        if connecting && let Ok((socket, _)) = self.place.listener.accept() {
            socket.set_nonblocking(true)?;
            self.clients.push(Client::new(socket));
        }
        if signalled {
            while let Ok(Some(_)) = self.signals.read_signal() {}
            self.has_command_ended();
        }
        Ok(())
    }

    /// Whether the command itself has ended. Asked before anything is done to it: an order that comes when it has ended by
    /// itself does not change how it did.
    fn has_command_ended(&mut self) -> bool {
        for (pid, end) in reap() {
            if pid == self.child {
                let by_itself = matches!(self.killing, Killing::No);
                self.child_end = Some(ChildGone { end, at: Instant::now(), by_itself });
                self.outputs.iter_mut().for_each(Output::note_command_end);
            }
        }
        self.child_end.is_some()
    }

    /// Reads once from a pipe that has something to say, over what is in the buffer.
    fn read(&mut self, stream: Stream, buffer: &mut Vec<u8>) {
        let Some(index) = self.outputs.iter().position(|output| output.stream == stream) else { return };
        match self.outputs[index].read(buffer) {
            Piece::Nothing => {}
            Piece::End => drop(self.outputs.remove(index)),
            // Printed by background processes after the end was reported.
            Piece::Bytes if self.ending.is_some() => {}
            Piece::Bytes => {
                let time_ns = nanoseconds(self.started.elapsed());
                if let Err(error) = self.spool.append(stream, time_ns, buffer) {
                    let (payload, error) = (buffer.clone(), error.to_string());
                    self.unwritten = Some(Unwritten { stream, time_ns, payload, error });
                }
            }
        }
    }

    /// Takes what a client says. False when it is gone or talks nonsense.
    fn hear(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        if !client.lines.read_from(&client.socket).unwrap_or(false) {
            return false;
        }
        loop {
            let client = &mut self.clients[index];
            if let Some((offset, length, is_last)) = client.input_due {
                let Some(data) = client.lines.take_bytes(length) else { return true };
                client.input_due = None;
                if !self.input.take(offset, &data, is_last) {
                    return false;
                }
                self.input.write();
                continue;
            }
            match client.lines.take() {
                Ok(Some(request)) => {
                    if !self.obey(index, request) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// False when that is nothing to say to a process that has its task.
    fn obey(&mut self, index: usize, request: TaskRequest) -> bool {
        match request {
            TaskRequest::Start(_) => return false,
            TaskRequest::Wait { past } => self.clients[index].waits_past = Some(past),
            TaskRequest::Acknowledge { offset } => {
                self.clients[index].reads = true;
                // What cannot be unlinked now is unlinked with the next acknowledgement.
                let _ = self.spool.acknowledge(offset, self.room.0);
            }
            TaskRequest::Input { offset, length, is_last } => {
                self.clients[index].input_due = Some((offset, length, is_last));
            }
            TaskRequest::Resize { rows, columns } => self.input.resize(rows, columns),
            TaskRequest::WatchInput => self.clients[index].watches_input = true,
            TaskRequest::Kill { by, grace_ms } => {
                self.has_command_ended();
                self.killing.order(by, Duration::from_millis(grace_ms.into()), Instant::now());
            }
        }
        true
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
