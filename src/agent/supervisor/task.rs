//! Runs a task: starts the command, spools its output, kills it on order, and records its outcome.
//!
//! Must not depend on what the process does before or after the task, or on any other process: neither the
//! supervisor nor the connector.

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
    kill::{Cause, Kill, KillState, Order},
    listener::Client,
    output::{Output, Piece},
    progress::{ChildExit, EndingState, Pipes, Progress},
    protocol::{TaskRecord, TaskReply, TaskRequest, line},
    room::{DISK_RETRY, OutputLimit},
    staging::StagingDirectory,
};
use crate::{
    agent::{layout::TaskLayout, spool},
    domain::{
        command::TaskSpec,
        frame::Stream,
        offset::OutputOffset,
        outcome::{Ending, Outcome, TaskEnding},
    },
    sys::{
        disk::Disk,
        file::volume_used_percent,
        process::{descendants, reap, started_now},
    },
};

/// When a task is reported to the supervisor as long running, so that it starts another shim in place of this one.
const LONG_RUNNING_AFTER: Duration = Duration::from_secs(1);

/// A task whose directory exists, and whose command is not started yet.
pub(super) struct ClaimedTask {
    pub(super) record: TaskRecord,
    /// Its directory.
    pub(super) layout: TaskLayout,
    /// The lock and the socket of the same directory.
    pub(super) place: StagingDirectory,
    /// The client that has requested the start.
    pub(super) client: Client,
}

/// The resources of the process that all of its tasks share.
pub(super) struct ShimResources<'a> {
    /// The user as which commands run.
    pub(super) account: &'a Account,
    /// SIGCHLD, and the signals that would end this process.
    pub(super) signals: &'a SignalFd,
    /// The buffer for output that is read.
    pub(super) buffer: &'a mut Vec<u8>,
}

/// Runs a task until it has ended and its pipes are closed. Calls `on_long_running` once if that takes longer than
/// [`LONG_RUNNING_AFTER`], and `on_no_process` if there are no free process ids.
///
/// # Errors
/// When the process cannot wait for events any more. The task is lost then.
pub(super) fn run(
    beginning: ClaimedTask,
    tools: ShimResources<'_>,
    on_long_running: impl FnOnce(),
    on_no_process: impl FnOnce(),
) -> io::Result<()> {
    let started = Instant::now();
    let result = start_command(&beginning.record, tools.account, on_no_process);
    beginning.client.answer(&TaskReply::Started);
    match result {
        Ok(command) => {
            TaskRunner::new(beginning, command, tools.signals, started).run(tools.buffer, on_long_running)?;
        }
        Err(reason) => {
            let outcome = Outcome::from(Ending::Refused(reason.into()));
            let ending = TaskEnding { outcome, end_offset: OutputOffset::START, duration_ns: 0 };
            beginning.client.answer(&TaskReply::Ended { ending: ending.clone() });
            while beginning.place.write_ending(&beginning.layout, &line(&ending)).is_err() {
                std::thread::sleep(DISK_RETRY);
            }
        }
    }
    Ok(())
}

/// Output that could not be written to the disk.
struct Unwritten {
    stream: Stream,
    time_ns: u64,
    payload: Vec<u8>,
    /// The reason.
    error: String,
}

/// The state of the process while it runs a task.
struct TaskRunner<'a> {
    layout: TaskLayout,
    spec: TaskSpec,
    place: StagingDirectory,
    signals: &'a SignalFd,
    child: i32,
    /// Its standard output, or its terminal, and its standard error. An output is removed when it is closed.
    outputs: Vec<Output>,
    input: Input,
    started: Instant,
    spool: spool::SpoolWriter,
    /// Output that was read from a pipe, but could not be written to the disk yet.
    unwritten: Option<Unwritten>,
    room: OutputLimit,
    clients: Vec<Client>,
    killing: KillState,
    child_end: Option<ChildExit>,
    ending: Option<TaskEnding>,
    is_ending_written: bool,
}

impl<'a> TaskRunner<'a> {
    fn new(beginning: ClaimedTask, command: Started, signals: &'a SignalFd, started: Instant) -> Self {
        let ClaimedTask { record, layout, place, mut client } = beginning;
        client.follow();
        let stderr = command.stderr.map(|pipe| Output::new(Stream::Stderr, pipe));
        let outputs = [Output::new(Stream::Stdout, command.stdout)].into_iter().chain(stderr).collect();
        let room = OutputLimit::new(place.is_in_memory(), started);
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
            room,
            clients: vec![client],
            killing: KillState::No,
            child_end: None,
            ending: None,
            is_ending_written: false,
        }
    }

    fn run(mut self, buffer: &mut Vec<u8>, on_long_running: impl FnOnce()) -> io::Result<()> {
        let mut on_long_running = Some(on_long_running);
        loop {
            let now = Instant::now();
            self.advance(now);
            if self.progress().is_done() {
                return Ok(());
            }
            let until_it_lasts = (self.started + LONG_RUNNING_AFTER).saturating_duration_since(now);
            if until_it_lasts.is_zero()
                && let Some(on_long_running) = on_long_running.take()
            {
                on_long_running();
            }
            self.wait_and_handle(buffer, on_long_running.is_some().then_some(until_it_lasts))?;
        }
    }

    fn progress(&self) -> Progress<'_> {
        Progress {
            limit: self.spec.timeout_ms.map(|timeout| self.started + Duration::from_millis(timeout)),
            killing: &self.killing,
            child: self.child_end,
            pipes: self.pipes(),
            has_unwritten: self.unwritten.is_some(),
            is_tight: self.room.is_tight,
            report: match (&self.ending, self.is_ending_written) {
                (None, _) => EndingState::NotYet,
                (Some(_), false) => EndingState::Unwritten,
                (Some(_), true) => EndingState::Written,
            },
        }
    }

    fn pipes(&self) -> Pipes {
        if self.outputs.is_empty() {
            Pipes::Closed
        } else if self.outputs.iter().any(Output::is_owed) {
            Pipes::Owed
        } else {
            Pipes::Open
        }
    }

    /// Reports whether output may be read now. Output after the task's end is discarded, so it is always
    /// read.
    fn may_read(&self) -> bool {
        let is_read = self.clients.iter().any(|client| client.reads);
        let waiting = self.spool.end().since(self.spool.acknowledged());
        self.ending.is_some() || (self.unwritten.is_none() && waiting < self.room.limit(is_read))
    }

    fn update_limit(&mut self, now: Instant) {
        if self.room.is_due(self.spool.end(), now) {
            // If the usage is unknown, there is assumed to be room.
            let used = volume_used_percent(self.layout.root()).unwrap_or(0);
            self.room.note(used, self.spool.end(), now);
        }
    }

    /// Does everything that is due.
    fn advance(&mut self, now: Instant) {
        self.update_limit(now);
        if let Some(mut unwritten) = self.unwritten.take()
            && let Err(error) = self.spool.append(unwritten.stream, unwritten.time_ns, &unwritten.payload)
        {
            unwritten.error = error.to_string();
            self.unwritten = Some(unwritten);
        }
        // A command that has ended in the meantime is not killed.
        if self.progress().has_run_too_long(now) && !self.has_command_ended() {
            let grace = Duration::from_millis(self.spec.kill_grace_ms.into());
            self.killing = KillState::Begun(Kill::begin(grace, now, started_now()), Cause::Timeout);
        }
        self.step_kill(now);
        if self.progress().is_over(now) {
            self.end(now);
        }
        self.write_ending();
        self.answer_waiting();
    }

    fn step_kill(&mut self, now: Instant) {
        self.killing = match std::mem::replace(&mut self.killing, KillState::No) {
            KillState::Begun(mut kill, cause) => match kill.step(now) {
                Some(proof) => KillState::Done(proof, cause),
                None => KillState::Begun(kill, cause),
            },
            other => other,
        };
    }

    fn end(&mut self, now: Instant) {
        let Some(ending) = self.progress().ending() else { return };
        // A later order to kill applies to the background processes that the command has left.
        self.killing = KillState::No;
        let background = if self.outputs.is_empty() { 0 } else { descendants().len() };
        let until = self.child_end.map_or(now, |gone| gone.at);
        self.ending = Some(TaskEnding {
            outcome: Outcome { ending, background: u32::try_from(background).unwrap_or(u32::MAX) },
            end_offset: self.spool.end(),
            duration_ns: nanoseconds(until.duration_since(self.started)),
        });
    }

    /// Writes the ending, if it is known and not written yet. Called until it succeeds, so that a disk
    /// failure does not turn a known ending into a lost task.
    fn write_ending(&mut self) {
        if let Some(ending) = &self.ending
            && !self.is_ending_written
        {
            self.is_ending_written = self.place.write_ending(&self.layout, &line(ending)).is_ok();
        }
    }

    fn answer_waiting(&mut self) {
        let (ending, end, taken) = (self.ending.as_ref(), self.spool.end(), self.input.taken());
        let refused = self.unwritten.as_ref().map(|unwritten| unwritten.error.as_str());
        let held = self.room.held_reason(refused, self.may_read());
        self.clients.retain_mut(|client| {
            client.report_held(&held) && client.answer_input(taken) && client.answer_wait(ending, end)
        });
    }

    fn timeout(&self, now: Instant, longest: Option<Duration>) -> PollTimeout {
        let wait = [longest, self.progress().next_check(now)].into_iter().flatten().min();
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
        // Before the exit is handled: a client that is notified of new output finds it in the spool.
        for index in readable.into_iter().rev() {
            if !self.read_requests(index) {
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

    /// Reaps ended processes, and reports whether the command itself has ended. Called before a kill begins:
    /// an order that arrives after the command has ended by itself does not change its outcome.
    fn has_command_ended(&mut self) -> bool {
        for (pid, end) in reap() {
            if pid == self.child {
                let by_itself = matches!(self.killing, KillState::No);
                self.child_end = Some(ChildExit { end, at: Instant::now(), by_itself });
                self.outputs.iter_mut().for_each(Output::note_command_end);
            }
        }
        self.child_end.is_some()
    }

    /// Reads once from the pipe of a stream, and replaces the contents of the buffer.
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

    /// Reads and handles the requests of a client. Returns false if it is gone, or violates the protocol.
    fn read_requests(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        if !client.lines.read_from(&client.socket).unwrap_or(false) {
            return false;
        }
        loop {
            let client = &mut self.clients[index];
            if let Some((offset, length, is_last)) = client.pending_input {
                let Some(data) = client.lines.take_bytes(length) else { return true };
                client.pending_input = None;
                if !self.input.take(offset, &data, is_last) {
                    return false;
                }
                self.input.write();
                continue;
            }
            match client.lines.take() {
                Ok(Some(request)) => {
                    if !self.handle_request(index, request) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Handles a request. Returns false if it is not valid while the process runs a task.
    fn handle_request(&mut self, index: usize, request: TaskRequest) -> bool {
        match request {
            TaskRequest::Start(_) => return false,
            TaskRequest::Wait { past } => self.clients[index].waits_past = Some(past),
            TaskRequest::Acknowledge { offset } => {
                self.clients[index].reads = true;
                // Segments that cannot be removed now are removed with the next acknowledgement.
                let _ = self.spool.acknowledge(offset, self.room.is_tight);
            }
            TaskRequest::Input { offset, length, is_last } => {
                self.clients[index].pending_input = Some((offset, length, is_last));
            }
            TaskRequest::Resize { rows, columns } => self.input.resize(rows, columns),
            TaskRequest::WatchInput => self.clients[index].watches_input = true,
            TaskRequest::Kill { by, seal, grace_ms } => {
                self.has_command_ended();
                let order = Order { by: by.into(), seal };
                self.killing.order(order, Duration::from_millis(grace_ms.into()), Instant::now());
            }
        }
        true
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_saturate_in_nanoseconds() {
        assert_eq!(nanoseconds(Duration::new(1, 2)), 1_000_000_002);
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
    }
}
