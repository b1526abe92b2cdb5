//! What waits until a write is on the disk: answers, and what may only happen then. Decides nothing else.

use super::{
    Core,
    jobs::PendingOrder,
    messages::{Effect, Keeping, Now, Reply, ReplyTo, WriteToken},
    stored::Write,
};
use crate::domain::ids::{JobId, TaskId};

/// What is to be done when a write is on the disk, or is not.
#[derive(Debug)]
pub(super) enum Parked {
    /// Answer.
    Reply(ReplyTo, Box<Reply>),
    /// Begin a job.
    StartJob(JobId, ReplyTo),
    /// Send a task whose incarnation is recorded now.
    Dispatch(TaskId),
    /// Tell the agent that it may forget the task.
    Outcome(TaskId),
    /// Nothing: it has happened, and nobody waits until it is written.
    Started,
    /// Answer an operator whose order was to stop tasks, once it holds.
    Ordered(Box<PendingOrder>),
    /// Tell watchers that a job is gone, and answer.
    Deleted(JobId, ReplyTo),
    /// Nothing, but it is to be written.
    Kept,
    /// Nothing: the registry's small print.
    Nothing,
}

impl Parked {
    /// What becomes of such a write that the disk does not take. Memory is ahead of the disk in all but what is `Asked`.
    fn keeping(&self) -> Keeping {
        match self {
            Self::StartJob(..) | Self::Deleted(..) => Keeping::Asked,
            Self::Reply(..) | Self::Dispatch(_) | Self::Ordered(_) | Self::Kept => Keeping::Kept,
            // Until it is stored, the agent has it, or nobody was told.
            Self::Outcome(_) | Self::Started => Keeping::AtLeisure,
            Self::Nothing => Keeping::Passing,
        }
    }
}

impl Core {
    pub(super) fn persist(&mut self, writes: Vec<Write>, parked: Parked) {
        self.next_write += 1;
        if writes.iter().any(Write::ends_rights) {
            self.ending_rights.insert(self.next_write);
        }
        self.effects.push(Effect::Persist(self.next_write, writes, parked.keeping()));
        self.parked.insert(self.next_write, parked);
    }

    pub(super) fn on_persisted(&mut self, token: WriteToken, revision: u64, now: Now) {
        self.revision = self.revision.max(revision);
        self.store_trouble = None;
        if self.ending_rights.remove(&token) {
            self.effects.push(Effect::Remember(self.epoch, revision));
        }
        match self.parked.remove(&token) {
            Some(Parked::Reply(to, reply)) => self.effects.push(Effect::Reply(to, reply)),
            Some(Parked::StartJob(id, reply)) => self.begin_job(id, reply, now),
            Some(Parked::Dispatch(id)) => {
                self.incarnation_stored(id);
                self.dispatch(id, now);
            }
            Some(Parked::Outcome(id)) => self.outcome_stored(id),
            Some(Parked::Ordered(order)) => self.orders.push(*order),
            Some(Parked::Deleted(id, to)) => {
                self.mark_deleted(id);
                self.reply(to, Reply::Count(1));
            }
            Some(Parked::Started | Parked::Kept | Parked::Nothing) | None => {}
        }
    }

    pub(super) fn on_persist_delayed(&mut self, token: WriteToken, reason: String) {
        let said = format!(
            "it is done, but the master cannot record it yet: {reason}; it is recorded as soon as the disk takes it"
        );
        self.store_trouble = Some(reason);
        let Some(parked) = self.parked.get_mut(&token) else { return };
        match parked {
            Parked::Outcome(id) => {
                let id = *id;
                self.outcome_delayed(id);
            }
            Parked::Reply(..) | Parked::Ordered(_) => match std::mem::replace(parked, Parked::Kept) {
                Parked::Reply(to, _) => self.reply(to, Reply::Refused(said)),
                // It is done when nothing can start any more.
                Parked::Ordered(order) => self.orders.push(order.unrecorded(Reply::Refused(said))),
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn on_persist_failed(&mut self, token: WriteToken, reason: String) {
        let said = format!("the master cannot record it: {reason}");
        self.ending_rights.remove(&token);
        match self.parked.remove(&token) {
            Some(Parked::Reply(to, _)) => self.reply(to, Reply::Refused(said)),
            Some(Parked::Deleted(_, to)) => {
                self.store_trouble = Some(reason);
                self.reply(to, Reply::Refused(said));
            }
            Some(Parked::StartJob(id, reply)) => {
                self.store_trouble = Some(reason);
                self.give_up_job(id, reply, &Reply::Refused(said));
            }
            Some(Parked::Nothing) | None => {}
            // The store keeps these until it has written them.
            Some(
                Parked::Dispatch(_)
                | Parked::Outcome(_)
                | Parked::Ordered(_)
                | Parked::Started
                | Parked::Kept,
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
        match self.parked.remove(&token) {
            Some(Parked::StartJob(id, reply)) => self.give_up_job(id, reply, &Reply::NotLive),
            Some(parked) => {
                // Nothing but a job's beginning is answered so.
                self.parked.insert(token, parked);
                self.on_persist_failed(token, "it is recorded already".to_owned());
            }
            None => {}
        }
    }
}
