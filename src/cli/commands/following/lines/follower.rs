//! Prints the output of a job as lines with the names of their agents.

use std::{collections::HashMap, io};

use crate::{
    cli::{
        args::Format,
        commands::following::{
            End, FollowOptions, READER_GONE,
            asking::UserAction,
            attention::ClientEvent,
            events::{Events, drain},
            files::Files,
            followed::Followed,
            object::Outputs,
            printer::Printer,
            say_attach,
            telling::{Audience, say_end, say_head, waiting},
        },
        exit::{self, Failure, Status},
        output::{Tone, ignore_broken_pipe, note},
        stdio::is_stream_error,
    },
    domain::{ids::JobReference, job::Job, offset::OutputOffset},
    wire::{
        client::{ControlClient, JobEvents},
        status::CallError,
    },
};

pub(super) struct Follower {
    pub(super) followed: Followed,
    pub(super) printer: Printer,
    /// The offset up to which each task's output was received.
    pub(super) ends: HashMap<u32, OutputOffset>,
    /// The output of the tasks, for one JSON object.
    pub(super) outputs: Outputs,
    pub(super) events: Option<Events>,
    pub(super) files: Option<Files>,
    /// Whether standard output has failed; then nothing more is printed.
    pub(super) mute: bool,
    /// The error of standard output, unless its reader is just gone.
    unprinted: Option<io::Error>,
}

/// Follows a job to its end, printing as it goes.
pub(in crate::cli::commands::following) async fn follow(
    following: FollowOptions,
    client: ControlClient,
    job: Job,
    events: JobEvents,
) -> Result<Status, Failure> {
    let made = Follower::new(following.clone(), client, job.clone());
    let mut follower = made.map_err(|failure| following.failed(failure, &job))?;
    let result = follower.follow(events).await;
    follower.followed.erase();
    result.map_err(|failure| following.failed(failure, &follower.followed.job))
}

impl Follower {
    fn new(following: FollowOptions, client: ControlClient, job: Job) -> Result<Self, Failure> {
        let printer = Printer::new(&job, &following.print, following.timestamps)?;
        let is_events = following.print.output == Format::Ndjson;
        let files = following.outdir.as_ref().map(|directory| Files::new(directory, &job)).transpose()?;
        let wants_region =
            following.is_text() && following.follow && !following.print.quiet && !job.plain_name;
        Ok(Self {
            events: is_events.then(|| Events::new(&job)).transpose()?,
            files,
            followed: Followed::new(following, client, job, printer.has_person(), wants_region)?,
            printer,
            ends: HashMap::new(),
            outputs: Outputs::default(),
            mute: false,
            unprinted: None,
        })
    }

    async fn follow(&mut self, events: JobEvents) -> Result<Status, Failure> {
        if self.followed.following.is_text() {
            say_head(&self.followed.job, self.audience());
        }
        let begun = self.events.as_mut().map_or(Ok(()), |events| events.begin(&self.followed.job));
        let gone = match begun {
            Err(error) => self.handle_print_error(error).await?,
            Ok(()) => None,
        };
        let mut end = match gone {
            Some(end) => end,
            None => self.run_to_end(events).await?,
        };
        self.followed.erase();
        if !self.mute {
            // A reader that goes away now misses only the end.
            ignore_broken_pipe(self.printer.finish())?;
            if let Some(events) = &mut self.events {
                ignore_broken_pipe(events.finish())?;
            }
            if let Some(left) = self.drain_or_leave().await? {
                end = left;
            }
        }
        let is_over = matches!(end, End::Shown);
        if let Some(files) = &self.files {
            files.finish(&self.followed.job)?;
            if !is_over {
                note(&format!("{} contains the output so far", files.path().display()));
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
                if self.followed.following.is_text() {
                    say_attach(&self.followed.job);
                }
                Ok(status)
            }
        }
    }

    pub(super) fn wants_notes(&self) -> bool {
        self.followed.following.is_text() && self.printer.has_person() && !self.followed.following.print.quiet
    }

    fn audience(&self) -> Audience {
        Audience {
            has_person: self.printer.has_person(),
            is_quiet: self.followed.following.print.quiet,
            paint: self.printer.paint(),
        }
    }

    async fn run_to_end(&mut self, mut events: JobEvents) -> Result<End, Failure> {
        self.say_waiting();
        if self.followed.is_held_unattended() {
            return Ok(End::Detached(exit::NO_STATUS));
        }
        loop {
            let draws = self.followed.needs_redraw();
            let is_held = self.is_held();
            tokio::select! {
                drained = drain(&mut self.printer, self.events.as_mut()), if is_held => {
                    if let Err(error) = drained && let Some(end) = self.handle_print_error(error).await? {
                        return Ok(end);
                    }
                }
                event = events.next(), if !is_held => match event {
                    Ok(Some(event)) => match self.take(event) {
                        Ok(Some(end)) => return Ok(end),
                        Ok(None) => {}
                        Err(error) => {
                            if let Some(end) = self.handle_print_error(error).await? {
                                return Ok(end);
                            }
                        }
                    },
                    Ok(_) if !self.followed.following.follow => return Ok(End::Shown),
                    // Another connection would return the same error.
                    Err(error @ (CallError::DataLoss(_) | CallError::Invalid(_))) => {
                        return Err(Failure::new(error).with(exit::NO_STATUS));
                    }
                    Ok(_) | Err(_) => match self.reconnect().await? {
                        Ok(again) => events = again,
                        Err(end) => return Ok(end),
                    },
                },
                happening = self.followed.attention.next(draws) => {
                    if matches!(happening, ClientEvent::Draw) {
                        self.followed.draw(Vec::new(), self.printer.paint());
                    }
                    let tells_held = !self.wants_notes();
                    if let Some(end) = self.followed.happened(happening, tells_held).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Whether a reader has not read all output yet. Further events wait in the master meanwhile.
    fn is_held(&self) -> bool {
        !self.mute && (self.printer.is_held() || self.events.as_ref().is_some_and(Events::is_held))
    }

    /// Waits until all output was read. After a signal, returns how the client ends.
    async fn drain_or_leave(&mut self) -> io::Result<Option<End>> {
        if !self.is_held() {
            return Ok(None);
        }
        tokio::select! {
            drained = drain(&mut self.printer, self.events.as_mut()) => ignore_broken_pipe(drained).map(|()| None),
            _ = self.followed.attention.signals.next() => Ok(Some(End::Detached(exit::INTERRUPTED))),
        }
    }

    fn say_waiting(&mut self) {
        if !self.wants_notes() {
            return;
        }
        let paint = self.printer.paint();
        let are_waiting = self.followed.job.tasks.iter().filter(|task| !task.waiting.is_empty());
        let lines: Vec<String> = are_waiting.map(|task| waiting(task, paint)).collect();
        for line in lines {
            self.followed.note(&line);
        }
    }

    /// Decides how the job continues after standard output failed.
    async fn handle_print_error(&mut self, error: io::Error) -> Result<Option<End>, Failure> {
        let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
        if self.files.is_some() && !self.followed.job.plain_name && is_stream_error(&error) {
            // The files have another reader, so they are written to the end.
            self.mute = true;
            self.unprinted = Some(error).filter(|_| !is_gone);
            return Ok(None);
        }
        if !is_gone {
            return Err(error.into());
        }
        self.mute = true;
        if !self.followed.following.owns() || !self.followed.job.plain_name {
            return Ok(Some(End::Detached(READER_GONE)));
        }
        self.followed.attention.asking.cancelled();
        self.followed.perform(UserAction::Cancel).await
    }

    /// Finds the job again after the connection broke.
    async fn reconnect(&mut self) -> Result<Result<JobEvents, End>, Failure> {
        let wants_notes = self.wants_notes();
        let paint = self.printer.paint();
        let say = |text: &str| {
            if wants_notes {
                note(&paint.paint(Tone::Waiting, text));
            }
        };
        let following = &self.followed.following;
        let request = following.request(JobReference::Id(self.followed.job.id), self.ends.clone());
        let again = async |client: &ControlClient| client.follow_job(request.clone()).await;
        self.followed.reconnect(say, again).await
    }

    /// Prints the results, those that need attention last, just above the prompt. Returns the exit status.
    fn tail(&mut self) -> io::Result<Status> {
        let status = match () {
            () if self.mute => READER_GONE,
            () if self.followed.attention.asking.has_cancelled() => exit::INTERRUPTED,
            () if self.followed.following.reports_outcome() => exit::of_job(&self.followed.job),
            () => exit::OK,
        };
        match &mut self.events {
            _ if self.mute => {}
            Some(events) => {
                ignore_broken_pipe(events.ended(&self.followed.job, exit::of_job(&self.followed.job).0))?;
            }
            None if !self.followed.following.is_text() => match self.outputs.print(&self.followed.job) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(READER_GONE),
                printed => printed?,
            },
            None => {}
        }
        if self.followed.following.is_text() {
            say_end(&self.followed.job, None, false, self.audience());
        }
        Ok(status)
    }
}
