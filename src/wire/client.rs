//! The client of operators: a typed view of `ControlService`, over the local socket or the network.

use std::{io, path::PathBuf, sync::Arc};

use prost::Message;
use rustls::ClientConfig;
use tokio::{io::BufWriter, net::UnixStream};

use super::{
    channel::{Channel, KeepAlive},
    connect::{DialError, dial},
    proto::{self, control_service_client::ControlServiceClient},
    status::CallError,
    streaming::{FOLLOW_JOB, LONGEST_OF_MASTER, Messages, Method, RERUN_JOB, START_JOB},
};
use crate::{
    domain::target::selection::Selection,
    sys::{paths::known_master_sockets, socket},
    trust::tls::server_name,
};

/// The address of a master, and the identity to use there.
#[derive(Clone, Debug)]
pub enum MasterAddress {
    /// The own user's on this machine, else root's.
    Local,
    /// The one behind this socket.
    Socket(PathBuf),
    /// One elsewhere, as the operator of a stored login.
    Remote(Arc<RemoteMaster>),
}

/// A master elsewhere.
#[derive(Debug)]
pub struct RemoteMaster {
    /// What it is called here.
    pub name: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The operator's certificate and key, and the CA to believe in.
    pub tls: Arc<ClientConfig>,
}

/// A master that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens on the usual sockets.
    #[error(
        "no master runs on this machine for this user (looked at {0}); start one with `sloth-runner master`, name its socket with --master unix:PATH, or log in to one elsewhere with `sloth-runner login`"
    )]
    NoMaster(String),
    /// Nobody listens on the socket that was named.
    #[error("no master answers on {path}: {source}; {}", hint(source))]
    Socket {
        /// Which socket.
        path: String,
        /// The cause of the error.
        source: io::Error,
    },
    /// The one elsewhere does not answer.
    #[error("the master {name}: {source}")]
    Remote {
        /// What it is called here.
        name: String,
        /// The cause of the error.
        source: DialError,
    },
}

/// What to do about a socket that cannot be connected to.
fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "this user may not use it: `sudo`, or as root `sloth-runner master operator add NAME --role ROLE --unix-user USER`"
    } else {
        "is it running (`sloth-runner master status`)?"
    }
}

/// What happens to a job, as a stream.
pub type JobEvents = Messages<proto::JobEvent>;

/// A connection to a master, for operators.
#[derive(Clone, Debug)]
pub struct ControlClient {
    channel: Channel,
}

impl ControlClient {
    /// Connects to a master.
    ///
    /// # Errors
    /// When none answers.
    pub async fn connect(address: &MasterAddress) -> Result<Self, ConnectError> {
        match address {
            MasterAddress::Socket(path) => {
                let shown = path.display().to_string();
                let refused = |source| ConnectError::Socket { path: shown.clone(), source };
                Self::over_socket(socket::connect(path).map_err(refused)?, &shown).await
            }
            MasterAddress::Local => {
                let known = known_master_sockets();
                let found = known.iter().find_map(|path| Some((socket::connect(path).ok()?, path)));
                let Some((stream, path)) = found else {
                    let paths: Vec<_> = known.iter().map(|path| path.display().to_string()).collect();
                    return Err(ConnectError::NoMaster(paths.join(" and ")));
                };
                Self::over_socket(stream, &path.display().to_string()).await
            }
            MasterAddress::Remote(master) => {
                let failed = |source| ConnectError::Remote { name: master.name.clone(), source };
                // Large, and on the stack of every command otherwise, whichever master it goes to.
                Box::pin(Self::over_network(master)).await.map_err(failed)
            }
        }
    }

    async fn over_socket(stream: std::os::unix::net::UnixStream, path: &str) -> Result<Self, ConnectError> {
        let io = |source| ConnectError::Socket { path: path.to_owned(), source };
        stream.set_nonblocking(true).map_err(io)?;
        // The protocol's greeting and settings are two small writes; each would wake the master.
        let stream = BufWriter::new(UnixStream::from_std(stream).map_err(io)?);
        // A master of this machine falls silent too: it may be stopped, or wait for a disk.
        let shaken = Channel::handshake_kept_alive(stream, KeepAlive::PATIENT).await;
        let (channel, connection) = shaken.map_err(|error| io(io::Error::other(error)))?;
        // Ends with the last client; its error reaches the calls that it breaks.
        tokio::spawn(connection);
        Ok(Self { channel })
    }

    async fn over_network(master: &RemoteMaster) -> Result<Self, DialError> {
        let name = server_name(&format!("{}:{}", master.host, master.port));
        let dialled = dial(&master.host, master.port, Arc::clone(&master.tls), name).await?;
        dialled.expect_master()?;
        let address = dialled.address;
        let handshake = |error: hyper::Error| DialError::Handshake { address, reason: error.to_string() };
        let (channel, connection) =
            Channel::handshake_kept_alive(dialled.stream, KeepAlive::QUICK).await.map_err(handshake)?;
        tokio::spawn(connection);
        Ok(Self { channel })
    }

    /// The generated client, for calls that need no wrapping.
    #[must_use]
    pub fn calls(&self) -> ControlServiceClient<Channel> {
        let client = ControlServiceClient::with_origin(self.channel.clone(), Channel::origin());
        client.max_decoding_message_size(LONGEST_OF_MASTER)
    }

    /// The agents that a selection means; every one, pending ones too, for none.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn agents(&self, selection: Option<Selection>) -> Result<Vec<proto::Agent>, CallError> {
        let selection = selection.map(Into::into);
        self.listed(proto::ListAgentsRequest { selection, pending_only: false }).await
    }

    /// The keys that wait for an operator.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn waiting_keys(&self) -> Result<Vec<proto::Agent>, CallError> {
        let all = self.listed(proto::ListAgentsRequest { selection: None, pending_only: true }).await?;
        // A master of 0.1.0 lists all.
        Ok(all.into_iter().filter(|agent| agent.state() == proto::AgentState::Pending).collect())
    }

    async fn listed(&self, request: proto::ListAgentsRequest) -> Result<Vec<proto::Agent>, CallError> {
        let mut stream = self.calls().list_agents(request).await?.into_inner();
        let mut agents = Vec::new();
        while let Some(chunk) = stream.message().await? {
            agents.extend(chunk.agents);
        }
        Ok(agents)
    }

    /// Starts a job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn start_job(&self, request: proto::StartJobRequest) -> Result<JobEvents, CallError> {
        self.job_events(START_JOB, request).await
    }

    /// Starts a job as an earlier one was started.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn rerun_job(&self, request: proto::RerunJobRequest) -> Result<JobEvents, CallError> {
        self.job_events(RERUN_JOB, request).await
    }

    /// Follows a job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn follow_job(&self, request: proto::FollowJobRequest) -> Result<JobEvents, CallError> {
        self.job_events(FOLLOW_JOB, request).await
    }

    async fn job_events<Q: Message + Default + 'static>(
        &self,
        method: Method<Q, proto::JobEvent>,
        request: Q,
    ) -> Result<JobEvents, CallError> {
        Ok(method.call(self.channel.clone(), tokio_stream::once(request)).await?)
    }
}
