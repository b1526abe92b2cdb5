//! The calls that need no identity: an agent's enrollment and an operator's login. Transports messages and
//! makes no decisions.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    channel::Channel,
    connect::DEADLINE,
    convert::Carried,
    proto::{
        self,
        enrollment_service_client::EnrollmentServiceClient,
        enrollment_service_server::{EnrollmentService, EnrollmentServiceServer},
    },
    serve::Connected,
    status::CallError,
};
use crate::domain::session::{Enroll, EnrollAnswer, LogIn, LogInAnswer};

/// Maximum size of a message from an unauthenticated peer, in bytes: enough for a certificate request and a
/// name.
const MAX_MESSAGE: usize = 16 * 1024;

fn client(channel: Channel) -> EnrollmentServiceClient<Channel> {
    EnrollmentServiceClient::with_origin(channel, Channel::origin())
}

fn too_late<E>(_: E) -> CallError {
    CallError::Disconnected(format!(": no answer within {} s", DEADLINE.as_secs()))
}

/// Requests an agent's certificate.
///
/// # Errors
/// When the call fails or its answer is not valid.
pub(crate) async fn enroll(channel: Channel, request: Enroll) -> Result<EnrollAnswer, CallError> {
    let mut client = client(channel);
    let call = tokio::time::timeout(DEADLINE, client.enroll(request.into_message()));
    Ok(EnrollAnswer::from_message(call.await.map_err(too_late)??.into_inner())?)
}

/// Requests an operator's certificate.
///
/// # Errors
/// When the call fails or its answer is not valid.
pub(crate) async fn log_in(channel: Channel, request: LogIn) -> Result<LogInAnswer, CallError> {
    let mut client = client(channel);
    let call = tokio::time::timeout(DEADLINE, client.log_in(request.into_message()));
    Ok(LogInAnswer::from_message(call.await.map_err(too_late)??.into_inner())?)
}

/// The handlers of a master for these calls.
#[tonic::async_trait]
pub(crate) trait EnrollmentCalls: Send + Sync + 'static {
    /// Answers an agent's request for a certificate.
    async fn enroll(&self, caller: &Connected, request: Enroll) -> Result<EnrollAnswer, Status>;

    /// Answers an operator's request for a certificate.
    async fn log_in(&self, request: LogIn) -> Result<LogInAnswer, Status>;
}

/// Returns the service for connections without an identity.
pub(super) fn service<C: EnrollmentCalls>(calls: Arc<C>) -> EnrollmentServiceServer<Server<C>> {
    EnrollmentServiceServer::new(Server(calls)).max_decoding_message_size(MAX_MESSAGE)
}

pub(super) struct Server<C>(Arc<C>);

#[tonic::async_trait]
impl<C: EnrollmentCalls> EnrollmentService for Server<C> {
    async fn enroll(
        &self,
        request: Request<proto::EnrollRequest>,
    ) -> Result<Response<proto::EnrollResponse>, Status> {
        let caller = Connected::of(&request)?;
        let answer = self.0.enroll(&caller, Enroll::from_message(request.into_inner())?).await?;
        Ok(Response::new(answer.into_message()))
    }

    async fn log_in(
        &self,
        request: Request<proto::LogInRequest>,
    ) -> Result<Response<proto::LogInResponse>, Status> {
        let answer = self.0.log_in(LogIn::from_message(request.into_inner())?).await?;
        Ok(Response::new(answer.into_message()))
    }
}
