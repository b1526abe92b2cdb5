//! A job in memory with its tasks, and how it is shown. Makes no decisions.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::task::{Progress, Tally, TaskRow};
use crate::{
    domain::{
        command::{KILL_GRACE_MS, TaskSpec},
        job::{Job, JobOptions, Task, place_of},
        name::AgentName,
        outcome::Outcome,
        plan::Gate,
        time::UnixMs,
    },
    master::core::{
        messages::{EndedJob, JobStart, Now, ReplyTo},
        stored::Write,
    },
};

/// The phase of a job in memory.
#[derive(Debug)]
pub(in crate::master::core) enum Phase {
    /// Its beginning is being written.
    Starting {
        /// Further callers that requested the same job meanwhile.
        also_asked: Vec<ReplyTo<JobStart>>,
    },
    /// It was restored when the master started, and was not processed since.
    Resumed,
    /// It has begun.
    Begun,
}

/// A job in memory: from its beginning until all its outcomes are on the disk.
#[derive(Debug)]
pub(in crate::master::core) struct LiveJob {
    pub(super) job: Job,
    pub(super) options: JobOptions,
    pub(in crate::master::core) phase: Phase,
    /// By index, which can have gaps in a recovered job.
    tasks: Vec<TaskRow>,
    /// The sum over the tasks.
    tally: Tally,
    /// The index of each agent's task.
    indices: HashMap<AgentName, u32>,
    /// The revision of its last change.
    pub(in crate::master::core) changed: u64,
    pub(super) gate: Gate,
    /// Eligible tasks whose agents are connected, in the order of their turns.
    queue: VecDeque<u32>,
    /// When the pause before the next batch ends, on the core's clock.
    pub(super) pause_until: Option<Duration>,
    /// Comparisons that are under way.
    pub(super) checking: u32,
    /// The description of the difference that a comparison found.
    pub(super) differing: Option<String>,
    /// When the last task ended, in milliseconds since the Unix epoch. Set when this is being written.
    pub(super) end_ms: Option<UnixMs>,
}

impl LiveJob {
    /// Creates a job whose beginning is not on the disk.
    pub(super) fn new(job: Job, options: JobOptions, tasks: Vec<TaskRow>) -> Self {
        let mut live = Self {
            gate: job.gate.clone(),
            job,
            options,
            phase: Phase::Starting { also_asked: Vec::new() },
            indices: tasks.iter().map(|row| (row.task.agent.clone(), row.task.index)).collect(),
            tasks,
            tally: Tally::default(),
            changed: 0,
            queue: VecDeque::new(),
            pause_until: None,
            checking: 0,
            differing: None,
            end_ms: None,
        };
        live.tally = live.counted();
        live
    }

    /// Adds a task that a returning agent reported.
    pub(super) fn add(&mut self, row: TaskRow) {
        self.indices.insert(row.task.agent.clone(), row.task.index);
        self.tally += Tally::of(&row);
        let place = self.tasks.partition_point(|other| other.task.index < row.task.index);
        self.tasks.insert(place, row);
        self.job.task_count += 1;
    }

    /// Counts the tally from scratch.
    fn counted(&self) -> Tally {
        let mut tally = Tally::default();
        for row in &self.tasks {
            tally += Tally::of(row);
        }
        tally
    }

    /// Returns the tally of its tasks.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Checks that the tally equals a new count, in debug builds.
    pub(super) fn check_tally(&self) {
        debug_assert_eq!(self.tally, self.counted(), "job {}", self.job.number);
    }

    fn place(&self, index: u32) -> Option<usize> {
        place_of(&self.tasks, index, |row| row.task.index)
    }

    /// Returns the task with an index.
    pub(super) fn row(&self, index: u32) -> Option<&TaskRow> {
        self.tasks.get(self.place(index)?)
    }

    /// Returns all tasks, ordered by index.
    pub(super) fn rows(&self) -> &[TaskRow] {
        &self.tasks
    }

    /// Returns the indices of the tasks that fit.
    pub(super) fn indices_of(&self, fits: impl Fn(&TaskRow) -> bool) -> Vec<u32> {
        self.tasks.iter().filter(|row| fits(row)).map(|row| row.task.index).collect()
    }

    /// Returns the index of an agent's task.
    pub(super) fn index_of(&self, agent: &AgentName) -> Option<u32> {
        self.indices.get(agent).copied()
    }

    /// Changes a task, and the tally with it.
    pub(super) fn change<R>(&mut self, index: u32, change: impl FnOnce(&mut TaskRow) -> R) -> Option<R> {
        let place = self.place(index)?;
        let row = self.tasks.get_mut(place)?;
        self.tally -= Tally::of(row);
        let result = change(row);
        self.tally += Tally::of(row);
        Some(result)
    }

    /// Adds an eligible task whose agent is connected to the queue, unless it is in the queue already.
    pub(super) fn enqueue(&mut self, index: u32, now: Now) {
        let is_new = self.change(index, |row| match &mut row.progress {
            Progress::Eligible { queued_at } => queued_at.replace(now.monotonic).is_none(),
            _ => false,
        });
        if is_new == Some(true) {
            self.queue.push_back(index);
        }
    }

    /// Restarts the waiting time of all queued tasks.
    pub(super) fn restart_queue(&mut self, now: Now) {
        for row in &mut self.tasks {
            if let Progress::Eligible { queued_at: Some(since) } = &mut row.progress {
                *since = now.monotonic;
            }
        }
    }

    /// Takes the first eligible task from the queue. Returns its index, and how long it has waited there.
    pub(super) fn next_in_queue(&mut self, now: Now) -> Option<(u32, Duration)> {
        while let Some(index) = self.queue.pop_front() {
            let queued_at = self.change(index, |row| match &mut row.progress {
                Progress::Eligible { queued_at } => queued_at.take(),
                _ => None,
            });
            if let Some(queued_at) = queued_at.flatten() {
                return Some((index, now.monotonic.saturating_sub(queued_at)));
            }
        }
        None
    }

    /// Removes the values of variables when no task has to start any more. Returns the write that removes
    /// them from the store as well.
    pub(super) fn forget_values(&mut self) -> Option<Write> {
        if self.tally.unstarted > 0 || self.options.environment.is_empty() {
            return None;
        }
        self.options.forget_values();
        Some(Write::PutOptions(self.job.id, Box::new(self.options.clone())))
    }

    /// Reports whether there are open tasks that were not admitted yet.
    pub(super) fn has_unstarted(&self) -> bool {
        self.tally.open > self.tally.admitted
    }

    pub(in crate::master::core) fn is_active(&self) -> bool {
        self.tally.open > 0
    }

    /// Reports whether its beginning is on the disk.
    pub(in crate::master::core) fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::Starting { .. })
    }

    pub(super) fn batches(&self) -> u32 {
        self.tasks.last().map_or(0, |row| row.task.batch + 1)
    }

    /// Returns the job with its tasks, as clients see it.
    pub(in crate::master::core) fn view(&self) -> Job {
        Job { tasks: self.tasks().cloned().collect(), ..self.summary() }
    }

    /// Returns its tasks, as clients see them.
    pub(in crate::master::core) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().map(|row| &row.task)
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

    /// Returns the job without its tasks, as lists show it.
    pub(in crate::master::core) fn summary(&self) -> Job {
        let count = |wanted: fn(&Task) -> bool| {
            u32::try_from(self.tasks().filter(|task| wanted(task)).count()).unwrap_or(u32::MAX)
        };
        Job {
            succeeded: count(|task| task.state.outcome().is_some_and(Outcome::is_success)),
            unfinished: count(|task| task.state.outcome().is_none()),
            gate: self.gate.clone(),
            ..self.job.clone()
        }
    }

    /// Returns the job as an ended job, and whether it fits a filter: an agent that has a task in it, and an
    /// outcome (see [`Input::ListEnded`](crate::master::core::messages::Input::ListEnded)).
    pub(super) fn as_ended(&self, agent: Option<&AgentName>, outcome: &str) -> EndedJob {
        let fits = agent.is_none_or(|agent| self.indices.contains_key(agent)) && self.has_ended_as(outcome);
        EndedJob { job: self.summary(), fits }
    }

    fn has_ended_as(&self, outcome: &str) -> bool {
        let is_success = self.tasks().all(Task::has_succeeded) && self.job.missed().next().is_none();
        match outcome {
            "" => true,
            "running" => false,
            "ok" => is_success,
            "failed" => !is_success,
            word => self.tasks.iter().any(|row| row.outcome().is_some_and(|outcome| outcome.word() == word)),
        }
    }

    /// Returns the specification that is sent to the agent of each task.
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

#[cfg(test)]
impl LiveJob {
    pub(in crate::master::core) fn stop_for_test(&mut self, reason: &str) {
        self.gate.state = crate::domain::plan::GateState::Stopped(reason.into());
    }

    pub(in crate::master::core) fn spec_for_test(&self) -> TaskSpec {
        self.spec()
    }

    pub(in crate::master::core) fn stored_tasks(&self) -> Vec<crate::master::core::stored::StoredTask> {
        self.tasks.iter().map(TaskRow::to_store).collect()
    }
}
