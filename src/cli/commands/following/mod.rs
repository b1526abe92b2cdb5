//! Follows a job to its end, for `agent run`, `job attach` and `job logs`: as lines, groups, JSON or files.
//!
//! Losing the connection cancels nothing: the job continues, and following resumes at the byte where it stopped.

mod asking;
mod attention;
mod escapes;
mod events;
mod feeding;
mod files;
mod followed;
mod grouped;
mod lines;
mod object;
mod patience;
mod printer;
mod tally;
mod telling;
mod terminal;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{asking::Wish, attention::Attention};
pub(super) use self::{files::OutDirectory, telling::left_out};
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
        plan::{Gate, GateState},
        text::strip_control,
        time::format_duration,
    },
    wire::{
        client::{ControlClient, JobEvents, MasterAddress},
        status::CallError,
    },
};

/// What a shell says of a program whose reader is gone: 128 + SIGPIPE.
const READER_GONE: Status = Status(141);
/// Pause between two attempts to reach the master again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How to follow.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub(super) address: MasterAddress,
    pub(super) print: PrintArgs,
    /// How long to wait for a master that does not answer, and for tasks without contact; `None` without end.
    pub(super) give_up: Option<Duration>,
    pub(super) from_offset: u64,
    pub(super) agents: Vec<AgentName>,
    /// Continue until the job ends.
    pub(super) follow: bool,
    pub(super) purpose: Purpose,
    /// Where each task's output goes too.
    pub(super) outdir: Option<Arc<OutDirectory>>,
    /// Each line begins with its time.
    pub(super) timestamps: bool,
    /// Only this stream.
    pub(super) only: Option<Stream>,
    /// What the command reads comes from here.
    pub(super) feeds: Feeds,
}

/// Why somebody follows a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It was started here: ^C concerns the job, not only this client.
    Started,
    /// It continues without this client too.
    Attached,
    /// Its output is read: the exit status only tells whether what there is of it was shown.
    Read,
}

/// What becomes of this client's standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Feeds {
    /// The command gets no standard input.
    #[default]
    Nothing,
    /// The command reads it.
    Stream,
    /// It is the command's keyboard, and standard output its screen.
    Terminal,
}

impl Following {
    /// The call that follows a job, from where each task's output was seen up to.
    pub(super) fn request(&self, job: JobReference, seen: impl IntoIterator<Item = (u32, u64)>) -> FollowJob {
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
    fn owns(&self) -> bool {
        self.purpose == Purpose::Started
    }

    /// Whether the exit status tells how the job ended.
    fn judges(&self) -> bool {
        self.purpose != Purpose::Read
    }

    /// What failed here, and what becomes of the job, of which there is no true status then.
    fn failed(&self, failure: Failure, job: &Job) -> Failure {
        if self.judges() { left_behind(failure, job) } else { failure.with(exit::FAILED) }
    }

    fn is_text(&self) -> bool {
        self.print.output == Format::Text
    }

    fn cancel_request(job: &Job) -> CancelJob {
        CancelJob { job: JobReference::Id(job.id), tasks: Vec::new(), grace_ms: None }
    }
}

/// How following ended.
enum End {
    /// The job, or what there is of it, was shown.
    Shown,
    /// The job continues without this client.
    Detached(Status),
}

/// The events of one job, and the first of them.
pub(super) struct Begun {
    pub(super) events: JobEvents,
    pub(super) first: Option<JobEvent>,
}

impl Begun {
    /// Waits for the first one.
    pub(super) async fn of(mut events: JobEvents) -> Result<Self, CallError> {
        let first = events.next().await?;
        Ok(Self { events, first })
    }
}

/// Follows the events of one job. The first one has to be the job.
pub(super) async fn follow(
    following: Following,
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
        Feeds::Terminal => {
            let followed = Box::pin(terminal::follow(following, client, job.clone(), events)).await;
            return followed.map_err(|failure| left_behind(failure, &job));
        }
        Feeds::Stream => {
            let input = feeding::read_standard_input();
            tokio::spawn(feeding::feed(following.address.clone(), JobReference::Id(job.id), input));
        }
        Feeds::Nothing => {}
    }
    if following.print.is_grouped() {
        drop(events);
        Box::pin(grouped::watch(following, client, job)).await
    } else {
        Box::pin(lines::follow(following, client, job, events)).await
    }
}

/// Makes a call again and again on new connections, after the one there was broke. Otherwise the status to leave with:
/// when that takes too long, or the master will not have it any more.
pub(super) async fn find_again<T>(
    following: &Following,
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
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// The same, until somebody has had enough of it. Who cancels meanwhile is heard: the master is told once it is back.
async fn reconnect<T>(
    following: &Following,
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
            Wish::Cancel => {
                attention.asking.unheard();
                say("~ the job is cancelled when the master answers; press again to leave it running");
            }
            Wish::Detach(status) => return Err(status),
            // There is nothing to choose before the master is back.
            Wish::Ask => return Err(exit::INTERRUPTED),
            Wish::Nothing | Wish::ShowRunning => {}
        }
    }
}

/// Cancels a job. Whoever interrupts once more does not want to wait for the master's answer.
async fn cancel(
    client: &ControlClient,
    job: &Job,
    attention: &mut Attention,
) -> Result<Option<End>, Failure> {
    let told = tokio::select! {
        told = client.cancel_job(Following::cancel_request(job)) => told,
        _ = attention.signals.next() => return Ok(Some(End::Detached(exit::INTERRUPTED))),
    };
    match told {
        // It is over where it is not found, and how it ended is among what is still to be shown.
        Ok(_) | Err(CallError::NotFound(_)) => Ok(None),
        Err(CallError::Disconnected(_)) => {
            attention.asking.unheard();
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What to say when a job is held, and whether a person is there to wait for.
fn say_held(job: &Job, gate: &Gate) {
    if let GateState::Held(reason) = &gate.state {
        let number = job.number;
        complain(&format!(
            "job {number} waits: {}\nsloth-runner job promote {number} continues it, sloth-runner job stop {number} ends it",
            strip_control(reason)
        ));
    }
}

/// The question that ^C asks on several agents.
fn question(job: &Job) -> String {
    format!("{}    ^C cancel   d Enter leave running   Enter wait", tally::unfinished(job))
}

/// Adds to what failed here what becomes of the job, of which there is no true status then.
pub(super) fn left_behind(failure: Failure, job: &Job) -> Failure {
    let number = job.number;
    let then = if job.ended_ms.is_some() {
        format!("job {number} is over: sloth-runner job logs {number}")
    } else {
        format!("job {number} continues: sloth-runner job attach {number}")
    };
    Failure { message: format!("{}\n{then}", failure.message), status: exit::NO_STATUS }
}

/// Says how to come back to a job that continues.
fn say_attach(job: &Job) {
    if job.ended_ms.is_some() {
        return;
    }
    note(&format!("job {} continues: sloth-runner job attach {}", job.number, job.number));
}
