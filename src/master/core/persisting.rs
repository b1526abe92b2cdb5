//! Continues what waits for a write: answers a caller, or continues with a job, once the change is on the disk or has failed.
//! Makes no other decisions.

use super::{
    Core,
    jobs::PendingOrder,
    messages::{Effect, Now, Reply, ReplyTo, WriteDurability, WriteToken},
    stored::Write,
};
use crate::domain::{
    ids::{JobId, TaskId},
    revision::Revision,
};

/// What to do when a write has succeeded or failed.
#[derive(Debug)]
pub(super) enum Continuation {
    /// Answers the caller.
    Reply(ReplyTo, Box<Reply>),
    /// Begins the job.
    StartJob(JobId, ReplyTo),
    /// Sends the task, whose incarnation is recorded now.
    Dispatch(TaskId),
    /// Notifies the agent that it may forget the task.
    Outcome(TaskId),
    /// Does nothing: the start of a task is recorded for later readers.
    Started,
    /// Answers an operator who stopped tasks, once none of them can start any more.
    Ordered(Box<PendingOrder>),
    /// Notifies watchers that the job was deleted, and answers the caller.
    Deleted(JobId, ReplyTo),
    /// Does nothing, but the change must be written.
    MustBeWritten,
    /// Does nothing, and the change may be lost.
    MayBeLost,
}

impl Continuation {
    /// Returns what happens when the disk refuses the write. Only a `FailOnError` write is on the disk before memory changes.
    fn durability(&self) -> WriteDurability {
        match self {
            Self::StartJob(..) | Self::Deleted(..) => WriteDurability::FailOnError,
            Self::Reply(..) | Self::Dispatch(_) | Self::Ordered(_) | Self::MustBeWritten => {
                WriteDurability::RetryUntilWritten
            }
            // Until it is stored, the agent has it, or nobody was told.
            Self::Outcome(_) | Self::Started => WriteDurability::RetryBatched,
            Self::MayBeLost => WriteDurability::BestEffort,
        }
    }
}

impl Core {
    pub(super) fn persist(&mut self, writes: Vec<Write>, continuation: Continuation) {
        self.next_write += 1;
        if writes.iter().any(Write::ends_rights) {
            self.ending_rights.insert(self.next_write);
        }
        self.effects.push(Effect::Persist(self.next_write, writes, continuation.durability()));
        self.continuations.insert(self.next_write, continuation);
    }

    /// Ages of jobs were judged by a time, which is remembered.
    pub(super) fn on_judged(&mut self, at_ms: u64, reply: ReplyTo) {
        self.judged_ms = at_ms;
        self.persist(vec![Write::PutClock(at_ms)], Continuation::Reply(reply, Box::new(Reply::Count(0))));
    }

    /// The revision of the store that this core knows of.
    pub(super) fn store_revision(&self) -> Revision {
        Revision { epoch: self.epoch, number: self.revision }
    }

    pub(super) fn on_persisted(&mut self, token: WriteToken, revision: u64, now: Now) {
        self.revision = self.revision.max(revision);
        self.store_trouble = None;
        if self.ending_rights.remove(&token) {
            self.effects.push(Effect::Remember(Revision { epoch: self.epoch, number: revision }));
        }
        match self.continuations.remove(&token) {
            Some(Continuation::Reply(to, reply)) => self.effects.push(Effect::Reply(to, reply)),
            Some(Continuation::StartJob(id, reply)) => self.begin_job(id, reply, now),
            Some(Continuation::Dispatch(id)) => {
                self.incarnation_stored(id);
                self.dispatch(id, now);
            }
            Some(Continuation::Outcome(id)) => self.outcome_stored(id),
            Some(Continuation::Ordered(order)) => self.orders.push(*order),
            Some(Continuation::Deleted(id, to)) => {
                self.mark_deleted(id);
                self.reply(to, Reply::Count(1));
            }
            Some(Continuation::Started | Continuation::MustBeWritten | Continuation::MayBeLost) | None => {}
        }
    }

    pub(super) fn on_persist_delayed(&mut self, token: WriteToken, reason: String) {
        let said = format!(
            "it is done, but the master cannot record it yet: {reason}; it is recorded as soon as the disk takes it"
        );
        self.store_trouble = Some(reason);
        let Some(continuation) = self.continuations.get_mut(&token) else { return };
        match continuation {
            Continuation::Outcome(id) => {
                let id = *id;
                self.outcome_delayed(id);
            }
            Continuation::Reply(..) | Continuation::Ordered(_) => {
                match std::mem::replace(continuation, Continuation::MustBeWritten) {
                    Continuation::Reply(to, _) => self.reply(to, Reply::Refused(said)),
                    // It is done when nothing can start any more.
                    Continuation::Ordered(order) => self.orders.push(order.unrecorded(Reply::Refused(said))),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_persist_failed(&mut self, token: WriteToken, reason: String) {
        let said = format!("the master cannot record it: {reason}");
        self.ending_rights.remove(&token);
        match self.continuations.remove(&token) {
            Some(Continuation::Reply(to, _)) => self.reply(to, Reply::Refused(said)),
            Some(Continuation::Deleted(_, to)) => {
                self.store_trouble = Some(reason);
                self.reply(to, Reply::Refused(said));
            }
            Some(Continuation::StartJob(id, reply)) => {
                self.store_trouble = Some(reason);
                self.give_up_job(id, reply, &Reply::Refused(said));
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

    /// Forgets a job whose beginning is not on the disk, and answers everybody who asked for it.
    fn give_up_job(&mut self, id: JobId, reply: ReplyTo, answer: &Reply) {
        let also = self.jobs.remove(&id).map(|job| job.also_asked).unwrap_or_default();
        for to in also.into_iter().chain([reply]) {
            self.reply(to, answer.clone());
        }
    }

    /// Only a job can be there already: the same wish again, after it has ended.
    pub(super) fn on_persist_conflict(&mut self, token: WriteToken) {
        match self.continuations.remove(&token) {
            Some(Continuation::StartJob(id, reply)) => self.give_up_job(id, reply, &Reply::NotLive),
            Some(continuation) => {
                // Nothing but a job's beginning is answered so.
                self.continuations.insert(token, continuation);
                self.on_persist_failed(token, "it is recorded already".to_owned());
            }
            None => {}
        }
    }
}
