//! The services of the master: `EnrollmentService` for anyone, `ControlService` for operators. Converts; makes no decisions.

mod agents;
pub mod begin;
mod choosing;
mod control;
mod digest;
pub mod enrollment;
mod follow;
mod history;
mod input;
mod invitations;
mod news;
mod outbox;
pub mod watch;

use std::{pin::Pin, sync::Arc};

use prost::Message;
use tonic::{Code, Request, Response, Status, service::Routes};

use super::{
    core::messages::Reply,
    handle::{Ending, Handle},
    output_log::OutputLogs,
    stdin_relay::Inputs,
    store::Store,
    users::Users,
};
use crate::{
    sys::{clock::BootInstant, shutdown::Shutdown},
    trust::authority::Authority,
    wire::{
        budget::Budgets,
        proto::{
            self,
            control_service_server::{ControlService as _, ControlServiceServer},
            enrollment_service_server::EnrollmentServiceServer,
        },
        serve::Connected,
        status,
        streaming::{FOLLOW_JOB, Method, RERUN_JOB, START_JOB, only},
    },
};
use outbox::Answers;
use watch::Watched;

/// Bytes of the longest message that unauthenticated peers are heard with: a certificate request and a name, with room.
const MAX_UNAUTHENTICATED_MESSAGE: usize = 16 * 1024;

/// What the services work with.
#[derive(Clone)]
pub struct Master {
    /// The core.
    pub handle: Handle,
    /// The store of finished jobs.
    pub store: Store,
    /// The output logs of all jobs.
    pub logs: OutputLogs,
    /// The machine's users.
    pub users: Users,
    /// Live jobs that are watched.
    pub watched: Watched,
    /// What commands are fed.
    pub inputs: Inputs,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// What everybody may use.
    pub budgets: Budgets,
    /// When to end.
    pub shutdown: Shutdown,
    /// When the master started.
    pub started: BootInstant,
    /// The same, in milliseconds since the Unix epoch; with the process id it names this process.
    pub started_ms: u64,
    /// Where it listens, for people.
    pub address: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Whoever reaches the port is let in.
    pub enroll_any: bool,
}

/// Every service behind the access table; reflection on the machine's own socket only.
///
/// # Errors
/// When the compiled-in descriptors are not understood.
pub async fn routes(master: &Master, local: bool) -> Result<Routes, tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ControlServiceServer<Master>>().await;
    let enrollment =
        EnrollmentServiceServer::new(master.clone()).max_decoding_message_size(MAX_UNAUTHENTICATED_MESSAGE);
    let mut routes = Routes::new(enrollment)
        .add_service(ControlServiceServer::new(master.clone()).max_decoding_message_size(4 * 1024 * 1024))
        .add_service(health_service);
    if local {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .build_v1()?;
        routes = routes.add_service(reflection);
    }
    routes = streamed(routes, START_JOB, master, |master, request| master.start_job(request));
    routes = streamed(routes, RERUN_JOB, master, |master, request| master.rerun_job(request));
    routes = streamed(routes, FOLLOW_JOB, master, |master, request| master.follow_job(request));
    Ok(routes.prepare())
}

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<Response<Answers<T>>, Status>> + Send + 'a>>;

/// Has the answers of a method handed on as they are.
fn streamed<Q, A>(
    routes: Routes,
    method: Method<Q, A>,
    master: &Master,
    answer: for<'a> fn(&'a Master, Request<Q>) -> Answering<'a, A>,
) -> Routes
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let master = master.clone();
    method.route(routes, move |request| {
        let master = master.clone();
        async move { answer(&master, only(request).await?).await }
    })
}

/// Who makes this call.
fn connected<T>(request: &Request<T>) -> Result<Connected, Status> {
    let connected = request.extensions().get::<Connected>();
    connected.cloned().ok_or_else(|| Status::internal("a call from nowhere"))
}

impl From<Ending> for Status {
    fn from(ending: Ending) -> Self {
        Self::unavailable(ending.to_string())
    }
}

/// The status for an answer that is not the one that was hoped for.
fn refusal(reply: Reply) -> Status {
    match reply {
        Reply::NotFound(text) => status::refusal(Code::NotFound, text),
        Reply::Refused(text) => status::refusal(Code::FailedPrecondition, text),
        other => Status::internal(format!("an answer to another question: {other:?}")),
    }
}
