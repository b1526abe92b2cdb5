//! A job and its tasks in memory, and how they are shown and stored. Makes no decisions.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::waiting::Held;
use crate::{
    domain::{
        agent::{START_PERMISSION, START_WITHIN},
        bounded::Word,
        command::{KILL_GRACE_MS, TaskSpec},
        fingerprint::Fingerprint,
        ids::Incarnation,
        job::{Job, JobOptions, Task, TaskState, place_of},
        name::AgentName,
        outcome::{Ending, Outcome},
        plan::{Gate, GateState},
    },
    master::core::{
        messages::{Now, ReplyTo, SessionId},
        stored::{StoredJob, StoredTask, Write},
    },
};

/// The longest pause between two Attach calls that come to nothing.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// A job in memory: from its beginning until all its outcomes are on the disk.
#[derive(Debug)]
pub(in crate::master::core) struct LiveJob {
    pub(super) job: Job,
    pub(super) options: JobOptions,
    pub(super) slots: Vec<Slot>,
    /// Its beginning is on the disk.
    pub(super) begun: bool,
    /// The revision of its last change.
    pub(in crate::master::core) changed: u64,
    pub(super) gate: Gate,
    /// Opened tasks whose agents are there, in the order of their turns.
    pub(super) queue: VecDeque<u32>,
    /// Until when the next batch waits.
    pub(super) pause_until: Option<Duration>,
    /// Comparisons that are under way.
    pub(super) checking: u32,
    /// What made a comparison fail.
    pub(super) differing: Option<String>,
    /// The job is being gone through: nobody else continues with it until that is done.
    pub(super) opening: bool,
    /// The master was started anew, and has not looked yet how the job continues.
    pub(super) is_resumed: bool,
    /// Tasks that have not ended.
    pub(super) open: usize,
    /// Those of them whose batch is open.
    pub(super) opened_open: usize,
    /// Those of them that were taken, and sent or about to be.
    pub(super) in_flight: usize,
    /// Tasks that may still have to be started: the values of variables are kept for them.
    pub(super) unstarted: usize,
    /// Tasks that ended badly.
    pub(super) failed: u32,
    /// Tasks whose outcome is not on the disk.
    pub(super) unstored: usize,
    /// Those of them whose outcome the master decided, and that nobody is told of before it is on the disk.
    pub(super) settling: usize,
    /// When the last task ended, once that is being written.
    pub(super) end_ms: Option<u64>,
    /// Who else asked for this job before its beginning was on the disk.
    pub(in crate::master::core) also_asked: Vec<ReplyTo>,
    /// The index of each agent's task.
    pub(super) indices: HashMap<AgentName, u32>,
}

/// A task of it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that change apart from one another")]
pub(super) struct Slot {
    pub(super) task: Task,
    pub(super) fingerprint: Fingerprint,
    pub(super) incarnation: Option<Incarnation>,
    /// Its incarnation is being written.
    pub(super) recording: bool,
    pub(super) start_by: Duration,
    pub(super) start_by_ms: u64,
    pub(super) cancelled_by: Option<Word>,
    /// The agent has answered the order to cancel: it knows the task, and stops it.
    pub(super) cancel_heard: bool,
    /// The outcome that the master has decided on and that is being written. Nobody is told before it is on the disk:
    /// a master that dies in between may find another one.
    pub(super) settling: Option<Outcome>,
    pub(super) attempt: u64,
    pub(super) attached: Option<SessionId>,
    /// Its batch is open.
    pub(super) opened: bool,
    /// What it is held back for since it began.
    pub(super) held: Held,
    /// Since when it is in the queue, and its agent there.
    pub(super) queued_at: Option<Duration>,
    /// It was its turn.
    pub(super) in_flight: bool,
    /// It may have reached its agent with the permission to start.
    pub(super) sent: bool,
    /// Until when it may have been sent without that being known here: a store that was restored from a backup does not
    /// tell of the last permissions.
    pub(super) unsure_until: Duration,
    /// How it ends then: it is not to be started any more.
    pub(super) withheld: Option<Ending>,
    pub(super) failures: u32,
    /// Its outcome is on the disk.
    pub(super) stored: bool,
    /// It may still have to be started.
    pub(super) to_start: bool,
}

impl Slot {
    pub(super) fn new(task: Task, fingerprint: Fingerprint, attempt: u64) -> Self {
        Self {
            task,
            fingerprint,
            incarnation: None,
            recording: false,
            start_by: Duration::ZERO,
            start_by_ms: 0,
            cancelled_by: None,
            cancel_heard: false,
            settling: None,
            attempt,
            attached: None,
            opened: false,
            held: Held::default(),
            queued_at: None,
            in_flight: false,
            sent: false,
            unsure_until: Duration::ZERO,
            withheld: None,
            failures: 0,
            stored: false,
            to_start: true,
        }
    }

    /// Whether it has not ended, as far as the master has decided.
    pub(super) fn is_open(&self) -> bool {
        self.outcome().is_none()
    }

    /// Whether a permission to start may be on its way, this master's or an earlier one's.
    pub(super) fn may_be_starting(&self, now: Now) -> bool {
        let is_sent = self.sent || now.monotonic < self.unsure_until;
        self.is_open() && is_sent && self.task.state != TaskState::Running && !self.cancel_heard
    }

    /// How it ended, told or not.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.settling.as_ref().or(self.task.state.outcome())
    }

    pub(super) fn to_store(&self) -> StoredTask {
        let mut task = self.task.clone();
        if let Some(outcome) = &self.settling {
            task.state = TaskState::Ended(outcome.clone());
        }
        StoredTask {
            task,
            fingerprint: self.fingerprint,
            incarnation: self.incarnation.clone(),
            start_by_ms: self.start_by_ms,
            cancelled_by: self.cancelled_by.clone(),
        }
    }

    /// Moves on, where that is legal.
    pub(super) fn become_state(&mut self, next: TaskState) -> bool {
        let legal = self.task.state.may_become(&next);
        if legal {
            self.task.state = next;
        }
        legal
    }

    pub(super) fn delay(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            n => (Duration::from_millis(50) * 2u32.saturating_pow(n.min(10))).min(LONGEST_DELAY),
        }
    }
}

impl LiveJob {
    pub(super) fn new(job: Job, options: JobOptions, slots: Vec<Slot>) -> Self {
        let mut job = Self {
            gate: job.gate.clone(),
            job,
            options,
            slots,
            begun: false,
            changed: 0,
            queue: VecDeque::new(),
            pause_until: None,
            checking: 0,
            differing: None,
            opening: false,
            is_resumed: false,
            open: 0,
            opened_open: 0,
            in_flight: 0,
            unstarted: 0,
            failed: 0,
            unstored: 0,
            settling: 0,
            end_ms: None,
            also_asked: Vec::new(),
            indices: HashMap::new(),
        };
        job.unstored = job.slots.iter().filter(|slot| !slot.stored).count();
        job.indices = job.slots.iter().map(|slot| (slot.task.agent.clone(), slot.task.index)).collect();
        job.count_anew();
        job
    }

    /// Adds a task that is under way.
    pub(super) fn add(&mut self, slot: Slot) {
        self.indices.insert(slot.task.agent.clone(), slot.task.index);
        let place = self.slots.partition_point(|other| other.task.index < slot.task.index);
        self.slots.insert(place, slot);
        self.job.task_count += 1;
        self.open += 1;
        self.opened_open += 1;
        self.in_flight += 1;
        self.unstarted += 1;
        self.unstored += 1;
    }

    /// Notes that a task does not have to be started any more. What is then to be written of the job, where that was the last
    /// one: values of variables leave the store as soon as nobody needs them.
    pub(super) fn note_no_start(&mut self, index: u32) -> Option<Write> {
        let slot = self.slot_mut(index)?;
        self.unstarted -= usize::from(std::mem::take(&mut slot.to_start));
        if self.unstarted > 0 || self.options.environment.is_empty() {
            return None;
        }
        self.options.forget_values();
        Some(Write::PutOptions(self.job.id, Box::new(self.options.clone())))
    }

    /// Notes that a task's outcome is on the disk.
    pub(super) fn note_stored(&mut self, index: u32) {
        if let Some(slot) = self.slot_mut(index)
            && !std::mem::replace(&mut slot.stored, true)
        {
            self.unstored -= 1;
        }
    }

    pub(in crate::master::core) fn from_store(stored: StoredJob, first_attempt: u64, now: Now) -> Self {
        let open_batch = stored.job.gate.open_batch;
        let within = stored.options.start_within_ms.map(Duration::from_millis);
        // A clock that was set back gives nobody more time than was asked for.
        let longest = within.unwrap_or(START_WITHIN);
        let grace_ms = u64::try_from(START_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let is_under_way =
            |stored: &&StoredTask| stored.incarnation.is_some() && stored.task.state.outcome().is_none();
        let under_way = stored.tasks.iter().filter(is_under_way).count();
        let waits_for_turn = under_way >= stored.options.plan.most_at_once()
            || matches!(stored.job.gate.state, GateState::Held(_));
        let slot = |stored: StoredTask| {
            let sent = stored.incarnation.is_some();
            let left = |start_by_ms: u64| Duration::from_millis(start_by_ms.saturating_sub(now.unix_ms));
            let remaining = left(stored.start_by_ms).min(longest);
            let remaining = if !sent && waits_for_turn {
                // That it waits for its turn is not its agent's fault, and its deadline is put off by that later.
                remaining.max(START_WITHIN)
            } else if !sent && within.is_none() {
                // Unless somebody said for how long, an agent is given time to come back to a master as well.
                left(stored.start_by_ms.saturating_add(grace_ms)).min(longest)
            } else {
                remaining
            };
            let opened = stored.task.batch <= open_batch;
            let is_open = stored.task.state.outcome().is_none();
            let is_running = stored.task.state == TaskState::Running;
            let mut task = stored.task;
            if sent && is_open {
                task.no_contact_since_ms = Some(now.unix_ms);
            }
            Slot {
                task,
                fingerprint: stored.fingerprint,
                incarnation: stored.incarnation,
                recording: false,
                start_by: now.monotonic + remaining,
                start_by_ms: stored.start_by_ms,
                cancelled_by: stored.cancelled_by,
                cancel_heard: false,
                settling: None,
                attempt: first_attempt,
                attached: None,
                opened,
                held: Held::default(),
                queued_at: None,
                in_flight: sent && is_open,
                sent,
                unsure_until: now.monotonic + START_PERMISSION,
                withheld: None,
                failures: 0,
                stored: !is_open,
                to_start: is_open && !is_running,
            }
        };
        let slots = stored.tasks.into_iter().map(slot).collect();
        Self { begun: true, is_resumed: true, ..Self::new(stored.job, stored.options, slots) }
    }

    pub(super) fn place(&self, index: u32) -> Option<usize> {
        place_of(&self.slots, index, |slot| slot.task.index)
    }

    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(self.place(index)?)
    }

    pub(super) fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let place = self.place(index)?;
        self.slots.get_mut(place)
    }

    pub(in crate::master::core) fn is_active(&self) -> bool {
        self.open > 0
    }

    #[cfg(test)]
    pub(in crate::master::core) fn stop_for_test(&mut self, reason: &str) {
        self.gate.state = crate::domain::plan::GateState::Stopped(reason.into());
    }

    #[cfg(test)]
    pub(in crate::master::core) fn spec_for_test(&self) -> TaskSpec {
        self.spec()
    }

    #[cfg(test)]
    pub(in crate::master::core) fn stored_tasks(&self) -> Vec<StoredTask> {
        self.slots.iter().map(Slot::to_store).collect()
    }

    /// The job as it is shown.
    pub(in crate::master::core) fn view(&self) -> Job {
        Job { tasks: self.tasks().cloned().collect(), ..self.summary() }
    }

    /// Its tasks as they are shown.
    pub(in crate::master::core) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.slots.iter().map(|slot| &slot.task)
    }

    pub(in crate::master::core) fn number(&self) -> u64 {
        self.job.number
    }

    pub(in crate::master::core) fn options(&self) -> &JobOptions {
        &self.options
    }

    pub(in crate::master::core) fn operator(&self) -> &str {
        &self.job.operator
    }

    pub(in crate::master::core) fn begun(&self) -> bool {
        self.begun
    }

    /// The job without its tasks, as it is shown in lists.
    pub(in crate::master::core) fn summary(&self) -> Job {
        let count = |wanted: fn(&Slot) -> bool| {
            u32::try_from(self.slots.iter().filter(|slot| wanted(slot)).count()).unwrap_or(u32::MAX)
        };
        let succeeded = |slot: &Slot| slot.task.state.outcome().is_some_and(Outcome::is_success);
        Job {
            succeeded: count(succeeded),
            unfinished: count(|slot| slot.task.state.outcome().is_none()),
            gate: self.gate.clone(),
            ..self.job.clone()
        }
    }

    /// Whether it has ended, and as that is asked for in a list.
    pub(super) fn has_ended_as(&self, outcome: &str) -> bool {
        let all_well =
            self.slots.iter().all(|slot| slot.task.has_succeeded()) && self.job.missed().next().is_none();
        match outcome {
            "" => true,
            "running" => false,
            "ok" => all_well,
            "failed" => !all_well,
            word => {
                self.slots.iter().any(|slot| slot.outcome().is_some_and(|outcome| outcome.word() == word))
            }
        }
    }

    pub(super) fn spec(&self) -> TaskSpec {
        TaskSpec {
            job_number: self.job.number,
            operator: self.job.operator.clone(),
            target: self.job.target.clone(),
            command: self.job.command.clone(),
            environment: self.options.environment.clone(),
            working_directory: self.options.working_directory.clone(),
            timeout_ms: self.options.timeout_ms,
            kill_grace_ms: self.kill_grace_ms(),
            input: self.options.input.clone(),
            by_admin: self.options.by_admin,
            seal: None,
        }
    }

    pub(super) fn kill_grace_ms(&self) -> u32 {
        self.options.kill_grace_ms.unwrap_or(KILL_GRACE_MS)
    }
}
