//! `job list|show|attach|logs|cancel`.

use chrono::Local;

use super::{
    connect,
    following::{self, Begun, FollowOptions, Purpose, StdinUse},
    on_one_thread,
    run::begin,
    shown::state_text,
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
        json::{Document, JobList, JobObject},
        masters::resolve,
        output::{Cell, Paint, Tone, print_json_ignoring_closed, say, stdout_is_terminal, table},
    },
    domain::{
        control::{CancelJob, DeleteJob, FollowJob, JobEvent, ListJobs, PromoteJob, RerunJob, StopJob},
        frame::Stream,
        job::{Job, Task},
        offset::OutputOffset,
        text::{form, plural},
        time::{UnixMs, format_duration, local_time},
    },
    sys::clock::unix_ms,
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

/// Returns a job's state as text and tone: how many of its tasks succeeded.
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
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let request = ListJobs {
        limit: Some(args.limit),
        before: Some(args.before).filter(|number| *number > 0),
        within_ms: args.since.and_then(Span::limit_ms),
        operator: some(&args.operator),
        agent: args.agent.clone(),
        text: some(&args.text),
        result: args.outcome,
    };
    let jobs = client.jobs(request).await?;
    match args.output {
        Format::Json | Format::Ndjson => {
            print_json_ignoring_closed(args.output, &Document::new(JobList::new(&jobs)))?;
        }
        Format::Text if jobs.is_empty() => say("no such jobs\n")?,
        Format::Text => {
            let now = unix_ms();
            let rows: Vec<Vec<Cell>> = jobs
                .iter()
                .map(|job| {
                    vec![
                        Cell::from(job.number.to_string()),
                        Cell::from(local_time(job.created_ms, UnixMs(now), &Local)),
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
    let request = FollowJob { without_output: true, ..FollowJob::new(args.job) };
    let mut events = client.follow_job(request).await?;
    let Some(JobEvent::Job(job)) = events.next().await? else {
        return Err(Failure::new("the master shows no job"));
    };
    match args.output {
        Format::Json | Format::Ndjson => {
            print_json_ignoring_closed(args.output, &Document::new(JobObject::new(&job)))?;
        }
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
        local_time(job.created_ms, UnixMs(now), &Local),
        job.target,
        crate::domain::text::strip_control(&job.command.shown()),
    );
    text.extend(following::left_out(job).iter().map(|line| format!("{line}\n")));
    let row = |task: &Task| {
        let sign = task.sign();
        let tone = sign.into();
        let took = match task.duration_ns {
            0 => "-".to_owned(),
            ns => format_duration(std::time::Duration::from_nanos(ns)),
        };
        vec![
            Cell::toned(sign.glyph, tone),
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
    let following = FollowOptions {
        address: resolve(&args.to)?,
        print: args.print.clone(),
        give_up: args.give_up.limit(),
        from_offset: OutputOffset(args.from),
        agents: Vec::new(),
        follow: true,
        purpose: Purpose::Attached,
        outdir: None,
        timestamps: false,
        only: None,
        feeds: StdinUse::Nothing,
    };
    let client = connect(&args.to).await?;
    let events = client.follow_job(following.request(args.job, [])).await?;
    following::follow(following, client, Begun::of(events).await?).await
}

async fn logs(args: &JobLogsArgs) -> Result<Status, Failure> {
    let following = FollowOptions {
        address: resolve(&args.to)?,
        print: PrintArgs { quiet: true, ..args.print.clone() },
        give_up: Some(std::time::Duration::from_mins(5)),
        from_offset: OutputOffset(args.from),
        agents: args.agent.clone(),
        follow: args.follow,
        purpose: Purpose::Read,
        outdir: None,
        timestamps: args.timestamps,
        only: args.stream.map(|stream| match stream {
            OnlyStream::Stdout => Stream::Stdout,
            OnlyStream::Stderr => Stream::Stderr,
        }),
        feeds: StdinUse::Nothing,
    };
    let client = connect(&args.to).await?;
    let events = client.follow_job(following.request(args.job, [])).await?;
    // This command shows the output; `job show` reports how the job ended.
    let status = following::follow(following, client, Begun::of(events).await?).await?;
    Ok(if status == exit::NO_STATUS { exit::FAILED } else { status })
}

async fn cancel(args: &JobCancelArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let request = CancelJob { job: args.job, tasks: Vec::new(), grace_ms: args.grace.map(Span::ms_u32) };
    let cancelled = client.cancel_job(request).await?;
    let stored = match cancelled.stored {
        0 => String::new(),
        n => format!("; stored for {n} without contact, sent when they reconnect"),
    };
    let (number, ordered) = (cancelled.number, cancelled.ordered as usize);
    let were = form(ordered, "was", "were");
    say(&format!("job {number}: {ordered} {} {were} ordered to end{stored}\n", plural("task", ordered)))?;
    Ok(exit::OK)
}

async fn promote(args: &JobArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let promoted = client.promote_job(PromoteJob { job: args.job }).await?;
    say(&format!("job {} continues with batch {}\n", promoted.number, promoted.batch))?;
    Ok(exit::OK)
}

async fn stop(args: &JobArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let stopped = client.stop_job(StopJob { job: args.job }).await?;
    let count = stopped.skipped as usize;
    say(&format!(
        "job {}: {count} {} skipped; running tasks continue\n",
        stopped.number,
        plural("task", count)
    ))?;
    Ok(exit::OK)
}

fn rerun(args: &JobRerunArgs) -> Result<Status, Failure> {
    let following = FollowOptions {
        address: resolve(&args.to)?,
        print: args.print.clone(),
        give_up: args.give_up.limit(),
        from_offset: OutputOffset::START,
        agents: Vec::new(),
        follow: true,
        purpose: Purpose::Started,
        outdir: None,
        timestamps: false,
        only: None,
        feeds: StdinUse::Nothing,
    };
    begin(following, args.detach, async |client, id, follow| {
        client.rerun_job(RerunJob { job: args.job, id, failed: args.failed, follow }).await
    })
}

async fn delete(args: &JobArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let number = client.delete_job(DeleteJob { job: args.job }).await?;
    say(&format!("job {number} and its output were deleted\n"))?;
    Ok(exit::OK)
}
