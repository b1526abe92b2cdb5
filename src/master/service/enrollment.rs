//! `EnrollmentService`: the calls that unauthenticated peers may make.

use std::net::SocketAddr;

use tonic::Status;

use super::{Master, invalid};
use crate::{
    domain::{
        name::AgentName,
        proposal::Proposal,
        session::{Enroll, EnrollAnswer, LogIn, LogInAnswer, Protocol},
    },
    master::core::messages::{EnrollAnswer as Decision, EnrollAsked, Input},
    trust::{identity::Identity, key::CheckedRequest, token::hash_secret},
    wire::{PROTOCOL, SOFTWARE_VERSION, enrollment::EnrollmentCalls, serve::Connected},
};

/// Interval at which a pending key asks again, in milliseconds.
const PENDING_RETRY_MS: u32 = 2_000;
/// Interval at which a key asks again if the list of pending keys is full, in milliseconds.
const NO_ROOM_MS: u32 = 60_000;

/// Checks that this master speaks the caller's protocol.
///
/// # Errors
/// When it does not. The text names both versions.
pub(super) fn speaks_our_protocol(theirs: Protocol) -> Result<(), String> {
    if theirs.major == PROTOCOL.major {
        return Ok(());
    }
    Err(format!(
        "the caller speaks protocol {}, this master ({SOFTWARE_VERSION}) speaks {}: upgrade the older one",
        theirs.major, PROTOCOL.major
    ))
}

#[tonic::async_trait]
impl EnrollmentCalls for Master {
    async fn enroll(&self, caller: &Connected, request: Enroll) -> Result<EnrollAnswer, Status> {
        let refused = |reason, retry_after_ms| Ok(EnrollAnswer::Refused { reason, retry_after_ms });
        if let Err(reason) = speaks_our_protocol(request.protocol) {
            return refused(reason, None);
        }
        let name = match request.name.parse::<AgentName>() {
            Ok(name) => name,
            Err(invalid) => return refused(invalid.to_string(), None),
        };
        let checked = CheckedRequest::check(&request.certificate_request).map_err(invalid)?;
        let own_uid = nix::unistd::geteuid().as_raw();
        let from = caller.address.parse::<SocketAddr>().ok().map(|from| from.ip().to_canonical());
        let direct = request.direct.and_then(|reported| reported.seen_at(from));
        let asked = EnrollAsked {
            name: name.clone(),
            fingerprint: checked.fingerprint,
            from,
            trusted_locally: caller.uid.is_some_and(|uid| uid == own_uid || uid == 0),
            token: request.token.as_deref().map(hash_secret),
            version: request.version.into(),
            proof: request.code_proof,
            proposal: Proposal::new(request.labels, direct).brief(),
        };
        match self.handle.ask(move |reply| Input::Enroll(asked, reply)).await? {
            Decision::Enrolled(code_proof) => {
                let signed = self.authority.sign(checked, &Identity::Agent(name));
                let certificate = signed.map_err(|error| Status::internal(error.to_string()))?;
                Ok(EnrollAnswer::Enrolled {
                    certificate: certificate.to_vec(),
                    ca_certificate: self.authority.certificate().to_vec(),
                    cluster: self.authority.cluster().to_owned(),
                    code_proof,
                })
            }
            Decision::Pending { key_changed } => {
                Ok(EnrollAnswer::Pending { retry_after_ms: PENDING_RETRY_MS, key_changed })
            }
            Decision::Refused { reason, retry } => refused(reason, retry.then_some(NO_ROOM_MS)),
        }
    }

    async fn log_in(&self, request: LogIn) -> Result<LogInAnswer, Status> {
        self.admit_operator(request).await
    }
}
