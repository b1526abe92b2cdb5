//! Starts a job, or repeats one, and follows it if requested.

use std::sync::Arc;

use tonic::Status;

use super::{Master, follow::Follow, invalid};
use crate::{
    domain::{
        control::{JobEvent, RerunJob, StartJob},
        ids::JobReference,
        job::{JobOptions, Overflow, Task},
        target::{Target, fold::fold},
    },
    master::core::messages::{Denied, Input, JobAsked, JobStart, RepeatableJob},
    wire::{
        budget::Budget,
        outbox::{Answers, Outbox},
        serve::Connected,
    },
};

impl Master {
    /// Returns the job that a caller requests, with the agents that its target matches now.
    pub(super) async fn job_asked(&self, caller: &Connected, request: StartJob) -> Result<JobAsked, Status> {
        let options = JobOptions { by_admin: caller.caller.is_admin(), ..request.options };
        let shown = request.shown.into_iter().map(|shown| (shown.name, shown.fingerprint));
        Ok(JobAsked {
            id: request.id,
            operator: caller.operator()?.to_owned(),
            command: request.command,
            choice: self.choose(caller, request.selection, options.now).await?,
            options,
            shown: shown.collect(),
        })
    }

    /// Starts a job, and follows it if `follows`.
    pub(super) async fn begin(
        &self,
        asked: JobAsked,
        follows: bool,
        budget: Arc<Budget>,
    ) -> Result<Answers<JobEvent>, Status> {
        let (id, again) = (asked.id, asked.clone());
        self.logs.open_ahead(id);
        // Requested before the job starts, so that no change is missed.
        let (journal, reply) = tokio::join!(
            self.handle.follow(id),
            self.handle.ask(move |reply| Input::StartJob(Box::new(asked), reply))
        );
        let journal = journal?;
        let one = |event: JobEvent| Ok(Outbox::only(event));
        match reply? {
            JobStart::Live(job) if follows => {
                let follow = Follow {
                    live: Some(journal),
                    follow: true,
                    // Only a client of the operator who started the job may slow it down.
                    attached: job.operator == again.operator,
                    ..Follow::new(*job, self.shutdown.stop.clone())
                };
                Ok(self.follow(follow, budget))
            }
            JobStart::Live(job) => one(JobEvent::Job(job)),
            JobStart::Ended => {
                let job = self.stored_job(JobReference::Id(id)).await?;
                if !again.is_for(&job) {
                    return one(JobEvent::Refused(again.foreign_id()));
                }
                let stop = self.shutdown.stop.clone();
                let follow = Follow { follow: follows, without_output: !follows, ..Follow::new(job, stop) };
                Ok(self.follow(follow, budget))
            }
            JobStart::TargetChanged { gone, more } => one(JobEvent::TargetChanged { gone, more }),
            JobStart::Denied(Denied::Refused(reason) | Denied::NotFound(reason)) => {
                one(JobEvent::Refused(reason))
            }
        }
    }

    /// Runs the command of another job again, on its agents or on those where it failed.
    pub(super) async fn begin_again(
        &self,
        caller: &Connected,
        request: RerunJob,
    ) -> Result<Answers<JobEvent>, Status> {
        let (of, by) = (request.job, caller.operator()?.to_owned());
        let turn = caller.budget.turn().await;
        let Some(RepeatableJob { job, options: job_options }) = self.job_to_repeat(of).await? else {
            return Err(self.no_such_job(of).await?);
        };
        drop(turn);
        let number = job.number;
        if !job_options.forgotten.is_empty() {
            let names: Vec<_> =
                job_options.forgotten.iter().map(|name| String::from_utf8_lossy(&name.0)).collect();
            return Err(Status::failed_precondition(format!(
                "job {number} was given {}, and values of variables are not kept once its commands have started: start it with \
                 `sloth-runner agent run --env …`",
                names.join(", ")
            )));
        }
        let wanted = |task: &&Task| !(request.failed && task.has_succeeded());
        if request.failed && job.tasks.iter().any(|task| task.state.outcome().is_none()) {
            let text = format!("job {number} is not over, so it is not known where it failed");
            return Err(Status::failed_precondition(text));
        }
        // Agents that were named but did not take part are included again.
        let tasks = job.tasks.iter().filter(wanted).map(|task| task.agent.as_str());
        let names: Vec<&str> = tasks.chain(job.missed()).collect();
        if names.is_empty() {
            return Err(Status::failed_precondition(format!("job {number} exited 0 everywhere")));
        }
        let target = if request.failed || !job.plain_name { fold(names) } else { job.target.clone().into() };
        let overflow = if request.follow { Overflow::Block } else { Overflow::Gap };
        let asked = JobAsked {
            id: request.id,
            operator: by,
            choice: self
                .choose(caller, target.parse::<Target>().map_err(invalid)?.into(), job_options.now)
                .await?,
            command: job.command,
            options: JobOptions {
                overflow,
                recovered: false,
                by_admin: caller.caller.is_admin(),
                ..job_options
            },
            shown: Vec::new(),
        };
        self.begin(asked, request.follow, Arc::clone(&caller.budget)).await
    }
}
