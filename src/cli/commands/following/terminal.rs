//! A command in a terminal: keys are sent unchanged, and its output is shown unchanged.

use std::{io, pin::Pin};

use bytes::BytesMut;
use nix::sys::signal::{Signal, raise};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    End, FollowOptions,
    escapes::{Escapes, HELP, Typed},
    feeding::{Fed, feed, read_standard_input},
    find_again,
    patience::{WaitTimeouts, given_up},
    say_attach,
};
use crate::{
    cli::{
        exit::{self, Failure, Status},
        output::{complain, note},
        stdio::Stdio,
    },
    domain::{
        control::{JobEvent, WindowSize},
        ids::JobReference,
        job::Job,
        offset::OutputOffset,
        outcome::Ending,
        text::strip_control,
    },
    sys::{
        shutdown::EndSignals,
        terminal::{self, RawMode},
    },
    wire::{
        client::{ControlClient, JobEvents},
        status::CallError,
    },
};

/// Maximum number of typed pieces that wait for the network.
const MAX_QUEUED_PIECES: usize = 16;
/// Maximum size of typed input that waits for a free piece, in bytes, before reading pauses.
const MAX_TYPED_BYTES: usize = 64 * 1024;

/// Shows a job on one agent until it ends, and sends it the typed keys.
pub(super) async fn follow(
    following: FollowOptions,
    client: ControlClient,
    job: Job,
    events: JobEvents,
) -> Result<Status, Failure> {
    let mut signals = EndSignals::new()?;
    let mut resized = signal(SignalKind::window_change())?;
    let (keys, fed) = mpsc::channel(MAX_QUEUED_PIECES);
    let feeding = tokio::spawn(feed(following.address.clone(), JobReference::Id(job.id), fed));
    let mut raw = Some(RawMode::begin()?);
    let mut patience = WaitTimeouts::default();
    let mut shown = Shown {
        following,
        client,
        job,
        source: Source::Events(Box::new(events)),
        end: OutputOffset::START,
        task: 0,
        is_hanging_up: false,
        screen: Stdio::out()?,
    };
    shown.say_waiting();
    let mut typed = read_standard_input();
    let mut escapes = Escapes::default();
    let mut ahead = BytesMut::new();
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    // The size may have changed since the job was requested.
    send_size(&keys);
    let end = loop {
        let is_held = shown.screen.has_backlog();
        tokio::select! {
            drained = shown.screen.drain(), if is_held => drained?,
            came = shown.source.next(), if !is_held => match came {
                SourceEvent::Event(event) => {
                    if shown.take(*event)? {
                        break End::Shown;
                    }
                }
                SourceEvent::Broken => shown.find_again(),
                SourceEvent::Failed(error) => return Err(Failure::new(error).with(exit::NO_STATUS)),
                SourceEvent::Found(Ok((client, events))) => {
                    (shown.client, shown.source) = (client, Source::Events(Box::new(events)));
                    if shown.is_hanging_up {
                        shown.hang_up();
                    }
                }
                SourceEvent::Found(Err(status)) => break End::Detached(status),
            },
            Some(Fed::Bytes(bytes)) = typed.recv(), if ahead.len() < MAX_TYPED_BYTES => {
                let (bytes, meant) = escapes.take(&bytes);
                ahead.extend_from_slice(&bytes);
                let hangs_up = meant.contains(&Typed::HangUp);
                if meant.contains(&Typed::Help) {
                    say(HELP);
                }
                if let Some(raw) = raw.as_ref().filter(|_| meant.contains(&Typed::Suspend)) {
                    raw.pause();
                    raise(Signal::SIGTSTP).map_err(io::Error::from)?;
                    raw.again()?;
                }
                if hangs_up && (shown.is_hanging_up || shown.source.is_broken()) {
                    // The master cannot be reached, or does not answer.
                    break End::Detached(exit::NO_STATUS);
                }
                if hangs_up {
                    say("hanging up …");
                    shown.hang_up();
                }
            }
            room = keys.reserve(), if !ahead.is_empty() => {
                let bytes = ahead.split().freeze();
                if let Ok(room) = room {
                    room.send(Fed::Bytes(bytes));
                } else {
                    say("the command gets no more keys; ~. hangs up");
                }
            }
            _ = resized.recv() => send_size(&keys),
            _ = signals.next() => break End::Detached(exit::NO_STATUS),
            _ = second.tick() => {
                if patience.is_over(&shown.job, &shown.following) {
                    drop(raw.take());
                    break given_up(&shown.following);
                }
            }
        }
    };
    feeding.abort();
    tokio::select! {
        // A terminal that is gone cannot show the rest.
        _ = shown.screen.drain() => {}
        _ = signals.next() => {}
    }
    drop(raw);
    Ok(match end {
        End::Shown => shown.tail(),
        End::Detached(status) => {
            say_attach(&shown.job);
            status
        }
    })
}

/// The result of a reconnect: the new connection and event stream, or the status to exit with.
type Found = Result<(ControlClient, JobEvents), Status>;

/// The source of the job's events.
enum Source {
    Events(Box<JobEvents>),
    /// None until this future has found the job again.
    Finding(Pin<Box<dyn Future<Output = Found>>>),
}

enum SourceEvent {
    Event(Box<JobEvent>),
    Broken,
    /// An error that another connection would return too.
    Failed(CallError),
    Found(Found),
}

impl Source {
    fn is_broken(&self) -> bool {
        matches!(self, Self::Finding(_))
    }

    /// Returns the next event. May be dropped and called again.
    async fn next(&mut self) -> SourceEvent {
        match self {
            Self::Events(events) => match events.next().await {
                Ok(Some(event)) => SourceEvent::Event(Box::new(event)),
                Err(error @ (CallError::DataLoss(_) | CallError::Invalid(_))) => SourceEvent::Failed(error),
                Ok(_) | Err(_) => SourceEvent::Broken,
            },
            Self::Finding(finding) => SourceEvent::Found(finding.await),
        }
    }
}

/// Sends the size of the terminal to the command. If the queue is full the size is dropped: a later change, or the next
/// connection, sends the size again.
fn send_size(keys: &mpsc::Sender<Fed>) {
    if let Ok((rows, columns)) = terminal::size() {
        let _ = keys.try_send(Fed::Size(WindowSize { rows, columns }));
    }
}

/// Prints a message between the output. The terminal is raw, so that each line needs a carriage return.
fn say(text: &str) {
    note(&format!("\r\n{text}\r"));
}

struct Shown {
    following: FollowOptions,
    client: ControlClient,
    job: Job,
    source: Source,
    /// End offset of the output shown so far.
    end: OutputOffset,
    task: u32,
    is_hanging_up: bool,
    /// The terminal. After ^S it takes no output, and this client waits for it.
    screen: Stdio,
}

impl Shown {
    /// Reports why the job does not start immediately.
    fn say_waiting(&self) {
        for task in self.job.tasks.iter().filter(|task| !task.waiting.is_empty()) {
            say(&format!("{} is {}; ~. gives up", task.agent, strip_control(&task.waiting)));
        }
    }

    /// Handles an event. Returns true at the end of the job.
    fn take(&mut self, event: JobEvent) -> io::Result<bool> {
        match event {
            JobEvent::Job(job) => self.job = *job,
            JobEvent::Task(task) => {
                if let Some(known) = self.job.task_mut(task.index) {
                    *known = *task;
                }
            }
            JobEvent::Output { task, frames } => {
                self.task = task;
                for frame in frames {
                    // After a reconnect the last piece may come again.
                    let Some(frame) = frame.from_offset(self.end) else { continue };
                    self.end = frame.end();
                    self.screen.write(&frame.data)?;
                }
            }
            JobEvent::Gap { task, gap } => {
                self.task = task;
                self.end = self.end.max(gap.to);
                say(&format!("~ {} bytes of what it drew are missing", gap.to.since(gap.from)));
            }
            JobEvent::Ended { .. } => return Ok(true),
            JobEvent::Gate(_)
            | JobEvent::Closing(_)
            | JobEvent::Refused(_)
            | JobEvent::TargetChanged { .. } => {}
        }
        Ok(false)
    }

    /// Cancels the command, as a hangup does, without waiting for the answer: its end arrives as an event.
    fn hang_up(&mut self) {
        self.is_hanging_up = true;
        let (client, request) = (self.client.clone(), FollowOptions::cancel_request(&self.job));
        tokio::spawn(async move {
            // A request that is lost with this connection is repeated on the next one.
            match client.cancel_job(request).await {
                Err(error) if error.is_refusal() => say(&error.to_string()),
                Ok(_) | Err(_) => {}
            }
        });
    }

    /// Begins to find the job again, after the connection broke.
    fn find_again(&mut self) {
        let following = self.following.clone();
        let request = following.request(JobReference::Id(self.job.id), [(self.task, self.end)]);
        self.source = Source::Finding(Box::pin(async move {
            let again = async |client: &ControlClient| client.follow_job(request.clone()).await;
            find_again(&following, say, again).await
        }));
    }

    /// Prints how the command ended, unless it exited by itself. Returns the exit status.
    fn tail(&self) -> Status {
        for task in &self.job.tasks {
            match task.state.outcome().map(|outcome| (&outcome.ending, outcome)) {
                Some((Ending::Exited(_), _)) | None => {}
                Some((_, outcome)) => {
                    complain(&format!("{} {}", task.agent, strip_control(&outcome.to_string())));
                }
            }
        }
        exit::of_job(&self.job)
    }
}
