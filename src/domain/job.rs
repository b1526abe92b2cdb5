//! Jobs and tasks: the master's core changes them, the store keeps them, clients show them.

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Expression, Reason, Word},
    command::{Command, Variable},
    groups::mask::Masks,
    ids::JobId,
    input::StandardInput,
    name::AgentName,
    offset::OutputOffset,
    outcome::Outcome,
    plan::{Gate, Plan},
    time::UnixMs,
};

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// The task waits for its turn or for its agent.
    Queued,
    /// The task was sent to its agent, which has not answered yet.
    Dispatched,
    /// The command runs.
    Running,
    /// The task has ended. This state is final.
    Ended(Outcome),
}

impl TaskState {
    /// Reports whether a task can change from this state to `next`. States only advance, and an outcome is
    /// final.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Queued, Self::Dispatched | Self::Ended(_))
            | (Self::Dispatched, Self::Running | Self::Ended(_))
            | (Self::Running, Self::Ended(_)) => true,
            (Self::Queued | Self::Dispatched | Self::Running | Self::Ended(_), _) => false,
        }
    }

    /// Returns the outcome of a task that has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Queued | Self::Dispatched | Self::Running => None,
        }
    }

    /// Returns the state's name, as in tables and JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::Ended(outcome) => outcome.word(),
        }
    }
}

/// The part of a job that one agent runs, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its index in the job, from 0.
    pub index: u32,
    /// The agent.
    pub agent: AgentName,
    /// The state.
    pub state: TaskState,
    /// The last contact with its agent before the contact was lost, in milliseconds since the Unix epoch.
    pub no_contact_since_ms: Option<UnixMs>,
    /// When it started, in milliseconds since the Unix epoch on the master's clock.
    pub started_ms: Option<UnixMs>,
    /// How long it ran, in nanoseconds by the agent's clock.
    pub duration_ns: u64,
    /// The number of bytes of its output in the output log.
    pub end_offset: OutputOffset,
    /// Its batch, from 0.
    pub batch: u32,
    /// What the task waits for, for people; empty if it does not wait.
    pub waiting: Reason,
    /// An outcome that arrived after the final one and differs from it.
    pub later: Option<Outcome>,
}

impl Task {
    /// Reports whether the task exited 0.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.state.outcome().is_some_and(Outcome::is_success)
    }

    /// Returns a queued task.
    #[must_use]
    pub fn queued(index: u32, agent: AgentName) -> Self {
        Self {
            index,
            agent,
            state: TaskState::Queued,
            no_contact_since_ms: None,
            started_ms: None,
            duration_ns: 0,
            end_offset: OutputOffset::START,
            batch: 0,
            waiting: Reason::default(),
            later: None,
        }
    }
}

/// Returns the position of the task with this index in a list that is sorted by index. It usually equals the
/// index, but a job that was recovered from its agents has only the tasks that they reported.
#[must_use]
pub fn place_of<T>(tasks: &[T], index: u32, index_of: impl Fn(&T) -> u32) -> Option<usize> {
    let place = index as usize;
    match tasks.get(place) {
        Some(task) if index_of(task) == index => Some(place),
        _ => tasks.binary_search_by_key(&index, index_of).ok(),
    }
}

/// Maximum number of tasks of a job. Reports of a higher index are invalid.
pub const MOST_TASKS: u32 = 100_000;

impl Job {
    /// Returns the task with this index.
    #[must_use]
    pub fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(place_of(&self.tasks, index, |task| task.index)?)
    }

    /// Returns the task with this index, mutably.
    pub fn task_mut(&mut self, index: u32) -> Option<&mut Task> {
        let place = place_of(&self.tasks, index, |task| task.index)?;
        self.tasks.get_mut(place)
    }

    /// Returns the agents that the target names and that did not take part. The job counts as failed on them.
    pub fn missed(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().filter(|left| left.named).map(|left| left.agent.as_str())
    }

    /// Returns the highest index of its tasks plus one, at most [`MOST_TASKS`].
    #[must_use]
    pub fn index_end(&self) -> usize {
        self.tasks.last().map_or(0, |task| task.index.saturating_add(1).min(MOST_TASKS) as usize)
    }
}

/// The most recent job of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastJob {
    /// The job's number.
    pub number: u64,
    /// The operator who started it.
    pub operator: Word,
    /// The state of its task.
    pub state: TaskState,
    /// Whether the task is without contact.
    pub no_contact: bool,
}

impl LastJob {
    /// Returns a task as its agent's last job. The caller sets `number` and `operator`, which are the job's.
    #[must_use]
    pub fn new(task: &Task) -> Self {
        let no_contact = task.no_contact_since_ms.is_some();
        Self { number: 0, operator: Word::default(), state: task.state.clone(), no_contact }
    }
}

/// One command that was sent to a target, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its ULID.
    pub id: JobId,
    /// Its number, for people.
    pub number: u64,
    /// The operator who started it.
    pub operator: Word,
    /// The target as typed.
    pub target: Expression,
    /// Whether the target is one plain name.
    pub plain_name: bool,
    /// The command.
    pub command: Command,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub created_ms: UnixMs,
    /// When its last task ended.
    pub ended_ms: Option<UnixMs>,
    /// Its tasks by index; empty in lists.
    pub tasks: Vec<Task>,
    /// The number of its tasks.
    pub task_count: u32,
    /// The number of tasks that exited 0.
    pub succeeded: u32,
    /// The number of tasks that have not ended.
    pub unfinished: u32,
    /// Agents that match the target and were left out, with the reason.
    pub left_out: Vec<LeftOut>,
    /// The gate, which says whether more tasks can start.
    pub gate: Gate,
    /// The masks for comparing its outputs.
    pub masks: Masks,
    /// The number of bytes that a list leaves out at the end of the command.
    pub command_left_out: u64,
}

/// Maximum number of bytes of a command in a list.
const LISTED_COMMAND: usize = 2_000;

impl Job {
    /// Returns the job for a list, with the beginning of its command only.
    #[must_use]
    pub fn listed(mut self) -> Self {
        let (command, left_out) = self.command.shortened(LISTED_COMMAND);
        (self.command, self.command_left_out) = (command, left_out);
        self
    }

    /// Returns the command as text, with `…` at its end if a list has cut it.
    #[must_use]
    pub fn shown_command(&self) -> String {
        let rest = if self.command_left_out > 0 { "…" } else { "" };
        self.command.shown() + rest
    }
}

#[cfg(test)]
impl Job {
    /// Returns a job with these tasks and arbitrary other values.
    pub(crate) fn for_tests(tasks: Vec<Task>) -> Self {
        Self {
            id: JobId::from_parts(1, 1),
            number: 1,
            operator: "ana".into(),
            target: "@all".into(),
            plain_name: false,
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            created_ms: UnixMs(1),
            ended_ms: None,
            task_count: u32::try_from(tasks.len()).unwrap(),
            tasks,
            succeeded: 0,
            unfinished: 0,
            left_out: Vec::new(),
            gate: Gate::default(),
            masks: Masks::default(),
            command_left_out: 0,
        }
    }
}

/// An agent that does not take part, and why. Stored as JSON; listings search that text for `"named":true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The agent.
    pub agent: String,
    /// The reason, for programs.
    #[serde(default)]
    pub kind: LeftOutKind,
    /// The reason, for people.
    pub reason: Reason,
    /// Whether the target names the agent, instead of only matching it.
    #[serde(default)]
    pub named: bool,
}

/// Why a job leaves an agent out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutKind {
    /// The text is the only reason: jobs of older versions have no kind.
    #[default]
    Other,
    /// The agent is drained.
    Draining,
    /// The agent was deleted or got a new key after it was shown.
    Changed,
    /// The agent matches the target only since after the agents were shown.
    NewMatch,
}

/// The options of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Variables that are added to the clean environment.
    pub environment: Vec<Variable>,
    /// Names of added variables whose values were deleted, because every task that needs them was sent.
    #[serde(default)]
    pub forgotten: Vec<super::command::Bytes>,
    /// The working directory; `None` for the user's home directory.
    pub working_directory: Option<super::command::Bytes>,
    /// The timeout of each task, in milliseconds; `None` for no limit.
    pub timeout_ms: Option<u64>,
    /// How long tasks wait for an offline agent, in milliseconds.
    pub start_within_ms: Option<u64>,
    /// The time between SIGTERM and SIGKILL, in milliseconds.
    pub kill_grace_ms: Option<u32>,
    /// Whether targets by state are evaluated even just after the master's start.
    pub now: bool,
    /// The order of its tasks: batches, limits and conditions.
    #[serde(default)]
    pub plan: Plan,
    /// The handling of output over the cap.
    #[serde(default)]
    pub overflow: Overflow,
    /// Whether the job was recovered from its agents, because the store had lost it.
    #[serde(default)]
    #[serde(alias = "taken_back")]
    pub recovered: bool,
    /// Maximum number of bytes of a task's output that are kept. The master's own limit applies if it is
    /// lower, or if this is `None`.
    #[serde(default)]
    pub output_cap: Option<u64>,
    /// The command's standard input. Only a job on one plain name can have input.
    #[serde(default)]
    pub input: StandardInput,
    /// Whether an administrator started the job: agents on the master's machine run only such jobs.
    #[serde(default)]
    pub by_admin: bool,
}

impl JobOptions {
    /// Deletes the values of variables, which can be secrets, and keeps the names.
    pub fn forget_values(&mut self) {
        self.forgotten.extend(self.environment.drain(..).map(|variable| variable.name));
    }
}

/// What happens when a task prints more than is kept. The beginning and the newest part are always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// While the client that started the job follows it, the client gets every byte, and the command waits if
    /// the client is slow.
    Block,
    /// The part between them is not kept, and every view shows the gap.
    #[default]
    Gap,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Ending;

    #[test]
    fn tasks_only_go_forwards_and_outcomes_are_final() {
        let ended = || TaskState::Ended(Ending::Exited(0).into());
        let states = [TaskState::Queued, TaskState::Dispatched, TaskState::Running, ended()];
        let legal = [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)];
        for (from, state) in states.iter().enumerate() {
            for (to, next) in states.iter().enumerate() {
                assert_eq!(state.may_become(next), legal.contains(&(from, to)), "{state:?} {next:?}");
            }
        }
    }
}
