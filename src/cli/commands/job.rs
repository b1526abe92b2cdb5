//! `job list|show|attach|logs|cancel`.

use serde_json::json;

use super::{
    connect,
    following::{self, Begun, Feeds, Following, Purpose},
    on_one_thread,
    run::begin,
    shown::{job_json, state_text},
};
use crate::{
    cli::{
        args::{
            Colour, Format, Span,
            job::{
                JobArgs, JobAttachArgs, JobCancelArgs, JobCommand, JobListArgs, JobLogsArgs, JobRerunArgs,
                JobShowArgs, OnlyStream,
            },
            run::PrintArgs,
        },
        exit::{self, Failure, Status},
        masters::resolve,
        output::{Cell, Paint, Tone, note, say, say_json_as, stdout_is_terminal, table},
    },
    domain::{
        frame::Stream,
        ids::JobReference,
        job::{Job, Task},
        outcome::Outcome,
        text::plural,
    },
    sys::clock::{format_duration, local_time, unix_ms},
    wire::{
        proto::{self, job_event::Kind},
        status::CallError,
    },
};

pub(super) fn perform(job: &JobCommand) -> Result<Status, Failure> {
    match job {
        JobCommand::List(args) => on_one_thread(list(args)),
        JobCommand::Show(args) => on_one_thread(show(args)),
        JobCommand::Attach(args) => on_one_thread(attach(args)),
        JobCommand::Logs(args) => on_one_thread(logs(args)),
        JobCommand::Rerun(args) => rerun(args),
        JobCommand::Delete(args) => on_one_thread(delete(args)),
        JobCommand::Promote(args) => on_one_thread(promote(args)),
        JobCommand::Stop(args) => on_one_thread(stop(args)),
        JobCommand::Cancel(args) => on_one_thread(cancel(args)),
    }
}

fn paint() -> Paint {
    Paint::new(Colour::Auto, stdout_is_terminal())
}

/// A job's state in words and tone: how many of its tasks went well.
fn job_state(job: &Job) -> Cell {
    if job.unfinished > 0 {
        return Cell::toned(format!("{} of {} continue", job.unfinished, job.task_count), Tone::Waiting);
    }
    let is_well = job.succeeded == job.task_count && job.missed().next().is_none();
    let tone = if is_well { Tone::Good } else { Tone::Bad };
    let left_out = match job.left_out.len() {
        0 => String::new(),
        count => format!("; {count} left out"),
    };
    Cell::toned(format!("{} of {} exited 0{left_out}", job.succeeded, job.task_count), tone)
}

async fn list(args: &JobListArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let within_ms = args.since.and_then(Span::limit_ms);
    let request = proto::ListJobsRequest {
        limit: args.limit,
        before_number: args.before,
        within_ms: within_ms.unwrap_or(0),
        // For a master that does not know the other one.
        since_ms: within_ms.map_or(0, |within| unix_ms().saturating_sub(within)),
        operator: args.operator.clone(),
        agent: args.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        text: args.text.clone(),
        outcome: args.outcome.clone(),
    };
    let listed = client.calls().list_jobs(request).await.map_err(CallError::from)?.into_inner();
    let jobs: Result<Vec<Job>, _> = listed.jobs.into_iter().map(Job::try_from).collect();
    let jobs = jobs.map_err(Failure::new)?;
    match args.output {
        Format::Json | Format::Ndjson => {
            let jobs: Vec<_> = jobs.iter().map(job_json).collect();
            say_json_as(args.output, &json!({ "schema_version": 1, "jobs": jobs }))?;
        }
        Format::Text if jobs.is_empty() => say("no such jobs\n")?,
        Format::Text => {
            let now = unix_ms();
            let rows: Vec<Vec<Cell>> = jobs
                .iter()
                .map(|job| {
                    vec![
                        Cell::from(job.number.to_string()),
                        Cell::from(local_time(job.created_ms, now)),
                        Cell::from(job.operator.as_str()),
                        Cell::from(job.target.as_str()),
                        job_state(job),
                        Cell::from(job.shown_command().chars().take(60).collect::<String>()),
                    ]
                })
                .collect();
            say(&table(&["JOB", "STARTED", "OPERATOR", "TARGET", "RESULT", "COMMAND"], &rows, paint()))?;
        }
    }
    Ok(exit::OK)
}

async fn show(args: &JobShowArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let request = proto::FollowJobRequest {
        job: Some(args.job.into()),
        without_output: true,
        ..proto::FollowJobRequest::default()
    };
    let mut events = client.follow_job(request).await?;
    let first = events.message().await.map_err(CallError::from)?.and_then(|event| event.kind);
    let Some(Kind::Job(job)) = first else { return Err(Failure::new("the master shows no job")) };
    let job = Job::try_from(job).map_err(Failure::new)?;
    match args.output {
        Format::Json | Format::Ndjson => say_json_as(args.output, &job_json(&job))?,
        Format::Text => say(&shown(&job))?,
    }
    Ok(exit::OK)
}

fn shown(job: &Job) -> String {
    let now = unix_ms();
    let mut text = format!(
        "job {}  {}\nby {} at {}, on {}\n{}\n",
        job.number,
        job.id,
        job.operator,
        local_time(job.created_ms, now),
        job.target,
        crate::domain::text::strip_control(&job.command.shown()),
    );
    text.extend(following::left_out(job).iter().map(|line| format!("{line}\n")));
    let row = |task: &Task| {
        let tone = match task.state.outcome() {
            Some(outcome) if outcome.is_success() => Tone::Good,
            Some(_) => Tone::Bad,
            None => Tone::Waiting,
        };
        let glyph = task.state.outcome().map_or('▸', Outcome::glyph);
        let took = match task.duration_ns {
            0 => "-".to_owned(),
            ns => format_duration(std::time::Duration::from_nanos(ns)),
        };
        vec![
            Cell::toned(glyph, tone),
            Cell::from(task.agent.as_str()),
            Cell::toned(state_text(task), tone),
            Cell::from(took),
            Cell::from(if task.state.outcome().is_some() {
                task.end_offset.to_string()
            } else {
                "-".to_owned()
            }),
        ]
    };
    let rows: Vec<Vec<Cell>> = job.tasks.iter().map(row).collect();
    text + &table(&["", "AGENT", "RESULT", "DURATION", "BYTES"], &rows, paint())
}

async fn attach(args: &JobAttachArgs) -> Result<Status, Failure> {
    let following = Following {
        address: resolve(&args.to)?,
        print: args.print.clone(),
        give_up: args.give_up.limit(),
        from_offset: args.from,
        agents: Vec::new(),
        follow: true,
        purpose: Purpose::Attached,
        outdir: None,
        timestamps: false,
        only: None,
        feeds: Feeds::Nothing,
    };
    let client = connect(&args.to).await?;
    let events = client.follow_job(following.request(args.job, [])).await?;
    following::follow(following, client, Begun::of(events).await?).await
}

async fn logs(args: &JobLogsArgs) -> Result<Status, Failure> {
    let following = Following {
        address: resolve(&args.to)?,
        print: PrintArgs { quiet: true, ..args.print.clone() },
        give_up: Some(std::time::Duration::from_mins(5)),
        from_offset: args.from,
        agents: args.agent.iter().map(ToString::to_string).collect(),
        follow: args.follow,
        purpose: Purpose::Read,
        outdir: None,
        timestamps: args.timestamps,
        only: args.stream.map(|stream| match stream {
            OnlyStream::Stdout => Stream::Stdout,
            OnlyStream::Stderr => Stream::Stderr,
        }),
        feeds: Feeds::Nothing,
    };
    let client = connect(&args.to).await?;
    let events = client.follow_job(following.request(args.job, [])).await?;
    // The output is what was asked for; how the job ended is `job show`'s to tell.
    let status = following::follow(following, client, Begun::of(events).await?).await?;
    Ok(if status == exit::NO_STATUS { exit::FAILED } else { status })
}

async fn cancel(args: &JobCancelArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let request = proto::CancelJobRequest {
        job: Some(JobReference::into(args.job)),
        task_indices: Vec::new(),
        grace_ms: args.grace.map_or(0, Span::ms_u32),
    };
    let cancelled = client.calls().cancel_job(request).await.map_err(CallError::from)?.into_inner();
    let stored = match cancelled.stored {
        0 => String::new(),
        n => format!("; stored for {n} without contact, given when they return"),
    };
    if args.grace.is_some() && cancelled.grace_ms == 0 {
        note("! this master is too old for --grace: the job's own grace is kept");
    }
    let (number, told) = (cancelled.number, cancelled.told as usize);
    let were = if told == 1 { "was" } else { "were" };
    say(&format!("job {number}: {told} {} {were} ordered to end{stored}\n", plural("task", told)))?;
    Ok(exit::OK)
}

async fn promote(args: &JobArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let request = proto::PromoteJobRequest { job: Some(args.job.into()) };
    let promoted = client.calls().promote_job(request).await.map_err(CallError::from)?.into_inner();
    say(&format!("job {} continues with batch {}\n", promoted.number, promoted.batch))?;
    Ok(exit::OK)
}

async fn stop(args: &JobArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let request = proto::StopJobRequest { job: Some(args.job.into()) };
    let stopped = client.calls().stop_job(request).await.map_err(CallError::from)?.into_inner();
    let count = stopped.skipped as usize;
    say(&format!(
        "job {}: {count} {} skipped; running tasks continue\n",
        stopped.number,
        plural("task", count)
    ))?;
    Ok(exit::OK)
}

fn rerun(args: &JobRerunArgs) -> Result<Status, Failure> {
    let following = Following {
        address: resolve(&args.to)?,
        print: args.print.clone(),
        give_up: args.give_up.limit(),
        from_offset: 0,
        agents: Vec::new(),
        follow: true,
        purpose: Purpose::Started,
        outdir: None,
        timestamps: false,
        only: None,
        feeds: Feeds::Nothing,
    };
    begin(following, args.detach, async |client, id, follow| {
        let request = proto::RerunJobRequest {
            job: Some(args.job.into()),
            job_id: id.to_bytes().to_vec().into(),
            failed: args.failed,
            follow,
        };
        client.rerun_job(request).await
    })
}

async fn delete(args: &JobArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let request = proto::DeleteJobRequest { job: Some(args.job.into()) };
    let deleted = client.calls().delete_job(request).await.map_err(CallError::from)?.into_inner();
    say(&format!("job {} and its output are gone\n", deleted.number))?;
    Ok(exit::OK)
}
