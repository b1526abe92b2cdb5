//! A command in a terminal: keys go there as they are, what it draws comes back as it is.

use std::io::{self, Write as _};

use bytes::Bytes;
use nix::sys::signal::{Signal, raise};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tonic::Streaming;

use super::{
    End, Following,
    escapes::{Escapes, HELP, Typed},
    feeding::{Fed, feed, read_standard_input},
    given_up, reconnect, say_attach, should_give_up,
};
use crate::{
    cli::{
        exit::{self, Failure, Status},
        output::{complain, note},
    },
    domain::{
        frame::Frame,
        ids::RunReference,
        outcome::Ending,
        run::{Run, Task},
        text::plain,
    },
    sys::{
        shutdown::EndSignals,
        terminal::{self, RawMode},
    },
    wire::{
        client::ControlClient,
        proto::{self, run_event::Kind},
        status::CallError,
    },
};

/// Keys that may wait for the network.
const KEYS: usize = 16;

/// Shows a run on one agent until it ends, and gives it the keys.
pub(super) async fn follow(
    following: Following,
    client: ControlClient,
    run: Run,
    events: Streaming<proto::RunEvent>,
) -> Result<Status, Failure> {
    let signals = EndSignals::new()?;
    let mut resized = signal(SignalKind::window_change())?;
    let (keys, fed) = mpsc::channel(KEYS);
    let feeding = tokio::spawn(feed(following.address.clone(), RunReference::Id(run.id), fed));
    let mut raw = Some(RawMode::begin()?);
    let mut shown = Shown { following, client, run, signals, cursor: 0, end: 0, escapes: Escapes::default() };
    shown.say_waiting();
    let mut typed = read_standard_input();
    let mut events = events;
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    // The size may be another one since the run was asked for.
    if let Ok((rows, columns)) = terminal::size() {
        let _ = keys.try_send(Fed::Size(rows, columns));
    }
    let end = loop {
        tokio::select! {
            event = events.message() => match event {
                Ok(Some(proto::RunEvent { kind: Some(kind) })) => {
                    if shown.take(kind)? {
                        break End::Shown;
                    }
                }
                Ok(_) | Err(_) => match shown.reconnect().await {
                    Some(again) => events = again,
                    None => break End::Detached(exit::NO_STATUS),
                },
            },
            Some(Fed::Bytes(bytes)) = typed.recv() => {
                let (bytes, meant) = shown.escapes.take(&bytes);
                if !bytes.is_empty() && keys.send(Fed::Bytes(Bytes::from(bytes))).await.is_err() {
                    say("the command gets no more keys; ~. hangs up");
                }
                for wish in meant {
                    match wish {
                        Typed::Help => say(HELP),
                        Typed::HangUp => shown.hang_up().await?,
                        Typed::Suspend => {
                            if let Some(raw) = &raw {
                                raw.pause();
                                raise(Signal::SIGTSTP).map_err(io::Error::from)?;
                                raw.again()?;
                            }
                        }
                    }
                }
            }
            _ = resized.recv() => {
                if let Ok((rows, columns)) = terminal::size() {
                    // One that finds no room is followed by another, or is told with the next connection.
                    let _ = keys.try_send(Fed::Size(rows, columns));
                }
            }
            _ = shown.signals.next() => break End::Detached(exit::NO_STATUS),
            _ = second.tick() => {
                if should_give_up(&shown.run, &shown.following) {
                    drop(raw.take());
                    break given_up(&shown.following);
                }
            }
        }
    };
    feeding.abort();
    drop(raw);
    Ok(match end {
        End::Shown => shown.tail(),
        End::Detached(status) => {
            say_attach(&shown.run);
            status
        }
    })
}

/// Says something in between. The terminal is raw: a line needs its own return.
fn say(text: &str) {
    note(&format!("\r\n{text}\r"));
}

struct Shown {
    following: Following,
    client: ControlClient,
    run: Run,
    signals: EndSignals,
    cursor: u64,
    /// What was shown so far.
    end: u64,
    escapes: Escapes,
}

impl Shown {
    /// Why it does not begin at once.
    fn say_waiting(&self) {
        for task in self.run.tasks.iter().filter(|task| !task.waiting.is_empty()) {
            say(&format!("{} is {}; ~. gives up", task.agent, plain(&task.waiting)));
        }
    }

    /// Takes an event. True at the end.
    fn take(&mut self, kind: Kind) -> io::Result<bool> {
        match kind {
            Kind::Run(run) => {
                if let Ok(run) = Run::try_from(run) {
                    self.run = run;
                }
            }
            Kind::Task(task) => {
                if let Ok(task) = Task::try_from(task)
                    && let Some(known) = self.run.task_mut(task.index)
                {
                    *known = task;
                }
            }
            Kind::Output(output) => {
                if output.cursor > 0 {
                    self.cursor = output.cursor;
                }
                let mut out = io::stdout().lock();
                for frame in output.frames.into_iter().filter_map(|frame| Frame::try_from(frame).ok()) {
                    // After a reconnect the last piece may come again.
                    let Some(frame) = frame.from_offset(self.end) else { continue };
                    self.end = frame.end();
                    out.write_all(&frame.data)?;
                }
                out.flush()?;
            }
            Kind::Gap(gap) => {
                if let Some(lost) = gap.gap {
                    self.end = self.end.max(lost.to);
                    say(&format!("~ {} bytes of what it drew are missing", lost.to - lost.from));
                }
            }
            Kind::Ended(_) => return Ok(true),
            Kind::Gate(_) | Kind::Closing(_) | Kind::Refused(_) | Kind::TargetChanged(_) => {}
        }
        Ok(false)
    }

    /// Ends the command, as a line that breaks does.
    async fn hang_up(&mut self) -> Result<(), Failure> {
        say("hanging up …");
        let request = Following::cancel_request(&self.run);
        self.client.calls().cancel_run(request).await.map_err(CallError::from)?;
        Ok(())
    }

    async fn reconnect(&mut self) -> Option<Streaming<proto::RunEvent>> {
        let (run, cursor) = (RunReference::Id(self.run.id), self.cursor);
        let following = &self.following;
        let again = async |client: &ControlClient| client.follow_run(following.request(run, cursor)).await;
        let (client, events) = reconnect(following, &mut self.signals, say, again).await?;
        self.client = client;
        Some(events)
    }

    /// How it ended, unless it ended by itself.
    fn tail(&self) -> Status {
        for task in &self.run.tasks {
            match task.state.outcome().map(|outcome| (&outcome.ending, outcome)) {
                Some((Ending::Exited(_), _)) | None => {}
                Some((_, outcome)) => complain(&format!("{} {}", task.agent, plain(&outcome.to_string()))),
            }
        }
        exit::of_tasks(&self.run.tasks)
    }
}
