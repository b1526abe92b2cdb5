//! The position of an Attach in its task's spool, and its requests to the task's shim. Does not communicate
//! with the master.

use std::io;

use crate::{
    agent::{
        layout::TaskLayout,
        spool::{self, SpoolReader},
        supervisor::protocol::{TaskReply, TaskRequest},
        task_process::{TaskProcess, record_of},
    },
    domain::{attach::AttachRequest, control::WindowSize, offset::OutputOffset, outcome::TaskEnding},
    sys::{clock::boottime_ns, disk::Disk, process::boot_id},
};

/// The state of a task when an Attach begins to stream it.
pub(super) struct TaskConnection {
    pub(super) process: Option<TaskProcess>,
    /// Whether the process was asked to report new output, and has not answered.
    pub(super) waits: bool,
    /// Whether the command reads input from an operator.
    pub(super) is_fed: bool,
    /// The time since the task's start.
    pub(super) elapsed_ns: u64,
    /// Whether the machine was rebooted since the task's start.
    pub(super) is_of_other_boot: bool,
}

impl TaskConnection {
    /// Returns the state of a task that was started on this connection to its process.
    pub(super) fn fresh(process: TaskProcess, is_fed: bool) -> Self {
        Self { process: Some(process), waits: true, is_fed, elapsed_ns: 0, is_of_other_boot: false }
    }

    /// Reads the state of a task that was started before, and tries to connect to its process.
    pub(super) fn found(task: &TaskLayout) -> io::Result<Self> {
        let record = record_of(task)?;
        let is_fed = record.as_ref().is_some_and(|record| record.spec.input.is_fed());
        let boot = boot_id()?;
        let is_of_other_boot = record.as_ref().is_none_or(|record| record.boot != boot);
        let started = record.map_or(0, |record| record.started_boottime_ns);
        let elapsed_ns = boottime_ns().saturating_sub(started);
        Ok(Self { process: TaskProcess::connect(task), waits: false, is_fed, elapsed_ns, is_of_other_boot })
    }
}

/// The position of an Attach in its task's spool.
pub(super) struct SpoolStream {
    pub(super) task: TaskLayout,
    pub(super) process: Option<TaskProcess>,
    pub(super) reader: SpoolReader,
    /// The end of the bytes that the master accepts.
    pub(super) grant: OutputOffset,
    /// The end of the bytes that are known to be in the spool.
    pub(super) spooled: OutputOffset,
    pub(super) ending: Option<TaskEnding>,
    /// Whether the process was asked to report new output, and has not answered.
    pub(super) waits: bool,
    pub(super) feeding: InputRelay,
}

/// The state of the transfer of input to the command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InputRelay {
    /// Whether the command reads input from an operator.
    pub(super) is_wanted: bool,
    /// Whether the process was asked to report how much input it has read.
    pub(super) is_asked: bool,
    /// Whether input was sent to the process on this connection.
    pub(super) has_begun: bool,
}

impl SpoolStream {
    pub(super) fn may_read(&self) -> bool {
        self.reader.offset() < self.spooled.min(self.grant)
    }

    /// Asks the process to report new output and consumed input, unless a request is pending already.
    pub(super) async fn ask(&mut self) {
        if let (true, false, Some(process)) =
            (self.feeding.is_wanted, self.feeding.is_asked, &mut self.process)
        {
            let _ = process.send(&TaskRequest::WatchInput).await;
            self.feeding.is_asked = true;
        }
        if self.waits || self.ending.is_some() || self.spooled > self.reader.offset() {
            return;
        }
        if let Some(process) = &mut self.process {
            let wait = TaskRequest::Wait { past: self.spooled };
            // If the process has ended, so does the connection, which is noticed when it is read.
            let _ = process.send(&wait).await;
            self.waits = true;
        }
    }

    pub(super) fn handle_reply(&mut self, reply: Option<TaskReply>) {
        match reply {
            Some(TaskReply::InputTaken { .. } | TaskReply::Held { .. }) => return,
            Some(TaskReply::Spooled { end }) => self.spooled = end,
            Some(TaskReply::Ended { ending }) => {
                self.process = None;
                self.feeding.is_asked = false;
                self.spooled = ending.end_offset;
                self.ending = Some(ending);
            }
            // The disk shows whether and how the task has ended.
            _ => {
                self.process = None;
                self.feeding.is_asked = false;
            }
        }
        self.waits = false;
    }

    /// Handles a message of the master.
    pub(super) async fn take(&mut self, request: AttachRequest) -> io::Result<()> {
        match request {
            AttachRequest::Grant(to) => self.grant = self.grant.max(to),
            AttachRequest::Acknowledge(offset) => self.acknowledge(offset).await?,
            AttachRequest::Stdin(stdin) => {
                if let Some(process) = &mut self.process {
                    self.feeding.has_begun = true;
                    // A process that has ended reads no input; the end of its connection is noticed.
                    let _ = process.send_input(stdin.offset, &stdin.data, stdin.is_end).await;
                }
            }
            AttachRequest::WindowSize(WindowSize { rows, columns }) => {
                if let Some(process) = &mut self.process {
                    let _ = process.send(&TaskRequest::Resize { rows, columns }).await;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn acknowledge(&mut self, offset: OutputOffset) -> io::Result<()> {
        if let Some(process) = &mut self.process {
            let _ = process.send(&TaskRequest::Acknowledge { offset }).await;
            Ok(())
        } else if self.ending.is_some() {
            spool::drop_before(&Disk::default(), &self.task.spool(), offset)
        } else {
            // The process may be alive, and relies on the spool that it has written.
            Ok(())
        }
    }
}
