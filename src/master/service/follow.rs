//! Follows a live or ended job: its output in the order of the log, then the states of its tasks.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use tokio::sync::watch;
use tonic::Status;

use crate::{
    domain::{
        control::{Closing, JobEvent, TaskGap, TaskOffset},
        frame::{Frame, HEADERS, MAX_PAYLOAD},
        job::{Job, Task},
        name::AgentName,
        offset::OutputOffset,
    },
    master::{
        journal::Journal,
        output_log::{JobLog, LogPosition, LogReader, OutputLogs, Pacer, Trouble},
    },
    wire::{
        budget::Permit,
        outbox::{Gone, Outbox},
    },
};
use tokio_util::sync::CancellationToken;

/// Maximum number of events that wait for a client. A slow client costs no more than this.
pub(super) const MAX_QUEUED_EVENTS: usize = 8;

pub(super) type Events = Outbox<JobEvent>;

/// The job to follow, and the options.
pub(super) struct Follow {
    pub job: Job,
    /// The journal of the job; `None` if the job is over and stored.
    pub live: Option<Arc<Journal>>,
    /// The end of each task's output that the client has already seen.
    pub seen: Vec<TaskOffset>,
    pub from_offset: OutputOffset,
    /// Only the tasks of these agents; empty for all.
    pub agents: HashSet<AgentName>,
    pub follow: bool,
    pub without_output: bool,
    /// Whether commands wait for this client.
    pub attached: bool,
    /// Leaves out the output of each task from this offset on.
    pub until_offset: Option<OutputOffset>,
    /// Distance to the end of the log, in bytes, from which on output may be left out.
    pub most_behind: Option<u64>,
    pub stop: CancellationToken,
}

impl Follow {
    /// Returns a request for the whole output of a job that is over and stored.
    pub(super) fn new(job: Job, stop: CancellationToken) -> Self {
        Self {
            job,
            live: None,
            seen: Vec::new(),
            from_offset: OutputOffset::START,
            agents: HashSet::new(),
            follow: false,
            without_output: false,
            attached: false,
            until_offset: None,
            most_behind: None,
            stop,
        }
    }
}

/// Reasons with which a stream is closed and its client is asked to reconnect.
pub(super) const MASTER_ENDS: &str = "the master ends; its jobs continue";
pub(super) const LOG_REOPENED: &str = "the job's output log has to be opened again";

/// Waits until a log has failed. Cancel safe.
pub(super) async fn has_failed(trouble: &mut watch::Receiver<Option<Trouble>>) {
    let has_failed = |trouble: &Option<Trouble>| trouble.as_ref().is_some_and(Trouble::is_failure);
    if trouble.wait_for(has_failed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Maximum number of bytes of one read: frames, each of at most one payload, are added until there is one
/// payload.
const READ: usize = 2 * MAX_PAYLOAD + HEADERS;

/// Memory that a stream uses for each task of its job, in bytes.
const HELD_OF_TASK: usize = 64;

/// The end of a task's output.
#[derive(Clone, Copy)]
struct TaskEnd {
    index: u32,
    end_offset: OutputOffset,
    has_ended: bool,
}

impl TaskEnd {
    fn of(task: &Task) -> Self {
        Self { index: task.index, end_offset: task.end_offset, has_ended: task.state.outcome().is_some() }
    }
}

struct Follower {
    events: Events,
    reader: LogReader,
    /// The open log of a live job, which has the newest frames in memory.
    log: Option<Arc<JobLog>>,
    /// Reports how far this follower has read, if commands wait for it.
    pacer: Option<Pacer>,
    /// Tasks that are followed; `None` for all.
    wanted: Option<HashSet<u32>>,
    from_offset: OutputOffset,
    until_offset: Option<OutputOffset>,
    most_behind: Option<u64>,
    /// The offset at which each task's output continues.
    ends: HashMap<u32, OutputOffset>,
}

impl Follower {
    async fn send(&self, event: JobEvent) -> Result<(), Gone> {
        self.events.send(Ok(event)).await
    }

    /// Sends an event for which memory is already reserved.
    async fn send_within(&self, held: &mut Permit, event: JobEvent) -> Result<(), Gone> {
        self.events.send_within(held, Ok(event)).await
    }

    /// Asks the client to reconnect.
    async fn close(&self, reason: &str) -> Result<(), Gone> {
        let closing = Closing { reason: reason.to_owned(), retry_after_ms: 1_000 };
        self.send(JobEvent::Closing(closing)).await
    }

    async fn fail(&self, error: io::Error) -> Gone {
        let _ = self.events.send(Err(Status::data_loss(error.to_string()))).await;
        Gone
    }

    fn wants(&self, task: u32) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&task))
    }

    /// Skips to the output that is still in memory if it is too far behind. The skipped output is reported as
    /// gaps.
    fn skip_ahead(&mut self, until: LogPosition) {
        let Some(most) = self.most_behind else { return };
        if until.bytes_since(self.reader.position()) <= most {
            return;
        }
        let recent = self.log.as_ref().and_then(|log| log.recent_from());
        if let Some(recent) = recent.filter(|recent| *recent > self.reader.position()) {
            self.reader.skip_to(recent);
        }
    }

    /// Reports whether everything that was requested was sent, whatever the tasks print from now on.
    fn is_satisfied(&self) -> bool {
        let wanted = self.wanted.as_ref().filter(|wanted| wanted.len() == 1);
        let end = wanted.and_then(|wanted| self.ends.get(wanted.iter().next()?));
        end.zip(self.until_offset).is_some_and(|(end, until)| *end >= until)
    }

    /// Sends the output in the log before `until`.
    async fn send_output(&mut self, until: LogPosition) -> Result<(), Gone> {
        self.skip_ahead(until);
        loop {
            if self.is_satisfied() {
                return Ok(());
            }
            if self.reader.position() >= until {
                return Ok(());
            }
            // Reserved before the read: frames that wait for memory would already use it.
            let mut held = self.events.hold(READ).await?;
            let frames = match self.next_frames(until).await {
                Ok(frames) if frames.is_empty() => return Ok(()),
                Ok(frames) => frames,
                Err(error) => return Err(self.fail(error).await),
            };
            let mut output: Option<(u32, Vec<Frame>)> = None;
            for (task_index, frame) in frames {
                if self.is_after_end(task_index, &frame) {
                    // Output that is missing before the requested end is still reported as a gap.
                    let until = self.until_offset.unwrap_or(frame.offset);
                    if let Some(gap) = self.gap_before(task_index, until) {
                        self.send_within(&mut held, gap).await?;
                    }
                    self.ends.insert(task_index, until);
                    continue;
                }
                let Some(frame) = self.rest_of(task_index, frame) else { continue };
                if let Some(gap) = self.gap_before(task_index, frame.offset) {
                    if let Some((task, frames)) = output.take() {
                        self.send_within(&mut held, JobEvent::Output { task, frames }).await?;
                    }
                    self.send_within(&mut held, gap).await?;
                }
                self.ends.insert(task_index, frame.end());
                match &mut output {
                    Some((task, frames)) if *task == task_index => frames.push(frame),
                    other => {
                        if let Some((task, frames)) = other.replace((task_index, vec![frame])) {
                            self.send_within(&mut held, JobEvent::Output { task, frames }).await?;
                        }
                    }
                }
            }
            if let Some((task, frames)) = output {
                self.send_within(&mut held, JobEvent::Output { task, frames }).await?;
            }
            if let Some(pacer) = &self.pacer {
                pacer.moved(self.reader.position());
            }
        }
    }

    async fn next_frames(&mut self, until: LogPosition) -> io::Result<Vec<(u32, Frame)>> {
        let position = self.reader.position();
        if position < until
            && let Some((frames, end)) = self.log.as_ref().and_then(|log| log.recent(position))
        {
            self.reader.skip_to(end);
            return Ok(frames);
        }
        self.reader.next(until).await
    }

    fn rest_of(&self, task: u32, frame: Frame) -> Option<Frame> {
        let from = self.ends.get(&task).copied().unwrap_or(self.from_offset);
        let frame = if self.wants(task) { frame.from_offset(from)? } else { return None };
        Some(match self.until_offset {
            Some(until) => frame.before_offset(until),
            None => frame,
        })
    }

    /// Reports whether a frame begins after the requested end.
    fn is_after_end(&self, task: u32, frame: &Frame) -> bool {
        self.wants(task) && self.until_offset.is_some_and(|until| frame.offset >= until)
    }

    /// Returns the gap to report if a task's output does not continue where it stopped.
    fn gap_before(&self, task: u32, to: OutputOffset) -> Option<JobEvent> {
        let from = self.ends.get(&task).copied().filter(|from| *from < to)?;
        let reason = if self.most_behind.is_some() {
            "skipped by the live view, which was too far behind, or not in the log"
        } else {
            "not in the log: over the cap, or lost from its disk"
        };
        Some(JobEvent::Gap { task, gap: TaskGap { from, to, reason: reason.to_owned() } })
    }

    /// Reports output that is missing at the end of ended tasks. Must come after all existing output.
    async fn send_missing_ends(&mut self, tasks: &[TaskEnd]) -> Result<(), Gone> {
        for task in tasks {
            let is_over = task.has_ended && self.wants(task.index);
            let end = self.until_offset.map_or(task.end_offset, |until| until.min(task.end_offset));
            if is_over && let Some(gap) = self.gap_before(task.index, end) {
                self.ends.insert(task.index, task.end_offset);
                self.send(gap).await?;
            }
        }
        Ok(())
    }

    async fn send_tasks(&self, tasks: Vec<Task>) -> Result<(), Gone> {
        for task in tasks {
            if self.wants(task.index) {
                self.send(JobEvent::Task(Box::new(task))).await?;
            }
        }
        Ok(())
    }
}

/// Follows a job until the job, the client or the master ends.
pub(super) async fn serve(follow: Follow, logs: OutputLogs, events: Events) {
    // A client that is gone needs no error.
    let _ = run(follow, logs, events).await;
}

async fn run(follow: Follow, logs: OutputLogs, events: Events) -> Result<(), Gone> {
    let id = follow.job.id;
    let wanted = (!follow.agents.is_empty()).then(|| {
        let tasks = follow.job.tasks.iter();
        tasks
            .filter(|task| follow.agents.contains(&task.agent))
            .map(|task| task.index)
            .collect::<HashSet<u32>>()
    });
    // Reserved while the stream lasts: for a job with many tasks this is significant.
    let _room = events.hold(follow.job.tasks.len() * HELD_OF_TASK).await?;
    let tasks: Vec<TaskEnd> = follow.job.tasks.iter().map(TaskEnd::of).collect();
    let mut ends: HashMap<u32, OutputOffset> =
        tasks.iter().map(|task| (task.index, follow.from_offset)).collect();
    for TaskOffset { task, offset: seen } in follow.seen {
        ends.entry(task).and_modify(|end| *end = seen.max(*end));
    }
    let mut follower = Follower {
        reader: logs.reader(id, LogPosition::START),
        log: None,
        pacer: None,
        events,
        wanted,
        from_offset: follow.from_offset,
        until_offset: follow.until_offset,
        most_behind: follow.most_behind,
        ends,
    };
    let ended_ms = follow.job.ended_ms;
    let wanted = follower.ends.iter().filter(|(task, _)| follower.wants(**task));
    let behind: Vec<(u32, OutputOffset)> = wanted.map(|(task, end)| (*task, *end)).collect();
    follower.send(JobEvent::Job(Box::new(follow.job))).await?;
    let Some(journal) = follow.live else {
        if !follow.without_output {
            if behind.iter().any(|(_, end)| *end > OutputOffset::START) {
                match logs.position_behind(id, behind).await {
                    Ok(position) => follower.reader = logs.reader(id, position),
                    Err(error) => return Err(follower.fail(error).await),
                }
            }
            let end = match logs.end(id).await {
                Ok(end) => end,
                Err(error) => return Err(follower.fail(error).await),
            };
            follower.send_output(end).await?;
            follower.send_missing_ends(&tasks).await?;
        }
        if let Some(ended_ms) = ended_ms {
            follower.send(JobEvent::Ended { ended_ms }).await?;
        }
        return Ok(());
    };
    let log: Arc<JobLog> = match logs.open(id).await {
        Ok(log) => log,
        Err(error) => return Err(follower.fail(error).await),
    };
    if behind.iter().any(|(_, end)| *end > OutputOffset::START) {
        follower.reader = logs.reader(id, log.position_behind(&behind));
    }
    follower.log = Some(Arc::clone(&log));
    follower.pacer =
        (follow.attached && !follow.without_output).then(|| log.pace(follower.reader.position()));
    let (mut appended, mut changed, mut trouble) = (log.appended(), journal.subscribe(), log.trouble());
    let mut seen = 0;
    // The journal does not report tasks that had already ended when the job was looked up.
    let mut found = tasks;
    loop {
        // States first, output second: output is in the log before the end of its task is in the journal.
        changed.borrow_and_update();
        let news = journal.since(seen);
        seen = news.seen;
        if !follow.without_output {
            let until = *appended.borrow_and_update();
            follower.send_output(until).await?;
            follower.send_missing_ends(&std::mem::take(&mut found)).await?;
            let news: Vec<TaskEnd> = news.tasks.iter().map(TaskEnd::of).collect();
            follower.send_missing_ends(&news).await?;
        }
        follower.send_tasks(news.tasks).await?;
        if let Some(gate) = news.gate {
            follower.send(JobEvent::Gate(gate)).await?;
        }
        if let Some(ended_ms) = news.ended_ms.or(ended_ms) {
            return follower.send(JobEvent::Ended { ended_ms }).await;
        }
        if !follow.follow || follower.is_satisfied() {
            return Ok(());
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = appended.changed(), if !follow.without_output => {}
            () = follower.events.closed() => return Err(Gone),
            () = follow.stop.cancelled() => {
                return follower.close(MASTER_ENDS).await;
            }
            () = has_failed(&mut trouble) => return follower.close(LOG_REOPENED).await,
        }
    }
}
