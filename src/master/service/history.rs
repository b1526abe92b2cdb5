//! Runs wherever they are: live in the core, or stored.

use std::sync::Arc;

use tonic::Status;

use super::Master;
use crate::{
    domain::{ids::RunReference, run::Run},
    master::{
        core::messages::{Input, Reply},
        journal::Journal,
        store::{Store, StoreError},
    },
    wire::budget::Budget,
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
