//! Runs: from a wish to the last outcome on the disk.
//!
//! At most once is kept here and on the agent: a task may only be started by the life of the agent that was recorded
//! before it was first sent, before its deadline, and not after somebody cancelled it.

mod gate;
mod live;
mod returning;
mod starting;

pub(in crate::master::core) use self::live::LiveRun;
use self::live::Slot;
use super::{
    Core, Parked, audit,
    messages::{AttachOrder, Effect, Now, Reply, ReplyTo},
    stored::Write,
};
use crate::domain::{
    ids::{Incarnation, RunId, RunReference, TaskId},
    name::AgentName,
    outcome::{Ending, Outcome},
    run::TaskState,
};

impl Core {
    fn slot_mut(&mut self, id: TaskId) -> Option<&mut Slot> {
        self.runs.get_mut(&id.run)?.slot_mut(id.index)
    }

    pub(in crate::master::core) fn find_run(&self, reference: RunReference) -> Option<&LiveRun> {
        match reference {
            RunReference::Id(id) => self.runs.get(&id),
            RunReference::Number(number) => self.runs.values().find(|run| run.run.number == number),
            RunReference::Last => self.runs.values().find(|run| run.run.number == self.last_number),
        }
        .filter(|run| run.begun)
    }

    /// Tells followers how a task is now.
    fn publish(&mut self, id: TaskId) {
        if let Some(slot) = self.slot_mut(id) {
            let task = Box::new(slot.task.clone());
            self.effects.push(Effect::Publish(id.run, task));
        }
    }

    /// Attaches a task, if its agent is there and it is not attached yet.
    pub(in crate::master::core) fn dispatch(&mut self, id: TaskId, now: Now) {
        let restored = self.restored.is_some();
        let revision = (self.epoch, self.revision);
        let Some(run) = self.runs.get_mut(&id.run) else { return };
        let spec = run.spec();
        let most = self.policy.output_cap;
        let output_cap = run.options.output_cap.map_or(most, |asked| asked.min(most));
        let overflow = run.options.overflow;
        let is_fed = run.options.input.is_fed();
        let Some(place) = run.place(id.index) else { return };
        let slot = &mut run.slots[place];
        if !slot.is_open() || slot.attached.is_some() || slot.recording || !run.begun {
            return;
        }
        let row = self.agents.get(&slot.task.agent);
        let row = row.filter(|row| row.stored.fingerprint == slot.fingerprint);
        let Some(session) = row.and_then(|row| row.session.as_ref()) else { return };
        let unsent_elsewhere = !slot.sent && slot.incarnation.as_ref() != Some(&session.incarnation);
        if unsent_elsewhere {
            // The life to which it is sent first is on the disk before it is sent.
            slot.incarnation = Some(session.incarnation.clone());
            slot.recording = true;
            let write = Write::PutTask(id.run, slot.to_store());
            return self.persist(vec![write], Parked::Dispatch(id));
        }
        let Some(incarnation) = slot.incarnation.clone() else { return };
        let may_start = !restored
            && slot.cancelled_by.is_none()
            && slot.task.state != TaskState::Running
            && session.incarnation == incarnation
            && now.monotonic < slot.start_by;
        slot.attempt += 1;
        slot.attached = Some(session.id);
        slot.sent = true;
        slot.task.no_contact_since_ms = None;
        slot.task.waiting.clear();
        slot.become_state(TaskState::Dispatched);
        let order = AttachOrder {
            id,
            session: session.id,
            attempt: slot.attempt,
            spec: may_start.then_some(spec),
            incarnation,
            revision,
            delay: slot.delay(),
            output_cap,
            overflow,
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
        let Some(run) = self.runs.get_mut(&id.run) else { return };
        let grace_ms = run.kill_grace_ms();
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.attempt == attempt && slot.is_open()) else {
            return;
        };
        slot.failures = 0;
        slot.become_state(TaskState::Running);
        slot.task.started_ms.get_or_insert(now.unix_ms.saturating_sub(elapsed_ms));
        let order = slot.cancelled_by.clone().zip(slot.attached);
        if let Some((by, session)) = order {
            self.effects.push(Effect::Signal { session, id, by, grace_ms });
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
            // All of that run is on the disk long since. An outcome is final; facts that come later stand beside it.
            return self.persist(vec![Write::PutLater(id, outcome)], Parked::Outcome(id));
        };
        slot.task.end_offset = slot.task.end_offset.max(end_offset);
        if slot.is_open() {
            slot.task.duration_ns = duration_ns;
            if outcome.has_run() {
                // Of one that ended at once the start was not told.
                slot.task.started_ms.get_or_insert(now.unix_ms.saturating_sub(duration_ns / 1_000_000));
            }
            self.end_task(id, outcome, now);
        } else if slot.task.state.outcome() != Some(&outcome) {
            self.persist(vec![Write::PutLater(id, outcome)], Parked::Outcome(id));
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
        let same_life = slot.incarnation.as_ref() == Some(now_life);
        let ending = match (&slot.incarnation, same_life, &slot.task.state) {
            (Some(before), false, _) => Ending::Lost(before.loss_seen_by(now_life).to_owned()),
            (_, _, TaskState::Running) => Ending::Lost("the agent no longer knows it".to_owned()),
            _ => match slot.cancelled_by.clone() {
                Some(by) => Ending::Cancelled { proof: None, by },
                None => Ending::Undeliverable(
                    "the agent was not reached before the start deadline; it never started".to_owned(),
                ),
            },
        };
        self.end_task(id, ending.into(), now);
    }

    pub(in crate::master::core) fn on_attach_lost(
        &mut self,
        id: TaskId,
        attempt: u64,
        superseded_by: Option<u64>,
        now: Now,
    ) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.attempt == attempt) else { return };
        slot.attached = None;
        slot.failures = slot.failures.saturating_add(1);
        if let Some(by) = superseded_by {
            // Another master's, or this one's before its restart.
            slot.attempt = slot.attempt.max(by);
        }
        self.dispatch(id, now);
    }

    pub(in crate::master::core) fn on_task_waits(&mut self, id: TaskId, waiting: String) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open() && slot.task.waiting != waiting)
        else {
            return;
        };
        slot.task.waiting = waiting;
        self.publish(id);
    }

    fn end_task(&mut self, id: TaskId, outcome: Outcome, now: Now) {
        let Some(slot) = self.slot_mut(id) else { return };
        slot.task.waiting.clear();
        slot.task.no_contact_since_ms = None;
        if !slot.become_state(TaskState::Ended(outcome)) {
            return;
        }
        let mut writes = vec![Write::PutTask(id.run, slot.to_store())];
        if let Some(run) = self.runs.get_mut(&id.run) {
            run.note_end(id.index);
        }
        self.publish(id);
        if self.end_run_if_over(id.run, now) {
            writes.push(Write::EndRun(id.run, now.unix_ms));
        }
        self.persist(writes, Parked::Outcome(id));
        self.compare(id);
        self.go_on(id.run, now);
    }

    /// Tells followers when nothing of a run is open any more. True when that is new.
    fn end_run_if_over(&mut self, id: RunId, now: Now) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        if run.run.ended_ms.is_some() || run.is_active() {
            return false;
        }
        run.run.ended_ms = Some(now.unix_ms);
        self.effects.push(Effect::RunEnded(id, now.unix_ms));
        self.mark_ended(id);
        if self.runs[&id].unstored == 0 {
            // Nothing could be delivered; the beginning's write had all of it but the end.
            self.persist(vec![Write::EndRun(id, now.unix_ms)], Parked::Kept);
            self.runs.remove(&id);
            self.effects.push(Effect::RunStored(id));
        }
        true
    }

    pub(in crate::master::core) fn outcome_stored(&mut self, id: TaskId) {
        self.effects.push(Effect::OutcomeStored(id));
        let Some(run) = self.runs.get_mut(&id.run) else { return };
        run.note_stored(id.index);
        if run.unstored == 0 {
            self.runs.remove(&id.run);
            self.effects.push(Effect::RunStored(id.run));
        }
    }

    pub(in crate::master::core) fn on_cancel(
        &mut self,
        run: RunReference,
        tasks: &[u32],
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        let Some(found) = self.find_run(run) else {
            let text = format!("run {run} is not running; `sloth-runner job show {run}` tells how it ended");
            return self.reply(reply, Reply::NotFound(text));
        };
        let (id, number, grace_ms) = (found.run.id, found.run.number, found.kill_grace_ms());
        let wanted = |slot: &&Slot| slot.is_open() && (tasks.is_empty() || tasks.contains(&slot.task.index));
        let open: Vec<u32> = found.slots.iter().filter(wanted).map(|slot| slot.task.index).collect();
        let (mut told, mut stored) = (0, 0);
        let mut writes =
            vec![audit(now, by, "cancel", &format!("run {number}"), format!("{} tasks", open.len()))];
        // Nobody goes on with the run, or ends it for its failures, while it is being cancelled.
        if let Some(run) = self.runs.get_mut(&id) {
            run.opening = true;
        }
        for index in open {
            let task = TaskId { run: id, index };
            let Some(slot) = self.slot_mut(task) else { continue };
            if !slot.sent {
                told += 1;
                self.end_task(task, Ending::Cancelled { proof: None, by: by.to_owned() }.into(), now);
                continue;
            }
            slot.cancelled_by.get_or_insert_with(|| by.to_owned());
            let attached = slot.attached;
            writes.push(Write::PutTask(id, slot.to_store()));
            match attached {
                Some(session) => {
                    told += 1;
                    let by = by.to_owned();
                    self.effects.push(Effect::Signal { session, id: task, by, grace_ms });
                }
                None => stored += 1,
            }
        }
        let answer = Reply::Cancelled { told, stored, number };
        self.persist(writes, Parked::Reply(reply, Box::new(answer)));
        if let Some(run) = self.runs.get_mut(&id) {
            run.opening = false;
        }
        self.go_on(id, now);
    }

    pub(in crate::master::core) fn on_delete_run(
        &mut self,
        run: RunId,
        reason: String,
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        if let Some(live) = self.runs.get(&run) {
            let number = live.run.number;
            let text = format!(
                "run {number} is not over; `sloth-runner job cancel {number}` ends it, then it can be deleted"
            );
            return self.reply(reply, Reply::Refused(text));
        }
        let writes = vec![
            audit(now, by, "delete run", &run.to_string(), reason.clone()),
            Write::DeleteRun(run, reason),
        ];
        self.persist(writes, Parked::Deleted(run, reply));
    }

    fn open_tasks_of(&self, name: &AgentName) -> Vec<TaskId> {
        let of_agent = |(run, live): (&RunId, &LiveRun)| {
            let slot = live.slot(*live.indices.get(name)?).filter(|slot| slot.is_open())?;
            Some(TaskId { run: *run, index: slot.task.index })
        };
        self.runs.iter().filter_map(of_agent).collect()
    }

    pub(in crate::master::core) fn tasks_on(&self, name: &AgentName) -> u32 {
        let running = |id: &&TaskId| self.runs[&id.run].slot(id.index).is_some_and(|slot| slot.sent);
        u32::try_from(self.open_tasks_of(name).iter().filter(running).count()).unwrap_or(u32::MAX)
    }

    pub(in crate::master::core) fn agent_is_back(&mut self, name: &AgentName, now: Now) {
        for id in self.open_tasks_of(name) {
            let Some(run) = self.runs.get_mut(&id.run) else { continue };
            let Some(slot) = run.slot_mut(id.index) else { continue };
            slot.failures = 0;
            if slot.in_flight {
                self.dispatch(id, now);
            } else if slot.opened {
                slot.task.waiting.clear();
                run.queue.push_back(id.index);
                self.go_on(id.run, now);
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
                if let Some(run) = self.runs.get_mut(&id.run) {
                    run.give_back(id.index);
                }
            }
            self.publish(id);
        }
    }

    /// Ends all open tasks of an agent that will not come back; how many had started as far as anyone knows.
    pub(in crate::master::core) fn lose_tasks_of(&mut self, name: &AgentName, reason: &str, now: Now) -> u32 {
        let mut lost = 0;
        for id in self.open_tasks_of(name) {
            let sent = self.slot_mut(id).is_some_and(|slot| slot.sent);
            let ending = if sent {
                lost += 1;
                Ending::Lost(reason.to_owned())
            } else {
                Ending::Undeliverable(reason.to_owned())
            };
            self.end_task(id, ending.into(), now);
        }
        lost
    }

    pub(in crate::master::core) fn tick_runs(&mut self, now: Now) {
        self.tick_gates(now);
        // Only who is not there is waited for in vain; others wait for their turn.
        let overdue = |slot: &&Slot| {
            let waits = slot.is_open() && slot.opened && !slot.in_flight && now.monotonic >= slot.start_by;
            waits && self.agents.get(&slot.task.agent).is_none_or(|row| row.session.is_none())
        };
        let mut due = Vec::new();
        for (run, live) in self.runs.iter().filter(|(_, live)| live.begun) {
            let slots = live.slots.iter().filter(overdue);
            due.extend(
                slots.map(|slot| (TaskId { run: *run, index: slot.task.index }, slot.task.agent.clone())),
            );
        }
        for (id, agent) in due {
            let text = self.offline_text(&agent, now);
            self.end_task(id, Ending::Undeliverable(text).into(), now);
        }
    }
}
