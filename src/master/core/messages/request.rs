//! What peers and operators ask the core for.

use std::net::IpAddr;

use super::{super::snapshot::Choice, ids::SessionId};
use crate::domain::{
    agent::LinkPreference,
    bounded::Word,
    command::Command,
    fingerprint::Fingerprint,
    ids::{Incarnation, JobId},
    job::{Job, JobOptions},
    name::{AgentName, Labels, OperatorName},
    operator::Role,
    proposal::{DirectAddress, Proposal},
    revision::Revision,
    seal::Seal,
};

/// What an agent said first, and where it came from.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Its connection.
    pub session: SessionId,
    /// The name in its certificate.
    pub name: AgentName,
    /// Its certificate's key.
    pub fingerprint: Fingerprint,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its labels.
    pub labels: Labels,
    /// Its software version.
    pub version: Word,
    /// Its address as the master sees it.
    pub address: String,
    /// Which link it wants.
    pub link: LinkPreference,
    /// Where a direct link would go, or nothing.
    pub direct_address: Option<DirectAddress>,
    /// The highest revision of the store that it has seen, and proved; zeros for none.
    pub seen: Revision,
    /// What it says that it has seen, without a proof.
    pub unproved: Option<Revision>,
    /// How it came to believe in the CA.
    pub trust: Word,
}

/// A request to be let in.
#[derive(Clone, Debug)]
pub struct EnrollAsked {
    /// The wanted name.
    pub name: AgentName,
    /// The key.
    pub fingerprint: Fingerprint,
    /// Where it came from; `None` over the master's own socket.
    pub from: Option<IpAddr>,
    /// True for the master's own user, or root, on the master's own socket.
    pub trusted_locally: bool,
    /// The hash of the token's secret.
    pub token: Option<String>,
    /// The caller's software version.
    pub version: Word,
    /// Its proof by a one-time code that an operator is to type.
    pub proof: Option<Seal>,
    /// What it says of itself.
    pub proposal: Proposal,
}

/// A wish to start a job.
#[derive(Clone, Debug)]
pub struct JobAsked {
    /// The client's id for it.
    pub id: JobId,
    /// Who wants it.
    pub operator: String,
    /// The agents that it is for.
    pub choice: Choice,
    /// What to run.
    pub command: Command,
    /// The rest.
    pub options: JobOptions,
    /// What a person was shown: names and fingerprints; empty when nobody was shown anything.
    pub shown: Vec<(AgentName, Fingerprint)>,
}

impl JobAsked {
    /// Whether a job is the one that is asked for: the same operator's, with the same command and target.
    #[must_use]
    pub fn is_for(&self, job: &Job) -> bool {
        job.id == self.id
            && job.operator == self.operator
            && job.command == self.command
            && job.target == self.choice.target
    }

    /// What to say where another job has its id.
    #[must_use]
    pub fn foreign_id(&self) -> String {
        format!("another job has the id {} already: make a new one", self.id)
    }
}

/// Who a connection says it is, as certificate or socket prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionIdentity {
    /// The operator of this name with this key.
    Key(OperatorName, Fingerprint),
    /// The user of this name on the master's machine.
    UnixUser(String),
}

/// A request to add an operator, or to give a known one a new login.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The operator's name.
    pub name: OperatorName,
    /// The role of a new operator; `None` for a known one.
    pub role: Option<Role>,
    /// The operator's Unix user on the master's machine; empty for an operator who logs in.
    pub unix_user: String,
    /// The hash of the login's secret, and how long the login is valid, in milliseconds.
    pub login: Option<(String, u64)>,
}
