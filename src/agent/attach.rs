//! Serves one Attach: starts the task if that is allowed, then streams its output up to the offset that the
//! master grants.
//!
//! The end of an Attach does not affect its task.

mod streaming;

use std::{io, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use streaming::{InputRelay, SpoolStream, TaskConnection};

use super::{
    actor::Opened,
    core::{Decision, DiskError, Input, OpenedAttach},
    handle::{Agent, AgentError},
    spool::{Read, SpoolReader},
    supervisor::protocol::TaskReply,
    task_process::{TaskOnDisk, TaskProcess, ending_of_lost, find},
};
use crate::{
    domain::{
        attach::{AttachRequest, AttachResponse, Open},
        control::{Closing, InputTaken, TaskGap},
        ids::{Incarnation, TaskId},
        offset::OutputOffset,
        outcome::{Ending, TaskEnding},
    },
    sys::{clock::boottime_ms, disk::Disk},
    wire::{agent::Outgoing, incoming::Incoming},
};

/// Maximum number of answers that wait for the connection.
pub(crate) const ANSWERS: usize = 4;

/// How long to wait before the next attempt to connect to a task's process that is alive but does not accept.
const BUSY_RETRY: Duration = Duration::from_millis(50);

/// How long to wait before a write that the disk has refused is tried again.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// How long to delay the report of a task's start. It is not sent if the task ends within this time without
/// output.
const START_REPORT_DELAY: Duration = Duration::from_millis(20);

type Answers = Outgoing<AttachResponse>;

/// Why an Attach ended.
enum End {
    /// The master has closed the Attach, or a later Attach has the task.
    Done,
    /// An error, which is sent to the master.
    Failed(Status),
}

impl From<AgentError> for End {
    fn from(error: AgentError) -> Self {
        Self::Failed(Status::internal(error.to_string()))
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        AgentError::from(DiskError::from(error)).into()
    }
}

/// Serves one Attach to its end.
pub(crate) async fn serve(
    agent: Agent,
    requests: Incoming<AttachRequest>,
    answers: Answers,
    stop: CancellationToken,
) {
    let mut attach = Attach { agent, requests, answers: answers.clone() };
    let end = tokio::select! {
        end = attach.run() => end,
        () = stop.cancelled() => {
            let closing = Closing { reason: "the agent's connector ends".into(), retry_after_ms: 0 };
            let _ = answers.try_send(Ok(AttachResponse::Closing(closing)));
            return;
        }
    };
    if let Err(End::Failed(status)) = end {
        tracing::warn!(message = status.message(), "an Attach failed");
        let _ = answers.send(Err(status)).await;
    }
}

/// The reason that the master gets when the agent has promised never to start a task.
const NEVER_STARTED: &str = "it was never started here";

/// Returns the error for an invalid request.
fn invalid(text: &str) -> End {
    End::Failed(Status::invalid_argument(text))
}

/// Returns the error for a permission that has expired. The master may send a new one.
fn expired() -> End {
    End::Failed(Status::unavailable("the permission to start the task came too late"))
}

/// Returns the error for a start during which the agent's memory of tasks was removed. The master tries
/// again.
fn memory_removed() -> End {
    End::Failed(Status::unavailable("the agent's memory of tasks was removed"))
}

struct Attach {
    agent: Agent,
    requests: Incoming<AttachRequest>,
    answers: Answers,
}

impl Attach {
    async fn send(&mut self, response: AttachResponse) -> Result<(), End> {
        self.answers.send(Ok(response)).await.map_err(|_| End::Done)
    }

    async fn request(&mut self) -> Result<AttachRequest, End> {
        match self.requests.message().await {
            Ok(Some(request)) => Ok(request),
            Err(status) if status.code() == Code::InvalidArgument => Err(End::Failed(status)),
            Ok(None) | Err(_) => Err(End::Done),
        }
    }

    async fn run(&mut self) -> Result<(), End> {
        let AttachRequest::Open(open) = self.request().await? else {
            return Err(invalid("an Attach begins with Open"));
        };
        let mut open = *open;
        let is_fed = open.start.as_ref().is_some_and(|start| start.spec.input.is_fed());
        let (id, attempt, agent) = (open.id, open.attempt, self.agent.clone());
        let opened = OpenedAttach {
            id,
            attempt,
            incarnation: open.incarnation.clone(),
            start: open.start.take(),
            sent: open.sent,
            arrived: boottime_ms(),
            revision: open.revision,
        };
        let Opened { decision, process, superseded } = agent.open(opened).await?;
        let has_task = !matches!(decision, Decision::Superseded(_));
        let fresh = process.map(|process| TaskConnection::fresh(process, is_fed));
        let result = tokio::select! {
            result = self.perform(&open, decision, fresh) => result,
            by = superseded.by() => self.send(AttachResponse::Superseded { by }).await,
        };
        if has_task {
            agent.tell(Input::AttachEnded { id, attempt }).await;
        }
        result
    }

    async fn perform(
        &mut self,
        open: &Open,
        decision: Decision,
        fresh: Option<TaskConnection>,
    ) -> Result<(), End> {
        let id = open.id;
        match decision {
            Decision::Started | Decision::Resume => {
                let hold = match fresh {
                    Some(hold) => hold,
                    None => TaskConnection::found(&self.agent.layout.task(id))?,
                };
                self.stream(id, open, hold).await
            }
            Decision::Recall(ending) => self.hand_over(id, ending).await,
            Decision::Refuse(reason) => self.end_unstarted(id, Ending::Refused(reason.into())).await,
            Decision::OtherIncarnation { incarnation, reason } => {
                self.answer_unknown(incarnation, reason).await
            }
            Decision::NeverStarted(incarnation) => self.answer_unknown(incarnation, NEVER_STARTED).await,
            Decision::Unwritten(error) => self.promise(id, open.attempt, &error).await,
            Decision::Expired => Err(expired()),
            Decision::MemoryRemoved => Err(memory_removed()),
            Decision::Superseded(by) => self.send(AttachResponse::Superseded { by }).await,
        }
    }

    async fn answer_unknown(&mut self, incarnation: Incarnation, reason: &str) -> Result<(), End> {
        self.send(AttachResponse::Unknown { incarnation, reason: reason.to_owned() }).await
    }

    /// Repeats the write of the promise never to start a task until it succeeds. Only then is the task
    /// reported as unknown to the master, so that no delayed Attach can still start it.
    async fn promise(&mut self, id: TaskId, attempt: u64, error: &DiskError) -> Result<(), End> {
        let reason = format!("the agent cannot record that it will not start the task: {error}");
        self.send(AttachResponse::Held(Some(reason))).await?;
        loop {
            tokio::select! {
                request = self.request() => drop(request?),
                () = tokio::time::sleep(DISK_RETRY) => {}
            }
            match self.agent.promise(id, attempt).await {
                Ok(Some(incarnation)) => return self.answer_unknown(incarnation, NEVER_STARTED).await,
                // A later Attach has the task now.
                Ok(None) => return Err(End::Done),
                Err(_) => {}
            }
        }
    }

    async fn end_unstarted(&mut self, id: TaskId, ending: Ending) -> Result<(), End> {
        let ending = TaskEnding { outcome: ending.into(), end_offset: OutputOffset::START, duration_ns: 0 };
        self.hand_over(id, ending).await
    }

    /// Reports the end of a task, and waits until the master has stored it.
    async fn hand_over(&mut self, id: TaskId, ending: TaskEnding) -> Result<(), End> {
        self.send(AttachResponse::Ended(ending.clone())).await?;
        loop {
            if let AttachRequest::OutcomeStored = self.request().await? {
                self.agent.finish(id, ending).await?;
                return Ok(());
            }
        }
    }

    /// Returns the ending of a lost task. Reads all of its output, which can take long. The master is
    /// notified first, since it opens a new Attach if it receives nothing for a long time.
    async fn lost(&mut self, id: TaskId, reason: &'static str) -> Result<TaskEnding, End> {
        let held = "the agent is checking how much of the task's output it has".to_owned();
        self.send(AttachResponse::Held(Some(held))).await?;
        let layout = Arc::clone(&self.agent.layout);
        let read = tokio::task::spawn_blocking(move || ending_of_lost(&layout, id, reason));
        let ending = read.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.send(AttachResponse::Held(None)).await?;
        Ok(ending)
    }

    /// Reports that the task was started, unless that was reported before.
    async fn report_started(&mut self, pending_report: &mut Option<PendingStartReport>) -> Result<(), End> {
        let Some(pending_report) = pending_report.take() else { return Ok(()) };
        self.send(AttachResponse::Started { elapsed_ns: pending_report.elapsed_ns() }).await
    }

    async fn stream(&mut self, id: TaskId, open: &Open, hold: TaskConnection) -> Result<(), End> {
        let layout = Arc::clone(&self.agent.layout);
        let task = layout.task(id);
        let mut pending_report = Some(PendingStartReport::new(hold.elapsed_ns));
        let reader = SpoolReader::new(Disk::default(), task.spool(), open.from_offset);
        let mut streaming = SpoolStream {
            process: hold.process,
            reader: if hold.is_of_other_boot { reader.checked() } else { reader },
            grant: open.grant_to,
            spooled: open.from_offset,
            ending: None,
            waits: hold.waits,
            feeding: InputRelay { is_wanted: hold.is_fed, ..InputRelay::default() },
            task,
        };
        if open.from_offset > OutputOffset::START || !hold.waits {
            streaming.acknowledge(open.from_offset).await?;
        }
        let ending = loop {
            if streaming.ending.is_none() && streaming.process.is_none() {
                self.look_for_ending(id, &mut streaming).await?;
                if streaming.ending.is_none() && streaming.process.is_none() {
                    // The process is alive, but does not accept a connection at the moment.
                    tokio::time::sleep(BUSY_RETRY).await;
                    continue;
                }
            }
            if streaming.may_read() {
                self.report_started(&mut pending_report).await?;
                self.send_output(&mut streaming).await?;
            } else if let Some(ending) = &streaming.ending
                && streaming.reader.offset() >= ending.end_offset
            {
                break ending.clone();
            }
            streaming.ask().await;
            let may_read = streaming.may_read();
            let is_asked = (streaming.waits && !may_read) || streaming.feeding.is_asked;
            tokio::select! {
                biased;
                request = self.request() => streaming.take(request?).await?,
                reply = next_of(&mut streaming.process), if is_asked => self.take_reply(&mut streaming, reply).await?,
                () = until_due(pending_report.as_ref()) => self.report_started(&mut pending_report).await?,
                () = std::future::ready(()), if may_read => {}
            }
        };
        self.hand_over(id, ending).await
    }

    /// Looks for the end of a task without a connection to its process, or else connects to the process
    /// again.
    async fn look_for_ending(&mut self, id: TaskId, streaming: &mut SpoolStream) -> Result<(), End> {
        streaming.ending = match find(&self.agent.layout, id) {
            Ok(TaskOnDisk::Live) => None,
            Ok(TaskOnDisk::Ended(ending)) => Some(ending),
            Ok(TaskOnDisk::Lost(reason)) => Some(self.lost(id, reason).await?),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // Written by another version of the agent. It may be installed again, so nothing is assumed.
                self.send(AttachResponse::Held(Some(error.to_string()))).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        match &streaming.ending {
            Some(ending) => streaming.spooled = ending.end_offset,
            None => streaming.process = TaskProcess::connect(&streaming.task),
        }
        if streaming.ending.is_none() && streaming.feeding.has_begun {
            // The input in transit is lost. The next Attach requests it again.
            return Err(io::Error::other("lost the task's process while input was being sent").into());
        }
        Ok(())
    }

    /// Sends the next output from the spool, up to the grant.
    async fn send_output(&mut self, streaming: &mut SpoolStream) -> Result<(), End> {
        match streaming.reader.read(streaming.spooled.min(streaming.grant))? {
            Read::Frames(frames) => self.send(AttachResponse::Output(frames)).await,
            Read::Gap { from, to } => {
                let reason = "the agent no longer has it".to_owned();
                self.send(AttachResponse::Gap(TaskGap { from, to, reason })).await
            }
            Read::Nothing => {
                let from = streaming.reader.offset();
                let Some(ending) = &streaming.ending else {
                    return Err(io::Error::other(format!("a hole in the spool at {from}")).into());
                };
                // The task has ended, so this part of the spool stays empty.
                let (to, reason) = (ending.end_offset, "the agent's disk lost it".to_owned());
                streaming.reader.skip_to(to);
                self.send(AttachResponse::Gap(TaskGap { from, to, reason })).await
            }
        }
    }

    async fn take_reply(&mut self, streaming: &mut SpoolStream, reply: Option<TaskReply>) -> Result<(), End> {
        match reply {
            Some(TaskReply::InputTaken { offset, over }) => {
                streaming.feeding.is_asked = false;
                self.send(AttachResponse::InputTaken(InputTaken { offset, is_over: over })).await
            }
            Some(TaskReply::Held { reason }) => {
                let reason = Some(reason).filter(|reason| !reason.is_empty());
                self.send(AttachResponse::Held(reason)).await
            }
            reply => {
                streaming.handle_reply(reply);
                Ok(())
            }
        }
    }
}

/// The report of a task's start that was not sent yet. It is omitted if the task ends at once without output.
struct PendingStartReport {
    /// The time from the task's start to the beginning of this Attach.
    elapsed_ns: u64,
    since: Instant,
}

impl PendingStartReport {
    fn new(elapsed_ns: u64) -> Self {
        Self { elapsed_ns, since: Instant::now() }
    }

    fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns.saturating_add(u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Waits until the start must be reported; forever if there is nothing to report.
async fn until_due(pending_report: Option<&PendingStartReport>) {
    match pending_report {
        Some(pending_report) => tokio::time::sleep_until(pending_report.since + START_REPORT_DELAY).await,
        None => std::future::pending().await,
    }
}

async fn next_of(process: &mut Option<TaskProcess>) -> Option<TaskReply> {
    match process {
        Some(process) => process.next().await,
        None => None,
    }
}
