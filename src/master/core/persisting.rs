//! Continues what waits for a write: answers a caller, or continues with a job, once the change is on the disk or has failed.
//! Makes no other decisions.

use super::{
    Core,
    jobs::{PendingOrder, Phase},
    messages::{Denied, Effect, JobStart, Now, PendingAnswer, Refusable, ReplyTo, WriteDurability, WriteId},
    stored::Write,
};
use crate::domain::{
    ids::{JobId, TaskId},
    revision::Revision,
    time::UnixMs,
};

/// What to do when a write has succeeded or failed.
#[derive(Debug)]
pub(super) enum Continuation {
    /// Answers the caller.
    Reply(PendingAnswer),
    /// Begins the job.
    StartJob(JobId, ReplyTo<JobStart>),
    /// Sends the task, whose incarnation is recorded now.
    Dispatch(TaskId),
    /// Notifies the agent that it may forget the task.
    Outcome(TaskId),
    /// Does nothing: the start of a task is recorded for later readers.
    Started,
    /// Answers an operator who stopped tasks, once none of them can start any more.
    Ordered(Box<PendingOrder>),
    /// Notifies watchers that the job was deleted, and answers the caller.
    Deleted(JobId, ReplyTo<Result<(), Denied>>),
    /// Does nothing, but the change must be written.
    MustBeWritten,
    /// Does nothing, and the change may be lost.
    MayBeLost,
}

impl Continuation {
    /// Gives a caller its answer, or a refusal when the disk refuses the write.
    pub(super) fn answer<A: Refusable>(reply: ReplyTo<A>, answer: A) -> Self {
        Self::Reply(PendingAnswer::new(reply, answer))
    }

    /// Returns what happens when the disk refuses the write. Only a `FailOnError` write is on the disk before memory changes.
    fn durability(&self) -> WriteDurability {
        match self {
            Self::StartJob(..) | Self::Deleted(..) => WriteDurability::FailOnError,
            Self::Reply(..) | Self::Dispatch(_) | Self::Ordered(_) | Self::MustBeWritten => {
                WriteDurability::RetryUntilWritten
            }
            // Until it is stored, the agent has it, or it was not reported.
            Self::Outcome(_) | Self::Started => WriteDurability::RetryBatched,
            Self::MayBeLost => WriteDurability::BestEffort,
        }
    }
}

impl Core {
    /// Writes changes in one transaction, and continues when it is on the disk or has failed. Returns the write's number.
    pub(super) fn persist(&mut self, writes: Vec<Write>, continuation: Continuation) -> WriteId {
        self.last_write = self.last_write.next();
        let id = self.last_write;
        if writes.iter().any(Write::revokes_rights) {
            self.ending_rights.insert(id);
        }
        self.effects.push(Effect::Persist(id, writes, continuation.durability()));
        self.continuations.insert(id, continuation);
        id
    }

    /// Stores the time that was used to determine the ages of jobs.
    pub(super) fn on_retention_time(&mut self, at_ms: UnixMs, reply: ReplyTo<Result<(), Denied>>) {
        self.judged_ms = at_ms;
        self.persist(vec![Write::PutClock(at_ms)], Continuation::answer(reply, Ok(())));
    }

    /// Returns the latest revision of the store that this core knows.
    pub(super) fn store_revision(&self) -> Revision {
        Revision { epoch: self.epoch, number: self.revision }
    }

    pub(super) fn on_persisted(&mut self, id: WriteId, revision: u64, now: Now) {
        self.revision = self.revision.max(revision);
        self.store_trouble = None;
        if self.ending_rights.remove(&id) {
            self.effects.push(Effect::Remember(Revision { epoch: self.epoch, number: revision }));
        }
        match self.continuations.remove(&id) {
            Some(Continuation::Reply(answer)) => self.give(answer),
            Some(Continuation::StartJob(job, reply)) => self.begin_job(job, reply, now),
            Some(Continuation::Dispatch(task)) => {
                self.life_recorded(task, id);
                self.dispatch(task, now);
            }
            Some(Continuation::Outcome(task)) => self.outcome_stored(task),
            Some(Continuation::Ordered(order)) => self.orders.push(*order),
            Some(Continuation::Deleted(job, to)) => {
                self.mark_deleted(job);
                self.reply(to, Ok(()));
            }
            Some(Continuation::Started | Continuation::MustBeWritten | Continuation::MayBeLost) | None => {}
        }
    }

    pub(super) fn on_persist_delayed(&mut self, id: WriteId, reason: String) {
        let said = format!(
            "it is done, but the master cannot record it yet: {reason}; it is recorded as soon as the disk takes it"
        );
        self.store_trouble = Some(reason);
        let Some(continuation) = self.continuations.get_mut(&id) else { return };
        match continuation {
            Continuation::Outcome(task) => {
                let task = *task;
                self.outcome_delayed(task);
            }
            Continuation::Reply(..) | Continuation::Ordered(_) => {
                match std::mem::replace(continuation, Continuation::MustBeWritten) {
                    Continuation::Reply(answer) => self.give(answer.refuse(said)),
                    // Answered when none of its tasks can start any more.
                    Continuation::Ordered(order) => self.orders.push(order.unrecorded(said)),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_persist_failed(&mut self, id: WriteId, reason: String) {
        let said = format!("the master cannot record it: {reason}");
        self.ending_rights.remove(&id);
        match self.continuations.remove(&id) {
            Some(Continuation::Reply(answer)) => self.give(answer.refuse(said)),
            Some(Continuation::Deleted(_, to)) => {
                self.store_trouble = Some(reason);
                self.refuse(to, said);
            }
            Some(Continuation::StartJob(job, reply)) => {
                self.store_trouble = Some(reason);
                self.give_up_job(job, reply, &JobStart::refused(said));
            }
            Some(Continuation::MayBeLost) | None => {}
            // The store keeps these until it has written them.
            Some(
                Continuation::Dispatch(_)
                | Continuation::Outcome(_)
                | Continuation::Ordered(_)
                | Continuation::Started
                | Continuation::MustBeWritten,
            ) => self.store_trouble = Some(reason),
        }
    }

    /// Removes a job whose beginning could not be written, and answers all callers that requested it.
    fn give_up_job(&mut self, id: JobId, reply: ReplyTo<JobStart>, answer: &JobStart) {
        let also_asked = match self.jobs.remove(&id).map(|job| job.phase) {
            Some(Phase::Starting { also_asked }) => also_asked,
            Some(Phase::Resumed | Phase::Begun) | None => Vec::new(),
        };
        for to in also_asked.into_iter().chain([reply]) {
            self.reply(to, answer.clone());
        }
    }

    /// Handles a write that exists already. Only a job can: the same request again, after the job has ended.
    pub(super) fn on_persist_conflict(&mut self, id: WriteId) {
        match self.continuations.remove(&id) {
            Some(Continuation::StartJob(job, reply)) => self.give_up_job(job, reply, &JobStart::Ended),
            Some(continuation) => {
                // The store reports a conflict only for the beginning of a job.
                self.continuations.insert(id, continuation);
                self.on_persist_failed(id, "it is recorded already".to_owned());
            }
            None => {}
        }
    }
}
