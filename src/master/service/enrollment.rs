//! `EnrollmentService`: the calls that unauthenticated peers may make.

use std::net::SocketAddr;

use tonic::{Request, Response, Status};

use super::{Master, connected};
use crate::{
    domain::{name::AgentName, proposal::Proposal},
    master::core::messages::{EnrollAsked, Input, Reply},
    trust::{identity::Identity, key::CheckedRequest, token::hash_secret},
    wire::{
        InvalidMessage, PROTOCOL, SOFTWARE_VERSION,
        agent::labels_in,
        command::{seal_in, seal_out},
        proposal::direct_in,
        proto::{self, enroll_response::Kind, enrollment_service_server::EnrollmentService},
    },
};

/// When a waiting key asks again.
const ASK_AGAIN_MS: u32 = 2_000;
/// When a key asks again that had no room on the list.
const NO_ROOM_MS: u32 = 60_000;

fn refused(reason: String, retry_after_ms: u32) -> Kind {
    Kind::Refused(proto::EnrollmentRefused { reason, retry_after_ms })
}

/// Whether a caller's protocol is one that this master speaks.
///
/// # Errors
/// In words that name both versions.
pub(super) fn speaks_our_protocol(theirs: Option<proto::ProtocolVersion>) -> Result<(), String> {
    let major = theirs.map_or(0, |protocol| protocol.major);
    if major == PROTOCOL.major {
        return Ok(());
    }
    Err(format!(
        "the caller speaks protocol {major}, this master ({SOFTWARE_VERSION}) speaks {}: upgrade the older one",
        PROTOCOL.major
    ))
}

impl Master {
    async fn enroll_key(&self, request: Request<proto::EnrollRequest>) -> Result<Kind, Status> {
        let connected = connected(&request)?;
        let request = request.into_inner();
        if let Err(reason) = speaks_our_protocol(request.protocol) {
            return Ok(refused(reason, 0));
        }
        let name = match request.name.parse::<AgentName>() {
            Ok(name) => name,
            Err(invalid) => return Ok(refused(invalid.to_string(), 0)),
        };
        let checked = CheckedRequest::check(&request.certificate_request).map_err(InvalidMessage::because)?;
        let fingerprint = checked.fingerprint;
        let own_uid = nix::unistd::geteuid().as_raw();
        let from = connected.address.parse::<SocketAddr>().ok().map(|from| from.ip().to_canonical());
        let asked = EnrollAsked {
            name: name.clone(),
            fingerprint,
            from,
            trusted_locally: connected.uid.is_some_and(|uid| uid == own_uid || uid == 0),
            token: (!request.token.is_empty()).then(|| hash_secret(&request.token)),
            version: request.software_version.into(),
            proof: seal_in(&request.code_proof),
            proposal: Proposal::new(labels_in(request.labels), direct_in(request.direct.as_ref(), from))
                .brief(),
        };
        match self.handle.ask(move |reply| Input::Enroll(asked, reply)).await? {
            Reply::Enrolled(proof) => {
                let certificate = self
                    .authority
                    .sign(checked, &Identity::Agent(name))
                    .map_err(|error| Status::internal(error.to_string()))?;
                Ok(Kind::Enrolled(proto::Enrolled {
                    certificate: certificate.to_vec().into(),
                    ca_certificate: self.authority.certificate().to_vec().into(),
                    cluster: self.authority.cluster().to_owned(),
                    code_proof: seal_out(proof),
                }))
            }
            Reply::EnrollPending { key_changed } => Ok(Kind::Pending(proto::EnrollmentPending {
                fingerprint: fingerprint.to_string(),
                retry_after_ms: ASK_AGAIN_MS,
                key_changed,
            })),
            Reply::EnrollRefused { reason, retry } => Ok(refused(reason, if retry { NO_ROOM_MS } else { 0 })),
            Reply::Refused(reason) => Ok(refused(reason, NO_ROOM_MS)),
            other => Err(super::refusal(other)),
        }
    }
}

#[tonic::async_trait]
impl EnrollmentService for Master {
    async fn enroll(
        &self,
        request: Request<proto::EnrollRequest>,
    ) -> Result<Response<proto::EnrollResponse>, Status> {
        let kind = self.enroll_key(request).await?;
        Ok(Response::new(proto::EnrollResponse { kind: Some(kind) }))
    }

    async fn log_in(
        &self,
        request: Request<proto::LogInRequest>,
    ) -> Result<Response<proto::LogInResponse>, Status> {
        self.admit_operator(request).await
    }
}
