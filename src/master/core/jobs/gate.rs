//! Advances jobs: batches, the fan-out, and the gate between batches.
//!
//! A task becomes eligible when its batch opens, is admitted when its turn comes, and is sent when its agent
//! is connected. Only admitted tasks count for the fan-out, so an offline agent delays no other task.

use std::time::Duration;

use super::{
    LiveJob,
    live::Phase,
    task::{Progress, StartLife, TaskRow},
};
use crate::{
    domain::{
        ids::{JobId, TaskId},
        outcome::{Ending, Outcome},
        plan::GateState,
    },
    master::core::{
        Continuation, Core,
        messages::{Effect, Now},
        stored::Write,
    },
};

/// Minimum time in the queue by which a task's deadline is extended. A shorter time is not worth the write.
const WORTH_RECORDING: Duration = Duration::from_secs(1);

/// The result of [`Core::admit_tasks`].
enum Turn {
    /// No task can start now.
    Over,
    /// The state of the job has changed, and it must be processed again.
    Changed,
}

impl LiveJob {
    /// Returns the reason to stop the job, if it has too many failures.
    fn too_many_failures(&self) -> Option<String> {
        let share = self.options.plan.max_failures?;
        let (failed, tasks) = (self.tally().failed, self.rows().len());
        (failed > share.of(tasks)).then(|| format!("{failed} of {tasks} failed, over --max-failures {share}"))
    }

    /// Returns the reason why the job must wait for an operator, if there is one.
    fn reason_to_hold(&self) -> Option<String> {
        let failed = self.tally().failed;
        if self.options.plan.stop_if.failures && failed > self.gate.forgiven as usize {
            let last = self.rows().iter().rev().find(|row| row.has_failed());
            let example = last.map_or_else(String::new, |row| {
                let outcome = row.outcome().map(ToString::to_string).unwrap_or_default();
                format!(" ({} {outcome})", row.task.agent)
            });
            return Some(format!("{failed} failed{example}"));
        }
        let has_no_canary =
            self.options.plan.stop_if.differs && self.tally().eligible == 0 && self.gate.accepted.is_empty();
        if has_no_canary {
            return Some("no canary came to an end, so there is nothing to compare with".to_owned());
        }
        self.differing.clone()
    }
}

impl Core {
    /// Processes each job that has changed in this step, until nothing changes any more.
    pub(in crate::master::core) fn settle_jobs(&mut self, now: Now) {
        while let Some(id) = self.jobs.take_changed() {
            self.settle_job(id, now);
        }
    }

    /// Starts tasks that may start, opens the next batch when the current one is over, or closes the gate.
    fn settle_job(&mut self, id: JobId, now: Now) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.check_tally();
        let is_ready = matches!(job.phase, Phase::Begun) && job.gate.state == GateState::Open;
        if !is_ready || !job.has_unstarted() {
            return;
        }
        if let Some(reason) = job.too_many_failures() {
            return self.stop_rest(id, &reason, now);
        }
        if let Some(reason) = job.reason_to_hold() {
            job.gate.state = GateState::Held(reason.into());
            return self.gate_changed(id);
        }
        if job.checking > 0 {
            return;
        }
        if let Turn::Changed = self.admit_tasks(id, now) {
            return self.jobs.mark_changed(id);
        }
        self.open_next_batch(id, now);
    }

    /// Opens the next batch when the current one, and the pause after it, are over.
    fn open_next_batch(&mut self, id: JobId, now: Now) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.tally().eligible > 0 || job.gate.open_batch + 1 >= job.batches() {
            return;
        }
        if let Some(pause) = job.options.plan.pause_ms {
            let until = *job.pause_until.get_or_insert(now.monotonic + Duration::from_millis(pause));
            if now.monotonic < until {
                return;
            }
            job.pause_until = None;
        }
        job.gate.open_batch += 1;
        self.gate_changed(id);
        self.open_batch(id, now);
        self.jobs.mark_changed(id);
    }

    /// Writes the state of a job's gate, and notifies followers.
    pub(super) fn gate_changed(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let gate = job.gate.clone();
        self.effects.push(Effect::PublishGate(id, gate.clone()));
        self.persist(vec![Write::PutGate(id, gate)], Continuation::MustBeWritten);
    }

    /// Sets the deadlines of the tasks in the newly opened batch, and queues those whose agents are
    /// connected.
    fn open_batch(&mut self, id: JobId, now: Now) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (batch, within) = (job.gate.open_batch, job.options.start_within_ms);
        let is_opened = |row: &TaskRow| row.task.batch == batch && row.is_open() && !row.is_in_open_batch();
        for index in job.indices_of(is_opened) {
            let task = TaskId { job: id, index };
            let Some(agent) = self.jobs.row(task).map(|row| row.task.agent.clone()) else { continue };
            let deadline = self.deadline(&agent, within, now);
            let is_connected = self.agents.get(&agent).is_some_and(|row| row.session.is_some());
            let text = self.offline_text(&agent, now);
            let is_withheld = self.jobs.change(task, |row| {
                row.set_deadline(deadline, now);
                if let Progress::Withheld { in_open_batch, .. } = &mut row.progress {
                    *in_open_batch = true;
                    return true;
                }
                row.progress = Progress::Eligible { queued_at: None };
                false
            });
            if is_withheld == Some(true) {
                continue;
            }
            if is_connected {
                let Some(job) = self.jobs.get_mut(&id) else { return };
                job.enqueue(index, now);
            } else if deadline <= now.monotonic {
                self.end_unstarted(task, Ending::Undeliverable(text.into()), now);
            } else {
                self.jobs.change(task, |row| row.wait_for_agent(now));
                self.publish(task);
            }
        }
    }

    /// Admits and sends queued tasks, up to the limit of the fan-out.
    fn admit_tasks(&mut self, id: JobId, now: Now) -> Turn {
        loop {
            let Some(job) = self.jobs.get_mut(&id) else { return Turn::Over };
            if job.tally().admitted >= job.options.plan.most_at_once() {
                return Turn::Over;
            }
            let Some((index, waited)) = job.next_in_queue(now) else { return Turn::Over };
            let Some(agent) = job.row(index).map(|row| row.task.agent.clone()) else { continue };
            // If the agent disconnected meanwhile, its task is queued again when the agent returns.
            if self.agents.get(&agent).is_none_or(|row| row.session.is_none()) {
                continue;
            }
            let task = TaskId { job: id, index };
            // An agent that has seen a later state of the store may have run the task: it is asked, and does
            // not start it.
            let is_ahead = self.refusal_of_ahead(&agent).is_some();
            if let Some(drain) = self.drain_of(&agent).filter(|_| !is_ahead) {
                // The agent was drained after the job began. The refusal is a failure, which may close the
                // gate.
                let refused = Ending::Refused(drain.to_string().into());
                self.end_unstarted(task, refused, now);
                return Turn::Changed;
            }
            self.jobs.change(task, |row| {
                row.progress = Progress::Admitted;
                if waited >= WORTH_RECORDING {
                    // The time in the queue does not count against the deadline. The incarnation is recorded
                    // again, and the new deadline with it.
                    row.set_deadline(row.start_by + waited, now);
                    row.life = StartLife::Unknown;
                }
            });
            self.dispatch(task, now);
        }
    }

    /// Ends all tasks that were not sent, as soon as no earlier master can have sent them. Those that were sent get no
    /// further permission to start.
    pub(super) fn stop_rest(&mut self, id: JobId, reason: &str, now: Now) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.gate.state = GateState::Stopped(reason.into());
        let unstarted = job.indices_of(TaskRow::is_unsent);
        let starting = job.indices_of(|row| row.may_be_starting(now));
        let withdrawn = starting.into_iter().map(|index| Effect::WithdrawStart(TaskId { job: id, index }));
        self.effects.extend(withdrawn);
        self.gate_changed(id);
        for index in unstarted {
            self.end_unstarted(TaskId { job: id, index }, Ending::Skipped(reason.into()), now);
        }
    }

    /// Compares a task's output with the canary's, if the job requires this.
    pub(super) fn compare(&mut self, id: TaskId) {
        let wants = |job: &&mut LiveJob| job.options.plan.stop_if.differs && job.has_unstarted();
        let Some(job) = self.jobs.get_mut(&id.job).filter(wants) else { return };
        let ended = |index: u32| -> Option<(u32, Outcome)> {
            Some((index, job.row(index)?.task.state.outcome()?.clone()))
        };
        let Some((_, outcome)) = ended(id.index).filter(|(_, outcome)| outcome.has_run()) else { return };
        if job.gate.accepted.is_empty() {
            job.gate.accepted.push(id.index);
            return self.gate_changed(id.job);
        }
        let accepted = job.gate.accepted.iter().filter_map(|index| ended(*index)).collect();
        job.checking += 1;
        self.effects.push(Effect::Compare { id, outcome, accepted });
    }

    pub(in crate::master::core) fn on_compared(&mut self, id: TaskId, agrees: bool) {
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        job.checking = job.checking.saturating_sub(1);
        if !agrees && !job.gate.accepted.contains(&id.index) {
            let name = |index: u32| job.row(index).map(|row| row.task.agent.to_string());
            let (this, canary) = (name(id.index), job.gate.accepted.first().and_then(|index| name(*index)));
            job.differing = Some(format!(
                "{} did not print and end as {} did",
                this.unwrap_or_default(),
                canary.unwrap_or_default()
            ));
        }
        self.jobs.mark_changed(id.job);
    }

    /// Processes jobs whose pause is over. After the master's start, also resumes each job: compares ended
    /// tasks again, completes a stop, and opens the next batch if the current one is over.
    pub(super) fn tick_gates(&mut self, now: Now) {
        let is_resumed = |job: &&LiveJob| matches!(job.phase, Phase::Resumed);
        let resumed: Vec<JobId> = self.jobs.values().filter(is_resumed).map(|job| job.job.id).collect();
        for id in resumed {
            self.resume_job(id, now);
        }
        let is_due = |job: &&LiveJob| job.pause_until.is_some_and(|until| until <= now.monotonic);
        let due: Vec<JobId> = self.jobs.values().filter(is_due).map(|job| job.job.id).collect();
        for id in due {
            self.jobs.mark_changed(id);
        }
    }

    fn resume_job(&mut self, id: JobId, now: Now) {
        self.lose_tasks_of_unknown(id, now);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.phase = Phase::Begun;
        // The queue was not processed until now. That time must not extend a deadline.
        job.restart_queue(now);
        if let GateState::Stopped(reason) = &job.gate.state {
            let reason = reason.clone();
            self.stop_rest(id, &reason, now);
        } else if job.options.plan.stop_if.differs {
            let accepted = job.gate.accepted.clone();
            for index in job.indices_of(|row| !accepted.contains(&row.task.index)) {
                self.compare(TaskId { job: id, index });
            }
        }
        self.jobs.mark_changed(id);
        self.end_job_if_over(id, now);
    }
}
