//! Cancels tasks, and determines when the operator can be told that nothing starts any more.
//!
//! A task whose start may be on its way to its agent is not ended by a word of the master's: the agent has to answer, or
//! the permission to start has to expire. Only then is the operator answered, so that nothing starts after the answer.

use std::{collections::BTreeSet, time::Duration};

use super::{LiveJob, Slot};
use crate::{
    domain::{
        agent::START_PERMISSION,
        ids::{Incarnation, JobReference, TaskId},
        job::TaskState,
        name::AgentName,
        outcome::Ending,
    },
    master::core::{
        Continuation, Core, audit,
        messages::{Effect, Now, Reply, ReplyTo},
        stored::Write,
    },
};

/// An operator who waits until tasks cannot start any more.
#[derive(Debug)]
pub(in crate::master::core) struct PendingOrder {
    /// The caller that waits for the answer.
    reply: ReplyTo,
    answer: Reply,
    /// Tasks whose start may be on its way, or whose end is not on the disk.
    waits_for: BTreeSet<TaskId>,
    /// When no such start can arrive any more.
    until: Duration,
    /// One of the agents was deleted: of what is on its way to it only time tells.
    nobody_answers: bool,
    /// It cannot be recorded yet, and the answer says so: it waits only until no task can start.
    is_unrecorded: bool,
}

impl PendingOrder {
    pub(in crate::master::core) fn new(
        reply: ReplyTo,
        answer: Reply,
        waits_for: BTreeSet<TaskId>,
        now: Now,
    ) -> Self {
        let until = now.monotonic + START_PERMISSION;
        Self { reply, answer, waits_for, until, nobody_answers: false, is_unrecorded: false }
    }

    /// The same order when the agent of its tasks is deleted, so that no answer of that agent ends the wait.
    pub(in crate::master::core) fn of_deleted_agent(self) -> Self {
        Self { nobody_answers: !self.waits_for.is_empty(), ..self }
    }

    /// The same order when it cannot be recorded yet, with the answer for that case.
    pub(in crate::master::core) fn unrecorded(self, answer: Reply) -> Self {
        Self { answer, is_unrecorded: true, ..self }
    }
}

impl Core {
    /// Tasks of an agent whose permission to start may be on its way.
    pub(in crate::master::core) fn starting_on(&self, name: &AgentName, now: Now) -> BTreeSet<TaskId> {
        let starts =
            |id: &TaskId| self.jobs[&id.job].slot(id.index).is_some_and(|slot| slot.may_be_starting(now));
        self.open_tasks_of(name).into_iter().filter(starts).collect()
    }

    /// Ends a task that this master has not sent, and never will. Just after the master's start an earlier one's
    /// permission may be on its way, of which a store that was restored from a backup knows nothing: then it is ended
    /// when that has expired, unless its agent tells of it before.
    pub(super) fn end_unstarted(&mut self, id: TaskId, ending: Ending, now: Now) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open()) else { return };
        if now.monotonic < slot.unsure_until {
            slot.withheld.get_or_insert(ending);
        } else {
            self.end_task(id, ending.into(), now);
        }
    }

    /// Ends the tasks that waited until no earlier master's permission can arrive any more.
    pub(super) fn end_withheld(&mut self, now: Now) {
        let is_due =
            |slot: &&Slot| slot.is_open() && slot.withheld.is_some() && now.monotonic >= slot.unsure_until;
        let due = |job: &LiveJob| -> Vec<TaskId> {
            let slots = job.slots.iter().filter(is_due);
            slots.map(|slot| TaskId { job: job.job.id, index: slot.task.index }).collect()
        };
        let due: Vec<TaskId> = self.jobs.values().flat_map(due).collect();
        for id in due {
            if let Some(ending) = self.slot_mut(id).and_then(|slot| slot.withheld.take()) {
                self.end_task(id, ending.into(), now);
            }
        }
    }

    pub(in crate::master::core) fn on_cancel(
        &mut self,
        job: JobReference,
        tasks: &BTreeSet<u32>,
        grace_ms: Option<u32>,
        by: &str,
        reply: ReplyTo,
        now: Now,
    ) {
        let Some(found) = self.find_job(job) else {
            return self.reply(reply, Reply::NotRunning);
        };
        let (id, number) = (found.job.id, found.job.number);
        let grace_ms = grace_ms.unwrap_or(found.kill_grace_ms());
        let wanted = |slot: &&Slot| slot.is_open() && (tasks.is_empty() || tasks.contains(&slot.task.index));
        let open: Vec<u32> = found.slots.iter().filter(wanted).map(|slot| slot.task.index).collect();
        let (mut told, mut stored) = (0, 0);
        let (mut waits_for, mut is_other_grace) = (BTreeSet::new(), false);
        let mut writes =
            vec![audit(now, by, "cancel", &format!("job {number}"), format!("{} tasks", open.len()))];
        if open.is_empty() {
            // Every task has ended: there is nothing to cancel.
            self.persist(writes, Continuation::MayBeLost);
            return self.reply(reply, Reply::Cancelled { told, stored, number, grace_ms });
        }
        // Nobody continues with the job, or ends it for its failures, while it is being cancelled.
        if let Some(job) = self.jobs.get_mut(&id) {
            job.opening = true;
            if job.kill_grace_ms() != grace_ms {
                // For what is told later too: on a connection that comes back, or by the next master.
                job.options.kill_grace_ms = Some(grace_ms);
                is_other_grace = true;
            }
        }
        for index in open {
            let task = TaskId { job: id, index };
            let Some(slot) = self.slot_mut(task) else { continue };
            if !slot.sent && now.monotonic >= slot.unsure_until {
                told += 1;
                self.end_task(task, Ending::Cancelled { proof: None, by: by.into(), seal: None }.into(), now);
                continue;
            }
            slot.cancelled_by.get_or_insert_with(|| by.into());
            slot.cancel_heard = false;
            if slot.task.state != TaskState::Running {
                waits_for.insert(task);
            }
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
        // As they are now: values of variables may have been forgotten meanwhile, and must not come back.
        if is_other_grace && let Some(job) = self.jobs.get(&id) {
            writes.push(Write::PutOptions(id, Box::new(job.options.clone())));
        }
        let answer = Reply::Cancelled { told, stored, number, grace_ms };
        self.persist(
            writes,
            Continuation::Ordered(Box::new(PendingOrder::new(reply, answer, waits_for, now))),
        );
        if let Some(job) = self.jobs.get_mut(&id) {
            job.opening = false;
        }
        self.advance(id, now);
    }

    /// An agent has answered an order to stop a task. What it does not know it never starts.
    pub(in crate::master::core) fn on_signal_answered(
        &mut self,
        id: TaskId,
        known: bool,
        incarnation: &Incarnation,
        now: Now,
    ) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.is_open()) else { return };
        if known {
            slot.cancel_heard = true;
        } else if slot.cancelled_by.is_some() {
            self.end_unknown(id, incarnation, now);
        }
    }

    /// Ends cancelled tasks that were never sent by this master, when no other one's permission can arrive any more.
    fn end_unsent(&mut self, tasks: &BTreeSet<TaskId>, now: Now) {
        for id in tasks {
            let slot = self.slot_mut(*id).filter(|slot| slot.is_open() && !slot.sent);
            if let Some(by) = slot.and_then(|slot| slot.cancelled_by.clone()) {
                self.end_task(*id, Ending::Cancelled { proof: None, by, seal: None }.into(), now);
            }
        }
    }

    /// Answers the operators whose orders hold: no task can start any more, and what the master decided is on the disk.
    pub(in crate::master::core) fn answer_orders(&mut self, now: Now) {
        if self.orders.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.orders);
        for order in &mut waiting {
            let is_late = now.monotonic >= order.until;
            if is_late {
                self.end_unsent(&order.waits_for, now);
            }
            let jobs = &self.jobs;
            let slot = |id: &TaskId| jobs.get(&id.job).and_then(|job| job.slot(id.index));
            let may_start = |slot: &Slot| !slot.cancel_heard && slot.task.state != TaskState::Running;
            let is_unrecorded = order.is_unrecorded;
            let is_lost = |slot: &Slot| {
                slot.settling.as_ref().is_some_and(|outcome| matches!(outcome.ending, Ending::Lost(_)))
            };
            order.nobody_answers |=
                order.waits_for.iter().filter_map(slot).any(|slot| may_start(slot) && is_lost(slot));
            order.waits_for.retain(|id| {
                slot(id).is_some_and(|slot| {
                    (slot.settling.is_some() && !is_unrecorded)
                        || (slot.is_open() && may_start(slot) && !is_late)
                })
            });
        }
        let is_over = |order: &mut PendingOrder| {
            order.waits_for.is_empty() && (now.monotonic >= order.until || !order.nobody_answers)
        };
        for order in waiting.extract_if(.., is_over) {
            self.reply(order.reply, order.answer);
        }
        self.orders = waiting;
    }
}
