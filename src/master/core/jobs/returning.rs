//! Reconciles the tasks of a returning agent with the store: outcomes that were never handed over, facts
//! after an outcome, and jobs that the store lost because it was restored from a backup.

use std::time::Duration;

use super::{
    LiveJob,
    live::Phase,
    task::{Progress, StartLife, TaskRow},
};
use crate::{
    domain::{
        groups::mask::Masks,
        ids::TaskId,
        job::{Job, JobOptions, Overflow, Task, TaskState},
        name::AgentName,
        plan::Gate,
    },
    master::core::{
        Continuation, Core, audit,
        messages::{AttachOrder, Effect, Now, SessionId},
        stored::{KnownTask, StoredJob, StoredJobNumber, StoredTaskState, Write},
    },
};

/// Offset of the attempts for tasks that are not live any more. They are above every attempt that a task had
/// in this term while it was live, and each is above the one before.
const FACTS_ATTEMPTS: u64 = 1 << 23;

/// Delay before an agent is asked again for the facts and the output of a task that has ended.
pub(super) const RECALL_DELAY: Duration = Duration::from_secs(1);

impl Core {
    pub(in crate::master::core) fn on_inventory(
        &mut self,
        session: SessionId,
        known: Vec<KnownTask>,
        now: Now,
    ) {
        self.on_contact(session, now);
        let Some(name) = self.sessions.get(&session).cloned() else { return };
        let is_live = |id: TaskId| self.jobs.open_row(id).is_some();
        let (live, unknown): (Vec<_>, Vec<_>) = known.into_iter().partition(|known| is_live(known.id));
        for known in live.into_iter().filter(|known| known.is_proved) {
            self.note_as_sent(&name, known.id, now);
        }
        if !unknown.is_empty() {
            self.effects.push(Effect::LookUp(session, name, unknown));
        }
    }

    /// Records that an agent has a task that was never sent according to the store, which was restored from a
    /// backup. Whatever the store says about it, the task has started, and it is attached like any other
    /// task.
    fn note_as_sent(&mut self, name: &AgentName, id: TaskId, now: Now) {
        let Some(row) = self.agents.get(name) else { return };
        let Some(open) = &row.session else { return };
        let (incarnation, fingerprint) = (open.incarnation.clone(), row.stored.fingerprint);
        let is_believed_unsent = |row: &TaskRow| {
            let is_its_own = row.task.agent == *name && row.fingerprint == fingerprint;
            is_its_own && row.is_unsent() && !matches!(row.life, StartLife::Writing(..))
        };
        if !self.jobs.row(id).is_some_and(is_believed_unsent) {
            return;
        }
        let stored = self.jobs.change(id, |row| {
            row.life = StartLife::Recorded(incarnation);
            row.progress = Progress::Dispatched { attached: None };
            row.wait_for_nothing();
            row.to_store()
        });
        let writes = stored.into_iter().map(|stored| Write::PutTask(id.job, stored)).collect();
        self.persist(writes, Continuation::MustBeWritten);
        self.dispatch(id, now);
    }

    pub(in crate::master::core) fn on_looked_up(
        &mut self,
        session: SessionId,
        found: Vec<(KnownTask, StoredTaskState)>,
        now: Now,
    ) {
        let Some(name) = self.sessions.get(&session).cloned() else { return };
        for (known, in_store) in found {
            match in_store {
                StoredTaskState::Ended => self.recall(&name, session, known.id, Duration::ZERO, false),
                StoredTaskState::Deleted => self.recall(&name, session, known.id, Duration::ZERO, true),
                // The outcome is decided, but was not on the disk yet: the agent is asked again later.
                StoredTaskState::Open => self.recall(&name, session, known.id, RECALL_DELAY, false),
                // The actor has recorded these.
                StoredTaskState::Foreign | StoredTaskState::Unproved => {}
                StoredTaskState::Nothing { number } => self.recover(&name, known, number, now),
            }
        }
    }

    /// Attaches a task that has ended, to receive its late facts and its remaining output, and to let the
    /// agent forget it.
    pub(super) fn recall(
        &mut self,
        name: &AgentName,
        session: SessionId,
        id: TaskId,
        delay: Duration,
        discard: bool,
    ) {
        self.facts_attempts += 1;
        let attempt = self.first_attempt() + FACTS_ATTEMPTS + self.facts_attempts;
        let Some(row) = self.agents.get(name) else { return };
        let Some(open) = &row.session else { return };
        let (incarnation, fingerprint) = (open.incarnation.clone(), row.stored.fingerprint);
        let order = AttachOrder {
            id,
            fingerprint,
            session,
            attempt,
            start: None,
            incarnation,
            revision: self.store_revision(),
            delay,
            output_cap: self.policy.output_cap,
            overflow: Overflow::Gap,
            is_recall: true,
            discard,
            is_fed: false,
        };
        self.effects.push(Effect::Attach(Box::new(order)));
    }

    /// Recreates a job from the proof of one agent. The tasks of other agents are added when those agents
    /// return.
    fn recover(&mut self, name: &AgentName, known: KnownTask, in_store: StoredJobNumber, now: Now) {
        let Some(row) = self.agents.get(name) else { return };
        let Some(open) = &row.session else { return };
        let KnownTask { id, spec, started_ms, is_proved: _ } = known;
        let task = Task { state: TaskState::Dispatched, ..Task::queued(id.index, name.clone()) };
        if self.jobs.row(id).is_some() {
            // The task has ended, but its outcome is not on the disk yet.
            return;
        }
        let recovered = TaskRow {
            progress: Progress::Dispatched { attached: None },
            life: StartLife::Recorded(open.incarnation.clone()),
            ..TaskRow::new(task, row.stored.fingerprint, self.first_attempt())
        };
        let task = recovered.to_store();
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.add(recovered);
        } else {
            let number = match in_store {
                StoredJobNumber::Is(number) => number,
                StoredJobNumber::Free if self.jobs.numbered(spec.job_number).is_none() => spec.job_number,
                // This master has given the number to another job since the store was restored.
                StoredJobNumber::Free | StoredJobNumber::Taken => self.last_number + 1,
            };
            self.last_number = self.last_number.max(number);
            self.last_begun = self.last_begun.max(number);
            let job = Job {
                id: id.job,
                number,
                operator: spec.operator,
                plain_name: false,
                target: spec.target,
                command: spec.command,
                created_ms: started_ms.min(now.unix_ms),
                ended_ms: None,
                tasks: Vec::new(),
                task_count: 1,
                succeeded: 0,
                unfinished: 1,
                left_out: Vec::new(),
                gate: Gate::default(),
                masks: Masks::default(),
                command_left_out: 0,
            };
            let options = JobOptions {
                recovered: true,
                // The task was started: the values are not needed any more.
                forgotten: spec.environment.into_iter().map(|variable| variable.name).collect(),
                working_directory: spec.working_directory,
                timeout_ms: spec.timeout_ms,
                kill_grace_ms: Some(spec.kill_grace_ms),
                input: spec.input,
                by_admin: spec.by_admin,
                ..JobOptions::default()
            };
            let mut live = LiveJob::new(job, options, vec![recovered]);
            live.phase = Phase::Begun;
            self.jobs.insert(live);
            self.mark_begun(id.job);
        }
        let Some(job) = self.jobs.get(&id.job) else { return };
        let stored = StoredJob { job: job.summary(), options: job.options.clone(), tasks: vec![task] };
        let subject = format!("job {}", stored.job.number);
        let detail = format!("from {name}: the store did not know it");
        let writes = vec![
            Write::Recover(Box::new(stored)),
            audit(now, "reconciliation", "take back", &subject, detail),
        ];
        self.persist(writes, Continuation::MustBeWritten);
        self.dispatch(id, now);
    }
}
