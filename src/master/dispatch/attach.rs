//! An Attach to a task: starts it or continues its stream, until its outcome is stored.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::taking::{Progress, Taking};
use crate::{
    domain::{
        agent::START_PERMISSION,
        attach::{AttachRequest, AttachResponse, Open, StartPermission},
        command::TaskSpec,
        ids::{JobReference, TaskId},
        offset::OutputOffset,
        outcome::TaskEnding,
        text::{clipped, strip_control},
    },
    master::{
        cap::Cap,
        clock::SendClock,
        core::messages::{AttachOrder, HeldBy, Input},
        handle::Handle,
        links::{ANSWER_TIMEOUT, AttachStream, Links},
        output_log::{OutputLogs, budget::Budget},
        prefetch::Prefetcher,
        stdin_relay::{StdinRelay, StdinRelays},
    },
    sys::{clock::BootInstant, rate::Rate},
    trust::sealer::Sealer,
    wire::incoming::Incoming,
};

/// Interval between two checks whether a client still sends input.
const LOOK_FOR_FEEDER: Duration = Duration::from_secs(5);
/// An offset that no output reaches. An agent whose output is requested from here sends nothing.
const MAX_OFFSET: u64 = 1 << 62;
/// Interval at which a failed write to a log is retried.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(1);
/// Maximum rate of an agent's other messages about one task (its disk, its gaps), per second …
const WORDS_A_SECOND: u32 = 20;
/// … and their maximum burst. Genuine agents send such messages rarely.
const WORDS_AT_ONCE: u32 = 100;
/// Maximum length of a reason that an agent sends, in terminal cells.
const MAX_REASON_CELLS: usize = 200;

/// The environment of an Attach.
pub(crate) struct Context {
    /// The core.
    pub handle: Handle,
    /// The agent's links.
    pub links: Arc<Links>,
    /// Opens Attaches for later tasks.
    pub ahead: Prefetcher,
    /// The output logs.
    pub logs: OutputLogs,
    /// Limits how far agents may send ahead of the disk.
    pub budget: Budget,
    /// The relays of the commands' input.
    pub inputs: StdinRelays,
    /// Signals to the open Attach.
    pub signals: Arc<AttachSignals>,
    /// The start of the core's clock.
    pub started: BootInstant,
    /// The clock by which the agent measures the transit time of a permission.
    pub clock: SendClock,
    /// Seals tasks, and verifies the seals that agents return.
    pub sealer: Arc<Sealer>,
    /// Cancelled when the agent's connection ends.
    pub close: CancellationToken,
    /// Cancelled when the master must end at once.
    pub now: CancellationToken,
}

/// Signals to an open Attach.
#[derive(Debug, Default)]
pub(crate) struct AttachSignals {
    /// Notified when the task's outcome is on the disk.
    pub stored: Notify,
    /// Whether the task must not be started any more. An Attach that is not open yet gives no permission
    /// then.
    is_withdrawn: AtomicBool,
}

impl AttachSignals {
    /// Withdraws the permission to start the task.
    pub(crate) fn withdraw(&self) {
        self.is_withdrawn.store(true, Ordering::SeqCst);
    }

    fn is_withdrawn(&self) -> bool {
        self.is_withdrawn.load(Ordering::SeqCst)
    }
}

/// Why an Attach ended.
pub(super) enum Lost {
    /// The link, the agent or the log failed, for this reason.
    Broken(String),
    /// It was superseded by an Attach with this attempt.
    Superseded(u64),
    /// Nothing remains to be done.
    Done,
}

impl From<tonic::Status> for Lost {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(status.message().to_owned())
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("the output log: {error}"))
    }
}

/// Attaches a task, and returns when the task is handed over or the link is lost.
pub(crate) async fn attach(context: Context, order: AttachOrder) {
    let (id, session, attempt, handle) = (order.id, order.session, order.attempt, context.handle.clone());
    let (close, now) = (context.close.clone(), context.now.clone());
    let (links, ahead) = (Arc::clone(&context.links), context.ahead.clone());
    ahead.begins();
    let recalled = Arc::clone(&links);
    let following = async {
        let _turn = if order.is_recall { recalled.recall().await } else { None };
        follow(context, order).await
    };
    let lost = tokio::select! {
        lost = following => lost,
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
        // A sleep of zero takes a full millisecond of the timer.
        tokio::time::sleep(order.delay).await;
    }
    let log = match context.logs.open(order.id.job).await {
        Ok(log) => log,
        Err(error) => {
            tracing::error!(%error, job = %order.id.job, "cannot open an output log");
            let text = format!("the master cannot open its output log: {error}; trying again");
            context.handle.tell(Input::TaskWaits(order.id, HeldBy::Master, text.into())).await;
            tokio::time::sleep(DISK_RETRY).await;
            return error.into();
        }
    };
    let from = if order.discard { OutputOffset(MAX_OFFSET) } else { log.task_end(order.id.index) };
    let cap = Cap::new(order.output_cap, order.overflow);
    let mut taking = Taking::new(order.id, context.handle.clone(), log, from, cap, &context.budget);
    // The agent deletes the output before this offset.
    if let Err(lost) = taking.wait_until_begin_is_safe().await {
        return lost;
    }
    let mut attached = Attached {
        id: order.id,
        attempt: order.attempt,
        taking,
        input: order.is_fed.then(|| context.inputs.of(order.id)),
        has_input_word: false,
        has_started: false,
        words: Rate::new(WORDS_A_SECOND, WORDS_AT_ONCE),
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
    /// Receives the task's output.
    taking: Taking,
    /// The relay of the command's input, if an operator sends any.
    input: Option<Arc<StdinRelay>>,
    /// Whether the agent has reported how far the command has read.
    has_input_word: bool,
    /// Whether the agent has reported the start of the task.
    has_started: bool,
    /// Limits the rate of the agent's messages other than output.
    words: Rate,
}

impl Attached {
    async fn run(&mut self, order: AttachOrder) -> Result<std::convert::Infallible, Lost> {
        let first = || AttachRequest::Open(Box::new(self.open_message(&order)));
        // A task without output that must not be started any more is only queried.
        let any_link = order.start.is_none() && self.taking.end() == OutputOffset::START;
        let AttachStream { requests, mut answers } = match self.context.links.attach(any_link, first).await {
            Ok(stream) => stream,
            Err(status) => {
                let text = clipped(&strip_control(status.message()), MAX_REASON_CELLS, "…");
                self.context.handle.tell(Input::TaskWaits(self.id, HeldBy::Agent, text.into())).await;
                return Err(status.into());
            }
        };
        let answer_by = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        let mut has_answered = false;
        let mut looks = tokio::time::interval(LOOK_FOR_FEEDER);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let Some(answer) = answer? else { return Err(Lost::Broken("the stream ended".into())) };
                    has_answered = true;
                    self.context.links.spoke();
                    self.handle_response(answer, &requests, &mut answers).await?;
                }
                () = tokio::time::sleep_until(answer_by), if !has_answered => {
                    return Err(Lost::Broken("the agent does not answer".into()));
                }
                change = self.taking.changed() => {
                    let progress = self.taking.handle_change(change).await?;
                    say_progress(&requests, progress).await?;
                }
                _ = looks.tick(), if self.input.is_some() => self.check_stdin_source().await,
            }
        }
    }

    /// Returns the first message: what may be started, and for how long from now.
    fn open_message(&self, order: &AttachOrder) -> Open {
        let sealer = &self.context.sealer;
        let start = order.start.as_ref().filter(|_| !self.context.signals.is_withdrawn());
        let start = start.and_then(|(spec, until)| {
            let within = until.saturating_sub(self.context.started.elapsed()).min(START_PERMISSION);
            let seal = Some(sealer.seal_task(order.fingerprint, self.id, spec));
            (within.as_millis() > 0)
                .then(|| StartPermission { spec: TaskSpec { seal, ..spec.clone() }, within })
        });
        Open {
            id: self.id,
            attempt: order.attempt,
            start,
            from_offset: self.taking.end(),
            incarnation: order.incarnation.clone(),
            grant_to: self.taking.granted(),
            revision: sealer.sealed(order.revision),
            sent: Some(self.context.clock.now()),
        }
    }

    /// Hangs up a command that waits for input when its client is gone.
    async fn check_stdin_source(&mut self) {
        if !self.input.as_ref().is_some_and(|input| input.is_abandoned()) {
            return;
        }
        self.input = None;
        tracing::info!(task = %self.id, "closed the command's input: its sender is gone");
        let (job, tasks) = (JobReference::Id(self.id.job), BTreeSet::from([self.id.index]));
        let by = "hang-up: no input was sent for a minute".to_owned();
        let _ = self
            .context
            .handle
            .ask(move |reply| Input::Cancel { job, tasks, by, grace_ms: None, reply })
            .await;
    }

    async fn handle_response(
        &mut self,
        response: AttachResponse,
        requests: &Requests,
        answers: &mut Incoming<AttachResponse>,
    ) -> Result<(), Lost> {
        match response {
            // Every follower is notified of a start, so only the first one counts.
            AttachResponse::Started { .. } if self.has_started => Ok(()),
            AttachResponse::Started { elapsed_ns } => {
                self.has_started = true;
                let elapsed_ms = elapsed_ns / 1_000_000;
                let (id, attempt) = (self.id, self.attempt);
                self.context.handle.tell(Input::TaskStarted { id, attempt, elapsed_ms }).await;
                Ok(())
            }
            AttachResponse::InputTaken(taken) => {
                if let Some(input) = &self.input {
                    let is_first = !std::mem::replace(&mut self.has_input_word, true);
                    if is_first {
                        input.attach(requests.clone());
                    }
                    input.taken(taken, is_first);
                }
                Ok(())
            }
            AttachResponse::Held(reason) => {
                self.throttle().await;
                let text = clipped(&strip_control(&reason.unwrap_or_default()), MAX_REASON_CELLS, "…");
                self.context.handle.tell(Input::TaskWaits(self.id, HeldBy::Agent, text.into())).await;
                Ok(())
            }
            AttachResponse::Output(frames) => {
                self.taking.append(frames).await?;
                if self.taking.holds_newest() {
                    say_progress(requests, self.taking.progress()).await?;
                }
                Ok(())
            }
            AttachResponse::Ended(ended) => self.hand_over(ended, requests, answers).await,
            AttachResponse::Unknown { incarnation, .. } => {
                let (id, attempt) = (self.id, self.attempt);
                self.context.handle.tell(Input::TaskUnknown { id, attempt, incarnation }).await;
                Err(Lost::Done)
            }
            AttachResponse::Superseded { by } => Err(Lost::Superseded(by)),
            AttachResponse::Closing(closing) => Err(Lost::Broken(closing.reason)),
            AttachResponse::Gap(gap) => {
                self.throttle().await;
                tracing::warn!(task = %self.id, from = gap.from.0, to = gap.to.0, reason = gap.reason, "output is missing");
                say_progress(requests, self.taking.skip_to(gap.to).await?).await
            }
        }
    }

    /// Waits if the agent sends such messages too fast. This delays only its output of this task.
    async fn throttle(&mut self) {
        self.words.ready().await;
        self.words.take();
    }

    /// Reports the outcome to the core at once. Notifies the agent when the outcome and all output are on the
    /// disk.
    async fn hand_over(
        &mut self,
        ended: TaskEnding,
        requests: &Requests,
        answers: &mut Incoming<AttachResponse>,
    ) -> Result<(), Lost> {
        within(ended.end_offset.0, "an end")?;
        within(ended.duration_ns, "a duration")?;
        let input = Input::TaskEnded {
            id: self.id,
            outcome: ended
                .outcome
                .cancelled_as_proved(|by, seal| self.context.sealer.verify_cancel(self.id, by, seal)),
            // Output that the agent no longer has either appears as a gap, and not as a shorter output.
            end_offset: ended.end_offset.max(self.taking.end()),
            duration_ns: ended.duration_ns,
        };
        self.taking.finish().await?;
        self.context.handle.tell(input).await;
        self.taking.wait_until_safe().await?;
        self.context.signals.stored.notified().await;
        say(requests, AttachRequest::OutcomeStored).await?;
        // The end of the stream confirms that the agent has received this.
        while let Ok(Some(_)) = answers.message().await {}
        Err(Lost::Done)
    }
}

/// Rejects numbers that no genuine agent reports and that the store could not hold.
pub(super) fn within(number: u64, what: &str) -> Result<(), Lost> {
    if number < MAX_OFFSET { Ok(()) } else { Err(Lost::Broken(format!("{what} beyond all bounds"))) }
}

type Requests = mpsc::Sender<AttachRequest>;

async fn say_progress(requests: &Requests, progress: Progress) -> Result<(), Lost> {
    if let Some(offset) = progress.acknowledged {
        say(requests, AttachRequest::Acknowledge(offset)).await?;
    }
    if let Some(to_offset) = progress.granted {
        say(requests, AttachRequest::Grant(to_offset)).await?;
    }
    Ok(())
}

async fn say(requests: &Requests, request: AttachRequest) -> Result<(), Lost> {
    requests.send(request).await.map_err(|_| Lost::Broken("the stream ended".to_owned()))
}
