//! Decides how long a client waits for a job without progress, and what it reports meanwhile.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{End, FollowOptions};
use crate::{
    cli::{exit, output::complain},
    domain::{
        job::{Job, Task, TaskState},
        text::strip_control,
        time::format_duration,
    },
};

/// Time after which a task that is held back is reported, if nothing else shows what it waits for.
const REPORT_HELD_AFTER: Duration = Duration::from_secs(2);
/// Maximum time that a client waits for tasks that are held back, after it has cancelled the job.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// What this client waits for, and since when by its own clock: the master's clock may differ.
#[derive(Debug, Default)]
pub(super) struct WaitTimeouts {
    /// Since when all unfinished tasks have been without contact.
    silent: Option<Instant>,
    /// Tasks that run and are held back: since when, and whether that was reported.
    held: HashMap<u32, (Instant, bool)>,
}

/// Whether a task has started and is held back, for example by a full disk of the master.
fn is_held_back(task: &Task) -> bool {
    matches!(task.state, TaskState::Dispatched | TaskState::Running) && !task.waiting.is_empty()
}

impl WaitTimeouts {
    /// Whether all unfinished tasks have been without contact for too long. To be called once a second.
    pub(super) fn is_over(&mut self, job: &Job, following: &FollowOptions) -> bool {
        let mut open = job.tasks.iter().filter(|task| task.state.outcome().is_none()).peekable();
        let is_silent = open.peek().is_some() && open.all(|task| task.no_contact_since_ms.is_some());
        if !is_silent {
            self.silent = None;
            return false;
        }
        let silent = self.silent.get_or_insert_with(Instant::now).elapsed();
        following.follow && following.give_up.is_some_and(|give_up| silent >= give_up)
    }

    /// Returns the messages about tasks that are held back, each only once. To be called once a second.
    pub(super) fn held_back(&mut self, job: &Job) -> Vec<String> {
        self.held.retain(|index, _| job.task(*index).is_some_and(is_held_back));
        let mut told = Vec::new();
        for task in job.tasks.iter().filter(|task| is_held_back(task)) {
            let (since, is_told) = self.held.entry(task.index).or_insert_with(|| (Instant::now(), false));
            if since.elapsed() >= REPORT_HELD_AFTER && !std::mem::replace(is_told, true) {
                told.push(format!(
                    "{} waits: {} (job {})",
                    task.agent,
                    strip_control(&task.waiting),
                    job.number
                ));
            }
        }
        told
    }

    /// Whether to stop waiting for a cancelled job: all unfinished tasks have been held back for too long.
    pub(super) fn has_cancel_timed_out(&self, job: &Job) -> bool {
        let is_long = |task: &Task| {
            self.held.get(&task.index).is_some_and(|(since, _)| since.elapsed() >= CANCEL_TIMEOUT)
        };
        job.ended_ms.is_none() && job.tasks.iter().filter(|task| task.state.outcome().is_none()).all(is_long)
    }
}

/// Reports that the wait was too long, and leaves the job.
pub(super) fn given_up(following: &FollowOptions) -> End {
    let give_up = following.give_up.unwrap_or_default();
    complain(&format!("no contact for {}; gave up waiting", format_duration(give_up)));
    End::Detached(exit::NO_STATUS)
}
