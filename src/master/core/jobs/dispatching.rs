//! Sends tasks to their agents, and handles their starts and the ends of their Attaches.

use std::time::Duration;

use super::{
    returning::RECALL_DELAY,
    task::{Progress, StartLife},
};
use crate::{
    domain::{
        ids::{Incarnation, TaskId},
        job::TaskState,
        plan::GateState,
    },
    master::core::{
        Continuation, Core,
        messages::{AttachOrder, Effect, Now, SessionId, WriteId},
        stored::{StoredTask, Write},
    },
};

/// Number of low bits of an attempt, which count within one term. The bits above them are the term.
const ATTEMPT_BITS: u32 = 24;
/// An attempt that no master reaches. A report of this attempt or of a higher one is false.
const MAX_ATTEMPT: u64 = 1 << 62;

impl Core {
    /// Returns the number below all attempts of this master. The term is in the upper bits, so that attempts
    /// of a later master supersede those of an earlier one that are still on their way.
    pub(in crate::master::core) fn first_attempt(&self) -> u64 {
        self.term << ATTEMPT_BITS
    }

    /// Attaches an admitted task, if its agent is connected and it is not attached yet. The incarnation of
    /// the agent that may start the task is on the disk before the task is sent.
    pub(in crate::master::core) fn dispatch(&mut self, id: TaskId, now: Now) {
        let revision = self.store_revision();
        let Some(job) = self.jobs.get(&id.job).filter(|job| job.has_begun()) else { return };
        let Some(row) = job.row(id.index).filter(|row| row.is_admitted() && row.attached().is_none()) else {
            return;
        };
        let agent = self.agents.get(&row.task.agent);
        let Some(agent) = agent.filter(|agent| agent.stored.fingerprint == row.fingerprint) else { return };
        let Some(session) = &agent.session else { return };
        let incarnation = match &row.life {
            StartLife::Recorded(life) if row.is_dispatched() || *life == session.incarnation => life.clone(),
            StartLife::Writing(life, _) if *life == session.incarnation => return,
            StartLife::Unknown | StartLife::Writing(..) | StartLife::Recorded(_) => {
                let life = session.incarnation.clone();
                return self.record_life(id, life);
            }
        };
        let may_start = agent.stored.ahead.is_none()
            && agent.stored.drain.is_none()
            && !matches!(job.gate.state, GateState::Stopped(_))
            && row.cancellation.is_none()
            && row.task.state != TaskState::Running
            && session.incarnation == incarnation
            && now.monotonic < row.start_by;
        let most = self.policy.output_cap;
        let order = AttachOrder {
            id,
            fingerprint: row.fingerprint,
            session: session.id,
            attempt: row.attempt + 1,
            start: may_start.then(|| (job.spec(), row.start_by)),
            incarnation,
            revision,
            delay: row.attach_delay(),
            output_cap: job.options.output_cap.map_or(most, |asked| asked.min(most)),
            overflow: job.options.overflow,
            is_recall: false,
            discard: false,
            is_fed: job.options.input.is_fed(),
        };
        self.jobs.change(id, |row| {
            row.attempt = order.attempt;
            row.progress = Progress::Dispatched { attached: Some(order.session) };
            row.task.no_contact_since_ms = None;
            row.wait_for_nothing();
            row.show(TaskState::Dispatched);
        });
        self.effects.push(Effect::Attach(Box::new(order)));
        self.publish(id);
    }

    /// Records which incarnation of the agent may start a task. The task is sent when the record is on the
    /// disk.
    fn record_life(&mut self, id: TaskId, life: Incarnation) {
        let Some(row) = self.jobs.row(id) else { return };
        let stored = StoredTask { incarnation: Some(life.clone()), ..row.to_store() };
        let write = self.persist(vec![Write::PutTask(id.job, stored)], Continuation::Dispatch(id));
        self.jobs.change(id, |row| row.life = StartLife::Writing(life, write));
    }

    /// Notes that the incarnation that may start a task is on the disk, unless a newer one is being written.
    pub(in crate::master::core) fn life_recorded(&mut self, id: TaskId, write: WriteId) {
        self.jobs.change(id, |row| {
            if let StartLife::Writing(life, latest) = &row.life
                && *latest == write
            {
                row.life = StartLife::Recorded(life.clone());
            }
        });
    }

    pub(in crate::master::core) fn on_task_started(
        &mut self,
        id: TaskId,
        attempt: u64,
        elapsed_ms: u64,
        now: Now,
    ) {
        if !self.is_current(id, attempt) {
            return;
        }
        let started = self.jobs.change(id, |row| {
            row.failures = 0;
            let is_new = row.show(TaskState::Running);
            let started_ms =
                *row.task.started_ms.get_or_insert(now.unix_ms - Duration::from_millis(elapsed_ms));
            (is_new, started_ms, row.cancelled_by().zip(row.attached()))
        });
        let Some((is_new, started_ms, order)) = started else { return };
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        if let Some((by, session)) = order {
            let grace_ms = job.kill_grace_ms();
            self.effects.push(Effect::Signal { session, id, by: by.into(), grace_ms });
        }
        if is_new {
            // A restarted master must not permit the start again, even if the agent has forgotten the task.
            let mut writes = vec![Write::StartTask(id, started_ms)];
            writes.extend(job.forget_values());
            self.persist(writes, Continuation::Started);
        }
        self.publish(id);
    }

    /// Reports whether an Attach is the latest of an open task. Reports of earlier Attaches change nothing.
    pub(super) fn is_current(&self, id: TaskId, attempt: u64) -> bool {
        self.jobs.open_row(id).is_some_and(|row| row.attempt == attempt)
    }

    pub(in crate::master::core) fn on_attach_lost(
        &mut self,
        id: TaskId,
        session: SessionId,
        attempt: u64,
        superseded_by: Option<u64>,
        now: Now,
    ) {
        if self.jobs.open_row(id).is_none() {
            // The task has ended, but was not handed over: it is recalled again, unless another Attach
            // superseded this one.
            if superseded_by.is_none()
                && let Some(name) = self.sessions.get(&session).cloned()
            {
                self.recall(&name, session, id, RECALL_DELAY, false);
            }
            return;
        }
        if !self.is_current(id, attempt) {
            return;
        }
        self.jobs.change(id, |row| {
            row.detach();
            row.failures = row.failures.saturating_add(1);
            if let Some(by) = superseded_by.filter(|by| *by < MAX_ATTEMPT) {
                // An attempt of another master: this store was restored from a backup, and its terms repeat.
                row.attempt = row.attempt.max(by);
            }
        });
        self.dispatch(id, now);
    }
}
