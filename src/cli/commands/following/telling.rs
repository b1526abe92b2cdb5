//! Messages about a job on standard error: agents left out, outcomes of tasks, and where to find more.
//!
//! To a person more than to a log, but what did not happen is said to both.

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
        time::local_time,
    },
    sys::clock::unix_ms,
};

/// Who listens, and how much they want to hear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    pub(super) has_person: bool,
    /// `-q`: why a status is missing, and nothing else.
    pub(super) is_quiet: bool,
    pub(super) paint: Paint,
}

impl Audience {
    fn is_told_all(self) -> bool {
        self.has_person && !self.is_quiet
    }
}

/// The line at the head of a job, for a person; and who is left out, for everybody.
pub(super) fn say_head(job: &Job, audience: Audience) {
    if audience.is_told_all() {
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

/// Who is left out, those for the same reason together.
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

/// What a task waits for.
pub(super) fn waiting(task: &Task, paint: Paint) -> String {
    paint.paint(Tone::Waiting, &format!("… {}: {}", task.agent, strip_control(&task.waiting)))
}

/// What a person wants to hear at once of how a task has changed.
pub(super) fn changed(before: &Task, after: &Task, paint: Paint) -> Option<String> {
    if let Some(since) = after.no_contact_since_ms.filter(|_| before.no_contact_since_ms.is_none()) {
        let since = local_time(since, unix_ms(), &Local);
        let text = format!("~ {}: no contact since {since}; the command continues", after.agent);
        return Some(paint.paint(Tone::Waiting, &text));
    }
    let waits = !after.waiting.is_empty() && after.waiting != before.waiting;
    waits.then(|| waiting(after, paint))
}

/// That output of a task is missing, and why.
pub(super) fn missing(job: &Job, task: u32, lost: &TaskGap) -> String {
    let agent = job.tasks.iter().find(|known| known.index == task);
    let whose = agent.map_or_else(String::new, |task| format!("{}: ", task.agent));
    format!(
        "{whose}{} bytes of output are missing at offset {}: {}",
        lost.to.saturating_sub(lost.from),
        lost.from,
        strip_control(&lost.reason)
    )
}

/// Says how tasks ended, where that was not what was wanted, and where to look. `outputs` is how many different ones there
/// are, where that is known; `are_shown` where each task's end stands in the output already.
pub(super) fn say_end(job: &Job, outputs: Option<usize>, are_shown: bool, audience: Audience) {
    let is_told = |outcome: &Outcome| {
        // What continues in the background holds the output, and nobody gets what it prints.
        let has_left = outcome.background > 0;
        let is_wanted = !outcome.is_success() || has_left || (job.plain_name && audience.has_person);
        outcome.status().is_none() || (is_wanted && !audience.is_quiet)
    };
    let mut lines = if are_shown { Vec::new() } else { endings(job, is_told, audience.paint) };
    let is_worth_a_line = audience.has_person || !lines.is_empty() || !job.left_out.is_empty();
    if !job.plain_name && !audience.is_quiet && is_worth_a_line {
        lines.push(summary(job, outputs));
    } else if let Some(last) = lines.last_mut().filter(|_| !audience.is_told_all()) {
        // A log has no header that says which job this was.
        *last = format!("{last} (job {})", job.number);
    }
    for line in lines {
        note(&line);
    }
}

/// Lines for the tasks whose ends are to be told, the same ends together; what needs a person most comes last.
fn endings(job: &Job, is_told: impl Fn(&Outcome) -> bool, paint: Paint) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&Task>)> = Vec::new();
    for task in &job.tasks {
        let Some(outcome) = task.state.outcome().filter(|outcome| is_told(outcome)) else { continue };
        // How many processes a kill has ended is another number on each machine.
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
