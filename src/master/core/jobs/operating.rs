//! Operations of operators on a live job: promote it at a gate, stop it, delete it.

use std::collections::BTreeSet;

use super::{LiveJob, PendingOrder, task::TaskRow};
use crate::{
    domain::{
        control::{Promoted, StoppedJob},
        ids::{JobId, JobReference, TaskId},
        outcome::Outcome,
        plan::GateState,
    },
    master::core::{
        Continuation, Core, audit,
        messages::{Denied, Effect, JobDenied, Now, ReplyTo},
        stored::Write,
    },
};

impl Core {
    fn active_job(&self, job: JobReference) -> Result<&LiveJob, JobDenied> {
        self.find_job(job).filter(|job| job.is_active()).ok_or(JobDenied::NotLive)
    }

    /// Lets a job continue that waits at a gate, by order of an operator.
    pub(in crate::master::core) fn on_promote(
        &mut self,
        job: JobReference,
        by: &str,
        reply: ReplyTo<Result<Promoted, JobDenied>>,
        now: Now,
    ) {
        let (id, number) = match self.active_job(job) {
            Ok(found) => (found.job.id, found.job.number),
            Err(denied) => return self.reply(reply, Err(denied)),
        };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let waits_for = match (&job.gate.state, job.pause_until) {
            (GateState::Held(reason), _) => format!("held: {reason}"),
            (GateState::Open, Some(_)) => "pausing".to_owned(),
            (GateState::Open | GateState::Stopped(_), _) => {
                return self.refuse(reply, format!("job {number} does not wait at a gate"));
            }
        };
        job.gate.state = GateState::Open;
        job.gate.forgiven = u32::try_from(job.tally().failed).unwrap_or(u32::MAX);
        job.differing = None;
        job.pause_until = job.pause_until.map(|_| now.monotonic);
        let has_run = |row: &TaskRow| row.task.state.outcome().is_some_and(Outcome::has_run);
        if !job.gate.accepted.is_empty() {
            job.gate.accepted = job.indices_of(has_run);
        }
        let is_over = job.tally().eligible == 0;
        if is_over && job.gate.accepted.is_empty() {
            // There is no output to compare with. The operator knows this, and lets the job continue without
            // a comparison.
            job.options.plan.stop_if.differs = false;
        }
        let batch = (job.gate.open_batch + 1 + u32::from(is_over)).min(job.batches());
        let gate = job.gate.clone();
        let writes = vec![
            Write::PutGate(id, gate.clone()),
            audit(now, by, "promote", &format!("job {number}"), waits_for),
        ];
        self.effects.push(Effect::PublishGate(id, gate));
        self.persist(writes, Continuation::answer(reply, Ok(Promoted { number, batch })));
        self.jobs.mark_changed(id);
    }

    /// Stops a job, by order of an operator: no more of its tasks start.
    pub(in crate::master::core) fn on_stop_job(
        &mut self,
        job: JobReference,
        by: &str,
        reply: ReplyTo<Result<StoppedJob, JobDenied>>,
        now: Now,
    ) {
        let found = match self.active_job(job) {
            Ok(found) => found,
            Err(denied) => return self.reply(reply, Err(denied)),
        };
        let (id, number) = (found.job.id, found.job.number);
        let skipped = u32::try_from(found.indices_of(TaskRow::is_unsent).len()).unwrap_or(u32::MAX);
        let starting = found.indices_of(|row| row.may_be_starting(now));
        let waits_for: BTreeSet<TaskId> =
            starting.into_iter().map(|index| TaskId { job: id, index }).collect();
        // The stopped gate is written first: the operator is answered when that is on the disk.
        self.stop_rest(id, &format!("{by} stopped the job"), now);
        let writes = vec![audit(now, by, "stop job", &format!("job {number}"), format!("{skipped} skipped"))];
        let order = PendingOrder::new(reply, Ok(StoppedJob { number, skipped }), waits_for, now);
        self.persist(writes, Continuation::Ordered(Box::new(order)));
    }

    /// Deletes a job that is over, by order of an operator or of retention.
    pub(in crate::master::core) fn on_delete_job(
        &mut self,
        job: JobId,
        reason: String,
        by: &str,
        reply: ReplyTo<Result<(), Denied>>,
        now: Now,
    ) {
        // The end of the job may not be on the disk yet. It is written before the deletion.
        if let Some(live) = self.jobs.get(&job).filter(|live| live.job.ended_ms.is_none()) {
            let number = live.job.number;
            let text = format!(
                "job {number} is not over; `sloth-runner job cancel {number}` ends it, then it can be deleted"
            );
            return self.refuse(reply, text);
        }
        let writes = vec![
            audit(now, by, "delete job", &job.to_string(), reason.clone()),
            Write::DeleteJob(job, reason),
        ];
        self.persist(writes, Continuation::Deleted(job, reply));
    }
}
