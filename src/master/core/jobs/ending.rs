//! Ends tasks and jobs, and removes a job from memory when all of its outcomes are on the disk.

use std::time::Duration;

use super::{
    LiveJob,
    task::{Progress, TaskRow},
};
use crate::{
    domain::{
        ids::{Incarnation, JobId, TaskId},
        job::TaskState,
        name::AgentName,
        offset::OutputOffset,
        outcome::{Ending, Outcome},
        plan::GateState,
    },
    master::core::{
        Continuation, Core,
        messages::{Effect, Now},
        stored::Write,
    },
};

impl Core {
    pub(in crate::master::core) fn on_task_ended(
        &mut self,
        id: TaskId,
        outcome: Outcome,
        end_offset: OutputOffset,
        duration_ns: u64,
        now: Now,
    ) {
        let Some(row) = self.jobs.row(id) else {
            // The whole job is on the disk already. An outcome is final: later facts are stored beside it.
            self.persist(vec![Write::PutLater(id, outcome)], Continuation::Outcome(id));
            return;
        };
        let outcome = outcome.cancelled_on_record(row.cancelled_by());
        let (is_open, is_known) = (row.is_open(), row.outcome() == Some(&outcome));
        let is_stored = row.progress == Progress::Ended { stored: true };
        self.jobs.change(id, |row| {
            row.task.end_offset = row.task.end_offset.max(end_offset);
            if is_open {
                row.task.duration_ns = duration_ns;
            }
            if is_open && outcome.has_run() {
                // The start of a task that ended at once was not reported.
                row.task.started_ms.get_or_insert(now.unix_ms - Duration::from_nanos(duration_ns));
            }
        });
        if is_open {
            self.end_task(id, outcome, now);
        } else if !is_known {
            self.persist(vec![Write::PutLater(id, outcome)], Continuation::Outcome(id));
        } else if is_stored {
            self.outcome_stored(id);
        }
    }

    pub(in crate::master::core) fn on_task_unknown(
        &mut self,
        id: TaskId,
        attempt: u64,
        life: &Incarnation,
        now: Now,
    ) {
        if self.is_current(id, attempt) {
            self.jobs.change(id, TaskRow::detach);
            self.end_unknown(id, life, now);
        }
    }

    /// Ends an open task that its agent does not know, and has promised never to start.
    pub(super) fn end_unknown(&mut self, id: TaskId, life: &Incarnation, now: Now) {
        let Some(job) = self.jobs.get(&id.job) else { return };
        let Some(row) = job.row(id.index).filter(|row| row.is_open()) else { return };
        let stop = match &job.gate.state {
            GateState::Stopped(reason) => Some(Ending::Skipped(reason.clone())),
            GateState::Open | GateState::Held(_) => None,
        };
        let agent = &row.task.agent;
        let refusal = self.refusal_of_ahead(agent).or_else(|| self.drain_of(agent).map(ToString::to_string));
        let ending = match (row.life.incarnation(), &row.task.state) {
            (Some(before), _) if before != life => Ending::Lost(before.loss_seen_by(life).into()),
            (_, TaskState::Running) => Ending::Lost("the agent no longer knows it".into()),
            _ => match (row.cancelled_by(), stop, refusal) {
                (Some(by), ..) => Ending::Cancelled { proof: None, by, seal: None },
                (None, Some(skipped), _) => skipped,
                (None, None, Some(reason)) => Ending::Refused(reason.into()),
                (None, None, None) => Ending::Undeliverable(
                    "the agent was not reached before the start deadline; it never started".into(),
                ),
            },
        };
        self.end_task(id, ending.into(), now);
    }

    /// Ends an open task. Followers are notified at once of an outcome that the agent can report again, and
    /// of any other outcome when it is on the disk.
    pub(super) fn end_task(&mut self, id: TaskId, outcome: Outcome, now: Now) {
        let is_agents_own = outcome.is_agents_own();
        let ended = self.jobs.change_open(id, |row| {
            if is_agents_own {
                row.end(outcome, false);
            } else {
                row.wait_for_nothing();
                row.progress = Progress::Settling(outcome);
            }
            row.to_store()
        });
        let Some(stored) = ended else { return };
        let mut writes = vec![Write::PutTask(id.job, stored)];
        let end_ms = now.unix_ms.max(self.judged_ms);
        if let Some(job) = self.jobs.get_mut(&id.job) {
            writes.extend(job.forget_values());
            if !job.is_active() && job.end_ms.is_none() {
                job.end_ms = Some(end_ms);
                writes.push(Write::EndJob(id.job, end_ms));
            }
        }
        if is_agents_own {
            self.publish(id);
            self.report_end_if_over(id.job);
        }
        self.persist(writes, Continuation::Outcome(id));
        if is_agents_own {
            self.compare(id);
        }
        self.jobs.mark_changed(id.job);
    }

    /// Notifies followers that a job has ended, if no task is open and they were notified of all outcomes.
    fn report_end_if_over(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(end_ms) = job.end_ms
            && job.job.ended_ms.is_none()
            && job.tally().settling == 0
        {
            job.job.ended_ms = Some(end_ms);
            self.effects.push(Effect::JobEnded(id, end_ms));
            self.mark_ended(id);
        }
    }

    /// Ends a job without open tasks whose end was not written together with its last outcome.
    pub(super) fn end_job_if_over(&mut self, id: JobId, now: Now) {
        let end_ms = now.unix_ms.max(self.judged_ms);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.end_ms.is_some() || job.is_active() {
            return;
        }
        job.end_ms = Some(end_ms);
        self.persist(vec![Write::EndJob(id, end_ms)], Continuation::MustBeWritten);
        self.report_end_if_over(id);
        self.forget_if_stored(id);
    }

    fn forget_if_stored(&mut self, id: JobId) {
        let is_stored = |job: &LiveJob| job.tally().unstored == 0 && job.end_ms.is_some();
        if self.jobs.get(&id).is_some_and(is_stored) {
            self.jobs.remove(&id);
            self.effects.push(Effect::JobStored(id));
        }
    }

    /// Handles an outcome that is on the disk: notifies followers, unless they were notified before, and
    /// permits the agent to forget the task.
    pub(in crate::master::core) fn outcome_stored(&mut self, id: TaskId) {
        let was_settling = self.jobs.change(id, |row| match &mut row.progress {
            Progress::Settling(outcome) => {
                let outcome = outcome.clone();
                row.end(outcome, true);
                true
            }
            Progress::Ended { stored } => {
                *stored = true;
                false
            }
            // A later fact of a removed job is on the disk, and its agent has proved the job again meanwhile.
            _ => false,
        });
        if was_settling == Some(true) {
            self.publish(id);
            self.report_end_if_over(id.job);
        }
        self.effects.push(Effect::OutcomeStored(id));
        self.forget_if_stored(id.job);
    }

    /// Ends all open tasks of an agent that will not return. Returns how many of them may have started.
    pub(in crate::master::core) fn lose_tasks_of(&mut self, name: &AgentName, reason: &str, now: Now) -> u32 {
        let open = self.open_tasks_of(name);
        let lost = open.into_iter().filter(|id| self.lose_task(*id, reason, now)).count();
        u32::try_from(lost).unwrap_or(u32::MAX)
    }

    /// Ends an open task of an agent that will not return. Returns whether it may have started.
    fn lose_task(&mut self, id: TaskId, reason: &str, now: Now) -> bool {
        let is_dispatched = self.jobs.row(id).is_some_and(TaskRow::is_dispatched);
        if is_dispatched {
            self.end_task(id, Ending::Lost(reason.into()).into(), now);
        } else {
            self.end_unstarted(id, Ending::Undeliverable(reason.into()), now);
        }
        is_dispatched
    }

    /// Ends the tasks of deleted agents that an earlier master could not end yet.
    pub(super) fn lose_tasks_of_unknown(&mut self, job: JobId, now: Now) {
        let Some(live) = self.jobs.get(&job) else { return };
        let is_unknown = |row: &TaskRow| {
            let agent = self.agents.get(&row.task.agent);
            row.is_open() && agent.is_none_or(|agent| agent.stored.fingerprint != row.fingerprint)
        };
        for index in live.indices_of(is_unknown) {
            self.lose_task(TaskId { job, index }, "the agent was deleted, or has another key", now);
        }
    }
}
