//! Cancels tasks, and determines when the operator can be notified that no task starts any more.
//!
//! The master alone cannot end a task whose start may be on its way to the agent: the agent must answer, or
//! the permission to start must expire. Only then does the operator receive the answer, so that no task
//! starts after it.

use std::{collections::BTreeSet, time::Duration};

use super::{
    LiveJob,
    task::{Cancellation, Progress, TaskRow},
};
use crate::{
    domain::{
        agent::START_PERMISSION,
        control::Cancelled,
        ids::{Incarnation, JobReference, TaskId},
        job::TaskState,
        name::AgentName,
        outcome::Ending,
    },
    master::core::{
        Continuation, Core, audit,
        messages::{Effect, JobDenied, Now, PendingAnswer, Refusable, ReplyTo},
        stored::Write,
    },
};

/// An operator's order, which is answered when its tasks cannot start any more.
#[derive(Debug)]
pub(in crate::master::core) struct PendingOrder {
    answer: PendingAnswer,
    /// Tasks whose start may be on its way, or whose end is not on the disk.
    waits_for: BTreeSet<TaskId>,
    /// When no start can arrive any more, on the core's clock.
    until: Duration,
    /// Whether only the time limit ends the wait: one of the agents does not answer any more, because it was
    /// deleted or its task is lost.
    nobody_answers: bool,
    /// Whether the order cannot be recorded yet, which its answer reports. Then it waits only until no task
    /// can start.
    is_unrecorded: bool,
}

impl PendingOrder {
    pub(in crate::master::core) fn new<A: Refusable>(
        reply: ReplyTo<A>,
        answer: A,
        waits_for: BTreeSet<TaskId>,
        now: Now,
    ) -> Self {
        let (answer, until) = (PendingAnswer::new(reply, answer), now.monotonic + START_PERMISSION);
        Self { answer, waits_for, until, nobody_answers: false, is_unrecorded: false }
    }

    /// Returns the order for tasks of a deleted agent: no answer of that agent ends the wait.
    pub(in crate::master::core) fn of_deleted_agent(self) -> Self {
        Self { nobody_answers: !self.waits_for.is_empty(), ..self }
    }

    /// Returns the order as one that cannot be recorded yet. Its answer becomes a refusal with this reason.
    pub(in crate::master::core) fn unrecorded(self, reason: String) -> Self {
        Self { answer: self.answer.refuse(reason), is_unrecorded: true, ..self }
    }
}

impl Core {
    /// Returns the tasks of an agent whose permission to start may be on its way.
    pub(in crate::master::core) fn starting_on(&self, name: &AgentName, now: Now) -> BTreeSet<TaskId> {
        let starts = |id: &TaskId| self.jobs.row(*id).is_some_and(|row| row.may_be_starting(now));
        self.open_tasks_of(name).into_iter().filter(starts).collect()
    }

    /// Ends a task that this master has not sent, and never will. Shortly after the master's start, a
    /// permission of an earlier master may be on its way that a store restored from a backup does not
    /// contain. Then the task ends when that permission has expired, unless its agent reports the task
    /// before.
    pub(super) fn end_unstarted(&mut self, id: TaskId, ending: Ending, now: Now) {
        let Some(row) = self.jobs.open_row(id) else { return };
        if now.monotonic >= row.unsure_until {
            return self.end_task(id, ending.into(), now);
        }
        self.jobs.change(id, |row| {
            if !matches!(row.progress, Progress::Withheld { .. }) {
                row.progress = Progress::Withheld { ending, in_open_batch: row.is_in_open_batch() };
            }
        });
    }

    /// Ends the withheld tasks for which no permission of an earlier master can arrive any more.
    pub(super) fn end_withheld(&mut self, now: Now) {
        let due = |job: &LiveJob| -> Vec<(TaskId, Ending)> {
            let withheld = job.rows().iter().filter_map(|row| match &row.progress {
                Progress::Withheld { ending, .. } if now.monotonic >= row.unsure_until => {
                    Some((TaskId { job: job.job.id, index: row.task.index }, ending.clone()))
                }
                _ => None,
            });
            withheld.collect()
        };
        let due: Vec<(TaskId, Ending)> = self.jobs.values().flat_map(due).collect();
        for (id, ending) in due {
            self.end_task(id, ending.into(), now);
        }
    }

    pub(in crate::master::core) fn on_cancel(
        &mut self,
        job: JobReference,
        tasks: &BTreeSet<u32>,
        grace_ms: Option<u32>,
        by: &str,
        reply: ReplyTo<Result<Cancelled, JobDenied>>,
        now: Now,
    ) {
        let Some(found) = self.find_job(job) else {
            return self.reply(reply, Err(JobDenied::NotLive));
        };
        let (id, number) = (found.job.id, found.job.number);
        let grace_ms = grace_ms.unwrap_or(found.kill_grace_ms());
        let is_wanted =
            |row: &TaskRow| row.is_open() && (tasks.is_empty() || tasks.contains(&row.task.index));
        let open = found.indices_of(is_wanted);
        let mut answer = Cancelled { number, ordered: 0, stored: 0, grace_ms };
        let mut writes =
            vec![audit(now, by, "cancel", &format!("job {number}"), format!("{} tasks", open.len()))];
        if open.is_empty() {
            // Every task has ended: there is nothing to cancel.
            self.persist(writes, Continuation::MayBeLost);
            return self.reply(reply, Ok(answer));
        }
        // Applies also to orders that are sent later: on a new connection, or by the next master.
        let is_other_grace = found.kill_grace_ms() != grace_ms;
        if let Some(job) = self.jobs.get_mut(&id).filter(|_| is_other_grace) {
            job.options.kill_grace_ms = Some(grace_ms);
        }
        let mut waits_for = BTreeSet::new();
        for index in open {
            let task = TaskId { job: id, index };
            let Some(row) = self.jobs.row(task) else { continue };
            if row.is_unsent() && now.monotonic >= row.unsure_until {
                answer.ordered += 1;
                self.end_task(task, Ending::Cancelled { proof: None, by: by.into(), seal: None }.into(), now);
                continue;
            }
            if row.task.state != TaskState::Running {
                waits_for.insert(task);
            }
            match row.attached() {
                Some(session) => {
                    answer.ordered += 1;
                    let by = by.to_owned();
                    self.effects.push(Effect::Signal { session, id: task, by, grace_ms });
                }
                None => answer.stored += 1,
            }
            let stored = self.jobs.change(task, |row| {
                let by = row.cancelled_by().unwrap_or_else(|| by.into());
                row.cancellation = Some(Cancellation { by, is_acknowledged: false });
                row.to_store()
            });
            writes.extend(stored.map(|stored| Write::PutTask(id, stored)));
        }
        // The current options are written: values of variables may have been removed meanwhile, and must not
        // return.
        if let Some(job) = self.jobs.get(&id).filter(|_| is_other_grace) {
            writes.push(Write::PutOptions(id, Box::new(job.options.clone())));
        }
        let order = PendingOrder::new(reply, Ok(answer), waits_for, now);
        self.persist(writes, Continuation::Ordered(Box::new(order)));
        self.jobs.mark_changed(id);
    }

    /// Handles an agent's answer to an order to stop a task. The agent never starts a task that it does not
    /// know.
    pub(in crate::master::core) fn on_signal_answered(
        &mut self,
        id: TaskId,
        known: bool,
        incarnation: &Incarnation,
        now: Now,
    ) {
        let is_cancelled = self.jobs.change_open(id, |row| match &mut row.cancellation {
            Some(cancellation) => {
                cancellation.is_acknowledged |= known;
                true
            }
            None => false,
        });
        if is_cancelled == Some(true) && !known {
            self.end_unknown(id, incarnation, now);
        }
    }

    /// Ends cancelled tasks that this master never sent. Called when no permission of another master can
    /// arrive any more.
    fn end_unsent(&mut self, tasks: &BTreeSet<TaskId>, now: Now) {
        for id in tasks {
            let unsent = self.jobs.row(*id).filter(|row| row.is_unsent());
            if let Some(by) = unsent.and_then(TaskRow::cancelled_by) {
                self.end_task(*id, Ending::Cancelled { proof: None, by, seal: None }.into(), now);
            }
        }
    }

    /// Answers the orders that are complete: no task can start any more, and the outcomes that the master
    /// decided are on the disk.
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
            let row = |id: &TaskId| jobs.row(*id);
            let is_lost = |row: &TaskRow| matches!(&row.progress, Progress::Settling(outcome) if matches!(outcome.ending, Ending::Lost(_)));
            order.nobody_answers |=
                order.waits_for.iter().filter_map(row).any(|row| row.may_start() && is_lost(row));
            let is_unrecorded = order.is_unrecorded;
            order.waits_for.retain(|id| {
                row(id).is_some_and(|row| match row.progress {
                    Progress::Settling(_) => !is_unrecorded,
                    _ => row.is_open() && row.may_start() && !is_late,
                })
            });
        }
        let is_over = |order: &mut PendingOrder| {
            order.waits_for.is_empty() && (now.monotonic >= order.until || !order.nobody_answers)
        };
        for order in waiting.extract_if(.., is_over) {
            self.give(order.answer);
        }
        self.orders = waiting;
    }
}
