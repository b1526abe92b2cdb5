//! The calls that need no identity: enrolling an agent, and an operator's login. Carries messages; decides nothing.

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

/// Bytes of the longest message that is taken from an unauthenticated peer: a certificate request and a name, with room.
const MAX_MESSAGE: usize = 16 * 1024;

fn client(channel: Channel) -> EnrollmentServiceClient<Channel> {
    EnrollmentServiceClient::with_origin(channel, Channel::origin())
}

fn too_late<E>(_: E) -> CallError {
    CallError::Disconnected(format!(": no answer within {} s", DEADLINE.as_secs()))
}

/// Asks for an agent's certificate.
///
/// # Errors
/// When the call fails or its answer is not valid.
pub async fn enroll(channel: Channel, request: Enroll) -> Result<EnrollAnswer, CallError> {
    let mut client = client(channel);
    let call = tokio::time::timeout(DEADLINE, client.enroll(request.into_message()));
    Ok(EnrollAnswer::from_message(call.await.map_err(too_late)??.into_inner())?)
}

/// Asks for an operator's certificate.
///
/// # Errors
/// When the call fails or its answer is not valid.
pub async fn log_in(channel: Channel, request: LogIn) -> Result<LogInAnswer, CallError> {
    let mut client = client(channel);
    let call = tokio::time::timeout(DEADLINE, client.log_in(request.into_message()));
    Ok(LogInAnswer::from_message(call.await.map_err(too_late)??.into_inner())?)
}

/// The calls of a master that give an identity.
#[tonic::async_trait]
pub trait EnrollmentCalls: Send + Sync + 'static {
    /// Asks for an agent's certificate.
    async fn enroll(&self, caller: &Connected, request: Enroll) -> Result<EnrollAnswer, Status>;

    /// Asks for an operator's certificate.
    async fn log_in(&self, request: LogIn) -> Result<LogInAnswer, Status>;
}

/// The service for connections without an identity.
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
