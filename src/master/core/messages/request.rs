//! The requests of peers and operators to the core.

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

/// The first message of a session, and where it came from.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The session.
    pub session: SessionId,
    /// The name in its certificate.
    pub name: AgentName,
    /// The fingerprint of its certificate's key.
    pub fingerprint: Fingerprint,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The labels that it reports.
    pub labels: Labels,
    /// Its software version.
    pub version: Word,
    /// Its address, as the master sees it.
    pub address: String,
    /// The link that it wants.
    pub link: LinkPreference,
    /// The address for a direct link, if it reports one.
    pub direct_address: Option<DirectAddress>,
    /// The highest revision of the store that it has seen and proves; zeros for none.
    pub seen: Revision,
    /// The highest revision that it claims to have seen, without a proof.
    pub unproved: Option<Revision>,
    /// How it came to trust the CA.
    pub trust: Word,
}

/// A request for enrollment.
#[derive(Clone, Debug)]
pub struct EnrollAsked {
    /// The requested name.
    pub name: AgentName,
    /// The key.
    pub fingerprint: Fingerprint,
    /// The address of the peer; `None` over the master's own socket.
    pub from: Option<IpAddr>,
    /// True for the master's own user, or root, on the master's own socket.
    pub trusted_locally: bool,
    /// The hash of the token's secret.
    pub token: Option<String>,
    /// The caller's software version.
    pub version: Word,
    /// Its proof of the one-time code that an operator has to type.
    pub proof: Option<Seal>,
    /// The labels and the direct address that it proposes.
    pub proposal: Proposal,
}

/// A request to start a job.
#[derive(Clone, Debug)]
pub struct JobAsked {
    /// The job's id, which the client chose.
    pub id: JobId,
    /// The operator.
    pub operator: String,
    /// The selected agents.
    pub choice: Choice,
    /// The command.
    pub command: Command,
    /// The options.
    pub options: JobOptions,
    /// The agents as a person was shown them, with their fingerprints; empty if none were shown.
    pub shown: Vec<(AgentName, Fingerprint)>,
}

impl JobAsked {
    /// Reports whether a job is the requested one: of the same operator, with the same command and target.
    #[must_use]
    pub fn is_for(&self, job: &Job) -> bool {
        job.id == self.id
            && job.operator == self.operator
            && job.command == self.command
            && job.target == self.choice.target
    }

    /// Returns the refusal for the case that another job has the id.
    #[must_use]
    pub fn foreign_id(&self) -> String {
        format!("another job has the id {} already: make a new one", self.id)
    }
}

/// The identity of a connection, as its certificate or its socket proves it.
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
