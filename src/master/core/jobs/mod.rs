//! Jobs: from the request to the last outcome on the disk.
//!
//! At most once is kept here and on the agent: a task may only be started by the life of the agent that was recorded
//! before it was first sent, before its deadline, and not after somebody cancelled it.

mod alive;
mod cancelling;
mod gate;
mod live;
mod returning;
mod starting;
mod waiting;

pub use self::waiting::HeldBy;
pub(in crate::master::core) use self::{alive::LiveJobs, cancelling::PendingOrder, live::LiveJob};
use self::{live::Slot, returning::AGAIN_AFTER};
use super::{
    Continuation, Core, audit,
    messages::{AttachOrder, Effect, Now, Reply, ReplyTo, SessionId},
    stored::Write,
};
use crate::domain::{
    ids::{Incarnation, JobId, JobReference, TaskId},
    job::{Job, TaskState},
    name::AgentName,
    outcome::{Ending, Outcome},
    plan::GateState,
};

/// Bits of an attempt that count within one term.
const ATTEMPT_BITS: u32 = 24;
/// An attempt that no master counts up to. Whoever tells of a higher one tells nothing true.
const MAX_ATTEMPT: u64 = 1 << 62;

impl Core {
    /// The attempt below all of this master's: it has the term in its upper bits, so that a master that was started
    /// later wins over what an earlier one left on its way.
    pub(in crate::master::core) fn first_attempt(&self) -> u64 {
        self.term << ATTEMPT_BITS
    }

    fn slot_mut(&mut self, id: TaskId) -> Option<&mut Slot> {
        self.jobs.get_mut(&id.job)?.slot_mut(id.index)
    }

    pub(in crate::master::core) fn find_job(&self, reference: JobReference) -> Option<&LiveJob> {
        match reference {
            JobReference::Id(id) => self.jobs.get(&id),
            JobReference::Number(number) => self.jobs.numbered(number),
            JobReference::Last => self.jobs.numbered(self.last_begun),
        }
        .filter(|job| job.begun)
    }

    pub(in crate::master::core) fn show_job(&mut self, job: JobReference, reply: ReplyTo) {
        let found = self.find_job(job).map(|job| Reply::Live(Box::new(job.view())));
        self.reply(reply, found.unwrap_or(Reply::NotLive));
    }

    pub(in crate::master::core) fn show_job_to_repeat(&mut self, job: JobReference, reply: ReplyTo) {
        let repeated = |job: &LiveJob| Reply::ToRepeat(Box::new(job.view()), Box::new(job.options().clone()));
        let found = self.find_job(job).map(repeated);
        self.reply(reply, found.unwrap_or(Reply::NotLive));
    }

    /// The jobs that were told to have ended, and that the store does not have as ended yet: without their tasks, and
    /// whether they have a task on an agent and one that ended in a way.
    pub(in crate::master::core) fn ended_jobs(
        &self,
        agent: Option<&AgentName>,
        outcome: &str,
    ) -> Vec<(Job, bool)> {
        let ended = self.jobs.values().filter(|job| job.job.ended_ms.is_some());
        let fits = |job: &LiveJob| {
            agent.is_none_or(|agent| job.indices.contains_key(agent)) && job.has_ended_as(outcome)
        };
        ended.map(|job| (job.summary(), fits(job))).collect()
    }

    /// Tells followers how a task is now.
    fn publish(&mut self, id: TaskId) {
        if let Some(slot) = self.slot_mut(id) {
            let task = Box::new(slot.task.clone());
            self.effects.push(Effect::Publish(id.job, task));
        }
    }

    /// Attaches a task, if its agent is there and it is not attached yet.
    pub(in crate::master::core) fn dispatch(&mut self, id: TaskId, now: Now) {
        let revision = self.store_revision();
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        let spec = job.spec();
        let most = self.policy.output_cap;
        let output_cap = job.options.output_cap.map_or(most, |asked| asked.min(most));
        let overflow = job.options.overflow;
        let is_fed = job.options.input.is_fed();
        let is_stopped = matches!(job.gate.state, GateState::Stopped(_));
        let Some(place) = job.place(id.index) else { return };
        let slot = &mut job.slots[place];
        let is_busy = slot.attached.is_some() || slot.recording;
        if !slot.is_open() || is_busy || !slot.in_flight || slot.withheld.is_some() || !job.begun {
            return;
        }
        let row = self.agents.get(&slot.task.agent);
        let row = row.filter(|row| row.stored.fingerprint == slot.fingerprint);
        let Some(row) = row else { return };
        let Some(session) = &row.session else { return };
        let unsent_elsewhere = !slot.sent && slot.incarnation.as_ref() != Some(&session.incarnation);
        if unsent_elsewhere {
            // The life to which it is sent first is on the disk before it is sent.
            slot.incarnation = Some(session.incarnation.clone());
            slot.recording = true;
            let write = Write::PutTask(id.job, slot.to_store());
            return self.persist(vec![write], Continuation::Dispatch(id));
        }
        let Some(incarnation) = slot.incarnation.clone() else { return };
        let may_start = row.stored.ahead.is_none()
            && row.stored.drain.is_none()
            && !is_stopped
            && slot.cancelled_by.is_none()
            && slot.task.state != TaskState::Running
            && session.incarnation == incarnation
            && now.monotonic < slot.start_by;
        slot.attempt += 1;
        slot.attached = Some(session.id);
        slot.sent = true;
        slot.task.no_contact_since_ms = None;
        slot.wait_for_nothing();
        slot.become_state(TaskState::Dispatched);
        let order = AttachOrder {
            id,
            fingerprint: slot.fingerprint,
            session: session.id,
            attempt: slot.attempt,
            start: may_start.then_some((spec, slot.start_by)),
            incarnation,
            revision,
            delay: slot.delay(),
            output_cap,
            overflow,
            is_recall: false,
            discard: false,
            is_fed,
        };
        self.effects.push(Effect::Attach(Box::new(order)));
        self.publish(id);
    }

    /// The incarnation to which a task is about to be sent is on the disk.
    pub(in crate::master::core) fn incarnation_stored(&mut self, id: TaskId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.recording = false;
        }
    }

    pub(in crate::master::core) fn on_task_started(
        &mut self,
        id: TaskId,
        attempt: u64,
        elapsed_ms: u64,
        now: Now,
    ) {
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        let grace_ms = job.kill_grace_ms();
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.attempt == attempt && slot.is_open()) else {
            return;
        };
        slot.failures = 0;
        let is_new = slot.become_state(TaskState::Running);
        let started_ms = *slot.task.started_ms.get_or_insert(now.unix_ms.saturating_sub(elapsed_ms));
        let order = slot.cancelled_by.clone().zip(slot.attached);
        if let Some((by, session)) = order {
            self.effects.push(Effect::Signal { session, id, by: by.into(), grace_ms });
        }
        if is_new {
            // A master that was started anew must not let it be started again, whatever its agent has forgotten.
            let mut writes = vec![Write::StartTask(id, started_ms)];
            writes.extend(self.jobs.get_mut(&id.job).and_then(|job| job.note_no_start(id.index)));
            self.persist(writes, Continuation::Started);
        }
        self.publish(id);
    }

    pub(in crate::master::core) fn on_task_ended(
        &mut self,
        id: TaskId,
        outcome: Outcome,
        end_offset: u64,
        duration_ns: u64,
        now: Now,
    ) {
        let Some(slot) = self.slot_mut(id) else {
            // All of that job is on the disk long since. An outcome is final; facts that come later stand beside it.
            return self.persist(vec![Write::PutLater(id, outcome)], Continuation::Outcome(id));
        };
        let outcome = outcome.cancelled_on_record(slot.cancelled_by.clone());
        slot.task.end_offset = slot.task.end_offset.max(end_offset);
        if slot.is_open() {
            slot.task.duration_ns = duration_ns;
            if outcome.has_run() {
                // Of one that ended at once the start was not told.
                slot.task.started_ms.get_or_insert(now.unix_ms.saturating_sub(duration_ns / 1_000_000));
            }
            self.end_task(id, outcome, now);
        } else if slot.outcome() != Some(&outcome) {
            self.persist(vec![Write::PutLater(id, outcome)], Continuation::Outcome(id));
        } else if slot.stored {
            self.outcome_stored(id);
        }
    }

    pub(in crate::master::core) fn on_task_unknown(
        &mut self,
        id: TaskId,
        attempt: u64,
        now_life: &Incarnation,
        now: Now,
    ) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.attempt == attempt && slot.is_open()) else {
            return;
        };
        slot.attached = None;
        self.end_unknown(id, now_life, now);
    }

    /// Ends an open task that its agent does not know, and has promised never to start.
    fn end_unknown(&mut self, id: TaskId, now_life: &Incarnation, now: Now) {
        let Some(job) = self.jobs.get(&id.job) else { return };
        let stop = match &job.gate.state {
            GateState::Stopped(reason) => Some(Ending::Skipped(reason.clone())),
            _ => None,
        };
        let agent = job.slot(id.index).map(|slot| &slot.task.agent);
        let refusal = agent.and_then(|agent| {
            self.refusal_of_ahead(agent).or_else(|| self.drain_of(agent).map(ToString::to_string))
        });
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open()) else { return };
        let same_life = slot.incarnation.as_ref() == Some(now_life);
        let ending = match (&slot.incarnation, same_life, &slot.task.state) {
            (Some(before), false, _) => Ending::Lost(before.loss_seen_by(now_life).into()),
            (_, _, TaskState::Running) => Ending::Lost("the agent no longer knows it".into()),
            _ => match (slot.cancelled_by.clone(), stop, refusal) {
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

    pub(in crate::master::core) fn on_attach_lost(
        &mut self,
        id: TaskId,
        session: SessionId,
        attempt: u64,
        superseded_by: Option<u64>,
        now: Now,
    ) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open()) else {
            // It has ended, and was not handed over: the agent is asked again, unless another call has it.
            if superseded_by.is_none()
                && let Some(name) = self.sessions.get(&session).cloned()
            {
                self.take_facts(&name, session, id, AGAIN_AFTER, false);
            }
            return;
        };
        if slot.attempt != attempt {
            return;
        }
        slot.attached = None;
        slot.failures = slot.failures.saturating_add(1);
        if let Some(by) = superseded_by.filter(|by| *by < MAX_ATTEMPT) {
            // Another master's: this store was restored from a backup, and its terms are counted again.
            slot.attempt = slot.attempt.max(by);
        }
        self.dispatch(id, now);
    }

    /// Ends an open task. An outcome that its agent can tell again is told at once; any other one when it is on the disk.
    fn end_task(&mut self, id: TaskId, outcome: Outcome, now: Now) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open()) else { return };
        let is_told = outcome.is_agents_own();
        slot.wait_for_nothing();
        if is_told {
            slot.task.no_contact_since_ms = None;
            slot.become_state(TaskState::Ended(outcome));
        } else {
            slot.settling = Some(outcome);
        }
        let mut writes = vec![Write::PutTask(id.job, slot.to_store())];
        let end_ms = now.unix_ms.max(self.judged_ms);
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.note_end(id.index);
            writes.extend(job.note_no_start(id.index));
            job.settling += usize::from(!is_told);
            if job.open == 0 && job.end_ms.is_none() {
                job.end_ms = Some(end_ms);
                writes.push(Write::EndJob(id.job, end_ms));
            }
        }
        if is_told {
            self.publish(id);
            self.tell_end_if_over(id.job);
        }
        self.persist(writes, Continuation::Outcome(id));
        if is_told {
            self.compare(id);
        }
        self.advance(id.job, now);
    }

    /// Tells followers when nothing of a job is open any more and everything of it was told.
    fn tell_end_if_over(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(end_ms) = job.end_ms
            && job.job.ended_ms.is_none()
            && job.settling == 0
        {
            job.job.ended_ms = Some(end_ms);
            self.effects.push(Effect::JobEnded(id, end_ms));
            self.mark_ended(id);
        }
    }

    /// Ends a job all of whose outcomes were on the disk before anybody looked whether it is over.
    fn end_job_if_over(&mut self, id: JobId, now: Now) {
        let end_ms = now.unix_ms.max(self.judged_ms);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.end_ms.is_some() || job.is_active() {
            return;
        }
        job.end_ms = Some(end_ms);
        self.persist(vec![Write::EndJob(id, end_ms)], Continuation::MustBeWritten);
        self.tell_end_if_over(id);
        self.forget_if_stored(id);
    }

    fn forget_if_stored(&mut self, id: JobId) {
        let is_stored = |job: &LiveJob| job.unstored == 0 && job.end_ms.is_some();
        if self.jobs.get(&id).is_some_and(is_stored) {
            self.jobs.remove(&id);
            self.effects.push(Effect::JobStored(id));
        }
    }

    pub(in crate::master::core) fn outcome_stored(&mut self, id: TaskId) {
        if let Some(slot) = self.slot_mut(id)
            && let Some(outcome) = slot.settling.take()
        {
            slot.task.no_contact_since_ms = None;
            slot.wait_for_nothing();
            slot.become_state(TaskState::Ended(outcome));
            if let Some(job) = self.jobs.get_mut(&id.job) {
                job.settling -= 1;
            }
            self.publish(id);
            self.tell_end_if_over(id.job);
        }
        self.effects.push(Effect::OutcomeStored(id));
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.note_stored(id.index);
        }
        self.forget_if_stored(id.job);
    }

    pub(in crate::master::core) fn on_delete_job(
        &mut self,
        job: JobId,
        reason: String,
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        // One that has ended may not be on the disk as such: what is written of that comes before this.
        if let Some(live) = self.jobs.get(&job).filter(|live| live.job.ended_ms.is_none()) {
            let number = live.job.number;
            let text = format!(
                "job {number} is not over; `sloth-runner job cancel {number}` ends it, then it can be deleted"
            );
            return self.reply(reply, Reply::Refused(text));
        }
        let writes = vec![
            audit(now, by, "delete job", &job.to_string(), reason.clone()),
            Write::DeleteJob(job, reason),
        ];
        self.persist(writes, Continuation::Deleted(job, reply));
    }

    fn open_tasks_of(&self, name: &AgentName) -> Vec<TaskId> {
        let of_agent = |(job, live): (&JobId, &LiveJob)| {
            let slot = live.slot(*live.indices.get(name)?).filter(|slot| slot.is_open())?;
            Some(TaskId { job: *job, index: slot.task.index })
        };
        self.jobs.iter().filter_map(of_agent).collect()
    }

    pub(in crate::master::core) fn tasks_on(&self, name: &AgentName) -> u32 {
        let running = |id: &&TaskId| self.jobs[&id.job].slot(id.index).is_some_and(|slot| slot.sent);
        u32::try_from(self.open_tasks_of(name).iter().filter(running).count()).unwrap_or(u32::MAX)
    }

    pub(in crate::master::core) fn agent_is_back(&mut self, name: &AgentName, now: Now) {
        for id in self.open_tasks_of(name) {
            let Some(job) = self.jobs.get_mut(&id.job) else { continue };
            let Some(slot) = job.slot_mut(id.index) else { continue };
            slot.failures = 0;
            if slot.in_flight {
                self.dispatch(id, now);
            } else if slot.opened {
                slot.wait_for_nothing();
                job.enqueue(id.index, now);
                self.advance(id.job, now);
            }
        }
    }

    pub(in crate::master::core) fn agent_is_gone(&mut self, name: &AgentName, heard_ms: u64, now: Now) {
        for id in self.open_tasks_of(name) {
            let Some(slot) = self.slot_mut(id) else { continue };
            slot.attached = None;
            if slot.sent {
                slot.task.no_contact_since_ms = Some(heard_ms);
            } else if slot.opened {
                slot.wait_for_agent(now);
                self.give_back(id, now);
                // Another task can start in its place.
                self.advance(id.job, now);
            }
            self.publish(id);
        }
    }

    /// Ends all open tasks of an agent that will not come back; how many had started as far as anyone knows.
    pub(in crate::master::core) fn lose_tasks_of(&mut self, name: &AgentName, reason: &str, now: Now) -> u32 {
        let open = self.open_tasks_of(name);
        let lost = open.into_iter().filter(|id| self.lose_task(*id, reason, now)).count();
        u32::try_from(lost).unwrap_or(u32::MAX)
    }

    /// Ends an open task of an agent that will not come back; true when it had started as far as anyone knows.
    fn lose_task(&mut self, id: TaskId, reason: &str, now: Now) -> bool {
        let sent = self.slot_mut(id).is_some_and(|slot| slot.sent);
        if sent {
            self.end_task(id, Ending::Lost(reason.into()).into(), now);
        } else {
            self.end_unstarted(id, Ending::Undeliverable(reason.into()), now);
        }
        sent
    }

    /// Ends the tasks of agents that were deleted when an earlier master could not end them yet.
    fn lose_tasks_of_unknown(&mut self, job: JobId, now: Now) {
        let Some(live) = self.jobs.get(&job) else { return };
        let is_unknown = |slot: &&Slot| {
            let row = self.agents.get(&slot.task.agent);
            slot.is_open() && row.is_none_or(|row| row.stored.fingerprint != slot.fingerprint)
        };
        let unknown = live.slots.iter().filter(is_unknown).map(|slot| TaskId { job, index: slot.task.index });
        for id in unknown.collect::<Vec<_>>() {
            self.lose_task(id, "the agent was deleted, or has another key", now);
        }
    }

    pub(in crate::master::core) fn tick_jobs(&mut self, now: Now) {
        self.tick_gates(now);
        self.end_withheld(now);
        // Only who is not there is waited for in vain; others wait for their turn.
        let overdue = |slot: &&Slot| {
            let waits = slot.is_open() && slot.opened && !slot.in_flight && now.monotonic >= slot.start_by;
            waits && self.agents.get(&slot.task.agent).is_none_or(|row| row.session.is_none())
        };
        let mut due = Vec::new();
        for (job, live) in self.jobs.iter().filter(|(_, live)| live.begun) {
            let slots = live.slots.iter().filter(overdue);
            due.extend(
                slots.map(|slot| (TaskId { job: *job, index: slot.task.index }, slot.task.agent.clone())),
            );
        }
        for (id, agent) in due {
            let text = self.offline_text(&agent, now);
            self.end_unstarted(id, Ending::Undeliverable(text.into()), now);
        }
    }
}
