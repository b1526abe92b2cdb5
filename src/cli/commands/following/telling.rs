//! Messages about a job on standard error: agents left out, outcomes of tasks, and where to find more.
//!
//! A person gets more messages than a log, but both get those about what did not happen.

use chrono::Local;

use super::super::shown::{outcome_line, summary};
use crate::{
    cli::output::{Paint, Tone, note},
    domain::{
        control::TaskGap,
        job::{Job, Task},
        outcome::Outcome,
        target::fold::fold_some,
        text::strip_control,
        time::{UnixMs, local_time},
    },
    sys::clock::unix_ms,
};

/// The reader of the messages, and how many to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    pub(super) has_person: bool,
    /// `-q`: report only why a status is missing.
    pub(super) is_quiet: bool,
    pub(super) paint: Paint,
}

impl Audience {
    fn wants_all(self) -> bool {
        self.has_person && !self.is_quiet
    }
}

/// Prints the header line of a job for a person, and the agents that are left out for every reader.
pub(super) fn say_head(job: &Job, audience: Audience) {
    if audience.wants_all() {
        let recipients = match job.tasks.as_slice() {
            [task] => task.agent.to_string(),
            tasks => format!("{} agents", tasks.len()),
        };
        let text = format!("{recipients}  job {}  {}", job.number, strip_control(&job.command.shown()));
        note(&audience.paint.paint(Tone::Dim, &text));
    }
    for line in left_out(job) {
        note(&line);
    }
}

/// Returns one line for each reason for which agents are left out.
pub(in crate::cli::commands) fn left_out(job: &Job) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for left in &job.left_out {
        match reasons.iter_mut().find(|(reason, _)| *reason == left.reason.as_str()) {
            Some((_, names)) => names.push(&left.agent),
            None => reasons.push((&left.reason, vec![&left.agent])),
        }
    }
    let line = |(reason, names): &(&str, Vec<&str>)| {
        format!("left out: {} ({})", strip_control(&fold_some(names.iter().copied())), strip_control(reason))
    };
    reasons.iter().map(line).collect()
}

/// Returns the line that shows what a task waits for.
pub(super) fn waiting(task: &Task, paint: Paint) -> String {
    paint.paint(Tone::Waiting, &format!("… {}: {}", task.agent, strip_control(&task.waiting)))
}

/// Returns the line about a change of a task that a person has to see immediately.
pub(super) fn changed(before: &Task, after: &Task, paint: Paint) -> Option<String> {
    if let Some(since) = after.no_contact_since_ms.filter(|_| before.no_contact_since_ms.is_none()) {
        let since = local_time(since, UnixMs(unix_ms()), &Local);
        let text = format!("~ {}: no contact since {since}; the command continues", after.agent);
        return Some(paint.paint(Tone::Waiting, &text));
    }
    let waits = !after.waiting.is_empty() && after.waiting != before.waiting;
    waits.then(|| waiting(after, paint))
}

/// Returns the line about missing output of a task.
pub(super) fn missing(job: &Job, task: u32, lost: &TaskGap) -> String {
    let agent = job.tasks.iter().find(|known| known.index == task);
    let whose = agent.map_or_else(String::new, |task| format!("{}: ", task.agent));
    format!(
        "{whose}{} bytes of output are missing at offset {}: {}",
        lost.to.since(lost.from),
        lost.from,
        strip_control(&lost.reason)
    )
}

/// Prints how tasks ended, unless they ended as expected, and the command that shows more. `outputs` is the
/// number of different outputs, if known; `are_shown` means that the output already shows how each task
/// ended.
pub(super) fn say_end(job: &Job, outputs: Option<usize>, are_shown: bool, audience: Audience) {
    let is_told = |outcome: &Outcome| {
        // A process that continues in the background holds the output, and nothing receives what it prints.
        let has_left = outcome.background > 0;
        let is_wanted = !outcome.is_success() || has_left || (job.plain_name && audience.has_person);
        outcome.status().is_none() || (is_wanted && !audience.is_quiet)
    };
    let mut lines = if are_shown { Vec::new() } else { endings(job, is_told, audience.paint) };
    let is_worth_a_line = audience.has_person || !lines.is_empty() || !job.left_out.is_empty();
    if !job.plain_name && !audience.is_quiet && is_worth_a_line {
        lines.push(summary(job, outputs));
    } else if let Some(last) = lines.last_mut().filter(|_| !audience.wants_all()) {
        // A log has no header that says which job this was.
        *last = format!("{last} (job {})", job.number);
    }
    for line in lines {
        note(&line);
    }
}

/// Returns lines for the tasks whose ends are reported, one for each kind of end. Rare ends, which need the
/// most attention, come last.
fn endings(job: &Job, is_told: impl Fn(&Outcome) -> bool, paint: Paint) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&Task>)> = Vec::new();
    for task in &job.tasks {
        let Some(outcome) = task.state.outcome().filter(|outcome| is_told(outcome)) else { continue };
        // The number of processes that a kill has ended differs between machines, so it is not part of the
        // key.
        let key = match outcome.proof() {
            Some(proof) if proof.left.is_empty() => outcome.brief(),
            _ => outcome.to_string(),
        };
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, tasks)) => tasks.push(task),
            None => groups.push((key, vec![task])),
        }
    }
    groups.sort_by_key(|(_, tasks)| std::cmp::Reverse(tasks.len()));
    groups.iter().map(|(_, tasks)| outcome_line(tasks, paint)).collect()
}
