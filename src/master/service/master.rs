//! What the services of a master share, and the status of their errors.

use std::{ops::Deref, sync::Arc};

use tonic::{Code, Status, service::Routes};

use super::watch::Watched;
use crate::{
    domain::time::UnixMs,
    master::{
        core::messages::Denied,
        handle::{Ending, Handle},
        output_log::OutputLogs,
        stdin_relay::StdinRelays,
        store::Store,
        users::Users,
    },
    sys::{clock::BootInstant, shutdown::Shutdown},
    trust::authority::Authority,
    wire::{self, budget::Budgets, status},
};

/// The services of one master; cheap to clone.
#[derive(Clone)]
pub(crate) struct Master(Arc<Parts>);

/// The state that the services share.
pub(crate) struct Parts {
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
    /// The relays of the commands' input.
    pub inputs: StdinRelays,
    /// The CA, which signs certificates.
    pub authority: Arc<Authority>,
    /// The limits of all callers.
    pub budgets: Budgets,
    /// Ends the services when the master ends.
    pub shutdown: Shutdown,
    /// When the master started.
    pub started: BootInstant,
    /// The same, in milliseconds since the Unix epoch; with the process id it names this process.
    pub started_ms: UnixMs,
    /// The address of the port, as text for operators.
    pub address: Arc<str>,
    /// The number of the port.
    pub port: u16,
    /// Whether every agent that reaches the port is enrolled.
    pub enroll_any: bool,
}

impl Deref for Master {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Master {
    /// Returns the services of a master.
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Returns the routes of all services, behind the access table. Reflection is only served if `local`.
    ///
    /// # Errors
    /// When the compiled-in descriptors cannot be parsed.
    pub(crate) async fn routes(&self, local: bool) -> Result<Routes, tonic_reflection::server::Error> {
        wire::control::routes(Arc::new(self.clone()), local).await
    }
}

impl From<Ending> for Status {
    fn from(ending: Ending) -> Self {
        Self::unavailable(ending.to_string())
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotFound(text) => status::refusal(Code::NotFound, text),
            Denied::Refused(text) => status::refusal(Code::FailedPrecondition, text),
        }
    }
}

/// The status for a request that is not valid.
pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    status::refusal(Code::InvalidArgument, error)
}
