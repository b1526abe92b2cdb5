//! Comparing what tasks of one run printed, for runs that stop when output differs from the canary's.
//!
//! One task a run, which reads the run's log once, forwards. Decides nothing: the core hears whether outputs agree.

use std::{collections::HashMap, io, sync::Arc};

use tokio::sync::mpsc;

use super::{
    core::messages::{Input, Reply},
    handle::Handle,
    output_log::{LogReader, OutputLogs, RunLog},
};
use crate::domain::{
    groups::{
        Grouping,
        mask::{Masker, Masks},
    },
    ids::{RunId, RunReference, TaskId},
    name::AgentName,
    outcome::Outcome,
    run::Run,
};

/// One question: does this task agree with one of those?
#[derive(Debug)]
pub struct Question {
    /// The task.
    pub id: TaskId,
    /// How it ended.
    pub outcome: Outcome,
    /// Those that are accepted, and how they ended.
    pub accepted: Vec<(u32, Outcome)>,
}

/// The masks for a run's tasks: each agent is known by its name, its host's name and its address.
pub async fn maskers(handle: &Handle, run: &Run, masks: Masks) -> Vec<Masker> {
    let names: Vec<AgentName> =
        run.tasks.iter().filter(|_| masks.names).map(|task| task.agent.clone()).collect();
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
    let mut maskers = vec![Masker::default(); run.index_end()];
    for task in &run.tasks {
        if let Some(place) = maskers.get_mut(task.index as usize) {
            *place = masker(&task.agent);
        }
    }
    maskers
}

/// What was read of a run's log so far.
struct Known {
    grouping: Grouping,
    reader: LogReader,
    /// Opened anew it may be another one.
    log: Arc<RunLog>,
}

/// Answers questions about one run until nobody asks any more.
pub async fn answer(
    run: RunId,
    handle: Handle,
    logs: OutputLogs,
    mut questions: mpsc::UnboundedReceiver<Question>,
) {
    let mut known: Option<Known> = None;
    while let Some(question) = questions.recv().await {
        let id = question.id;
        let agrees = look(run, &handle, &logs, &mut known, question).await.unwrap_or_else(|error| {
            tracing::error!(%error, %run, "cannot compare output; the run is held");
            false
        });
        handle.tell(Input::Compared { id, agrees }).await;
    }
}

async fn look(
    run: RunId,
    handle: &Handle,
    logs: &OutputLogs,
    known: &mut Option<Known>,
    question: Question,
) -> io::Result<bool> {
    let log = logs.open(run).await?;
    if known.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.log, &log)) {
        let found = handle.ask(move |reply| Input::FindRun(RunReference::Id(run), reply)).await;
        let Ok(Reply::Live(found)) = found else { return Ok(true) };
        let maskers = maskers(handle, &found, found.masks).await;
        let grouping = Grouping::new(maskers);
        *known = Some(Known { grouping, reader: logs.reader(run, 0), log: Arc::clone(&log) });
    }
    let Some(mut comparing) = known.take() else { return Ok(true) };
    // What a task printed is in the log before its end is told.
    let end = *log.appended().borrow();
    let compare = move || {
        let agrees = comparing.compare(end, &question)?;
        Ok((comparing, agrees))
    };
    let compared: io::Result<_> = tokio::task::spawn_blocking(compare).await.map_err(io::Error::other)?;
    let (comparing, agrees) = compared?;
    *known = Some(comparing);
    Ok(agrees)
}

impl Known {
    /// Reads the log up to `end` and compares. Only where a thread may wait for a disk.
    fn compare(&mut self, end: u64, question: &Question) -> io::Result<bool> {
        loop {
            let frames = self.reader.read(end)?;
            if frames.is_empty() {
                break;
            }
            for (task, frame) in frames {
                self.grouping.take(task, &frame, 0);
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
