//! Decides how long a client waits for a job without progress, and what it reports meanwhile.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{End, Following};
use crate::{
    cli::{exit, output::complain},
    domain::{
        job::{Job, Task, TaskState},
        text::strip_control,
        time::format_duration,
    },
};

/// A task that is held back for so long is told of where nobody sees what it waits for.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// So long a client that has cancelled a job waits for tasks that are held back.
const WAIT_CANCELLED: Duration = Duration::from_secs(10);

/// What is waited for, and since when, as this client has seen it: the master's clock may be another one.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Everything that is open has been without contact.
    silent: Option<Instant>,
    /// Tasks that run and are held back, and whether that was told.
    held: HashMap<u32, (Instant, bool)>,
}

/// Whether a task has begun and is held back, as by a full disk of the master's.
fn is_held_back(task: &Task) -> bool {
    matches!(task.state, TaskState::Dispatched | TaskState::Running) && !task.waiting.is_empty()
}

impl Patience {
    /// Whether all that is open has been without contact for too long. To be asked about once a second.
    pub(super) fn is_over(&mut self, job: &Job, following: &Following) -> bool {
        let mut open = job.tasks.iter().filter(|task| task.state.outcome().is_none()).peekable();
        let is_silent = open.peek().is_some() && open.all(|task| task.no_contact_since_ms.is_some());
        if !is_silent {
            self.silent = None;
            return false;
        }
        let silent = self.silent.get_or_insert_with(Instant::now).elapsed();
        following.follow && following.give_up.is_some_and(|give_up| silent >= give_up)
    }

    /// What is to be told of tasks that are held back, each once. To be asked about once a second.
    pub(super) fn held_back(&mut self, job: &Job) -> Vec<String> {
        self.held.retain(|index, _| job.task(*index).is_some_and(is_held_back));
        let mut told = Vec::new();
        for task in job.tasks.iter().filter(|task| is_held_back(task)) {
            let (since, is_told) = self.held.entry(task.index).or_insert_with(|| (Instant::now(), false));
            if since.elapsed() >= TELL_AFTER && !std::mem::replace(is_told, true) {
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

    /// Whether a job that was cancelled cannot be waited for: all that is open has been held back for long.
    pub(super) fn is_hopeless(&self, job: &Job) -> bool {
        let is_long = |task: &Task| {
            self.held.get(&task.index).is_some_and(|(since, _)| since.elapsed() >= WAIT_CANCELLED)
        };
        job.ended_ms.is_none() && job.tasks.iter().filter(|task| task.state.outcome().is_none()).all(is_long)
    }
}

/// Says that it was too long, and leaves the job.
pub(super) fn given_up(following: &Following) -> End {
    let give_up = following.give_up.unwrap_or_default();
    complain(&format!("no contact for {}; gave up waiting", format_duration(give_up)));
    End::Detached(exit::NO_STATUS)
}
