//! Decides the questions about a task, one after another, with what the disk knows of it.

use super::{
    Boottime, Cancelled, Core, Decision, DiskError, Effect, FinalRecord, Knowledge, OpenedAttach, Opener,
    StartEnd, Undated,
    task::{Progress, Question},
};
use crate::domain::{agent::START_PERMISSION, attach::StartPermission, ids::TaskId};

/// The reason that an agent on its master's machine gives when it refuses an operator's command.
const FOR_ADMINS_ONLY: &str = "this agent is on the master's machine, where a command could make its operator an administrator: \
                               it accepts those of administrators only, unless it was started with --trust-operators";

/// The end of a permission to start a task.
enum StartUntil {
    /// The task may not be started.
    Never,
    /// The task may be started until then.
    Until(Boottime),
    /// Unknown until more is known of the master's clock.
    Unknown,
}

impl Core {
    /// Adds a question about a task. It is decided after the questions before it.
    pub(super) fn ask(&mut self, id: TaskId, question: Question) {
        let task = self.tasks.entry(id).or_default();
        // The master sends an order to stop a task on each of its links, and repeats it when it has lost the
        // answer. Only one waits, in the place of the first one, so that their number is bounded.
        let is_cancel = |question: &Question| matches!(question, Question::Cancel(_));
        if is_cancel(&question)
            && let Some(waiting) = task.waiting.iter_mut().find(|waiting| is_cancel(waiting))
        {
            if let Question::Cancel(replaced) = std::mem::replace(waiting, question) {
                self.reply(replaced, Ok(Cancelled::Replaced));
            }
            return;
        }
        task.waiting.push_back(question);
        if task.current.is_none() {
            self.decide_next(id);
        }
    }

    /// Begins with the next question about a task. Forgets the task if there is nothing to keep.
    fn decide_next(&mut self, id: TaskId) {
        while let Some(task) = self.tasks.get_mut(&id) {
            let Some(question) = task.waiting.pop_front() else {
                if task.is_empty() {
                    self.tasks.remove(&id);
                }
                return;
            };
            let progress = match &question {
                Question::Finish(..) => Progress::Finishing,
                Question::Open { attach, reply, .. } => {
                    if let Some(by) = task.attempt.filter(|known| *known >= attach.attempt) {
                        self.effects.push(Effect::Opened(id, reply.ticket(), Ok(Decision::Superseded(by))));
                        continue;
                    }
                    Progress::LookingUp
                }
                Question::Promise { attempt, reply } if task.holder != Some(*attempt) => {
                    let reply = *reply;
                    self.reply(reply, Ok(None));
                    continue;
                }
                Question::Promise { .. } | Question::Cancel(_) => Progress::LookingUp,
            };
            self.effects.push(match &question {
                Question::Finish(ending, _) => Effect::Record(id, FinalRecord::Ending(ending.clone())),
                _ => Effect::LookUp(id),
            });
            task.current = Some((question, progress));
            return;
        }
    }

    fn take_current(&mut self, id: TaskId) -> Option<(Question, Progress)> {
        self.tasks.get_mut(&id)?.current.take()
    }

    fn set_current(&mut self, id: TaskId, question: Question, progress: Progress) {
        self.tasks.entry(id).or_default().current = Some((question, progress));
    }

    /// Continues with what the disk knows of a task.
    pub(super) fn looked_up(&mut self, id: TaskId, knowledge: Result<Knowledge, DiskError>) {
        let Some((question, progress)) = self.take_current(id) else { return };
        match (question, knowledge) {
            (Question::Open { attach, reply, date_by }, knowledge) => match (progress, knowledge) {
                (Progress::StartFailed(reason), knowledge) => {
                    self.start_failed(&attach, reply, &reason, knowledge);
                }
                (_, Ok(knowledge)) => self.decide_attach(attach, reply, date_by, knowledge),
                (_, Err(error)) => self.effects.push(Effect::Opened(id, reply.ticket(), Err(error))),
            },
            (question @ (Question::Promise { .. } | Question::Cancel(_)), Ok(Knowledge::Nothing)) => {
                self.promise(id, question);
            }
            (Question::Promise { reply, .. }, knowledge) => {
                let promised = knowledge.map(|knowledge| match knowledge {
                    Knowledge::Recorded(FinalRecord::NeverStarted(incarnation)) => Some(incarnation),
                    _ => None,
                });
                self.reply(reply, promised);
            }
            (Question::Cancel(reply), knowledge) => {
                let incarnation = self.incarnation.clone();
                let cancelled = knowledge.map(|knowledge| match knowledge {
                    Knowledge::Recorded(FinalRecord::NeverStarted(incarnation)) => {
                        Cancelled::NeverStarted(incarnation)
                    }
                    Knowledge::Recorded(FinalRecord::Ending(_)) => Cancelled::Ended(incarnation),
                    Knowledge::Spooled | Knowledge::Nothing => Cancelled::Spooled(incarnation),
                });
                self.reply(reply, cancelled);
            }
            // Its end is written without a look-up.
            (Question::Finish(_, reply), _) => self.reply(reply, Ok(())),
        }
        self.decide_next_if_idle(id);
    }

    fn decide_next_if_idle(&mut self, id: TaskId) {
        if self.tasks.get(&id).is_some_and(|task| task.current.is_none()) {
            self.decide_next(id);
        }
    }

    /// Writes the promise never to start a task, and answers when it is written.
    fn promise(&mut self, id: TaskId, question: Question) {
        let incarnation = self.incarnation.clone();
        self.effects.push(Effect::Record(id, FinalRecord::NeverStarted(incarnation.clone())));
        self.set_current(id, question, Progress::Promising(incarnation));
    }

    /// Determines until when a task may be started that is unknown to the disk.
    fn start_until(&self, attach: &OpenedAttach, date_by: Boottime) -> StartUntil {
        let is_own = attach.incarnation == self.incarnation;
        let Some(StartPermission { within, .. }) = attach.start.as_ref().filter(|_| is_own) else {
            return StartUntil::Never;
        };
        let sent = match attach.sent {
            None => Some(attach.arrived),
            Some(sent) => self.master_clock.and_then(|clock| clock.sent_at(sent, attach.arrived)),
        };
        let within = u64::try_from(START_PERMISSION.min(*within).as_millis()).unwrap_or(u64::MAX);
        match sent {
            Some(sent) => StartUntil::Until(sent.saturating_add(within)),
            None if self.now >= date_by => StartUntil::Until(0),
            None => StartUntil::Unknown,
        }
    }

    fn decide_attach(
        &mut self,
        mut attach: Box<OpenedAttach>,
        reply: Opener,
        date_by: Boottime,
        knowledge: Knowledge,
    ) {
        let id = attach.id;
        let start_until = match knowledge {
            Knowledge::Nothing => self.start_until(&attach, date_by),
            Knowledge::Spooled | Knowledge::Recorded(_) => StartUntil::Never,
        };
        if matches!(start_until, StartUntil::Unknown) {
            self.undated.push(Undated { attach, reply, until: date_by });
            return;
        }
        let task = self.tasks.entry(id).or_default();
        task.attempt = Some(attach.attempt);
        if task.holder.replace(attach.attempt).is_some() {
            self.effects.push(Effect::Supersede(id, attach.attempt));
        }
        let decision = match (knowledge, start_until) {
            (Knowledge::Spooled, _) => Decision::Resume,
            (Knowledge::Recorded(FinalRecord::Ending(ending)), _) => Decision::Recall(ending),
            (Knowledge::Recorded(FinalRecord::NeverStarted(incarnation)), _) => {
                Decision::NeverStarted(incarnation)
            }
            (Knowledge::Nothing, _) if attach.incarnation != self.incarnation => {
                let reason = attach.incarnation.loss_seen_by(&self.incarnation);
                Decision::OtherIncarnation { incarnation: self.incarnation.clone(), reason }
            }
            (Knowledge::Nothing, start_until) => match (start_until, attach.start.take()) {
                (StartUntil::Until(until), Some(StartPermission { spec, .. })) => {
                    let Some(refusal) = self.refusal(spec.by_admin, until) else {
                        self.effects.push(Effect::Start { id, spec: Box::new(spec), start_until: until });
                        return self.set_current(
                            id,
                            Question::Open { attach, reply, date_by },
                            Progress::Starting,
                        );
                    };
                    refusal
                }
                _ => return self.promise(id, Question::Open { attach, reply, date_by }),
            },
        };
        self.opened(id, reply, decision);
    }

    /// Returns why a task may not be started; `None` if it may.
    fn refusal(&self, by_admin: bool, until: Boottime) -> Option<Decision> {
        if self.now > until {
            Some(Decision::Expired)
        } else if self.is_stopping {
            Some(Decision::Refuse("the agent is stopping".to_owned()))
        } else if self.admins_only && !by_admin {
            Some(Decision::Refuse(FOR_ADMINS_ONLY.to_owned()))
        } else {
            None
        }
    }

    fn opened(&mut self, id: TaskId, reply: Opener, decision: Decision) {
        self.effects.push(Effect::Opened(id, reply.ticket(), Ok(decision)));
        // After the answer, so that a short command does not wait for a write.
        self.save_seen();
    }

    /// Continues when a record was written, or was refused by the disk.
    pub(super) fn recorded(&mut self, id: TaskId, result: Result<(), DiskError>) {
        let Some((question, progress)) = self.take_current(id) else { return };
        if result.is_ok()
            && let Some(task) = self.tasks.get_mut(&id)
        {
            // The disk knows the task now, so that an Attach with a lower attempt is answered and starts nothing.
            task.attempt = None;
        }
        match (question, progress) {
            (Question::Open { reply, .. }, Progress::Promising(incarnation)) => {
                let decision = match result {
                    Ok(()) => Decision::NeverStarted(incarnation),
                    Err(error) => Decision::Unwritten(error),
                };
                self.opened(id, reply, decision);
            }
            (Question::Promise { reply, .. }, Progress::Promising(incarnation)) => {
                self.reply(reply, result.map(|()| Some(incarnation)));
            }
            (Question::Cancel(reply), Progress::Promising(incarnation)) => {
                self.reply(reply, result.map(|()| Cancelled::NeverStarted(incarnation)));
            }
            (Question::Finish(_, reply), _) => {
                if result.is_ok() {
                    self.left_over.add(id, self.now);
                }
                self.reply(reply, result);
            }
            (question, progress) => {
                debug_assert!(false, "nothing was written for {question:?} ({progress:?})");
            }
        }
        self.decide_next_if_idle(id);
    }

    /// Continues when a start has succeeded or failed.
    pub(super) fn start_ended(&mut self, id: TaskId, end: StartEnd) {
        let Some((question, _)) = self.take_current(id) else { return };
        let decision = match end {
            StartEnd::Started => Decision::Started,
            StartEnd::Known => Decision::Resume,
            StartEnd::Expired => Decision::Expired,
            StartEnd::Failed(reason) => {
                // A process may have begun the task before it failed. Only the disk knows.
                self.set_current(id, question, Progress::StartFailed(reason));
                return self.effects.push(Effect::LookUp(id));
            }
        };
        if let Question::Open { reply, .. } = question {
            self.opened(id, reply, decision);
        }
        self.decide_next(id);
    }

    /// Continues with what the disk knows of a task that no process has confirmed to have started.
    fn start_failed(
        &mut self,
        attach: &OpenedAttach,
        reply: Opener,
        reason: &str,
        knowledge: Result<Knowledge, DiskError>,
    ) {
        let decision = match knowledge {
            Ok(Knowledge::Spooled) => Decision::Resume,
            Ok(Knowledge::Recorded(FinalRecord::Ending(ending))) => Decision::Recall(ending),
            Ok(Knowledge::Recorded(FinalRecord::NeverStarted(incarnation))) => {
                Decision::NeverStarted(incarnation)
            }
            // The look-up has found that the memory was removed, perhaps during the start.
            Ok(Knowledge::Nothing) if attach.incarnation != self.incarnation => Decision::MemoryRemoved,
            Ok(Knowledge::Nothing) => Decision::Refuse(format!("the agent cannot start it: {reason}")),
            Err(error) => {
                self.effects.push(Effect::Opened(attach.id, reply.ticket(), Err(error)));
                return self.attach_ended(attach.id, attach.attempt);
            }
        };
        self.opened(attach.id, reply, decision);
    }

    /// Ends the hold of an Attach on its task, unless a later one has the task.
    pub(super) fn attach_ended(&mut self, id: TaskId, attempt: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.holder == Some(attempt) {
            task.holder = None;
            self.effects.push(Effect::Release(id));
            if task.is_empty() {
                self.tasks.remove(&id);
            }
        }
    }
}
