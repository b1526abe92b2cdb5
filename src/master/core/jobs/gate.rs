//! The rollout of a job: batches, the fan-out, the gate between batches, and what operators do with it.
//!
//! A task is opened with its batch, taken when it is its turn, and sent when its agent is there. Only what was taken
//! counts as under way, so an agent that is offline keeps nobody waiting.

use std::{collections::BTreeSet, time::Duration};

use super::{LiveJob, PendingOrder, Slot};
use crate::{
    domain::{
        ids::{JobId, JobReference, TaskId},
        outcome::{Ending, Outcome},
        plan::GateState,
        time::format_duration,
    },
    master::core::{
        Continuation, Core, audit,
        messages::{Effect, Now, Reply, ReplyTo},
        stored::Write,
    },
};

/// How long a task waits for its turn before its deadline is put off by that, which is a write.
const WORTH_RECORDING: Duration = Duration::from_secs(1);

impl LiveJob {
    /// Tasks that are open and were not taken yet.
    fn has_unstarted(&self) -> bool {
        self.open > self.in_flight
    }

    /// Gives an opened task whose agent is there a place in the queue, unless it has one.
    pub(super) fn enqueue(&mut self, index: u32, now: Now) {
        let Some(slot) = self.slot_mut(index) else { return };
        if slot.queued_at.replace(now.monotonic).is_none() {
            self.queue.push_back(index);
        }
    }

    /// Takes the first task from the queue; also how long it has waited for its turn since its agent is there.
    fn next_in_queue(&mut self, now: Now) -> Option<(u32, Duration)> {
        let index = self.queue.pop_front()?;
        let queued_at = self.slot_mut(index).and_then(|slot| slot.queued_at.take());
        Some((index, now.monotonic.saturating_sub(queued_at.unwrap_or(now.monotonic))))
    }

    pub(super) fn batches(&self) -> u32 {
        self.slots.last().map_or(0, |slot| slot.task.batch + 1)
    }

    /// Why the job has to end early.
    fn too_many_failures(&self) -> Option<String> {
        let share = self.options.plan.max_failures?;
        let most = share.of(self.slots.len());
        let failed = self.failed as usize;
        (failed > most)
            .then(|| format!("{failed} of {} failed, over --max-failures {share}", self.slots.len()))
    }

    /// Why the job has to wait for an operator.
    fn hold(&self) -> Option<String> {
        if self.options.plan.stop_if.failures && self.failed > self.gate.forgiven {
            let failed = |slot: &&Slot| slot.has_failed();
            let last = self.slots.iter().rev().find(failed);
            let example = last.map_or_else(String::new, |slot| {
                let outcome = slot.outcome().map(ToString::to_string).unwrap_or_default();
                format!(" ({} {outcome})", slot.task.agent)
            });
            return Some(format!("{} failed{example}", self.failed));
        }
        let is_over = self.opened_open == 0;
        let is_blind = self.options.plan.stop_if.differs && is_over && self.gate.accepted.is_empty();
        if is_blind {
            return Some("no canary came to an end, so there is nothing to compare with".to_owned());
        }
        self.differing.clone()
    }

    /// The counters, from scratch: (open, opened and open, in flight, to be started, failed).
    fn counted(&self) -> (usize, usize, usize, usize, u32) {
        let count = |wanted: fn(&Slot) -> bool| self.slots.iter().filter(|slot| wanted(slot)).count();
        let failed = count(Slot::has_failed);
        (
            count(Slot::is_open),
            count(|slot| slot.is_open() && slot.opened),
            count(|slot| slot.is_open() && slot.in_flight),
            count(|slot| slot.to_start),
            u32::try_from(failed).unwrap_or(u32::MAX),
        )
    }

    pub(super) fn count_anew(&mut self) {
        (self.open, self.opened_open, self.in_flight, self.unstarted, self.failed) = self.counted();
    }

    fn check_counters(&self) {
        debug_assert_eq!(
            (self.open, self.opened_open, self.in_flight, self.unstarted, self.failed),
            self.counted(),
            "job {}",
            self.job.number
        );
    }

    /// Notes that an open task has ended.
    pub(super) fn note_end(&mut self, index: u32) {
        let Some(slot) = self.slot_mut(index) else { return };
        let (opened, failed) = (slot.opened, slot.has_failed());
        let in_flight = std::mem::take(&mut slot.in_flight);
        self.open -= 1;
        self.opened_open -= usize::from(opened);
        self.in_flight -= usize::from(in_flight);
        self.failed += u32::from(failed);
    }
}

impl Slot {
    pub(super) fn has_failed(&self) -> bool {
        let has_failed =
            |outcome: &Outcome| !outcome.is_success() && !matches!(outcome.ending, Ending::Skipped(_));
        self.outcome().is_some_and(has_failed)
    }
}

impl Core {
    /// Starts what may be started, opens the next batch when this one is over, or closes the gate.
    pub(super) fn advance(&mut self, id: JobId, now: Now) {
        loop {
            let Some(job) = self.jobs.get_mut(&id) else { return };
            if !job.begun
                || job.opening
                || job.is_resumed
                || job.gate.state != GateState::Open
                || !job.has_unstarted()
            {
                return;
            }
            job.check_counters();
            if let Some(reason) = job.too_many_failures() {
                return self.stop_rest(id, &reason, now);
            }
            if let Some(reason) = job.hold() {
                job.gate.state = GateState::Held(reason.into());
                return self.gate_changed(id);
            }
            if job.checking > 0 {
                return;
            }
            if self.take_turns(id, now) {
                continue;
            }
            let Some(job) = self.jobs.get_mut(&id) else { return };
            if job.opened_open > 0 || job.gate.open_batch + 1 >= job.batches() {
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
        }
    }

    /// Writes down how a job's gate is, and tells followers.
    fn gate_changed(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let gate = job.gate.clone();
        self.effects.push(Effect::PublishGate(id, gate.clone()));
        self.persist(vec![Write::PutGate(id, gate)], Continuation::MustBeWritten);
    }

    /// Gives the tasks of the batch that is open now their deadlines, and a place in the queue.
    fn open_batch(&mut self, id: JobId, now: Now) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.opening = true;
        let (batch, within) = (job.gate.open_batch, job.options.start_within_ms);
        let indices: Vec<u32> = job
            .slots
            .iter()
            .filter(|slot| slot.task.batch == batch && slot.is_open() && !slot.opened)
            .map(|slot| slot.task.index)
            .collect();
        for index in indices {
            let task = TaskId { job: id, index };
            let Some(agent) = self.slot_mut(task).map(|slot| slot.task.agent.clone()) else { continue };
            let deadline = self.deadline(&agent, within, now);
            let is_there = self.agents.get(&agent).is_some_and(|row| row.session.is_some());
            let text = self.offline_text(&agent, now);
            let Some(job) = self.jobs.get_mut(&id) else { return };
            job.opened_open += 1;
            let Some(slot) = job.slot_mut(index) else { continue };
            slot.opened = true;
            slot.set_deadline(deadline, now);
            if is_there {
                job.enqueue(index, now);
            } else if deadline <= now.monotonic {
                self.end_unstarted(task, Ending::Undeliverable(text.into()), now);
            } else {
                slot.wait_for_agent(now);
                self.publish(task);
            }
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.opening = false;
        }
    }

    /// Sends queued tasks as far as the fan-out allows. True when one was refused instead, which changes how the job
    /// stands.
    fn take_turns(&mut self, id: JobId, now: Now) -> bool {
        loop {
            let Some(job) = self.jobs.get_mut(&id) else { return false };
            if job.in_flight >= job.options.plan.most_at_once() {
                return false;
            }
            let Some((index, waited)) = job.next_in_queue(now) else { return false };
            let is_due =
                |slot: &&Slot| slot.is_open() && slot.opened && !slot.in_flight && slot.withheld.is_none();
            let Some(agent) = job.slot(index).filter(is_due).map(|slot| slot.task.agent.clone()) else {
                continue;
            };
            // One whose agent has left meanwhile comes back with it.
            if self.agents.get(&agent).is_none_or(|row| row.session.is_none()) {
                continue;
            }
            // An agent that has seen a later state of the store may have run it: it is asked, and starts nothing.
            let is_ahead = self.refusal_of_ahead(&agent).is_some();
            let refusal = self.drain_of(&agent).filter(|_| !is_ahead).map(ToString::to_string);
            let Some(job) = self.jobs.get_mut(&id) else { return false };
            if let Some(reason) = refusal {
                // Refused since the job began. Whoever calls this looks at the job anew.
                job.opening = true;
                self.end_unstarted(TaskId { job: id, index }, Ending::Refused(reason.into()), now);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.opening = false;
                }
                return true;
            }
            let Some(slot) = job.slot_mut(index) else { continue };
            slot.in_flight = true;
            if waited >= WORTH_RECORDING {
                // It waited for its turn, and that was not its agent's fault. Its incarnation is recorded anew, and
                // with it the new deadline.
                slot.set_deadline(slot.start_by + waited, now);
                slot.incarnation = None;
            }
            job.in_flight += 1;
            self.dispatch(TaskId { job: id, index }, now);
        }
    }

    /// A task that was taken, but not sent, has to wait for its agent again; not in a job that was stopped meanwhile.
    pub(super) fn give_back(&mut self, id: TaskId, now: Now) {
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        let Some(slot) = job.slot_mut(id.index).filter(|slot| slot.in_flight && !slot.sent) else { return };
        slot.in_flight = false;
        job.in_flight -= 1;
        if let GateState::Stopped(reason) = &job.gate.state {
            let skipped = Ending::Skipped(reason.clone());
            self.end_unstarted(id, skipped, now);
        }
    }

    /// Ends all tasks that were not sent, as soon as no earlier master can have sent them. Those that were sent get no
    /// further permission to start.
    fn stop_rest(&mut self, id: JobId, reason: &str, now: Now) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.gate.state = GateState::Stopped(reason.into());
        let unstarted = |slot: &&Slot| slot.is_open() && !slot.sent;
        let indices: Vec<u32> = job.slots.iter().filter(unstarted).map(|slot| slot.task.index).collect();
        let starting = job.slots.iter().filter(|slot| slot.may_be_starting(now)).map(|slot| slot.task.index);
        self.effects.extend(starting.map(|index| Effect::WithdrawStart(TaskId { job: id, index })));
        self.gate_changed(id);
        for index in indices {
            self.end_unstarted(TaskId { job: id, index }, Ending::Skipped(reason.into()), now);
        }
    }

    /// Looks whether a task's output is the canary's, where the job asks for that.
    pub(super) fn compare(&mut self, id: TaskId) {
        let wants = |job: &&mut LiveJob| job.options.plan.stop_if.differs && job.has_unstarted();
        let Some(job) = self.jobs.get_mut(&id.job).filter(wants) else { return };
        let ended = |index: u32| -> Option<(u32, Outcome)> {
            let slot = job.slot(index)?;
            Some((index, slot.task.state.outcome()?.clone()))
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

    pub(in crate::master::core) fn on_compared(&mut self, id: TaskId, agrees: bool, now: Now) {
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        job.checking = job.checking.saturating_sub(1);
        if !agrees && !job.gate.accepted.contains(&id.index) {
            let name = |index: u32| job.slot(index).map(|slot| slot.task.agent.to_string());
            let (this, canary) = (name(id.index), job.gate.accepted.first().and_then(|index| name(*index)));
            job.differing = Some(format!(
                "{} did not print and end as {} did",
                this.unwrap_or_default(),
                canary.unwrap_or_default()
            ));
        }
        self.advance(id.job, now);
    }

    fn gate_of(&self, job: JobReference) -> Result<&LiveJob, Reply> {
        self.find_job(job).filter(|job| job.is_active()).ok_or(Reply::NotRunning)
    }

    /// An operator lets a job continue.
    pub(in crate::master::core) fn on_promote(
        &mut self,
        job: JobReference,
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        let (id, number) = match self.gate_of(job) {
            Ok(found) => (found.job.id, found.job.number),
            Err(answer) => return self.reply(reply, answer),
        };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let what = match (&job.gate.state, job.pause_until) {
            (GateState::Held(reason), _) => format!("held: {reason}"),
            (GateState::Open, Some(_)) => "pausing".to_owned(),
            (GateState::Open | GateState::Stopped(_), _) => {
                let text = format!("job {number} does not wait at a gate");
                return self.reply(reply, Reply::Refused(text));
            }
        };
        job.gate.state = GateState::Open;
        job.gate.forgiven = job.failed;
        job.differing = None;
        job.pause_until = job.pause_until.map(|_| now.monotonic);
        let has_run = |slot: &&Slot| slot.task.state.outcome().is_some_and(Outcome::has_run);
        if !job.gate.accepted.is_empty() {
            job.gate.accepted = job.slots.iter().filter(has_run).map(|slot| slot.task.index).collect();
        }
        if job.opened_open == 0 && job.gate.accepted.is_empty() {
            // Nothing to compare with: an operator has seen that, and wants no gate.
            job.options.plan.stop_if.differs = false;
        }
        let is_over = u32::from(job.opened_open == 0);
        let batch = (job.gate.open_batch + 1 + is_over).min(job.batches());
        let writes = vec![
            Write::PutGate(id, job.gate.clone()),
            audit(now, by, "promote", &format!("job {number}"), what),
        ];
        self.effects.push(Effect::PublishGate(id, self.jobs[&id].gate.clone()));
        self.persist(writes, Continuation::Reply(reply, Box::new(Reply::Promoted { number, batch })));
        self.advance(id, now);
    }

    /// An operator wants nothing more of a job to be started.
    pub(in crate::master::core) fn on_stop_job(
        &mut self,
        job: JobReference,
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        let found = match self.gate_of(job) {
            Ok(found) => found,
            Err(answer) => return self.reply(reply, answer),
        };
        let (id, number) = (found.job.id, found.job.number);
        let unsent = found.slots.iter().filter(|slot| slot.is_open() && !slot.sent).count();
        let skipped = u32::try_from(unsent).unwrap_or(u32::MAX);
        let on_their_way = found.slots.iter().filter(|slot| slot.may_be_starting(now));
        let waits_for: BTreeSet<TaskId> =
            on_their_way.map(|slot| TaskId { job: id, index: slot.task.index }).collect();
        // The stopped gate is written first: the operator is answered when that is on the disk.
        self.stop_rest(id, &format!("{by} stopped the job"), now);
        let writes = vec![audit(now, by, "stop job", &format!("job {number}"), format!("{skipped} skipped"))];
        let answer = Reply::JobStopped { number, skipped };
        self.persist(
            writes,
            Continuation::Ordered(Box::new(PendingOrder::new(reply, answer, waits_for, now))),
        );
    }

    /// Looks at pauses that are over, and, after the master's start, at how each job continues: what has ended is compared
    /// again, what was being stopped is stopped, and a batch that was over is followed by the next one.
    pub(super) fn tick_gates(&mut self, now: Now) {
        let resumed = self
            .jobs
            .values_mut()
            .filter_map(|job| std::mem::take(&mut job.is_resumed).then_some(job.job.id));
        let resumed: Vec<JobId> = resumed.collect();
        for id in resumed {
            self.resume_job(id, now);
        }
        let is_due = |job: &LiveJob| job.pause_until.is_some_and(|until| until <= now.monotonic);
        let due: Vec<JobId> = self.jobs.iter().filter(|(_, job)| is_due(job)).map(|(id, _)| *id).collect();
        for id in due {
            self.advance(id, now);
        }
    }
}

impl Core {
    fn resume_job(&mut self, id: JobId, now: Now) {
        self.lose_tasks_of_unknown(id, now);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // Until now nobody looked whose turn it is, which puts no deadline off.
        for slot in job.slots.iter_mut().filter(|slot| slot.queued_at.is_some()) {
            slot.queued_at = Some(now.monotonic);
        }
        let Some(job) = self.jobs.get(&id) else { return };
        if let GateState::Stopped(reason) = &job.gate.state {
            let reason = reason.clone();
            self.stop_rest(id, &reason, now);
        } else if job.options.plan.stop_if.differs {
            let is_uncompared = |slot: &&Slot| !job.gate.accepted.contains(&slot.task.index);
            let indices: Vec<u32> =
                job.slots.iter().filter(is_uncompared).map(|slot| slot.task.index).collect();
            for index in indices {
                self.compare(TaskId { job: id, index });
            }
        }
        self.advance(id, now);
        self.end_job_if_over(id, now);
    }
}

impl Slot {
    pub(super) fn set_deadline(&mut self, start_by: Duration, now: Now) {
        let left = start_by.saturating_sub(now.monotonic);
        self.start_by = start_by;
        self.start_by_ms = now.unix_ms.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    }

    pub(super) fn wait_for_agent(&mut self, now: Now) {
        let left = self.start_by.saturating_sub(now.monotonic);
        self.task.waiting = format!("offline; waited for up to {}", format_duration(left)).into();
    }
}
