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
};

/// What the store is to change.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// An agent as it is now.
    PutAgent(StoredAgent),
    /// An agent is gone.
    DeleteAgent(AgentName),
    /// A token as it is now.
    PutToken(StoredToken),
    /// A token that lets nobody in any more, by its hash.
    DeleteToken(String),
    /// An operator as it is now.
    PutOperator(StoredOperator),
    /// A new job with its tasks.
    PutJob(Box<StoredJob>),
    /// A job that the store did not know, or some of whose tasks it did not know.
    Recover(Box<StoredJob>),
    /// A task as it is now.
    PutTask(JobId, StoredTask),
    /// A task was started at this time, in milliseconds since the Unix epoch. No restart may forget that.
    StartTask(TaskId, u64),
    /// Facts that came after a task's outcome, which stays; they are shown beside it where they differ. Who cancelled is
    /// taken from the task's own record.
    PutLater(TaskId, Outcome),
    /// A job's gate as it is now.
    PutGate(JobId, Gate),
    /// What came with a job, as it is now.
    PutOptions(JobId, Box<JobOptions>),
    /// A job has ended at this time.
    EndJob(JobId, u64),
    /// A job is gone, for this reason.
    DeleteJob(JobId, String),
    /// A master was started in this term, which could not be written when it was.
    PutTerm(u64),
    /// Ages of jobs were judged by this time.
    PutClock(u64),
    /// Somebody did something.
    Audit {
        /// The time, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// The operator, agent or part of the master that acted.
        actor: String,
        /// The action, as one word or two.
        action: &'static str,
        /// On what.
        subject: String,
        /// More, in words.
        detail: String,
    },
}

impl Write {
    /// Whether somebody may do less once it is written.
    #[must_use]
    pub fn ends_rights(&self) -> bool {
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
    /// When it was let in.
    pub enrolled_ms: u64,
    /// When it was last heard of; written when it leaves.
    pub last_seen_ms: u64,
    /// The labels that it brings.
    pub labels: Labels,
    /// The labels that operators set; they win.
    pub set_labels: Labels,
    /// What counts of what it says of itself.
    pub accepted: Accepted,
    /// Its version.
    pub version: Word,
    /// Its last address.
    pub address: String,
    /// How it came to believe in the CA.
    pub trust: Word,
    /// It takes no new tasks.
    pub drain: Option<Drain>,
    /// The master's proof by the code that an operator typed when it was let in. The agent asks for it until it has it.
    pub proof: Option<Seal>,
    /// It has seen a later state of the store than there was. Nothing is started there until an
    /// operator says that the store was restored from a backup.
    pub ahead: Option<Revision>,
}

/// An operator in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOperator {
    /// Its name.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
    /// The user of this machine that it is, known by the socket's peer credentials; empty for none.
    pub unix_user: String,
    /// Its keys, one for each machine on which it has logged in.
    pub keys: Vec<Fingerprint>,
    /// A login that was not used yet, or that was used last.
    pub login: Option<StoredLogin>,
    /// When it was made known.
    pub added_ms: u64,
    /// The operator who did it.
    pub added_by: String,
    /// When it logged in last; 0 for never.
    pub logged_in_ms: u64,
    /// It may do nothing any more.
    pub is_revoked: bool,
}

/// A login in the store: good for one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLogin {
    /// The hash of its secret.
    pub hash: String,
    /// When it ends.
    pub expires_ms: u64,
    /// The key that has used it.
    pub used_by: Option<Fingerprint>,
}

/// Digits of a token's hash by which people name it.
const ID_DIGITS: usize = 8;

/// A token in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// The hash of its secret.
    pub hash: String,
    /// When it ends.
    pub expires_ms: u64,
    /// For how many more agents it is good.
    pub uses_left: u32,
    /// When it was made.
    pub made_ms: u64,
    /// The operator who did it.
    pub made_by: String,
    /// Who may join with it, and what counts of those who do.
    pub terms: Terms,
}

impl StoredToken {
    /// What people call it: the beginning of its secret's hash, which says nothing of the secret.
    #[must_use]
    pub fn id(&self) -> &str {
        self.hash.get(..ID_DIGITS).unwrap_or(&self.hash)
    }

    /// Whether an agent may still join with it.
    #[must_use]
    pub fn is_good(&self, unix_ms: u64) -> bool {
        self.expires_ms > unix_ms && self.uses_left > 0
    }
}

/// A job in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// The job; its tasks are in their own table.
    pub job: Job,
    /// The rest of what was asked for.
    pub options: JobOptions,
    /// Its tasks.
    pub tasks: Vec<StoredTask>,
}

/// A task in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTask {
    /// As it is shown.
    pub task: Task,
    /// Its agent's key.
    pub fingerprint: Fingerprint,
    /// The life of the agent to which it was, or is about to be, sent first.
    pub incarnation: Option<Incarnation>,
    /// Until when it may be started.
    pub start_by_ms: u64,
    /// Who cancelled it.
    pub cancelled_by: Option<Word>,
}

/// A task that an agent still has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTask {
    /// The id of the task.
    pub id: TaskId,
    /// What it is.
    pub spec: TaskSpec,
    /// When it was started, in milliseconds since the Unix epoch on the agent's clock.
    pub started_ms: u64,
    /// Whether the agent has this master's proof of it.
    pub is_proved: bool,
}

/// What the store knows of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InStore {
    /// Its outcome.
    Ended,
    /// The task, without an outcome.
    Open,
    /// Another agent's, or none of its job: what this agent tells of it is not to be believed.
    Foreign,
    /// Its job was deleted, by a person or because it was old.
    Deleted,
    /// Nothing of the task, and its agent has no proof of it.
    Unproved,
    /// Nothing of the task, of which its agent has a proof: the store was restored from a backup.
    Nothing {
        /// What it knows of the job's number.
        number: KnownNumber,
    },
}

/// What the store knows of the number that an agent tells of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownNumber {
    /// No job has it.
    Free,
    /// Another job has it.
    Taken,
    /// Other agents have told of this job before, and it got this number.
    Is(u64),
}

/// What the audit records keep of a job that was started. The command itself may hold secrets: it is in the job, for as long as
/// that is kept, and here there is its digest: `printf %s COMMAND | sha256sum`.
#[must_use]
pub fn job_detail(number: u64, command: &str) -> String {
    let digest = Fingerprint::of(command.as_bytes()).to_string();
    format!("job {number}, command sha256 {}", digest.to_lowercase())
}
