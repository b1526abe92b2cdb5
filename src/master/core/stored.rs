//! The data and changes of the store, as the core sees them. Knows no database.

use serde::{Deserialize, Serialize};

use crate::domain::{
    agent::Drain,
    bounded::Word,
    command::TaskSpec,
    fingerprint::Fingerprint,
    ids::{Incarnation, JobId, TaskId},
    job::{Job, JobOptions, Task},
    name::{AgentName, Labels, OperatorName},
    operator::Role,
    outcome::Outcome,
    plan::Gate,
    proposal::Accepted,
    revision::Revision,
    seal::Seal,
    terms::Terms,
    time::UnixMs,
};

/// A change of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Inserts or replaces an agent.
    PutAgent(StoredAgent),
    /// Deletes an agent.
    DeleteAgent(AgentName),
    /// Inserts or replaces a token.
    PutToken(StoredToken),
    /// Deletes a token, by its hash.
    DeleteToken(String),
    /// Inserts or replaces an operator.
    PutOperator(StoredOperator),
    /// Inserts a new job with its tasks.
    PutJob(Box<StoredJob>),
    /// Inserts a job that was recovered from an agent, or those of its tasks that the store does not have.
    Recover(Box<StoredJob>),
    /// Replaces a task.
    PutTask(JobId, StoredTask),
    /// Records that a task was started at this time, in milliseconds since the Unix epoch, which must survive
    /// restarts.
    StartTask(TaskId, UnixMs),
    /// Adds an outcome that was reported after a task's final one. The final one stays, and the other is
    /// shown beside it if they differ. Who cancelled is taken from the task's own record.
    PutLater(TaskId, Outcome),
    /// Replaces a job's gate.
    PutGate(JobId, Gate),
    /// Replaces a job's options.
    PutOptions(JobId, Box<JobOptions>),
    /// Records that a job has ended at this time, in milliseconds since the Unix epoch.
    EndJob(JobId, UnixMs),
    /// Deletes a job, for this reason.
    DeleteJob(JobId, String),
    /// Records the term of a master that could not be written when the master started.
    PutTerm(u64),
    /// Records the time that was used to determine the ages of jobs, in milliseconds since the Unix epoch.
    PutClock(UnixMs),
    /// Appends an audit record.
    Audit {
        /// The time, in milliseconds since the Unix epoch.
        at_ms: UnixMs,
        /// The operator, agent or part of the master that acted.
        actor: String,
        /// The action, as one word or two.
        action: &'static str,
        /// What the action applied to.
        subject: String,
        /// Further details, as text.
        detail: String,
    },
}

impl Write {
    /// Reports whether the write takes rights away from an agent, a token or an operator.
    #[must_use]
    pub fn revokes_rights(&self) -> bool {
        match self {
            Self::DeleteAgent(_) | Self::DeleteToken(_) => true,
            Self::PutOperator(operator) => operator.is_revoked,
            Self::PutAgent(_)
            | Self::PutToken(_)
            | Self::PutJob(_)
            | Self::Recover(_)
            | Self::PutTask(..)
            | Self::StartTask(..)
            | Self::PutLater(..)
            | Self::PutGate(..)
            | Self::PutOptions(..)
            | Self::EndJob(..)
            | Self::DeleteJob(..)
            | Self::PutTerm(_)
            | Self::PutClock(_)
            | Self::Audit { .. } => false,
        }
    }
}

/// An agent in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAgent {
    /// Its name.
    pub name: AgentName,
    /// Its key.
    pub fingerprint: Fingerprint,
    /// When it was enrolled, in milliseconds since the Unix epoch.
    pub enrolled_ms: UnixMs,
    /// When its last message was received, in milliseconds since the Unix epoch; 0 for never. Written when it
    /// disconnects.
    pub last_seen_ms: UnixMs,
    /// The labels that it reports.
    pub labels: Labels,
    /// The labels that operators set, which take precedence.
    pub set_labels: Labels,
    /// What is accepted of its proposals.
    pub accepted: Accepted,
    /// Its version.
    pub version: Word,
    /// Its last address.
    pub address: String,
    /// How it came to trust the CA.
    pub trust: Word,
    /// Why it takes no new tasks; `None` if it takes them.
    pub drain: Option<Drain>,
    /// The master's proof by the code that an operator typed to approve it. The agent asks until it has
    /// received it.
    pub proof: Option<Seal>,
    /// A later state of the store that the agent has seen. No task starts on it until an operator confirms
    /// that the store was restored from a backup.
    pub ahead: Option<Revision>,
}

/// An operator in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOperator {
    /// Its name.
    pub name: OperatorName,
    /// Its role.
    pub role: Role,
    /// Its Unix user on the master's machine, identified by the socket's peer credentials; empty for none.
    pub unix_user: String,
    /// Its keys, one for each machine on which it has logged in.
    pub keys: Vec<Fingerprint>,
    /// The login that was created last, used or not.
    pub login: Option<StoredLogin>,
    /// When it was added, in milliseconds since the Unix epoch.
    pub added_ms: UnixMs,
    /// The operator who added it.
    pub added_by: String,
    /// When it last logged in, in milliseconds since the Unix epoch; 0 for never.
    pub logged_in_ms: UnixMs,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

/// A login in the store, valid for one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLogin {
    /// The hash of its secret.
    pub hash: String,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: UnixMs,
    /// The key that has used it.
    pub used_by: Option<Fingerprint>,
}

/// Number of digits of a token's hash that form its id.
const ID_DIGITS: usize = 8;

/// A token in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// The hash of its secret.
    pub hash: String,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: UnixMs,
    /// How many more agents can join with it.
    pub uses_left: u32,
    /// When it was created, in milliseconds since the Unix epoch.
    pub made_ms: UnixMs,
    /// The operator who created it.
    pub made_by: String,
    /// Which agents may join with it, and which of their proposals are accepted.
    pub terms: Terms,
}

impl StoredToken {
    /// Returns the token's id: the first digits of its secret's hash, which do not reveal the secret.
    #[must_use]
    pub fn id(&self) -> &str {
        self.hash.get(..ID_DIGITS).unwrap_or(&self.hash)
    }

    /// Reports whether an agent can still join with it.
    #[must_use]
    pub fn is_valid(&self, unix_ms: UnixMs) -> bool {
        self.expires_ms > unix_ms && self.uses_left > 0
    }
}

/// A job in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// The job; its tasks are in their own table.
    pub job: Job,
    /// The options of the request.
    pub options: JobOptions,
    /// Its tasks.
    pub tasks: Vec<StoredTask>,
}

/// A task in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTask {
    /// The task as clients see it.
    pub task: Task,
    /// Its agent's key.
    pub fingerprint: Fingerprint,
    /// The incarnation of the agent to which it was first sent, or is about to be sent.
    pub incarnation: Option<Incarnation>,
    /// Until when it may be started, in milliseconds since the Unix epoch.
    pub start_by_ms: UnixMs,
    /// The operator who cancelled it.
    pub cancelled_by: Option<Word>,
}

/// A task that an agent still has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTask {
    /// The id of the task.
    pub id: TaskId,
    /// What the agent runs.
    pub spec: TaskSpec,
    /// When it was started, in milliseconds since the Unix epoch on the agent's clock.
    pub started_ms: UnixMs,
    /// Whether the agent has proved that this master sent it.
    pub is_proved: bool,
}

/// What the store knows of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredTaskState {
    /// The task with its outcome.
    Ended,
    /// The task without an outcome.
    Open,
    /// A task of another agent, or none of its job: this agent's report is not believed.
    Foreign,
    /// Its job was deleted, by an operator or because it was old.
    Deleted,
    /// Nothing, and the agent has no proof of the task.
    Unproved,
    /// Nothing, but the agent has a proof of the task: the store was restored from a backup.
    Nothing {
        /// What the store knows of the job's number.
        number: StoredJobNumber,
    },
}

/// What the store knows of the job number that an agent reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredJobNumber {
    /// No job has it.
    Free,
    /// Another job has it.
    Taken,
    /// The job was recovered from other agents before, and has this number.
    Is(u64),
}

/// Returns the audit detail of a started job. The command may contain secrets, so the record has only its
/// digest, `printf %s COMMAND | sha256sum`. The command itself is deleted with the job.
#[must_use]
pub fn audit_detail_of_job(number: u64, command: &str) -> String {
    let digest = Fingerprint::of(command.as_bytes()).to_string();
    format!("job {number}, command sha256 {}", digest.to_lowercase())
}
