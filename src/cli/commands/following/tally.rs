//! The state of a job in one line: how many tasks ended in which way, and which ones still run.

use std::time::Duration;

use crate::{
    cli::output::{Paint, Tone},
    domain::{
        job::{Job, Task, TaskState},
        plan::GateState,
        sign::Sign,
        target::fold::fold,
        text::form,
        time::stopwatch,
    },
};

/// Returns the names of the tasks' agents, folded.
pub(super) fn names<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> String {
    fold(tasks.into_iter().map(|task| task.agent.as_str()))
}

/// Returns the line below a job's output while the job continues.
pub(super) fn progress(job: &Job, elapsed: Duration, keys: &str, paint: Paint) -> String {
    let signs = [Sign::SUCCESS, Sign::FAILURE, Sign::SKIPPED, Sign::LOST];
    let mut counts = [0usize; 4];
    let (mut running, mut queued) = (0usize, 0usize);
    let mut oldest: Option<&Task> = None;
    for task in &job.tasks {
        match &task.state {
            TaskState::Ended(outcome) => {
                let at = signs.iter().position(|sign| sign.glyph == outcome.sign().glyph).unwrap_or(3);
                counts[at] += 1;
            }
            TaskState::Running => {
                running += 1;
                if oldest.is_none_or(|known| task.started_ms < known.started_ms) {
                    oldest = Some(task);
                }
            }
            TaskState::Queued | TaskState::Dispatched => queued += 1,
        }
    }
    let mut parts: Vec<String> = signs
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(sign, count)| paint.paint((*sign).into(), &format!("{sign} {count}")))
        .collect();
    if running > 0 {
        parts.push(paint.paint(Sign::RUNNING.into(), &format!("{} {running}", Sign::RUNNING)));
    }
    if queued > 0 {
        parts.push(paint.paint(Tone::Dim, &format!("… {queued}")));
    }
    let mut line = format!("{}  of {}  {}", parts.join("  "), job.tasks.len(), stopwatch(elapsed));
    if let Some(oldest) = oldest.filter(|_| running > 1 || job.tasks.len() > 1) {
        line.push_str("  oldest ");
        line.push_str(oldest.agent.as_str());
    }
    if let GateState::Held(_) = job.gate.state {
        line.push_str(&paint.paint(Tone::Waiting, "  held"));
    }
    line.push_str(&paint.paint(Tone::Dim, &format!("    {keys}")));
    line
}

/// Returns which tasks still run: `3 of 14 still run: web-[1-3]`.
pub(super) fn unfinished(job: &Job) -> String {
    let open: Vec<&Task> = job.tasks.iter().filter(|task| task.state.outcome().is_none()).collect();
    let verb = form(open.len(), "still runs", "still run");
    format!("{} of {} {verb}: {}", open.len(), job.tasks.len(), names(open.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::args::Colour,
        domain::{outcome::Ending, time::UnixMs},
    };

    #[test]
    fn a_job_stands_in_one_line() {
        let mut tasks: Vec<Task> =
            (1..=5).map(|n| Task::queued(n - 1, format!("web-{n}").parse().unwrap())).collect();
        tasks[0].state = TaskState::Ended(Ending::Exited(0).into());
        tasks[1].state = TaskState::Ended(Ending::Exited(3).into());
        tasks[2].state = TaskState::Running;
        tasks[2].started_ms = Some(UnixMs(9));
        tasks[3].state = TaskState::Running;
        tasks[3].started_ms = Some(UnixMs(5));
        let job = Job::for_tests(tasks);
        let paint = Paint::new(Colour::Never, true);
        let line = progress(&job, Duration::from_secs(72), "^C stop", paint);
        assert_eq!(line, "✓ 1  ✗ 1  ▸ 2  … 1  of 5  1:12  oldest web-4    ^C stop");
        assert_eq!(unfinished(&job), "3 of 5 still run: web-[3-5]");
    }
}
