//! One Attach, seen from the master: bytes go from the link into the output log, facts to the core.
//!
//! Decides nothing: whether a task may start, and what follows when a link breaks, is the core's business.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    actor::Handle,
    ahead::Ahead,
    cap::{Cap, Newest},
    clock::SendClock,
    core::messages::{AttachOrder, Input},
    input::{InputRoad, Inputs},
    links::{ANSWER_WITHIN, AttachStream, Links},
    output_log::{
        FILE_SIZE, OutputLogs, RunLog, Trouble,
        budget::{Budget, NARROW, Share},
        writer::SHORT,
    },
    pace::{Pace, WATCHED},
};
use crate::{
    domain::{
        agent::START_PERMISSION,
        frame::Frame,
        ids::{Incarnation, RunReference, TaskId},
        outcome::Outcome,
        run::Overflow,
        text::{clipped, plain},
    },
    wire::{
        InvalidMessage,
        command::task_spec_out,
        proto::{self, attach_request, attach_response},
        streaming::Messages,
    },
};

/// How far the log of a run may be ahead of a client at whose pace its commands go; within what the log keeps cached.
const PACE_WINDOW: u64 = 16 * 1024 * 1024;
/// How often it is looked whether a command is still fed.
const LOOK_FOR_FEEDER: Duration = Duration::from_secs(5);
/// An offset that no output reaches: an agent that is asked for what follows it sends nothing.
const BEYOND: u64 = 1 << 62;
/// How often a log that cannot be written is tried again.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// Cells of what an agent says of its disk.
const LONGEST_REASON: usize = 200;

/// What an Attach works with.
pub struct Context {
    /// The core.
    pub handle: Handle,
    /// The agent's links.
    pub links: Arc<Links>,
    /// Opens Attaches for later tasks.
    pub ahead: Ahead,
    /// The output logs.
    pub logs: OutputLogs,
    /// How far agents may send ahead of the disk.
    pub budget: Budget,
    /// What commands are fed.
    pub inputs: Inputs,
    /// What is told while the Attach is under way.
    pub signals: Arc<AttachSignals>,
    /// When the core's clock began.
    pub started: tokio::time::Instant,
    /// By which the agent tells how long a permission was on its way.
    pub clock: SendClock,
    /// Ends with the agent's connection.
    pub close: CancellationToken,
    /// Ends with the master.
    pub now: CancellationToken,
}

/// What an Attach is told while it is under way.
#[derive(Debug, Default)]
pub struct AttachSignals {
    /// Notified when the task's outcome is on the disk.
    pub stored: Notify,
    /// The task was cancelled: an Attach that has not been opened yet starts nothing any more.
    cancelled: AtomicBool,
}

impl AttachSignals {
    /// The task was cancelled.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// Why an Attach ended before the task was handed over.
enum Lost {
    /// The link or the agent.
    Broken(String),
    /// An Attach with this attempt took its place.
    Superseded(u64),
    /// Nothing more is to be done.
    Done,
}

impl From<tonic::Status> for Lost {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(status.message().to_owned())
    }
}

impl From<InvalidMessage> for Lost {
    fn from(invalid: InvalidMessage) -> Self {
        Self::Broken(invalid.to_string())
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("the output log: {error}"))
    }
}

/// Attaches a task and stays until it is handed over, or the link is lost.
pub async fn attach(context: Context, order: AttachOrder) {
    let (id, session, attempt, handle) = (order.id, order.session, order.attempt, context.handle.clone());
    let (close, now) = (context.close.clone(), context.now.clone());
    let (links, ahead) = (Arc::clone(&context.links), context.ahead.clone());
    ahead.begins();
    let lost = tokio::select! {
        lost = follow(context, order) => lost,
        // The core knows that the session is over.
        () = close.cancelled() => return,
        () = now.cancelled() => return,
    };
    let superseded_by = match lost {
        Lost::Done => return ahead.ended(&links),
        Lost::Superseded(by) => Some(by),
        Lost::Broken(reason) => {
            tracing::debug!(task = %id, attempt, reason, "lost an Attach");
            None
        }
    };
    handle.tell(Input::AttachLost { id, session, attempt, superseded_by }).await;
}

async fn follow(context: Context, order: AttachOrder) -> Lost {
    if !order.delay.is_zero() {
        // A sleep of nothing takes the timer's whole millisecond.
        tokio::time::sleep(order.delay).await;
    }
    let log = match context.logs.open(order.id.run).await {
        Ok(log) => log,
        Err(error) => {
            tracing::error!(%error, run = %order.id.run, "cannot open an output log");
            let text = format!("the master cannot open its output log: {error}; trying again");
            context.handle.tell(Input::TaskWaits(order.id, text)).await;
            tokio::time::sleep(DISK_RETRY).await;
            return error.into();
        }
    };
    let mut trouble = log.trouble();
    if trouble.borrow().is_some() {
        trouble.mark_changed();
    }
    let from = if order.discard { BEYOND } else { log.task_end(order.id.index) };
    let share = context.budget.narrow();
    let cap = Cap::new(order.output_cap, order.overflow);
    let mut attached = Attached {
        id: order.id,
        attempt: order.attempt,
        synced: log.synced(),
        slowest: log.slowest(),
        trouble,
        pace: Pace::default(),
        passed: 0,
        safe: from,
        end: from,
        granted: from + share.bytes(),
        cap,
        newest: Newest::new(cap),
        unwritten: Vec::new(),
        writing: None,
        waiting: VecDeque::new(),
        share,
        log,
        input: order.is_fed.then(|| context.inputs.of(order.id)),
        has_input_word: false,
        context,
    };
    match attached.run(order).await {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

struct Attached {
    id: TaskId,
    attempt: u64,
    context: Context,
    log: Arc<RunLog>,
    synced: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<Trouble>>,
    share: Share,
    /// Bytes of the task before this are on the disk.
    safe: u64,
    /// Bytes of the task before this were taken.
    end: u64,
    /// The agent may send bytes before this.
    granted: u64,
    cap: Cap,
    /// The newest output over the cap, which is only written when the task ends.
    newest: Newest,
    /// Where the client is at whose pace the command goes.
    slowest: watch::Receiver<Option<u64>>,
    pace: Pace,
    /// How many files' worth of the log that client had passed when files were dropped last.
    passed: u64,
    /// Where what an operator feeds the command comes from.
    input: Option<Arc<InputRoad>>,
    /// The agent has said how far the command has read.
    has_input_word: bool,
    /// Taken, and not given to the log yet.
    unwritten: Vec<Frame>,
    /// Writes what was taken before that.
    writing: Option<AbortOnDropHandle<Option<(u64, u64)>>>,
    /// Positions in the log, and the task's offsets that are safe once they are synced.
    waiting: VecDeque<(u64, u64)>,
}

impl Attached {
    async fn run(&mut self, order: AttachOrder) -> Result<std::convert::Infallible, Lost> {
        let first =
            || proto::AttachRequest { kind: Some(attach_request::Kind::Open(self.open_message(&order))) };
        let AttachStream { requests, mut answers } = self.context.links.attach(first).await?;
        let answer_by = tokio::time::Instant::now() + ANSWER_WITHIN;
        let mut has_answered = false;
        let mut looks = tokio::time::interval(LOOK_FOR_FEEDER);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let Some(answer) = answer? else { return Err(Lost::Broken("the stream ended".into())) };
                    has_answered = true;
                    self.context.links.spoke();
                    let kind = answer.kind.ok_or_else(|| InvalidMessage::missing("an answer"))?;
                    self.heard(kind, &requests, &mut answers).await?;
                }
                written = async { self.writing.as_mut()?.await.unwrap_or_default() }, if self.writing.is_some() => {
                    self.written(written).await?;
                }
                () = tokio::time::sleep_until(answer_by), if !has_answered => {
                    return Err(Lost::Broken("the agent does not answer".into()));
                }
                changed = self.synced.changed(), if !self.waiting.is_empty() => {
                    if changed.is_err() {
                        return Err(Lost::Broken("the log is closed".into()));
                    }
                    self.acknowledge(&requests).await?;
                }
                _ = self.trouble.changed() => self.tell_trouble().await?,
                _ = self.slowest.changed(), if self.is_over_cap() || self.is_near_grant() => {
                    self.acknowledge(&requests).await?;
                }
                () = tokio::time::sleep(WATCHED), if self.pace.waits() => self.acknowledge(&requests).await?,
                _ = looks.tick(), if self.input.is_some() => self.look_for_feeder().await,
            }
        }
    }

    /// The first message, as of now: what may be started, and for how long that is good.
    fn open_message(&self, order: &AttachOrder) -> proto::Open {
        let start = order.start.as_ref().filter(|_| !self.context.signals.is_cancelled());
        let start = start.and_then(|(spec, until)| {
            let left = until.saturating_sub(self.context.started.elapsed()).min(START_PERMISSION);
            let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            (left_ms > 0).then_some((spec, left_ms))
        });
        let (epoch, revision) = order.revision;
        proto::Open {
            run_id: self.id.run.to_bytes().to_vec().into(),
            task_index: self.id.index,
            attempt: order.attempt,
            spec: start.map(|(spec, _)| task_spec_out(self.id, spec.clone())),
            from_offset: self.end,
            may_start: start.is_some(),
            incarnation: order.incarnation.to_string(),
            grant_to: self.granted,
            epoch,
            revision,
            start_within_ms: start.map_or(0, |(_, left_ms)| left_ms),
            sent: Some(self.context.clock.now()),
        }
    }

    /// Hangs up on a command that waits for input which nobody sends any more.
    async fn look_for_feeder(&mut self) {
        if !self.input.as_ref().is_some_and(|input| input.is_abandoned()) {
            return;
        }
        self.input = None;
        tracing::info!(task = %self.id, "hung up: nobody feeds the command any more");
        let (run, tasks) = (RunReference::Id(self.id.run), vec![self.id.index]);
        let by = "hang-up: nobody fed its input for a minute".to_owned();
        let _ = self.context.handle.ask(move |reply| Input::Cancel { run, tasks, by, reply }).await;
    }

    /// Whether the task has printed more than its beginning that is always kept.
    fn is_over_cap(&self) -> bool {
        self.end >= self.cap.beginning
    }

    /// Whether the agent has sent nearly all that it may.
    fn is_near_grant(&self) -> bool {
        self.granted <= self.end + self.share.bytes() / 4
    }

    /// Whether what comes now goes into the log, at the pace of a client that reads along.
    fn is_paced(&self) -> bool {
        self.cap.overflow == Overflow::Block && self.slowest.borrow().is_some()
    }

    async fn heard(
        &mut self,
        kind: attach_response::Kind,
        requests: &Requests,
        answers: &mut Messages<proto::AttachResponse>,
    ) -> Result<(), Lost> {
        match kind {
            attach_response::Kind::Started(started) => {
                let elapsed_ms = started.elapsed_ns / 1_000_000;
                let (id, attempt) = (self.id, self.attempt);
                self.context.handle.tell(Input::TaskStarted { id, attempt, elapsed_ms }).await;
                Ok(())
            }
            attach_response::Kind::InputTaken(taken) => {
                if let Some(input) = &self.input {
                    let is_first = !std::mem::replace(&mut self.has_input_word, true);
                    if is_first {
                        input.attach(requests.clone());
                    }
                    input.taken(&taken, is_first);
                }
                Ok(())
            }
            attach_response::Kind::Held(held) => {
                let text = clipped(&plain(&held.reason), LONGEST_REASON, "…");
                self.context.handle.tell(Input::TaskWaits(self.id, text)).await;
                Ok(())
            }
            attach_response::Kind::Output(output) => {
                self.append(output).await?;
                if self.newest.bytes > 0 {
                    // Nothing new reaches the disk, so no sync will tell.
                    self.acknowledge(requests).await?;
                }
                Ok(())
            }
            attach_response::Kind::Ended(ended) => self.hand_over(ended, requests, answers).await,
            attach_response::Kind::Unknown(unknown) => {
                let incarnation = Incarnation(unknown.incarnation);
                let (id, attempt) = (self.id, self.attempt);
                self.context.handle.tell(Input::TaskUnknown { id, attempt, incarnation }).await;
                Err(Lost::Done)
            }
            attach_response::Kind::Superseded(by) => Err(Lost::Superseded(by.by_attempt)),
            attach_response::Kind::Closing(closing) => Err(Lost::Broken(closing.reason)),
            attach_response::Kind::Gap(gap) => {
                tracing::warn!(task = %self.id, from = gap.from, to = gap.to, reason = gap.reason, "output is missing");
                within(gap.to, "a gap")?;
                // It goes on behind the gap, and so does what it may send, once what lies before is on the disk.
                self.write_out().await?;
                self.end = self.end.max(gap.to);
                let position = *self.log.appended().borrow();
                self.wait_for(position, gap.to);
                self.acknowledge(requests).await
            }
        }
    }

    async fn append(&mut self, output: proto::Output) -> Result<(), Lost> {
        let mut kept = Vec::with_capacity(output.frames.len());
        for frame in output.frames {
            let frame = Frame::try_from(frame)?;
            if frame.end() > self.granted {
                return Err(InvalidMessage("an agent sent more than it was granted".into()).into());
            }
            if frame.offset >= self.cap.beginning && !self.is_paced() {
                self.write(std::mem::take(&mut kept)).await?;
                // What is told as gone is told with what lies before it.
                self.write_out().await?;
                self.keep_newest(frame).await;
            } else {
                self.write_newest().await?;
                kept.push(frame);
            }
        }
        self.write(kept).await?;
        if self.end - self.safe >= NARROW / 2 {
            self.share.widen();
        }
        if self.end - self.safe >= self.share.bytes() / 2 {
            self.log.flush();
        }
        Ok(())
    }

    /// Takes frames for the log. Long ones are written beside the stream: while the disk takes some, the next are read.
    async fn write(&mut self, frames: Vec<Frame>) -> Result<(), Lost> {
        let Some(end) = frames.last().map(Frame::end) else { return Ok(()) };
        self.end = self.end.max(end);
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        self.unwritten.extend(frames);
        if self.writing.is_none() && bytes < SHORT {
            let written = self.writing().await;
            return self.written(written).await;
        }
        self.write_beside();
        Ok(())
    }

    /// Begins to write what was taken, unless something is being written.
    fn write_beside(&mut self) {
        if self.writing.is_none() && !self.unwritten.is_empty() {
            self.writing = Some(AbortOnDropHandle::new(tokio::spawn(self.writing())));
        }
    }

    /// Writes what was taken. Ends when the log has it.
    fn writing(&mut self) -> impl Future<Output = Option<(u64, u64)>> + Send + use<> {
        let frames = std::mem::take(&mut self.unwritten);
        write_all(Arc::clone(&self.log), self.context.handle.clone(), self.id, frames)
    }

    /// Notes what the log has now, and goes on with what was taken meanwhile.
    async fn written(&mut self, written: Option<(u64, u64)>) -> Result<(), Lost> {
        self.writing = None;
        let Some((position, end)) = written else {
            return Err(Lost::Broken("its output log has failed".into()));
        };
        self.wait_for(position, end);
        if self.is_over_cap() {
            self.drop_passed(position).await;
        }
        self.write_beside();
        Ok(())
    }

    /// Waits until the log has everything that was taken.
    async fn write_out(&mut self) -> Result<(), Lost> {
        self.write_beside();
        while let Some(writing) = &mut self.writing {
            let written = writing.await.unwrap_or_default();
            self.written(written).await?;
        }
        Ok(())
    }

    /// Drops the log's files that the slowest client has passed and that hold neither beginning nor end of any task, once
    /// for each file that it passes.
    async fn drop_passed(&mut self, position: u64) {
        let slowest = self.slowest.borrow().unwrap_or(position);
        if slowest / FILE_SIZE == self.passed {
            return;
        }
        self.passed = slowest / FILE_SIZE;
        let beginning = self.cap.beginning;
        let log = Arc::clone(&self.log);
        // All tasks of a run have the same cap.
        let is_spare = move |(from, to): (u64, u64), end: u64| from >= beginning && to + beginning <= end;
        let dropped = tokio::task::spawn_blocking(move || log.drop_spare(slowest, is_spare)).await;
        if let Err(error) = dropped.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(%error, task = %self.id, "cannot drop output over the cap");
        }
    }

    fn wait_for(&mut self, position: u64, end: u64) {
        match self.waiting.back_mut() {
            // Small frames share an entry, or a window full of them would be a long queue.
            Some(last) if position / NARROW == last.0 / NARROW => *last = (position, end),
            _ => self.waiting.push_back((position, end)),
        }
    }

    /// Holds a frame over the cap; what it pushes out is gone, and counts as safe.
    async fn keep_newest(&mut self, frame: Frame) {
        self.end = self.end.max(frame.end());
        if self.newest.bytes == 0 {
            let text = format!(
                "its output is over the cap of {} bytes: its beginning and its end are kept",
                self.cap.bytes
            );
            self.context.handle.tell(Input::TaskWaits(self.id, text)).await;
        }
        if let Some(gone) = self.newest.push(frame) {
            let position = *self.log.appended().borrow();
            self.wait_for(position, gone);
        }
    }

    async fn write_newest(&mut self) -> Result<(), Lost> {
        let frames = self.newest.take();
        self.write(frames.into()).await
    }

    /// Tells the agent what is safe, and how much further it may send.
    async fn acknowledge(&mut self, requests: &Requests) -> Result<(), Lost> {
        let synced = *self.synced.borrow_and_update();
        let before = self.safe;
        while let Some((_, end)) = self.waiting.pop_front_if(|(position, _)| *position <= synced) {
            self.safe = self.safe.max(end);
        }
        if self.safe > before {
            let offset = self.safe;
            say(requests, attach_request::Kind::Acknowledge(proto::Acknowledge { offset })).await?;
        }
        let ahead = *self.log.appended().borrow();
        let slowest = *self.slowest.borrow_and_update();
        let to_offset = match slowest.filter(|_| self.is_paced()) {
            // The client gets every byte, so the command goes no faster than it reads.
            Some(slowest) if self.is_over_cap() && ahead - slowest.min(ahead) >= PACE_WINDOW => self.granted,
            _ if self.newest.bytes > 0 => self.end + self.share.bytes(),
            Some(slowest) => {
                let room = self.pace.room(ahead, slowest, Instant::now());
                self.end.saturating_add(room).min(self.safe + self.share.bytes())
            }
            None => self.safe + self.share.bytes(),
        };
        // Small steps are worth a message only to an agent that waits for one.
        let step = if self.granted <= self.end { 1 } else { self.share.bytes() / 16 };
        if to_offset >= self.granted + step {
            self.granted = to_offset;
            say(requests, attach_request::Kind::Grant(proto::Grant { to_offset })).await?;
        }
        Ok(())
    }

    /// Waits until the log is on the disk up to a position.
    async fn wait_synced(&mut self, position: u64) -> Result<(), Lost> {
        let mut synced = self.log.synced();
        loop {
            tokio::select! {
                () = async { drop(synced.wait_for(|synced| *synced >= position).await) } => return Ok(()),
                _ = self.trouble.changed() => self.tell_trouble().await?,
            }
        }
    }

    /// Shows what keeps the disk from taking the output. A log that has failed is left.
    async fn tell_trouble(&mut self) -> Result<(), Lost> {
        let trouble = self.trouble.borrow_and_update().clone();
        let text = trouble.as_ref().map_or_else(String::new, |trouble| trouble.text().to_owned());
        let has_failed = trouble.is_some_and(|trouble| trouble.is_failure());
        self.context.handle.tell(Input::TaskWaits(self.id, text.clone())).await;
        if has_failed { Err(Lost::Broken(text)) } else { Ok(()) }
    }

    /// The core hears the outcome at once; the agent hears that it is safe when it and all output are on the disk.
    async fn hand_over(
        &mut self,
        ended: proto::TaskEnded,
        requests: &Requests,
        answers: &mut Messages<proto::AttachResponse>,
    ) -> Result<(), Lost> {
        let outcome = ended.outcome.ok_or_else(|| InvalidMessage::missing("an outcome"))?;
        within(ended.end_offset, "an end")?;
        within(ended.duration_ns, "a duration")?;
        let input = Input::TaskEnded {
            id: self.id,
            outcome: Outcome::try_from(outcome)?,
            // What the agent no longer has either shows as a gap, and not as a shorter output.
            end_offset: ended.end_offset.max(self.end),
            duration_ns: ended.duration_ns,
        };
        // What followers hear of the end must be in the log before.
        self.write_newest().await?;
        self.write_out().await?;
        self.context.handle.tell(input).await;
        self.log.flush();
        if let Some((position, _)) = self.waiting.back().copied() {
            self.wait_synced(position).await?;
        }
        self.context.signals.stored.notified().await;
        say(requests, attach_request::Kind::OutcomeStored(proto::OutcomeStored {})).await?;
        // The stream's end says that the agent has taken it.
        while let Ok(Some(_)) = answers.message().await {}
        Err(Lost::Done)
    }
}

/// Appends frames to a log, however long the disk takes for them. Where the last one ends, in the log and in the task's
/// output; `None` when the log has failed.
async fn write_all(log: Arc<RunLog>, handle: Handle, id: TaskId, frames: Vec<Frame>) -> Option<(u64, u64)> {
    let end = frames.last().map(Frame::end)?;
    let mut said = false;
    let position = loop {
        match log.append(id.index, &frames).await {
            Ok(position) => break position,
            Err(_) if log.is_failed() => return None,
            Err(error) => {
                // Held back here, the agent keeps what it has, and its command waits.
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, task = %id, "cannot write output; trying again");
                    let text = format!("the master cannot write its output: {error}; trying again");
                    handle.tell(Input::TaskWaits(id, text)).await;
                }
                tokio::time::sleep(DISK_RETRY).await;
            }
        }
    };
    if said {
        handle.tell(Input::TaskWaits(id, String::new())).await;
    }
    Some((position, end))
}

/// Refuses numbers that no true agent tells, and that the store could not hold.
fn within(number: u64, what: &str) -> Result<(), InvalidMessage> {
    if number < BEYOND { Ok(()) } else { Err(InvalidMessage(format!("{what} beyond all bounds"))) }
}

type Requests = mpsc::Sender<proto::AttachRequest>;

async fn say(requests: &Requests, kind: attach_request::Kind) -> Result<(), Lost> {
    let request = proto::AttachRequest { kind: Some(kind) };
    requests.send(request).await.map_err(|_| Lost::Broken("the stream ended".to_owned()))
}
