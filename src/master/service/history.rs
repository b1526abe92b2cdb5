//! Finds jobs wherever they are: live in the core, or in the store.

use std::{collections::HashSet, sync::Arc};

use tonic::{Code, Status};

use super::Master;
use crate::{
    domain::{
        ids::{JobId, JobReference},
        job::Job,
    },
    master::{
        core::messages::{Denied, EndedJob, Input, JobDenied, RepeatableJob},
        journal::Journal,
        store::{Store, StoreError, Wanted},
    },
    wire::{budget::Budget, status},
};

/// Number of tasks of a job that are charged as one more call.
const TASKS_OF_A_CALL: usize = 200;

impl Master {
    /// Reads from the store on a thread that may block.
    pub(super) async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&store)).await;
        let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        read.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
    }

    /// Returns the newest requested jobs. Most come from the store. Jobs whose end was already reported but
    /// is not stored yet come from the core.
    pub(super) async fn listed_jobs(&self, mut wanted: Wanted) -> Result<Vec<Job>, Status> {
        let (agent, outcome) = (wanted.agent.parse().ok(), wanted.outcome.clone());
        // Requested before the store is read: a job that is stored in between is in both lists.
        let ended = self.handle.ask(move |reply| Input::ListEnded { agent, outcome, reply }).await?;
        let ids: HashSet<JobId> = ended.iter().map(|ended| ended.job.id).collect();
        let fits = |EndedJob { job, fits }| (fits && wanted.fits(&job)).then_some(job);
        let mut jobs: Vec<Job> = ended.into_iter().filter_map(fits).collect();
        let limit = wanted.limit;
        wanted.limit = limit.saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let stored = self.read_store(move |store| store.jobs(&wanted)).await?;
        jobs.extend(stored.into_iter().filter(|job| !ids.contains(&job.id)));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.number));
        jobs.truncate(limit as usize);
        Ok(jobs)
    }

    /// Returns a job as it is now, and its options; `None` if there is no such job.
    pub(super) async fn job_to_repeat(
        &self,
        reference: JobReference,
    ) -> Result<Option<RepeatableJob>, Status> {
        let found = self.handle.ask(move |reply| Input::FindJobToRepeat(reference, reply)).await?;
        if let Some(live) = found {
            return Ok(Some(*live));
        }
        let stored = self.read_store(move |store| store.stored_job(reference)).await?;
        Ok(stored.map(|stored| {
            let tasks = stored.tasks.into_iter().map(|stored| stored.task).collect();
            RepeatableJob { job: Job { tasks, ..stored.job }, options: stored.options }
        }))
    }

    pub(super) async fn stored_job(&self, reference: JobReference) -> Result<Job, Status> {
        let found = self.read_store(move |store| store.job(reference)).await?;
        match found {
            Some(job) => Ok(job),
            None => Err(self.no_such_job(reference).await?),
        }
    }

    /// Returns the status for a job that does not exist, or was deleted.
    pub(super) async fn no_such_job(&self, reference: JobReference) -> Result<Status, Status> {
        let gone = self.read_store(move |store| store.why_gone(reference)).await?;
        Ok(Status::not_found(match (reference, gone) {
            (_, Some(reason)) => format!("job {reference} is gone: {reason}"),
            (JobReference::Last, None) => "there is no job yet".to_owned(),
            (other, None) => format!("no such job: {other}; `sloth-runner job list` shows recent jobs"),
        }))
    }

    /// The answer to a change of a live job, or the status that says why it is not made.
    pub(super) async fn or_refusal<T>(
        &self,
        reference: JobReference,
        answer: Result<T, JobDenied>,
    ) -> Result<T, Status> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(JobDenied::Refused(reason)) => Err(Denied::Refused(reason).into()),
            Err(JobDenied::NotLive) => {
                let number = self.stored_job(reference).await?.number;
                let text =
                    format!("job {number} is over; `sloth-runner job show {number}` tells how it ended");
                Err(status::refusal(Code::NotFound, text))
            }
        }
    }

    /// Returns a job as it is now, and its journal while it is live.
    ///
    /// A job with many tasks is expensive, so it is charged as several calls.
    pub(super) async fn find(
        &self,
        reference: JobReference,
        budget: &Budget,
    ) -> Result<(Job, Option<Arc<Journal>>), Status> {
        let _turn = budget.turn().await;
        let found = self.find_free(reference).await?;
        budget.charge_calls(found.0.tasks.len() / TASKS_OF_A_CALL);
        Ok(found)
    }

    async fn find_free(&self, reference: JobReference) -> Result<(Job, Option<Arc<Journal>>), Status> {
        let Some(found) = self.handle.ask(move |reply| Input::FindJob(reference, reply)).await? else {
            return Ok((self.stored_job(reference).await?, None));
        };
        // Looked up again when the journal is held, so that no change is missed.
        let journal = self.handle.follow(found.id).await?;
        let id = JobReference::Id(found.id);
        match self.handle.ask(move |reply| Input::FindJob(id, reply)).await? {
            Some(job) => Ok((*job, Some(journal))),
            None => Ok((self.stored_job(id).await?, None)),
        }
    }
}
