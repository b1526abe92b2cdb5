//! Cancelling: orders to tasks, and when an operator may be told that they hold.
//!
//! A task whose start may be on its way to its agent is not cancelled by a word of the master's: the agent has to answer,
//! or the permission to start has to expire. Only then is the operator answered, so that nothing starts after the answer.

use std::{collections::BTreeSet, time::Duration};

use super::LiveRun;
use crate::{
    domain::{
        agent::START_PERMISSION,
        ids::{Incarnation, RunReference, TaskId},
        outcome::Ending,
        run::TaskState,
    },
    master::core::{
        Core, Parked, audit,
        messages::{Effect, Now, Reply, ReplyTo},
        stored::Write,
    },
};

/// An operator who waits until tasks cannot start any more.
#[derive(Debug)]
pub(in crate::master::core) struct PendingCancel {
    /// Who waits.
    pub(in crate::master::core) reply: ReplyTo,
    answer: Reply,
    /// Tasks whose start may be on its way.
    waits_for: BTreeSet<TaskId>,
    /// When no such start can arrive any more.
    until: Duration,
}

impl Core {
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
        let wanted =
            |slot: &&super::Slot| slot.is_open() && (tasks.is_empty() || tasks.contains(&slot.task.index));
        let open: Vec<u32> = found.slots.iter().filter(wanted).map(|slot| slot.task.index).collect();
        let (mut told, mut stored) = (0, 0);
        let mut waits_for = BTreeSet::new();
        let mut writes =
            vec![audit(now, by, "cancel", &format!("run {number}"), format!("{} tasks", open.len()))];
        // Nobody goes on with the run, or ends it for its failures, while it is being cancelled.
        if let Some(run) = self.runs.get_mut(&id) {
            run.opening = true;
        }
        for index in open {
            let task = TaskId { run: id, index };
            let Some(slot) = self.slot_mut(task) else { continue };
            if !slot.sent && now.monotonic >= slot.unsure_until {
                told += 1;
                self.end_task(task, Ending::Cancelled { proof: None, by: by.to_owned() }.into(), now);
                continue;
            }
            slot.cancelled_by.get_or_insert_with(|| by.to_owned());
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
        let answer = Reply::Cancelled { told, stored, number };
        let until = now.monotonic + START_PERMISSION;
        self.persist(writes, Parked::Cancelled(Box::new(PendingCancel { reply, answer, waits_for, until })));
        if let Some(run) = self.runs.get_mut(&id) {
            run.opening = false;
        }
        self.go_on(id, now);
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
                self.end_task(*id, Ending::Cancelled { proof: None, by }.into(), now);
            }
        }
    }

    /// Answers the operators whose orders nothing can run away from any more.
    pub(in crate::master::core) fn answer_cancels(&mut self, now: Now) {
        if self.cancels.is_empty() {
            return;
        }
        let may_start = |runs: &std::collections::BTreeMap<_, LiveRun>, id: &TaskId| {
            let slot = runs.get(&id.run).and_then(|run| run.slot(id.index));
            slot.is_some_and(|slot| {
                slot.is_open() && !slot.cancel_heard && slot.task.state != TaskState::Running
            })
        };
        let mut waiting = std::mem::take(&mut self.cancels);
        for cancel in &mut waiting {
            cancel.waits_for.retain(|id| may_start(&self.runs, id));
            if now.monotonic >= cancel.until {
                self.end_unsent(&cancel.waits_for, now);
            }
        }
        let is_over =
            |cancel: &mut PendingCancel| cancel.waits_for.is_empty() || now.monotonic >= cancel.until;
        for cancel in waiting.extract_if(.., is_over) {
            self.reply(cancel.reply, cancel.answer);
        }
        self.cancels = waiting;
    }
}
