//! Formats jobs and tasks as text.

use std::time::Duration;

use chrono::Local;

use crate::{
    cli::output::Paint,
    domain::{
        job::{Job, Task, TaskState},
        outcome::{Ending, Outcome},
        target::fold::fold,
        text::{plural, strip_control},
        time::{UnixMs, format_duration, local_time},
    },
    sys::clock::unix_ms,
};

/// Returns a line for tasks that ended the same way: `✗ web-1 exited 3 in 12 ms`, or `✗ 12 web-[1-12] exited
/// 3`.
pub(super) fn outcome_line(tasks: &[&Task], paint: Paint) -> String {
    let Some((task, outcome)) = tasks.first().and_then(|task| Some((task, task.state.outcome()?))) else {
        return String::new();
    };
    let sign = outcome.sign();
    let tone = sign.into();
    let text = strip_control(&outcome.to_string());
    if tasks.len() > 1 {
        // The total number of processes that kills have ended.
        let proofs = tasks.iter().filter_map(|task| task.state.outcome()?.proof());
        let ended: u32 = proofs.map(|proof| proof.ended).fold(0, u32::saturating_add);
        let text = match outcome.proof() {
            Some(proof) if proof.left.is_empty() => {
                format!(
                    "{}, {ended} {} ended, 0 left",
                    strip_control(&outcome.brief()),
                    plural("process", ended as usize)
                )
            }
            _ => text,
        };
        let folded = fold(tasks.iter().map(|task| task.agent.as_str()));
        return paint.paint(tone, &format!("{sign} {} {folded} {text}", tasks.len()));
    }
    let took = match (&outcome.ending, task.duration_ns) {
        (Ending::Refused(_) | Ending::Undeliverable(_) | Ending::Lost(_) | Ending::Skipped(_), _)
        | (_, 0) => String::new(),
        (_, ns) => format!(" in {}", format_duration(Duration::from_nanos(ns))),
    };
    paint.paint(tone, &format!("{sign} {} {text}{took}", task.agent))
}

/// Returns a line about a job's end. `outputs` is the number of different outputs of tasks that exited with
/// 0, if known.
pub(super) fn summary(job: &Job, outputs: Option<usize>) -> String {
    // By the master's clock, so that it does not depend on when it is shown.
    let until = job.ended_ms.unwrap_or_else(|| UnixMs(unix_ms()));
    let took = until.since(job.created_ms);
    let good = job.tasks.iter().filter(|task| task.state.outcome().is_some_and(Outcome::is_success));
    let (good, all) = (good.count(), job.tasks.len());
    let rest = if good == all { String::new() } else { format!("; {} did not", all - good) };
    let rest = match job.left_out.len() {
        0 => rest,
        count => format!("{rest}; {count} left out"),
    };
    let outputs = match outputs {
        Some(count) if count > 1 => format!(", in {count} outputs"),
        _ => String::new(),
    };
    format!(
        "job {}  {good} of {all} exited 0{outputs}{rest}  {}  sloth-runner job show {}",
        job.number,
        format_duration(took),
        job.number
    )
}

/// Returns the state of a task, which may not have ended.
pub(super) fn state_text(task: &Task) -> String {
    match &task.state {
        TaskState::Ended(outcome) => match &task.later {
            Some(later) => format!("{outcome}; it was found later that it {later}"),
            None => outcome.to_string(),
        },
        state => match (task.no_contact_since_ms, task.waiting.as_str()) {
            (Some(since), _) => {
                format!("{}, no contact since {}", state.word(), local_time(since, UnixMs(unix_ms()), &Local))
            }
            (None, "") => state.word().to_owned(),
            (None, waiting) => format!("{}: {waiting}", state.word()),
        },
    }
}
