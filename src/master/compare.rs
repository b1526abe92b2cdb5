//! Compares the output of a job's tasks, for jobs that stop when output differs from the canary's.
//!
//! One async task per job reads the job's log once, from its beginning. It decides nothing: it reports to the
//! core whether outputs agree.

use std::{collections::HashMap, io, sync::Arc};

use tokio::sync::mpsc;

use super::{
    core::messages::Input,
    handle::Handle,
    output_log::{JobLog, LogPosition, LogReader, OutputLogs},
};
use crate::domain::{
    groups::{
        Grouping,
        mask::{Masker, Masks},
    },
    ids::{JobId, JobReference, TaskId},
    job::Job,
    name::AgentName,
    outcome::Outcome,
    time::UnixMs,
};

/// A question: does the output of this task agree with that of an accepted task?
#[derive(Debug)]
pub(crate) struct Question {
    /// The task to compare.
    pub id: TaskId,
    /// Its outcome.
    pub outcome: Outcome,
    /// The indices and outcomes of the accepted tasks.
    pub accepted: Vec<(u32, Outcome)>,
}

/// Returns the masker of each task of a job, by task index. If names are masked, these are the agent's name,
/// its host name and its address.
pub(crate) async fn maskers(handle: &Handle, job: &Job, masks: Masks) -> Vec<Masker> {
    let names: Vec<AgentName> =
        job.tasks.iter().filter(|_| masks.names).map(|task| task.agent.clone()).collect();
    let agents = handle.agents(&names).await.unwrap_or_default();
    let agents: HashMap<&AgentName, _> = agents.iter().map(|agent| (&agent.name, agent)).collect();
    let known = |name: &AgentName| agents.get(name);
    let masker = |name: &AgentName| {
        let agent = known(name);
        let host = agent.and_then(|agent| agent.facts.as_ref()).map(|facts| facts.hostname.as_str());
        let address = agent.and_then(|agent| agent.address.rsplit_once(':')).map(|(host, _)| host);
        let own = [Some(name.as_str()), host, address.map(|host| host.trim_matches(['[', ']']))];
        Masker::new(masks, own.into_iter().flatten())
    };
    let mut maskers = vec![Masker::default(); job.index_end()];
    for task in &job.tasks {
        if let Some(place) = maskers.get_mut(task.index as usize) {
            *place = masker(&task.agent);
        }
    }
    maskers
}

/// A job's output as far as the log was read.
struct Known {
    grouping: Grouping,
    reader: LogReader,
    /// The log that was read. If the job has a newly opened log, reading starts again.
    log: Arc<JobLog>,
}

/// Answers questions about one job until all senders are dropped.
pub(crate) async fn answer(
    job: JobId,
    handle: Handle,
    logs: OutputLogs,
    mut questions: mpsc::UnboundedReceiver<Question>,
) {
    let mut known: Option<Known> = None;
    while let Some(question) = questions.recv().await {
        let id = question.id;
        let agrees = match compare_output(job, &handle, &logs, &mut known, question).await {
            Ok(Some(agrees)) => agrees,
            // The job is over, or the master is ending: no answer is needed.
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%error, %job, "cannot compare output; it counts as different");
                false
            }
        };
        handle.tell(Input::Compared { id, agrees }).await;
    }
}

async fn compare_output(
    job: JobId,
    handle: &Handle,
    logs: &OutputLogs,
    known: &mut Option<Known>,
    question: Question,
) -> io::Result<Option<bool>> {
    let log = logs.open(job).await?;
    let kept = known.take().filter(|known| Arc::ptr_eq(&known.log, &log));
    let mut comparing = match kept {
        Some(kept) => kept,
        None => match Known::new(job, handle, logs, Arc::clone(&log)).await {
            Some(new) => new,
            None => return Ok(None),
        },
    };
    // A task's output is in the log before its end is reported.
    let end = *log.appended().borrow();
    let compare = move || {
        let agrees = comparing.compare(end, &question)?;
        Ok((comparing, agrees))
    };
    let compared: io::Result<_> = tokio::task::spawn_blocking(compare).await.map_err(io::Error::other)?;
    let (comparing, agrees) = compared?;
    *known = Some(comparing);
    Ok(Some(agrees))
}

impl Known {
    /// Returns `None` if the core no longer has the job.
    async fn new(job: JobId, handle: &Handle, logs: &OutputLogs, log: Arc<JobLog>) -> Option<Self> {
        let found = handle.ask(move |reply| Input::FindJob(JobReference::Id(job), reply)).await;
        let found = found.ok().flatten()?;
        let grouping = Grouping::new(maskers(handle, &found, found.masks).await);
        Some(Self { grouping, reader: logs.reader(job, LogPosition::START), log })
    }

    /// Reads the log up to `end` and compares. Blocks on the disk.
    fn compare(&mut self, end: LogPosition, question: &Question) -> io::Result<bool> {
        loop {
            let frames = self.reader.read(end)?;
            if frames.is_empty() {
                break;
            }
            for (task, frame) in frames {
                self.grouping.take(task, &frame, UnixMs(0));
            }
        }
        let this = (question.id.index, question.outcome.clone());
        for (task, outcome) in question.accepted.iter().chain([&this]) {
            self.grouping.end(*task, outcome.clone());
        }
        let mut accepted = question.accepted.iter();
        Ok(accepted.any(|(accepted, _)| self.grouping.agree(*accepted, question.id.index)))
    }
}
