//! Jobs and tasks: the master's core changes them, the store keeps them, clients show them.

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Expression, Reason, Word},
    command::{Command, Variable},
    groups::mask::Masks,
    ids::JobId,
    input::StandardInput,
    name::AgentName,
    outcome::Outcome,
    plan::{Gate, Plan},
};

/// Where a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for its turn or for its agent.
    Queued,
    /// Sent to its agent, which has not answered.
    Dispatched,
    /// The command runs.
    Running,
    /// Has ended. Final.
    Ended(Outcome),
}

impl TaskState {
    /// Whether a task may go from here to `next`: only forwards, and never out of an outcome.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Queued, Self::Dispatched | Self::Ended(_))
            | (Self::Dispatched, Self::Running | Self::Ended(_))
            | (Self::Running, Self::Ended(_)) => true,
            (Self::Queued | Self::Dispatched | Self::Running | Self::Ended(_), _) => false,
        }
    }

    /// The outcome, when there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Queued | Self::Dispatched | Self::Running => None,
        }
    }

    /// The word for it.
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

/// One job on one agent, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its place in the job, from 0.
    pub index: u32,
    /// The agent.
    pub agent: AgentName,
    /// Where it is.
    pub state: TaskState,
    /// The last contact with its agent before the contact was lost, in milliseconds since the Unix epoch.
    pub no_contact_since_ms: Option<u64>,
    /// When it started, in milliseconds since the Unix epoch on the master's clock.
    pub started_ms: Option<u64>,
    /// How long it ran, on the agent's clock.
    pub duration_ns: u64,
    /// Payload bytes in the output log.
    pub end_offset: u64,
    /// Its batch, from 0.
    pub batch: u32,
    /// What is waited for, in words.
    pub waiting: Reason,
    /// Facts that came after the outcome, where they differ from it.
    pub later: Option<Outcome>,
}

impl Task {
    /// Whether it exited 0.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.state.outcome().is_some_and(Outcome::is_success)
    }

    /// A task that nothing has happened to yet.
    #[must_use]
    pub fn queued(index: u32, agent: AgentName) -> Self {
        Self {
            index,
            agent,
            state: TaskState::Queued,
            no_contact_since_ms: None,
            started_ms: None,
            duration_ns: 0,
            end_offset: 0,
            batch: 0,
            waiting: Reason::default(),
            later: None,
        }
    }
}

/// Where the task of this index stands in a list that is sorted by index. Mostly at that very place; but a job that a
/// master took back from its agents has only the tasks that they told of.
#[must_use]
pub fn place_of<T>(tasks: &[T], index: u32, index_of: impl Fn(&T) -> u32) -> Option<usize> {
    let place = index as usize;
    match tasks.get(place) {
        Some(task) if index_of(task) == index => Some(place),
        _ => tasks.binary_search_by_key(&index, index_of).ok(),
    }
}

/// Maximum number of tasks of a job. A report of a higher index is false.
pub const MOST_TASKS: u32 = 100_000;

impl Job {
    /// The task of this index.
    #[must_use]
    pub fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(place_of(&self.tasks, index, |task| task.index)?)
    }

    /// The same, to be changed.
    pub fn task_mut(&mut self, index: u32) -> Option<&mut Task> {
        let place = place_of(&self.tasks, index, |task| task.index)?;
        self.tasks.get_mut(place)
    }

    /// Who was asked for by name and did not take part: the job has failed there.
    pub fn missed(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().filter(|left| left.named).map(|left| left.agent.as_str())
    }

    /// One more than the highest index of its tasks, but no more than there can be.
    #[must_use]
    pub fn index_end(&self) -> usize {
        self.tasks.last().map_or(0, |task| task.index.saturating_add(1).min(MOST_TASKS) as usize)
    }
}

/// What an agent did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastJob {
    /// The job's number.
    pub number: u64,
    /// Who started it.
    pub operator: Word,
    /// Where its task is.
    pub state: TaskState,
    /// Whether the task is without contact.
    pub no_contact: bool,
}

impl LastJob {
    /// A task as its agent's last job; number and operator are the job's, and to be set.
    #[must_use]
    pub fn new(task: &Task) -> Self {
        let no_contact = task.no_contact_since_ms.is_some();
        Self { number: 0, operator: Word::default(), state: task.state.clone(), no_contact }
    }
}

/// One command sent to a target, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its ULID.
    pub id: JobId,
    /// Its number, for people.
    pub number: u64,
    /// Who started it.
    pub operator: Word,
    /// The target as typed.
    pub target: Expression,
    /// Whether that was one plain name.
    pub plain_name: bool,
    /// What was run.
    pub command: Command,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When its last task ended.
    pub ended_ms: Option<u64>,
    /// Its tasks by index; empty in lists.
    pub tasks: Vec<Task>,
    /// How many it has.
    pub task_count: u32,
    /// How many exited 0.
    pub succeeded: u32,
    /// How many have not ended.
    pub unfinished: u32,
    /// Matches that were left out, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Whether it may start more.
    pub gate: Gate,
    /// Masks with which its outputs are compared.
    pub masks: Masks,
    /// Bytes that are left out at the command's end, in a list.
    pub command_left_out: u64,
}

/// Bytes of a command in a list.
const LISTED_COMMAND: usize = 2_000;

impl Job {
    /// Returns the job for a list, with the beginning of its command only.
    #[must_use]
    pub fn listed(mut self) -> Self {
        let (command, left_out) = self.command.shortened(LISTED_COMMAND);
        (self.command, self.command_left_out) = (command, left_out);
        self
    }

    /// The command as text, with a mark where a list has left out its end.
    #[must_use]
    pub fn shown_command(&self) -> String {
        let rest = if self.command_left_out > 0 { "…" } else { "" };
        self.command.shown() + rest
    }
}

#[cfg(test)]
impl Job {
    /// A job with these tasks, of which nothing else matters.
    pub(crate) fn for_tests(tasks: Vec<Task>) -> Self {
        Self {
            id: JobId::from_parts(1, 1),
            number: 1,
            operator: "ana".into(),
            target: "@all".into(),
            plain_name: false,
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            created_ms: 1,
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

/// An agent that does not take part, and why. Stored as JSON, in which listings look for `"named":true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The agent.
    pub agent: String,
    /// Why, for programs.
    #[serde(default)]
    pub kind: LeftOutKind,
    /// Why, for people.
    pub reason: Reason,
    /// It was asked for by its name, and not only matched.
    #[serde(default)]
    pub named: bool,
}

/// Why a job leaves an agent out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutKind {
    /// Only the text says why, as of jobs from before there were kinds.
    #[default]
    Other,
    /// It gets no new tasks.
    Draining,
    /// It was deleted or has a new key since it was shown.
    Changed,
    /// It matches the target only since the agents were shown.
    NewMatch,
}

/// What comes with a job beside its command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Added to the clean environment.
    pub environment: Vec<Variable>,
    /// Names of variables that were added, and whose values are not kept: every task that needs them has been given them.
    #[serde(default)]
    pub forgotten: Vec<super::command::Bytes>,
    /// Where to run; `None` means the user's home.
    pub working_directory: Option<super::command::Bytes>,
    /// Longest running time of each task.
    pub timeout_ms: Option<u64>,
    /// How long an agent that is offline is waited for.
    pub start_within_ms: Option<u64>,
    /// Time between TERM and KILL.
    pub kill_grace_ms: Option<u32>,
    /// Targets by state are taken even just after a master's start.
    pub now: bool,
    /// How it goes over its agents.
    #[serde(default)]
    pub plan: Plan,
    /// What happens to output over the cap.
    #[serde(default)]
    pub overflow: Overflow,
    /// The job was recovered from its agents, because the store had lost it.
    #[serde(default)]
    #[serde(alias = "taken_back")]
    pub recovered: bool,
    /// Maximum number of bytes of a task's output that are kept. The master's own limit applies if it is lower, or if this is `None`.
    #[serde(default)]
    pub output_cap: Option<u64>,
    /// What the command reads; only a job on one plain name is fed.
    #[serde(default)]
    pub input: StandardInput,
    /// An administrator started it: agents on the master's machine take no one else's.
    #[serde(default)]
    pub by_admin: bool,
}

impl JobOptions {
    /// Forgets the values of variables, which may be secrets.
    pub fn forget_values(&mut self) {
        self.forgotten.extend(self.environment.drain(..).map(|variable| variable.name));
    }
}

/// What happens when a task prints more than is kept of it. Its beginning and its newest part always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// While the client that started the job reads along, it gets every byte, and the command goes at its pace.
    Block,
    /// What lies between is not kept, and every view shows the gap.
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
