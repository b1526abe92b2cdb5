//! Enrollments of agents and logins of operators.

use super::{
    InvalidMessage,
    access::role_in,
    label::{labels_in, labels_out},
    proposal::reported_in,
    seal::{seal_in, seal_out},
    session::protocol_in,
};
use crate::{
    domain::{
        name::InvalidName,
        session::{Enroll, EnrollAnswer, LogIn, LogInAnswer},
    },
    wire::proto::{self, enroll_response, log_in_response},
};

/// The error for an answer to an enrollment or a login that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEnrollment {
    /// The answer's kind is missing, or this version does not know it.
    #[error("the master's answer is empty")]
    Empty,
    /// The operator's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The operator's role is missing, or this version does not know it.
    #[error("a role that this version does not know")]
    Role,
}

impl From<Enroll> for proto::EnrollRequest {
    fn from(enroll: Enroll) -> Self {
        Self {
            protocol: Some(enroll.protocol.into()),
            name: enroll.name,
            certificate_request: enroll.certificate_request.into(),
            token: enroll.token,
            software_version: enroll.version,
            code_proof: seal_out(enroll.code_proof),
            labels: labels_out(enroll.labels),
            direct: enroll.direct.map(Into::into),
        }
    }
}

impl From<proto::EnrollRequest> for Enroll {
    fn from(request: proto::EnrollRequest) -> Self {
        Self {
            protocol: protocol_in(request.protocol),
            name: request.name,
            certificate_request: request.certificate_request.into(),
            token: request.token.filter(|token| !token.is_empty()),
            version: request.software_version,
            code_proof: seal_in(request.code_proof.as_ref()),
            labels: labels_in(request.labels),
            direct: reported_in(request.direct),
        }
    }
}

impl From<EnrollAnswer> for proto::EnrollResponse {
    fn from(answer: EnrollAnswer) -> Self {
        use enroll_response::Kind;
        let kind = match answer {
            EnrollAnswer::Enrolled { certificate, ca_certificate, cluster, code_proof } => {
                Kind::Enrolled(proto::Enrolled {
                    certificate: certificate.into(),
                    ca_certificate: ca_certificate.into(),
                    cluster,
                    code_proof: seal_out(code_proof),
                })
            }
            EnrollAnswer::Pending { retry_after_ms, key_changed } => {
                Kind::Pending(proto::EnrollmentPending { retry_after_ms, key_changed })
            }
            EnrollAnswer::Refused { reason, retry_after_ms } => {
                Kind::Refused(proto::EnrollmentRefused { reason, retry_after_ms })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::EnrollResponse> for EnrollAnswer {
    type Error = InvalidEnrollment;

    fn try_from(response: proto::EnrollResponse) -> Result<Self, InvalidEnrollment> {
        use enroll_response::Kind;
        Ok(match response.kind.ok_or(InvalidEnrollment::Empty)? {
            Kind::Enrolled(enrolled) => Self::Enrolled {
                certificate: enrolled.certificate.into(),
                ca_certificate: enrolled.ca_certificate.into(),
                cluster: enrolled.cluster,
                code_proof: seal_in(enrolled.code_proof.as_ref()),
            },
            Kind::Pending(pending) => {
                Self::Pending { retry_after_ms: pending.retry_after_ms, key_changed: pending.key_changed }
            }
            Kind::Refused(refused) => {
                Self::Refused { reason: refused.reason, retry_after_ms: refused.retry_after_ms }
            }
        })
    }
}

impl From<LogIn> for proto::LogInRequest {
    fn from(log_in: LogIn) -> Self {
        Self {
            protocol: Some(log_in.protocol.into()),
            secret: log_in.secret,
            certificate_request: log_in.certificate_request.into(),
        }
    }
}

impl From<proto::LogInRequest> for LogIn {
    fn from(request: proto::LogInRequest) -> Self {
        Self {
            protocol: protocol_in(request.protocol),
            secret: request.secret,
            certificate_request: request.certificate_request.into(),
        }
    }
}

impl From<LogInAnswer> for proto::LogInResponse {
    fn from(answer: LogInAnswer) -> Self {
        use log_in_response::Kind;
        let kind = match answer {
            LogInAnswer::LoggedIn { certificate, ca_certificate, operator, role, hostname } => {
                Kind::LoggedIn(proto::LoggedIn {
                    certificate: certificate.into(),
                    ca_certificate: ca_certificate.into(),
                    operator: operator.into(),
                    role: proto::Role::from(role).into(),
                    hostname,
                })
            }
            LogInAnswer::Refused(reason) => Kind::Refused(proto::LogInRefused { reason }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::LogInResponse> for LogInAnswer {
    type Error = InvalidMessage;

    fn try_from(response: proto::LogInResponse) -> Result<Self, InvalidMessage> {
        use log_in_response::Kind;
        Ok(match response.kind.ok_or(InvalidEnrollment::Empty)? {
            Kind::LoggedIn(logged_in) => Self::LoggedIn {
                role: role_in(logged_in.role()).ok_or(InvalidEnrollment::Role)?,
                certificate: logged_in.certificate.into(),
                ca_certificate: logged_in.ca_certificate.into(),
                operator: logged_in.operator.try_into().map_err(InvalidEnrollment::Name)?,
                hostname: logged_in.hostname,
            },
            Kind::Refused(refused) => Self::Refused(refused.reason),
        })
    }
}
