//! Follows a job to its end, over as many connections as that takes.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    asking::UserAction, attention::Attention, feeding, files::OutDirectory, grouped, lines, tally, terminal,
};
use crate::{
    cli::{
        args::{Format, run::PrintArgs},
        exit::{self, Failure, Status},
        output::{complain, note},
    },
    domain::{
        control::{CancelJob, FollowJob, JobEvent, TaskOffset},
        frame::Stream,
        ids::JobReference,
        job::Job,
        name::AgentName,
        offset::OutputOffset,
        plan::{Gate, GateState},
        text::strip_control,
        time::format_duration,
    },
    wire::{
        client::{ControlClient, JobEvents, MasterAddress},
        status::CallError,
    },
};

/// The status that a shell reports for a program whose reader is gone: 128 + SIGPIPE.
pub(super) const READER_GONE: Status = Status(141);
/// Pause between two attempts to reach the master again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How to follow a job.
#[derive(Clone, Debug)]
pub(in crate::cli::commands) struct FollowOptions {
    pub(in crate::cli::commands) address: MasterAddress,
    pub(in crate::cli::commands) print: PrintArgs,
    /// Maximum time to wait for a master that does not answer, and for tasks without contact; `None` for no
    /// limit.
    pub(in crate::cli::commands) give_up: Option<Duration>,
    pub(in crate::cli::commands) from_offset: OutputOffset,
    pub(in crate::cli::commands) agents: Vec<AgentName>,
    /// Whether to continue until the job ends.
    pub(in crate::cli::commands) follow: bool,
    pub(in crate::cli::commands) purpose: Purpose,
    /// A directory that each task's output is also written to.
    pub(in crate::cli::commands) outdir: Option<Arc<OutDirectory>>,
    /// Whether each line begins with its time.
    pub(in crate::cli::commands) timestamps: bool,
    /// The only stream to show; `None` for both.
    pub(in crate::cli::commands) only: Option<Stream>,
    /// How this client's standard input is used.
    pub(in crate::cli::commands) feeds: StdinUse,
}

/// Why a job is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::commands) enum Purpose {
    /// This client started the job: ^C concerns the job, not only this client.
    Started,
    /// The client attached to a job that continues without it.
    Attached,
    /// Only the output is requested: the exit status reports whether it was shown, not how the job ended.
    Read,
}

/// How this client's standard input is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli::commands) enum StdinUse {
    /// The command gets no standard input.
    #[default]
    Nothing,
    /// The command reads it.
    Stream,
    /// It is the keyboard of the command's terminal, and standard output is the screen.
    Terminal,
}

impl FollowOptions {
    /// Returns the request to follow a job, from the offset up to which each task's output was seen.
    pub(in crate::cli::commands) fn request(
        &self,
        job: JobReference,
        seen: impl IntoIterator<Item = (u32, OutputOffset)>,
    ) -> FollowJob {
        FollowJob {
            seen: seen.into_iter().map(|(task, offset)| TaskOffset { task, offset }).collect(),
            agents: self.agents.clone(),
            from_offset: self.from_offset,
            follow: self.follow,
            without_output: self.print.is_grouped(),
            attached: self.owns(),
            ..FollowJob::new(job)
        }
    }

    /// Whether ^C concerns the job, not only this client.
    pub(super) fn owns(&self) -> bool {
        self.purpose == Purpose::Started
    }

    /// Whether the exit status reports how the job ended.
    pub(super) fn reports_outcome(&self) -> bool {
        self.purpose != Purpose::Read
    }

    /// Adds the state of the job to a failure of this client, whose exit status then says nothing about the
    /// job.
    pub(super) fn failed(&self, failure: Failure, job: &Job) -> Failure {
        if self.reports_outcome() { without_status(failure, job) } else { failure.with(exit::FAILED) }
    }

    pub(super) fn is_text(&self) -> bool {
        self.print.output == Format::Text
    }

    pub(super) fn cancel_request(job: &Job) -> CancelJob {
        CancelJob { job: JobReference::Id(job.id), tasks: Vec::new(), grace_ms: None }
    }
}

/// How following ended.
pub(super) enum End {
    /// All available output was shown.
    Shown,
    /// The job continues without this client.
    Detached(Status),
}

/// The event stream of a job, and its first event.
pub(in crate::cli::commands) struct Begun {
    pub(in crate::cli::commands) events: JobEvents,
    pub(in crate::cli::commands) first: Option<JobEvent>,
}

impl Begun {
    /// Waits for the first event.
    pub(in crate::cli::commands) async fn of(mut events: JobEvents) -> Result<Self, CallError> {
        let first = events.next().await?;
        Ok(Self { events, first })
    }
}

/// Follows the events of one job. The first event has to be the job.
pub(in crate::cli::commands) async fn follow(
    following: FollowOptions,
    client: ControlClient,
    Begun { events, first }: Begun,
) -> Result<Status, Failure> {
    let job = match first {
        Some(JobEvent::Job(job)) => *job,
        Some(JobEvent::Refused(reason)) => return Err(Failure::new(reason).with(exit::NO_STATUS)),
        Some(JobEvent::TargetChanged { gone, .. }) => {
            let gone: Vec<_> = gone.into_iter().map(|gone| gone.agent).collect();
            let text = format!("{} changed since it was shown. Nothing started", gone.join(", "));
            return Err(Failure::new(text).with(exit::NO_STATUS));
        }
        _ => return Err(Failure::new("the master's answer does not begin with a job")),
    };
    match following.feeds {
        StdinUse::Terminal => {
            let followed = Box::pin(terminal::follow(following, client, job.clone(), events)).await;
            return followed.map_err(|failure| without_status(failure, &job));
        }
        StdinUse::Stream => {
            let input = feeding::read_standard_input();
            tokio::spawn(feeding::feed(following.address.clone(), JobReference::Id(job.id), input));
        }
        StdinUse::Nothing => {}
    }
    if following.print.is_grouped() {
        drop(events);
        Box::pin(grouped::watch(following, client, job)).await
    } else {
        Box::pin(lines::follow(following, client, job, events)).await
    }
}

/// Repeats a call on new connections after a connection broke. Returns the exit status if that takes too
/// long, or if the master refuses the call.
pub(in crate::cli::commands) async fn find_again<T>(
    following: &FollowOptions,
    say: impl Fn(&str),
    again: impl AsyncFn(&ControlClient) -> Result<T, CallError>,
) -> Result<(ControlClient, T), Status> {
    let until = following.give_up.map(|give_up| Instant::now() + give_up);
    let mut said = false;
    loop {
        if let Ok(client) = ControlClient::connect(&following.address).await {
            match again(&client).await {
                Ok(answer) => return Ok((client, answer)),
                Err(error) if error.is_refusal() => {
                    complain(&error.to_string());
                    return Err(exit::NO_STATUS);
                }
                Err(_) => {}
            }
        }
        if !std::mem::replace(&mut said, true) {
            say("~ the master does not answer; the job continues, trying again");
        }
        if let (Some(give_up), Some(until)) = (following.give_up, until)
            && Instant::now() >= until
        {
            complain(&format!("the master did not answer for {}", format_duration(give_up)));
            return Err(exit::NO_STATUS);
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Like [`find_again`], but a signal can end the attempt. If it cancels the job, the request is sent once the
/// master answers.
pub(super) async fn reconnect<T>(
    following: &FollowOptions,
    attention: &mut Attention,
    say: impl Fn(&str),
    again: impl AsyncFn(&ControlClient) -> Result<T, CallError>,
) -> Result<(ControlClient, T), Status> {
    let mut finding = pin!(find_again(following, &say, again));
    loop {
        let wish = tokio::select! {
            found = &mut finding => return found,
            wish = attention.signalled() => wish,
        };
        match wish {
            UserAction::Cancel => {
                attention.asking.mark_unsent();
                say("~ the job is cancelled when the master answers; press again to leave it running");
            }
            UserAction::Detach(status) => return Err(status),
            // The question makes no sense before the master answers.
            UserAction::Ask => return Err(exit::INTERRUPTED),
            UserAction::Nothing | UserAction::ShowRunning => {}
        }
    }
}

/// Cancels a job. A further signal ends the wait for the master's answer.
pub(super) async fn cancel(
    client: &ControlClient,
    job: &Job,
    attention: &mut Attention,
) -> Result<Option<End>, Failure> {
    let told = tokio::select! {
        told = client.cancel_job(FollowOptions::cancel_request(job)) => told,
        _ = attention.signals.next() => return Ok(Some(End::Detached(exit::INTERRUPTED))),
    };
    match told {
        // If the job is not found, it is over, and its result arrives with the events.
        Ok(_) | Err(CallError::NotFound(_)) => Ok(None),
        Err(CallError::Disconnected(_)) => {
            attention.asking.mark_unsent();
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reports that a job is held, and how to continue or stop it.
pub(super) fn say_held(job: &Job, gate: &Gate) {
    if let GateState::Held(reason) = &gate.state {
        let number = job.number;
        complain(&format!(
            "job {number} waits: {}\nsloth-runner job promote {number} continues it, sloth-runner job stop {number} ends it",
            strip_control(reason)
        ));
    }
}

/// Returns the question that ^C asks for several agents.
pub(super) fn question(job: &Job) -> String {
    format!("{}    ^C cancel   d Enter leave running   Enter wait", tally::unfinished(job))
}

/// Adds the state of the job to a failure of this client, and replaces its status: the job's result is
/// unknown.
pub(in crate::cli::commands) fn without_status(failure: Failure, job: &Job) -> Failure {
    let number = job.number;
    let then = if job.ended_ms.is_some() {
        format!("job {number} is over: sloth-runner job logs {number}")
    } else {
        format!("job {number} continues: sloth-runner job attach {number}")
    };
    Failure { message: format!("{}\n{then}", failure.message), status: exit::NO_STATUS }
}

/// Prints how to attach to a job that continues.
pub(super) fn say_attach(job: &Job) {
    if job.ended_ms.is_some() {
        return;
    }
    note(&format!("job {} continues: sloth-runner job attach {}", job.number, job.number));
}
