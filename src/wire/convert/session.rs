//! The messages of an agent's session.

use super::{
    InvalidMessage, InvalidTask,
    label::{labels_in, labels_out},
    proposal::{address_in, fingerprint_in, fingerprint_out, proposal_in, reported_in},
};
use crate::{
    domain::{
        ids::Incarnation,
        revision::SealedRevision,
        session::{
            DirectState, Echo, FromAgent, HeldTask, Hello, Inventory, LinkReport, MasterInfo, Ping, Protocol,
            RefusalKind, SentAt, SessionRefused, ToAgent, TrustBasis, Welcome,
        },
    },
    wire::proto::{self, session_request, session_response},
};

/// The error for a message of a session that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSession {
    /// A Welcome or a Ping does not contain the time at which the master sent it.
    #[error("a message of the master that does not say when it was sent")]
    NotSent,
}

impl From<Protocol> for proto::ProtocolVersion {
    fn from(Protocol { major, minor }: Protocol) -> Self {
        Self { major, minor }
    }
}

/// Converts the protocol of a message. A missing protocol becomes 0.0, which is not the version of any
/// protocol.
pub(super) fn protocol_in(protocol: Option<proto::ProtocolVersion>) -> Protocol {
    let proto::ProtocolVersion { major, minor } = protocol.unwrap_or_default();
    Protocol { major, minor }
}

impl From<SentAt> for proto::SentAt {
    fn from(SentAt { clock, at_ms }: SentAt) -> Self {
        Self { clock, at_ms }
    }
}

impl From<proto::SentAt> for SentAt {
    fn from(proto::SentAt { clock, at_ms }: proto::SentAt) -> Self {
        Self { clock, at_ms }
    }
}

impl From<Echo> for proto::Echo {
    fn from(Echo { at_ms, age_ms }: Echo) -> Self {
        Self { at_ms, age_ms }
    }
}

impl From<proto::Echo> for Echo {
    fn from(proto::Echo { at_ms, age_ms }: proto::Echo) -> Self {
        Self { at_ms, age_ms }
    }
}

fn trust_out(trust: Option<TrustBasis>) -> proto::TrustBasis {
    match trust {
        None => proto::TrustBasis::Unspecified,
        Some(TrustBasis::Token) => proto::TrustBasis::Token,
        Some(TrustBasis::Fingerprint) => proto::TrustBasis::Fingerprint,
        Some(TrustBasis::Local) => proto::TrustBasis::Local,
        Some(TrustBasis::Code) => proto::TrustBasis::Code,
        Some(TrustBasis::FirstUse) => proto::TrustBasis::FirstUse,
    }
}

fn trust_in(trust: proto::TrustBasis) -> Option<TrustBasis> {
    match trust {
        proto::TrustBasis::Unspecified => None,
        proto::TrustBasis::Token => Some(TrustBasis::Token),
        proto::TrustBasis::Fingerprint => Some(TrustBasis::Fingerprint),
        proto::TrustBasis::Local => Some(TrustBasis::Local),
        proto::TrustBasis::Code => Some(TrustBasis::Code),
        proto::TrustBasis::FirstUse => Some(TrustBasis::FirstUse),
    }
}

impl From<Hello> for proto::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            protocol: Some(hello.protocol.into()),
            software_version: hello.version,
            capabilities: Vec::new(),
            incarnation: hello.incarnation.to_string(),
            labels: labels_out(hello.labels),
            direct: hello.direct.map(Into::into),
            link: proto::LinkPreference::from(hello.link).into(),
            seen: Some(hello.seen.into()),
            trust: trust_out(hello.trust).into(),
            stopping: hello.is_stopping,
            at_ms: hello.at_ms,
        }
    }
}

impl From<proto::Hello> for Hello {
    fn from(hello: proto::Hello) -> Self {
        Self {
            protocol: protocol_in(hello.protocol),
            link: hello.link().into(),
            trust: trust_in(hello.trust()),
            version: hello.software_version,
            incarnation: Incarnation::from(hello.incarnation),
            labels: labels_in(hello.labels),
            direct: reported_in(hello.direct),
            seen: hello.seen.map_or_else(SealedRevision::default, Into::into),
            is_stopping: hello.stopping,
            at_ms: hello.at_ms,
        }
    }
}

impl From<Welcome> for proto::Welcome {
    fn from(welcome: Welcome) -> Self {
        let master = |master: MasterInfo| proto::MasterInfo {
            hostname: master.hostname,
            address: master.address.map(Into::into),
        };
        Self {
            protocol: Some(welcome.protocol.into()),
            software_version: welcome.version,
            capabilities: Vec::new(),
            heartbeat_ms: welcome.heartbeat_ms,
            revision: Some(welcome.revision.into()),
            observed_address: welcome.observed_address,
            sent: Some(welcome.sent.into()),
            echo: welcome.echo.map(Into::into),
            machine: welcome.machine.map(fingerprint_out),
            user_id: welcome.user_id,
            proposed: Some(welcome.proposed.into()),
            masters: welcome.masters.into_iter().map(master).collect(),
        }
    }
}

impl TryFrom<proto::Welcome> for Welcome {
    type Error = InvalidMessage;

    fn try_from(welcome: proto::Welcome) -> Result<Self, InvalidMessage> {
        let master = |master: proto::MasterInfo| MasterInfo {
            hostname: master.hostname,
            address: address_in(master.address),
        };
        Ok(Self {
            protocol: protocol_in(welcome.protocol),
            version: welcome.software_version,
            heartbeat_ms: welcome.heartbeat_ms,
            revision: welcome.revision.map_or_else(SealedRevision::default, Into::into),
            observed_address: welcome.observed_address,
            sent: welcome.sent.ok_or(InvalidSession::NotSent)?.into(),
            echo: welcome.echo.map(Into::into),
            machine: welcome.machine.map(|machine| fingerprint_in(&machine)).transpose()?,
            user_id: welcome.user_id,
            proposed: proposal_in(welcome.proposed),
            masters: welcome.masters.into_iter().map(master).collect(),
        })
    }
}

impl From<RefusalKind> for proto::RefusalReason {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::UnknownKey => Self::UnknownKey,
            RefusalKind::Protocol => Self::Protocol,
            RefusalKind::Duplicate => Self::Duplicate,
            RefusalKind::Busy => Self::Busy,
        }
    }
}

impl From<proto::RefusalReason> for RefusalKind {
    fn from(reason: proto::RefusalReason) -> Self {
        match reason {
            proto::RefusalReason::UnknownKey => Self::UnknownKey,
            proto::RefusalReason::Protocol => Self::Protocol,
            proto::RefusalReason::Duplicate => Self::Duplicate,
            proto::RefusalReason::Busy | proto::RefusalReason::Unspecified => Self::Busy,
        }
    }
}

impl From<Ping> for proto::Ping {
    fn from(ping: Ping) -> Self {
        Self {
            sent: Some(ping.sent.into()),
            echo: ping.echo.map(Into::into),
            revision: ping.revision.map(Into::into),
        }
    }
}

impl TryFrom<proto::Ping> for Ping {
    type Error = InvalidSession;

    fn try_from(ping: proto::Ping) -> Result<Self, InvalidSession> {
        Ok(Self {
            sent: ping.sent.ok_or(InvalidSession::NotSent)?.into(),
            echo: ping.echo.map(Into::into),
            revision: ping.revision.map(Into::into),
        })
    }
}

impl From<DirectState> for proto::DirectState {
    fn from(state: DirectState) -> Self {
        match state {
            DirectState::Connected => Self::Connected,
            DirectState::Unreachable => Self::Unreachable,
            DirectState::Proposed => Self::Proposed,
            DirectState::Unwanted => Self::Unwanted,
        }
    }
}

impl From<proto::DirectState> for DirectState {
    fn from(state: proto::DirectState) -> Self {
        match state {
            proto::DirectState::Connected => Self::Connected,
            proto::DirectState::Unreachable => Self::Unreachable,
            proto::DirectState::Proposed => Self::Proposed,
            proto::DirectState::Unwanted | proto::DirectState::Unspecified => Self::Unwanted,
        }
    }
}

impl From<ToAgent> for proto::SessionRequest {
    fn from(message: ToAgent) -> Self {
        use session_request::Kind;
        let kind = match message {
            ToAgent::Welcome(welcome) => Kind::Welcome((*welcome).into()),
            ToAgent::Refused(refused) => Kind::Refused(proto::SessionRefused {
                reason: proto::RefusalReason::from(refused.kind).into(),
                message: refused.message,
                retry_after_ms: refused.retry_after_ms,
            }),
            ToAgent::Ping(ping) => Kind::Ping(ping.into()),
            ToAgent::Stop { grace_ms } => Kind::Stop(proto::StopOrder { grace_ms }),
            ToAgent::Closing(closing) => Kind::Closing(closing.into()),
            ToAgent::Link(report) => {
                Kind::Link(proto::LinkReport { state: proto::DirectState::from(report.state).into() })
            }
            ToAgent::Inventory => Kind::Inventory(proto::InventoryQuery {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::SessionRequest> for ToAgent {
    type Error = InvalidMessage;

    fn try_from(request: proto::SessionRequest) -> Result<Self, InvalidMessage> {
        use session_request::Kind;
        Ok(match request.kind.ok_or(InvalidMessage::UnknownKind)? {
            Kind::Welcome(welcome) => Self::Welcome(Box::new(welcome.try_into()?)),
            Kind::Refused(refused) => Self::Refused(SessionRefused {
                kind: refused.reason().into(),
                message: refused.message,
                retry_after_ms: refused.retry_after_ms,
            }),
            Kind::Ping(ping) => Self::Ping(ping.try_into()?),
            Kind::Stop(stop) => Self::Stop { grace_ms: stop.grace_ms },
            Kind::Closing(closing) => Self::Closing(closing.into()),
            Kind::Link(report) => Self::Link(LinkReport { state: report.state().into() }),
            Kind::Inventory(_) => Self::Inventory,
        })
    }
}

impl From<Inventory> for proto::Inventory {
    fn from(inventory: Inventory) -> Self {
        Self { tasks: inventory.tasks.into_iter().map(Into::into).collect() }
    }
}

/// Converts an inventory. Invalid tasks are left out, and their number is counted.
impl From<proto::Inventory> for Inventory {
    fn from(inventory: proto::Inventory) -> Self {
        let told = inventory.tasks.len();
        let valid = |task| -> Result<HeldTask, InvalidTask> { HeldTask::try_from(task) };
        let tasks: Vec<HeldTask> = inventory.tasks.into_iter().filter_map(|task| valid(task).ok()).collect();
        Self { invalid: told - tasks.len(), tasks }
    }
}

impl From<FromAgent> for proto::SessionResponse {
    fn from(message: FromAgent) -> Self {
        use session_response::Kind;
        let kind = match message {
            FromAgent::Hello(hello) => Kind::Hello((*hello).into()),
            FromAgent::Facts(facts) => Kind::Facts((*facts).into()),
            FromAgent::Heartbeat { at_ms } => Kind::Heartbeat(proto::Heartbeat { at_ms }),
            FromAgent::Stopping { running } => Kind::Stopping(proto::AgentStopping { running }),
            FromAgent::Closing(closing) => Kind::Closing(closing.into()),
            FromAgent::Inventory(inventory) => Kind::Inventory(inventory.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::SessionResponse> for FromAgent {
    type Error = InvalidMessage;

    fn try_from(response: proto::SessionResponse) -> Result<Self, InvalidMessage> {
        use session_response::Kind;
        Ok(match response.kind.ok_or(InvalidMessage::UnknownKind)? {
            Kind::Hello(hello) => Self::Hello(Box::new(hello.into())),
            Kind::Facts(facts) => Self::Facts(Box::new(facts.into())),
            Kind::Heartbeat(beat) => Self::Heartbeat { at_ms: beat.at_ms },
            Kind::Stopping(stopping) => Self::Stopping { running: stopping.running },
            Kind::Closing(closing) => Self::Closing(closing.into()),
            Kind::Inventory(inventory) => Self::Inventory(inventory.into()),
        })
    }
}
