//! Finds jobs, and answers questions about them. Changes nothing.

use super::LiveJob;
use crate::{
    domain::{
        ids::{JobId, JobReference, TaskId},
        job::Job,
        name::AgentName,
    },
    master::core::{
        Core,
        messages::{Effect, EndedJob, RepeatableJob, ReplyTo},
    },
};

impl Core {
    /// Returns the job that a reference names, if the beginning of the job is on the disk.
    pub(in crate::master::core) fn find_job(&self, reference: JobReference) -> Option<&LiveJob> {
        match reference {
            JobReference::Id(id) => self.jobs.get(&id),
            JobReference::Number(number) => self.jobs.numbered(number),
            JobReference::Last => self.jobs.numbered(self.last_begun),
        }
        .filter(|job| job.has_begun())
    }

    pub(in crate::master::core) fn show_job(&mut self, job: JobReference, reply: ReplyTo<Option<Box<Job>>>) {
        let found = self.find_job(job).map(|job| Box::new(job.view()));
        self.reply(reply, found);
    }

    pub(in crate::master::core) fn show_job_to_repeat(
        &mut self,
        job: JobReference,
        reply: ReplyTo<Option<Box<RepeatableJob>>>,
    ) {
        let repeatable = |job: &LiveJob| RepeatableJob { job: job.view(), options: job.options().clone() };
        let found = self.find_job(job).map(|job| Box::new(repeatable(job)));
        self.reply(reply, found);
    }

    /// Returns the jobs that watchers know to have ended, and that the store may not have as ended yet.
    pub(in crate::master::core) fn ended_jobs(
        &self,
        agent: Option<&AgentName>,
        outcome: &str,
    ) -> Vec<EndedJob> {
        let ended = self.jobs.values().filter(|job| job.job.ended_ms.is_some());
        ended.map(|job| job.as_ended(agent, outcome)).collect()
    }

    /// Notifies followers of the current state of a task.
    pub(super) fn publish(&mut self, id: TaskId) {
        if let Some(row) = self.jobs.row(id) {
            self.effects.push(Effect::Publish(id.job, Box::new(row.task.clone())));
        }
    }

    /// Returns the open tasks of an agent.
    pub(in crate::master::core) fn open_tasks_of(&self, name: &AgentName) -> Vec<TaskId> {
        let of_agent = |(job, live): (&JobId, &LiveJob)| {
            let id = TaskId { job: *job, index: live.index_of(name)? };
            self.jobs.open_row(id).map(|_| id)
        };
        self.jobs.iter().filter_map(of_agent).collect()
    }

    /// Returns the number of open tasks that may have reached an agent.
    pub(in crate::master::core) fn tasks_on(&self, name: &AgentName) -> u32 {
        let is_there = |id: &&TaskId| self.jobs.row(**id).is_some_and(super::task::TaskRow::is_dispatched);
        u32::try_from(self.open_tasks_of(name).iter().filter(is_there).count()).unwrap_or(u32::MAX)
    }
}
