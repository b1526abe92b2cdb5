//! Following with live lines, or with one JSON object, or with a stream of them.

mod taking;

use std::{collections::HashMap, io};

use tokio::time::Instant;

use super::{
    End, Following, READER_GONE,
    asking::{Asking, Wish},
    attention::{Attention, Happening},
    cancel,
    events::{Events, drain},
    files::Files,
    object::Outputs,
    patience::{Patience, given_up},
    printer::Printer,
    question, reconnect, say_attach, tally,
    telling::{Audience, say_end, say_head, waiting},
};
use crate::{
    cli::{
        args::Format,
        exit::{self, Failure, Status},
        output::{Tone, note, print_json, unless_closed},
        region::Region,
        stdio::is_of_stream,
    },
    domain::{ids::RunReference, plan::GateState, run::Run},
    wire::{
        client::{ControlClient, RunEvents},
        proto,
    },
};

struct Follower {
    following: Following,
    client: ControlClient,
    printer: Printer,
    run: Run,
    /// Up to where each task's output was taken.
    ends: HashMap<u32, u64>,
    attention: Attention,
    patience: Patience,
    /// What tasks printed, for one JSON object.
    outputs: Outputs,
    events: Option<Events>,
    files: Option<Files>,
    began: Instant,
    /// The progress line at the bottom of a terminal.
    region: Option<Region>,
    /// The progress line is no longer true.
    stale: bool,
    /// Standard output takes nothing more; nothing more is printed.
    mute: bool,
    /// Why, where its reader is not just gone.
    unprinted: Option<io::Error>,
}

/// Follows a run to its end, printing as it goes.
pub(super) async fn follow(
    following: Following,
    client: ControlClient,
    run: Run,
    events: RunEvents,
) -> Result<Status, Failure> {
    let made = Follower::new(following.clone(), client, run.clone());
    let mut follower = made.map_err(|failure| following.failed(failure, &run))?;
    let result = follower.follow(events).await;
    follower.erase();
    result.map_err(|failure| following.failed(failure, &follower.run))
}

impl Follower {
    fn new(following: Following, client: ControlClient, run: Run) -> Result<Self, Failure> {
        let printer = Printer::new(&run, &following.print, following.timestamps)?;
        let is_events = following.print.output == Format::Ndjson;
        let files = following.outdir.as_ref().map(|directory| Files::new(directory, &run)).transpose()?;
        let wants_region =
            following.is_text() && following.follow && !following.print.quiet && !run.plain_name;
        Ok(Self {
            attention: Attention::new(Asking::new(following.owns(), run.plain_name, printer.has_person()))?,
            events: is_events.then(|| Events::new(&run)).transpose()?,
            files,
            region: wants_region.then(Region::new).flatten(),
            stale: true,
            following,
            client,
            printer,
            run,
            ends: HashMap::new(),
            patience: Patience::default(),
            outputs: Outputs::default(),
            began: Instant::now(),
            mute: false,
            unprinted: None,
        })
    }

    async fn follow(&mut self, events: RunEvents) -> Result<Status, Failure> {
        if self.following.is_text() {
            say_head(&self.run, self.audience());
        }
        let begun = self.events.as_mut().map_or(Ok(()), |events| events.begin(&self.run));
        let gone = match begun {
            Err(error) => self.not_printed(error).await?,
            Ok(()) => None,
        };
        let mut end = match gone {
            Some(end) => end,
            None => self.run_to_end(events).await?,
        };
        self.erase();
        if !self.mute {
            // A reader that is gone now is gone for the end only.
            unless_closed(self.printer.finish())?;
            if let Some(events) = &mut self.events {
                unless_closed(events.finish())?;
            }
            if let Some(left) = self.drain_or_leave().await? {
                end = left;
            }
        }
        let is_over = matches!(end, End::Shown);
        if let Some(files) = &self.files {
            files.finish(&self.run)?;
            if !is_over {
                note(&format!("{} holds what was printed so far", files.path().display()));
            }
        }
        if let Some(error) = self.unprinted.take() {
            return Err(error.into());
        }
        match end {
            End::Shown => {
                let status = self.tail()?;
                Ok(match self.drain_or_leave().await? {
                    Some(End::Detached(left)) => left,
                    Some(End::Shown) | None => status,
                })
            }
            End::Detached(status) => {
                if self.following.is_text() {
                    say_attach(&self.run);
                }
                Ok(status)
            }
        }
    }

    fn wants_notes(&self) -> bool {
        self.following.is_text() && self.printer.has_person() && !self.following.print.quiet
    }

    fn erase(&mut self) {
        if let Some(region) = &mut self.region {
            region.erase();
        }
        self.stale = true;
    }

    fn draw(&mut self) {
        let Some(region) = &mut self.region else { return };
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let paint = self.printer.paint();
        if self.attention.asking.is_asked() {
            return region.draw(&[question(&self.run)]);
        }
        let keys = if self.following.owns() { "Enter who   ^C stop" } else { "Enter who   ^C leave" };
        region.draw(&[tally::progress(&self.run, self.began.elapsed(), keys, paint)]);
    }

    fn note(&mut self, text: &str) {
        self.erase();
        note(text);
    }

    fn audience(&self) -> Audience {
        Audience {
            has_person: self.printer.has_person(),
            is_quiet: self.following.print.quiet,
            paint: self.printer.paint(),
        }
    }

    async fn run_to_end(&mut self, mut events: RunEvents) -> Result<End, Failure> {
        self.say_waiting();
        if self.is_held_for_nobody() {
            return Ok(End::Detached(exit::NO_STATUS));
        }
        loop {
            let draws = self.region.is_some() && self.stale;
            let is_held = self.is_held();
            tokio::select! {
                drained = drain(&mut self.printer, self.events.as_mut()), if is_held => {
                    if let Err(error) = drained && let Some(end) = self.not_printed(error).await? {
                        return Ok(end);
                    }
                }
                event = events.message(), if !is_held => match event {
                    Ok(Some(proto::RunEvent { kind: Some(kind) })) => match self.take(kind) {
                        Ok(Some(end)) => return Ok(end),
                        Ok(None) => {}
                        Err(error) => {
                            if let Some(end) = self.not_printed(error).await? {
                                return Ok(end);
                            }
                        }
                    },
                    Ok(_) if !self.following.follow => return Ok(End::Shown),
                    Err(status) if status.code() == tonic::Code::DataLoss => {
                        return Err(Failure::new(status.message()).with(exit::NO_STATUS));
                    }
                    Ok(_) | Err(_) => match self.reconnect().await {
                        Ok(again) => {
                            events = again;
                            let owed = self.attention.asking.owed();
                            if let Some(end) = self.perform(owed).await? {
                                return Ok(end);
                            }
                        }
                        Err(status) => return Ok(End::Detached(status)),
                    },
                },
                happening = self.attention.next(draws) => {
                    if let Some(end) = self.happened(happening).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Whether somebody has not read what was printed. What comes next waits with the master meanwhile.
    fn is_held(&self) -> bool {
        !self.mute && (self.printer.is_held() || self.events.as_ref().is_some_and(Events::is_held))
    }

    /// Waits until everything that was printed was read; a signal ends that, and how the client ends then.
    async fn drain_or_leave(&mut self) -> io::Result<Option<End>> {
        if !self.is_held() {
            return Ok(None);
        }
        tokio::select! {
            drained = drain(&mut self.printer, self.events.as_mut()) => unless_closed(drained).map(|()| None),
            _ = self.attention.signals.next() => Ok(Some(End::Detached(exit::INTERRUPTED))),
        }
    }

    async fn happened(&mut self, happening: Happening) -> Result<Option<End>, Failure> {
        match happening {
            Happening::Signalled(wish) => return self.perform(wish).await,
            Happening::Typed(wish) => {
                if let Some(region) = &mut self.region {
                    region.newline_typed();
                }
                return self.perform(wish).await;
            }
            Happening::Draw => self.draw(),
            Happening::Second => {
                self.stale = true;
                if self.patience.is_over(&self.run, &self.following) {
                    self.erase();
                    return Ok(Some(given_up(&self.following)));
                }
                let held = self.patience.held_back(&self.run);
                if !self.wants_notes() && !self.following.print.quiet {
                    for line in held {
                        self.note(&line);
                    }
                }
                if self.attention.asking.has_cancelled() && self.patience.is_hopeless(&self.run) {
                    return Ok(Some(End::Detached(exit::INTERRUPTED)));
                }
            }
        }
        Ok(None)
    }

    async fn perform(&mut self, wish: Wish) -> Result<Option<End>, Failure> {
        match wish {
            Wish::Nothing => {}
            Wish::Ask if self.region.is_some() => {}
            // The terminal has echoed ^C at the beginning of this line.
            Wish::Ask => note(&format!("\n{}", question(&self.run))),
            Wish::ShowRunning => {
                let text = tally::who_runs(&self.run);
                self.note(&text);
            }
            Wish::Cancel => {
                if let Some(end) = cancel(&self.client, &self.run, &mut self.attention).await? {
                    return Ok(Some(end));
                }
            }
            Wish::Detach(status) => return Ok(Some(End::Detached(status))),
        }
        self.stale = true;
        Ok(None)
    }

    /// A person may promote a held run from another terminal; a script must not wait for that.
    fn is_held_for_nobody(&self) -> bool {
        let is_held = matches!(self.run.gate.state, GateState::Held(_));
        is_held && self.following.owns() && !self.attention.asking.has_person()
    }

    fn say_waiting(&mut self) {
        if !self.wants_notes() {
            return;
        }
        let paint = self.printer.paint();
        let are_waiting = self.run.tasks.iter().filter(|task| !task.waiting.is_empty());
        let lines: Vec<String> = are_waiting.map(|task| waiting(task, paint)).collect();
        for line in lines {
            self.note(&line);
        }
    }

    /// What becomes of the run when standard output does not take what is printed.
    async fn not_printed(&mut self, error: io::Error) -> Result<Option<End>, Failure> {
        let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
        if self.files.is_some() && !self.run.plain_name && is_of_stream(&error) {
            // The files have another reader, and are written to the end.
            self.mute = true;
            self.unprinted = Some(error).filter(|_| !is_gone);
            return Ok(None);
        }
        if !is_gone {
            return Err(error.into());
        }
        self.mute = true;
        if !self.following.owns() || !self.run.plain_name {
            return Ok(Some(End::Detached(READER_GONE)));
        }
        self.attention.asking.cancelled();
        self.perform(Wish::Cancel).await
    }

    /// Finds the run again after the connection broke.
    async fn reconnect(&mut self) -> Result<RunEvents, Status> {
        self.erase();
        let wants_notes = self.wants_notes();
        let paint = self.printer.paint();
        let say = |text: &str| {
            if wants_notes {
                note(&paint.paint(Tone::Waiting, text));
            }
        };
        let following = &self.following;
        let request = following.request(RunReference::Id(self.run.id), self.ends.clone());
        let again = async |client: &ControlClient| client.follow_run(request.clone()).await;
        let (client, events) = reconnect(following, &mut self.attention, say, again).await?;
        self.client = client;
        Ok(events)
    }

    /// What needs a person comes last, just above the prompt.
    fn tail(&mut self) -> io::Result<Status> {
        let status = match () {
            () if self.mute => READER_GONE,
            () if self.attention.asking.has_cancelled() => exit::INTERRUPTED,
            () if self.following.judges() => exit::of_run(&self.run),
            () => exit::OK,
        };
        match &mut self.events {
            _ if self.mute => {}
            Some(events) => unless_closed(events.ended(&self.run, exit::of_run(&self.run).0))?,
            None if !self.following.is_text() => match print_json(&self.outputs.json(&self.run)) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(READER_GONE),
                printed => printed?,
            },
            None => {}
        }
        if self.following.is_text() {
            say_end(&self.run, None, false, self.audience());
        }
        Ok(status)
    }
}
