//! The operators' client: a typed view of `ControlService`, over the master's own socket.

use std::{io, path::PathBuf};

use tokio::net::UnixStream;
use tonic::Streaming;

use super::{
    channel::Channel,
    proto::{self, control_service_client::ControlServiceClient},
    status::CallError,
};
use crate::{
    domain::target::selection::Selection,
    sys::{paths::known_master_sockets, socket},
};

/// Which master a client means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterAddress {
    /// The own user's on this machine, else root's.
    Local,
    /// The one behind this socket.
    Socket(PathBuf),
}

/// A master that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens on the usual sockets.
    #[error(
        "no master runs on this machine for this user (looked at {0}); start one with `sloth-runner master`, or name its socket with --master unix:PATH"
    )]
    NoMaster(String),
    /// Nobody listens on the socket that was named.
    #[error("no master answers on {path}: {source}; is it running (`sloth-runner master status`)?")]
    Socket {
        /// Which socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The address is none.
    #[error("{0}")]
    Address(String),
}

impl std::str::FromStr for MasterAddress {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(ConnectError::Address("unix: needs a path behind it".to_owned())),
            Some(path) => Ok(Self::Socket(path.into())),
            None => Err(ConnectError::Address(format!(
                "there is no master {text:?} for operators: this version reaches a master on its own machine, as unix:PATH"
            ))),
        }
    }
}

/// A connection to a master, for operators.
#[derive(Clone, Debug)]
pub struct ControlClient {
    inner: ControlServiceClient<Channel>,
}

impl ControlClient {
    /// Connects to a master.
    ///
    /// # Errors
    /// When none answers.
    pub async fn connect(address: &MasterAddress) -> Result<Self, ConnectError> {
        let stream = match address {
            MasterAddress::Socket(path) => socket::connect(path)
                .map_err(|source| ConnectError::Socket { path: path.display().to_string(), source })?,
            MasterAddress::Local => {
                let known = known_master_sockets();
                known.iter().find_map(|path| socket::connect(path).ok()).ok_or_else(|| {
                    let paths: Vec<_> = known.iter().map(|path| path.display().to_string()).collect();
                    ConnectError::NoMaster(paths.join(" and "))
                })?
            }
        };
        let io = |source| ConnectError::Socket { path: format!("{address:?}"), source };
        stream.set_nonblocking(true).map_err(io)?;
        let stream = UnixStream::from_std(stream).map_err(io)?;
        let (channel, connection) =
            Channel::handshake(stream).await.map_err(|error| io(io::Error::other(error)))?;
        // Ends with the last client; its error reaches the calls that it breaks.
        tokio::spawn(connection);
        Ok(Self { inner: control_client(channel) })
    }

    /// The generated client, for calls that need no wrapping.
    #[must_use]
    pub fn calls(&self) -> ControlServiceClient<Channel> {
        self.inner.clone()
    }

    /// The agents that a selection means; every one, pending ones too, for none.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn agents(&self, selection: Option<Selection>) -> Result<Vec<proto::Agent>, CallError> {
        let request = proto::ListAgentsRequest { selection: selection.map(Into::into) };
        let mut stream = self.calls().list_agents(request).await?.into_inner();
        let mut agents = Vec::new();
        while let Some(chunk) = stream.message().await? {
            agents.extend(chunk.agents);
        }
        Ok(agents)
    }

    /// Starts a run.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn start_run(
        &self,
        request: proto::StartRunRequest,
    ) -> Result<Streaming<proto::RunEvent>, CallError> {
        Ok(self.calls().start_run(request).await?.into_inner())
    }

    /// Follows a run.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn follow_run(
        &self,
        request: proto::FollowRunRequest,
    ) -> Result<Streaming<proto::RunEvent>, CallError> {
        Ok(self.calls().follow_run(request).await?.into_inner())
    }
}

fn control_client(channel: Channel) -> ControlServiceClient<Channel> {
    ControlServiceClient::with_origin(channel, Channel::origin()).max_decoding_message_size(16 * 1024 * 1024)
}
