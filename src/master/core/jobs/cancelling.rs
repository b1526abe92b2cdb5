//! Cancels tasks, and determines when the operator can be told that nothing starts any more.
//!
//! A task whose start may be on its way to its agent is not ended by a word of the master's: the agent has to answer, or
//! the permission to start has to expire. Only then is the operator answered, so that nothing starts after the answer.

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

/// An operator who waits until tasks cannot start any more.
#[derive(Debug)]
pub(in crate::master::core) struct PendingOrder {
    answer: PendingAnswer,
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
    pub(in crate::master::core) fn new<A: Refusable>(
        reply: ReplyTo<A>,
        answer: A,
        waits_for: BTreeSet<TaskId>,
        now: Now,
    ) -> Self {
        let (answer, until) = (PendingAnswer::new(reply, answer), now.monotonic + START_PERMISSION);
        Self { answer, waits_for, until, nobody_answers: false, is_unrecorded: false }
    }

    /// The same order when the agent of its tasks is deleted, so that no answer of that agent ends the wait.
    pub(in crate::master::core) fn of_deleted_agent(self) -> Self {
        Self { nobody_answers: !self.waits_for.is_empty(), ..self }
    }

    /// The same order when it cannot be recorded yet, which its answer says.
    pub(in crate::master::core) fn unrecorded(self, reason: String) -> Self {
        Self { answer: self.answer.refuse(reason), is_unrecorded: true, ..self }
    }
}

impl Core {
    /// Tasks of an agent whose permission to start may be on its way.
    pub(in crate::master::core) fn starting_on(&self, name: &AgentName, now: Now) -> BTreeSet<TaskId> {
        let starts = |id: &TaskId| self.jobs.row(*id).is_some_and(|row| row.may_be_starting(now));
        self.open_tasks_of(name).into_iter().filter(starts).collect()
    }

    /// Ends a task that this master has not sent, and never will. Just after the master's start an earlier one's
    /// permission may be on its way, of which a store that was restored from a backup knows nothing: then it is ended
    /// when that has expired, unless its agent tells of it before.
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

    /// Ends the tasks that waited until no earlier master's permission can arrive any more.
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
        // For what is sent later too: on a connection that comes back, or by the next master.
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
        // As they are now: values of variables may have been forgotten meanwhile, and must not come back.
        if let Some(job) = self.jobs.get(&id).filter(|_| is_other_grace) {
            writes.push(Write::PutOptions(id, Box::new(job.options.clone())));
        }
        let order = PendingOrder::new(reply, Ok(answer), waits_for, now);
        self.persist(writes, Continuation::Ordered(Box::new(order)));
        self.jobs.mark_changed(id);
    }

    /// An agent has answered an order to stop a task. What it does not know it never starts.
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

    /// Ends cancelled tasks that were never sent by this master, when no other one's permission can arrive any more.
    fn end_unsent(&mut self, tasks: &BTreeSet<TaskId>, now: Now) {
        for id in tasks {
            let unsent = self.jobs.row(*id).filter(|row| row.is_unsent());
            if let Some(by) = unsent.and_then(TaskRow::cancelled_by) {
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
