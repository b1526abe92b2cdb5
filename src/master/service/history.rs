//! Runs wherever they are: live in the core, or stored.

use std::{collections::HashSet, sync::Arc};

use tonic::{Code, Status};

use super::{Master, refusal};
use crate::{
    domain::{
        ids::{RunId, RunReference},
        run::{Run, RunOptions},
    },
    master::{
        core::messages::{Input, Reply},
        journal::Journal,
        store::{Store, StoreError, Wanted},
    },
    wire::{budget::Budget, status},
};

/// Tasks of a run that count as one call more.
const TASKS_OF_A_CALL: usize = 200;

impl Master {
    /// Reads history where blocking is allowed.
    pub(super) async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&store)).await;
        let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        read.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
    }

    /// The newest runs that are asked for. The store tells of most; of what it does not know to have ended yet, and somebody
    /// was told of, the core does.
    pub(super) async fn listed_runs(&self, mut wanted: Wanted) -> Result<Vec<Run>, Status> {
        let (agent, outcome) = (wanted.agent.parse().ok(), wanted.outcome.clone());
        // Asked before the store is read: what is stored between the two is in both.
        let Reply::Ended(ended) =
            self.handle.ask(move |reply| Input::ListEnded { agent, outcome, reply }).await?
        else {
            return Err(Status::internal("the core does not tell which runs have ended"));
        };
        let ids: HashSet<RunId> = ended.iter().map(|(run, _)| run.id).collect();
        let fits = |(run, fits): (Run, bool)| (fits && wanted.fits(&run)).then_some(run);
        let mut runs: Vec<Run> = ended.into_iter().filter_map(fits).collect();
        let limit = wanted.limit;
        wanted.limit = limit.saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let stored = self.read_store(move |store| store.runs(&wanted)).await?;
        runs.extend(stored.into_iter().filter(|run| !ids.contains(&run.id)));
        runs.sort_by_key(|run| std::cmp::Reverse(run.number));
        runs.truncate(limit as usize);
        Ok(runs)
    }

    /// A run as it is now, and what came with it; `None` where there is none.
    pub(super) async fn run_to_repeat(
        &self,
        reference: RunReference,
    ) -> Result<Option<(Run, RunOptions)>, Status> {
        let found = self.handle.ask(move |reply| Input::FindRunToRepeat(reference, reply)).await?;
        if let Reply::ToRepeat(run, options) = found {
            return Ok(Some((*run, *options)));
        }
        let stored = self.read_store(move |store| store.stored_run(reference)).await?;
        Ok(stored.map(|stored| {
            let tasks = stored.tasks.into_iter().map(|stored| stored.task).collect();
            (Run { tasks, ..stored.run }, stored.options)
        }))
    }

    pub(super) async fn stored_run(&self, reference: RunReference) -> Result<Run, Status> {
        let found = self.read_store(move |store| store.run(reference)).await?;
        match found {
            Some(run) => Ok(run),
            None => Err(self.no_such_run(reference).await?),
        }
    }

    /// What to say of a run that is not there, or no longer.
    pub(super) async fn no_such_run(&self, reference: RunReference) -> Result<Status, Status> {
        let gone = self.read_store(move |store| store.why_gone(reference)).await?;
        Ok(Status::not_found(match (reference, gone) {
            (_, Some(reason)) => format!("run {reference} is gone: {reason}"),
            (RunReference::Last, None) => "there is no run yet".to_owned(),
            (other, None) => format!("there is no run {other}; `sloth-runner job list` shows the last ones"),
        }))
    }

    /// The refusal of what concerns a run that goes on, where that one does not.
    pub(super) async fn refusal_of(&self, reference: RunReference, reply: Reply) -> Result<Status, Status> {
        if !matches!(reply, Reply::NotRunning) {
            return Ok(refusal(reply));
        }
        let number = self.stored_run(reference).await?.number;
        let text = format!("run {number} is over; `sloth-runner job show {number}` tells how it ended");
        Ok(status::refusal(Code::NotFound, text))
    }

    /// A run as it is now, and its journal while it is live.
    ///
    /// A run with many tasks is much work for everybody: it counts as many calls.
    pub(super) async fn find(
        &self,
        reference: RunReference,
        budget: &Budget,
    ) -> Result<(Run, Option<Arc<Journal>>), Status> {
        let _turn = budget.turn().await;
        let found = self.find_free(reference).await?;
        budget.charge_calls(found.0.tasks.len() / TASKS_OF_A_CALL);
        Ok(found)
    }

    async fn find_free(&self, reference: RunReference) -> Result<(Run, Option<Arc<Journal>>), Status> {
        let Reply::Live(found) = self.handle.ask(move |reply| Input::FindRun(reference, reply)).await? else {
            return Ok((self.stored_run(reference).await?, None));
        };
        // Looked at again once the journal is held, so that nothing falls between the two.
        let journal = self.handle.follow(found.id).await?;
        let id = RunReference::Id(found.id);
        match self.handle.ask(move |reply| Input::FindRun(id, reply)).await? {
            Reply::Live(run) => Ok((*run, Some(journal))),
            _ => Ok((self.stored_run(id).await?, None)),
        }
    }
}
