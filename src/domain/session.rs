//! The messages of an agent's session with its master, and of enrolling with it.
//!
//! Does not depend on the transport or on the code that handles the messages. The clocks of agents and
//! masters include the time during which their machine was suspended.

pub use super::control::Closing;
use super::{
    agent::{Facts, LinkKind, LinkPreference},
    command::TaskSpec,
    fingerprint::Fingerprint,
    ids::{Incarnation, TaskId},
    name::{Labels, OperatorName},
    operator::Role,
    proposal::{DirectAddress, Proposal, ReportedAddress},
    revision::SealedRevision,
    seal::Seal,
    time::UnixMs,
};

/// The protocol that a program speaks. Another major version is refused; within one, capabilities decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Raised when old and new no longer understand each other.
    pub major: u32,
    /// Raised when something is added that the other side can ignore.
    pub minor: u32,
}

/// When the master sent a message, on a clock of its own.
///
/// From the echoes of its own messages, an agent determines the difference between that clock and its own,
/// and how long a message was in transit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentAt {
    /// Identifies the clock; each start of the master has its own. Never 0.
    pub clock: u64,
    /// Milliseconds on that clock.
    pub at_ms: u64,
}

/// The time of the agent's newest message, as the master received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// When the agent sent it, in milliseconds on the agent's clock.
    pub at_ms: u64,
    /// How long before this message of the master the agent's message was received, in milliseconds.
    pub age_ms: u64,
}

/// A message from the master in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum ToAgent {
    /// The first message, if the agent is accepted.
    Welcome(Box<Welcome>),
    /// The first message, if it is not; the connection closes after it.
    Refused(SessionRefused),
    /// A keep-alive that the agent answers.
    Ping(Ping),
    /// Stops the agent.
    Stop {
        /// How long its tasks can continue, in milliseconds.
        grace_ms: u32,
    },
    /// The last message before the master closes the connection.
    Closing(Closing),
    /// The result of the master's attempt to open a direct link.
    Link(LinkReport),
    /// Asks which tasks the agent still has.
    Inventory,
}

/// A message from the agent in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// The first message.
    Hello(Box<Hello>),
    /// The state of its machine.
    Facts(Box<Facts>),
    /// A keep-alive; any other message counts as one too.
    Heartbeat {
        /// When it was sent, in milliseconds on the agent's clock.
        at_ms: u64,
    },
    /// The agent is stopping and starts no more tasks.
    Stopping {
        /// Tasks that still run.
        running: u32,
    },
    /// The last message before the agent's connector ends.
    Closing(Closing),
    /// Tasks that the agent still has, in several messages if there are many.
    Inventory(Inventory),
}

/// The agent's first message.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// The newest protocol that the agent speaks.
    pub protocol: Protocol,
    /// The agent's software version.
    pub version: String,
    /// The incarnation of the agent's memory.
    pub incarnation: Incarnation,
    /// The labels that the agent reports.
    pub labels: Labels,
    /// The address for a direct link; `None` if the agent reports none.
    pub direct: Option<ReportedAddress>,
    /// The link that the agent is configured to use.
    pub link: LinkPreference,
    /// The highest revision of the master's store that the agent has seen.
    pub seen: SealedRevision,
    /// How the agent came to trust the CA; `None` if that was not recorded.
    pub trust: Option<TrustBasis>,
    /// Whether the agent is stopping.
    pub is_stopping: bool,
    /// When it was sent, in milliseconds on the agent's clock.
    pub at_ms: u64,
}

/// How an agent came to trust a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustBasis {
    /// A join token contained the CA's fingerprint.
    Token,
    /// An operator gave the agent the CA's fingerprint.
    Fingerprint,
    /// The agent enrolled over the master's socket on the same machine.
    Local,
    /// An operator typed the code that the agent printed.
    Code,
    /// The agent trusted the first CA that it saw, as version 0.1.0 did.
    FirstUse,
}

impl TrustBasis {
    const ALL: [Self; 5] = [Self::Token, Self::Fingerprint, Self::Local, Self::Code, Self::FirstUse];

    /// Returns the basis's name, as agents store it and people see it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Fingerprint => "fingerprint",
            Self::Local => "local",
            Self::Code => "code",
            Self::FirstUse => "first use",
        }
    }

    /// Returns the basis with this name.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|basis| basis.word() == word)
    }
}

/// The master accepts an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// The newest protocol that the master speaks.
    pub protocol: Protocol,
    /// The master's software version.
    pub version: String,
    /// The longest interval between two messages of the agent, in milliseconds.
    pub heartbeat_ms: u32,
    /// The revision of the master's store.
    pub revision: SealedRevision,
    /// The agent's address as the master sees it.
    pub observed_address: String,
    /// When it was sent.
    pub sent: SentAt,
    /// The echo of the Hello that it answers.
    pub echo: Option<Echo>,
    /// A digest of the master's machine id. An agent on the same machine recognizes it.
    pub machine: Option<Fingerprint>,
    /// The id of the user that the master runs as on that machine.
    pub user_id: u32,
    /// What the agent reports and an operator has not accepted yet.
    pub proposed: Proposal,
    /// The masters of the cluster that the agent can connect to, this one first. There is one today.
    pub masters: Vec<MasterInfo>,
}

/// A master of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterInfo {
    /// The name of its machine.
    pub hostname: String,
    /// The host and port at which agents reach it; `None` for the address that the agent is connected to.
    pub address: Option<DirectAddress>,
}

/// The master refuses an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRefused {
    /// The reason, for programs.
    pub kind: RefusalKind,
    /// The reason and what to do, for people.
    pub message: String,
    /// How long to wait before the next attempt, in milliseconds.
    pub retry_after_ms: u32,
}

/// Why a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The key is not, or no longer, in the registry: the agent has to enroll again.
    UnknownKey,
    /// The other side speaks another major version of the protocol.
    Protocol,
    /// Another agent with this key is connected and answers.
    Duplicate,
    /// The master accepts no sessions now, or gives a reason that this version does not know.
    Busy,
}

/// A keep-alive from the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// When it was sent.
    pub sent: SentAt,
    /// The echo of the newest message of the agent at that time.
    pub echo: Option<Echo>,
    /// A revision that the agent must store, because it revoked an operator or an agent.
    pub revision: Option<SealedRevision>,
}

/// The result of the master's attempt to open a direct link.
///
/// It contains only a state. The agent chooses the address, so it must not learn which service answers there;
/// operators see that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// The state of the direct link.
    pub state: DirectState,
}

/// The state of the direct link to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectState {
    /// It is open.
    Connected,
    /// It could not be opened. The master tries again.
    Unreachable,
    /// An operator has not accepted the address yet.
    Proposed,
    /// The agent is configured not to use one.
    Unwanted,
}

impl DirectState {
    /// Returns the state's name, for logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Unreachable => "unreachable",
            Self::Proposed => "proposed",
            Self::Unwanted => "unwanted",
        }
    }

    /// Returns the link that is used in this state.
    #[must_use]
    pub fn link(self) -> LinkKind {
        if self == Self::Connected { LinkKind::Direct } else { LinkKind::Tunnel }
    }
}

/// Tasks that an agent still has: running ones, and ended ones whose outcome no master has stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The tasks.
    pub tasks: Vec<HeldTask>,
    /// The number of further tasks in the message that are not valid.
    pub invalid: usize,
}

/// A task that an agent still has.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldTask {
    /// Its id.
    pub id: TaskId,
    /// Its specification.
    pub spec: TaskSpec,
    /// When it was started, in milliseconds since the Unix epoch on the agent's clock.
    pub started_ms: UnixMs,
}

/// Requests an agent's certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Enroll {
    /// The newest protocol that the agent speaks.
    pub protocol: Protocol,
    /// The name that the agent requests, which is not checked yet.
    pub name: String,
    /// A PKCS #10 request in DER, signed by the agent's key.
    pub certificate_request: Vec<u8>,
    /// The secret of a join token.
    pub token: Option<String>,
    /// The agent's software version.
    pub version: String,
    /// The proof, with the one-time code, that the agent has this key and was shown the CA of this
    /// connection.
    pub code_proof: Option<Seal>,
    /// The labels that the agent reports.
    pub labels: Labels,
    /// The address for a direct link; `None` if the agent reports none.
    pub direct: Option<ReportedAddress>,
}

/// The answer to [`Enroll`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollAnswer {
    /// The key is enrolled.
    Enrolled {
        /// The agent's certificate in DER.
        certificate: Vec<u8>,
        /// The certificate of the master's CA in DER.
        ca_certificate: Vec<u8>,
        /// The cluster's name.
        cluster: String,
        /// The master's proof, with the one-time code that an operator typed.
        code_proof: Option<Seal>,
    },
    /// The key waits for approval.
    Pending {
        /// How long to wait before the next request, in milliseconds.
        retry_after_ms: u32,
        /// Whether another key is already enrolled under this name.
        key_changed: bool,
    },
    /// The key is refused.
    Refused {
        /// The reason and what to do, for people.
        reason: String,
        /// How long to wait before the next request, in milliseconds; `None` if that would not change
        /// anything.
        retry_after_ms: Option<u32>,
    },
}

/// Requests an operator's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIn {
    /// The newest protocol that the client speaks.
    pub protocol: Protocol,
    /// The secret of the login string.
    pub secret: String,
    /// A PKCS #10 request in DER, signed by the operator's key.
    pub certificate_request: Vec<u8>,
}

/// The answer to [`LogIn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogInAnswer {
    /// The key is registered as the operator's.
    LoggedIn {
        /// The operator's certificate in DER.
        certificate: Vec<u8>,
        /// The certificate of the master's CA in DER.
        ca_certificate: Vec<u8>,
        /// The operator's name.
        operator: OperatorName,
        /// The operator's role.
        role: Role,
        /// The name of the master's machine.
        hostname: String,
    },
    /// The login is refused, for this reason.
    Refused(String),
}
