//! The position of an Attach in its task's spool, and its requests to the task's shim. Knows nothing of the master.

use std::io;

use crate::{
    agent::{
        layout::TaskLayout,
        spool::{self, SpoolReader},
        supervisor::protocol::{TaskReply, TaskRequest},
        task_process::{TaskProcess, record_of},
    },
    domain::{attach::AttachRequest, control::WindowSize, outcome::TaskEnding},
    sys::{clock::boottime_ns, disk::Disk, process::boot_id},
};

/// What an Attach that begins to stream knows of its task.
pub(super) struct Hold {
    pub(super) process: Option<TaskProcess>,
    /// The process was asked to say when there is output.
    pub(super) waits: bool,
    /// The command reads what an operator sends.
    pub(super) is_fed: bool,
    /// Since the task's start.
    pub(super) elapsed_ns: u64,
    /// The machine was rebooted since.
    pub(super) is_of_other_boot: bool,
}

impl Hold {
    /// Of a task that was started on this connection to its process.
    pub(super) fn fresh(process: TaskProcess, is_fed: bool) -> Self {
        Self { process: Some(process), waits: true, is_fed, elapsed_ns: 0, is_of_other_boot: false }
    }

    /// Of a task that has a directory.
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

/// Where an Attach stands in its task's spool.
pub(super) struct SpoolStream {
    pub(super) task: TaskLayout,
    pub(super) process: Option<TaskProcess>,
    pub(super) reader: SpoolReader,
    /// The master takes bytes before this offset.
    pub(super) grant: u64,
    /// The spool holds bytes before this offset.
    pub(super) spooled: u64,
    pub(super) ending: Option<TaskEnding>,
    /// An answer of the process is due.
    pub(super) waits: bool,
    pub(super) feeding: Feeding,
}

/// What an Attach has to do with its command's input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Feeding {
    /// The command reads what an operator sends.
    pub(super) is_wanted: bool,
    /// The process was asked to say how far it has read.
    pub(super) is_asked: bool,
    /// Input was given to the process on this connection.
    pub(super) has_begun: bool,
}

impl SpoolStream {
    pub(super) fn may_read(&self) -> bool {
        self.reader.offset() < self.spooled.min(self.grant)
    }

    /// Asks the process to say when there is more than was read, once.
    pub(super) async fn ask(&mut self) {
        if let (true, false, Some(process)) =
            (self.feeding.is_wanted, self.feeding.is_asked, &mut self.process)
        {
            let _ = process.say(&TaskRequest::WatchInput).await;
            self.feeding.is_asked = true;
        }
        if self.waits || self.ending.is_some() || self.spooled > self.reader.offset() {
            return;
        }
        if let Some(process) = &mut self.process {
            let wait = TaskRequest::Wait { past: self.spooled };
            // A process that is gone says so with the end of the connection.
            let _ = process.say(&wait).await;
            self.waits = true;
        }
    }

    pub(super) fn heard(&mut self, reply: Option<TaskReply>) {
        match reply {
            Some(TaskReply::InputTaken { .. } | TaskReply::Held { .. }) => return,
            Some(TaskReply::Spooled { end }) => self.spooled = end,
            Some(TaskReply::Ended { ending }) => {
                self.process = None;
                self.feeding.is_asked = false;
                self.spooled = ending.end_offset;
                self.ending = Some(ending);
            }
            // The disk tells how it ended, or that it continues.
            _ => {
                self.process = None;
                self.feeding.is_asked = false;
            }
        }
        self.waits = false;
    }

    /// Takes a message of the master.
    pub(super) async fn take(&mut self, request: AttachRequest) -> io::Result<()> {
        match request {
            AttachRequest::Grant(to) => self.grant = self.grant.max(to),
            AttachRequest::Acknowledge(offset) => self.acknowledge(offset).await?,
            AttachRequest::Stdin(stdin) => {
                if let Some(process) = &mut self.process {
                    self.feeding.has_begun = true;
                    // A process that is gone reads no more, and says how it ended.
                    let _ = process.feed(stdin.offset, &stdin.data, stdin.is_end).await;
                }
            }
            AttachRequest::WindowSize(WindowSize { rows, columns }) => {
                if let Some(process) = &mut self.process {
                    let _ = process.say(&TaskRequest::Resize { rows, columns }).await;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn acknowledge(&mut self, offset: u64) -> io::Result<()> {
        if let Some(process) = &mut self.process {
            let _ = process.say(&TaskRequest::Acknowledge { offset }).await;
            Ok(())
        } else if self.ending.is_some() {
            spool::drop_before(&Disk::default(), &self.task.spool(), offset)
        } else {
            // Its process may live, and counts on what it has written.
            Ok(())
        }
    }
}
