//! The client for operators: one method for each call, with domain types, over the local socket or the
//! network.

use std::{io, path::PathBuf, sync::Arc};

use rustls::ClientConfig;
use tokio::{io::BufWriter, net::UnixStream, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    channel::{Channel, KeepAlive},
    connect::{DialError, dial},
    convert::Carried,
    incoming::Incoming,
    proto::{self, control_service_client::ControlServiceClient},
    status::CallError,
    streaming::{FOLLOW_JOB, LONGEST_OF_MASTER, RERUN_JOB, START_JOB},
};
use crate::{
    domain::{
        agent::AgentView,
        control::{
            ApproveAgent, Approved, CancelJob, Cancelled, CreateToken, CreatedToken, DeleteAgent, DeleteJob,
            DrainAgents, Drained, FleetChange, FollowJob, InputProgress, InputRequest, InviteOperator,
            Invited, JobDigest, JobEvent, JobsChange, LabelAgents, Labelled, ListAgents, ListJobs,
            MasterStatus, PromoteJob, Promoted, RejectAgents, RerunJob, RevokeOperator, RevokeToken,
            StartJob, StopAgent, StopJob, StoppedJob, TokenView, WatchAgents, WatchJob, WatchJobs,
        },
        job::Job,
        operator::OperatorView,
        target::selection::Selection,
    },
    sys::{paths::known_master_sockets, socket},
    trust::tls::server_name,
};

/// The address of a master: a local socket, or the host and login of a remote master.
#[derive(Clone, Debug)]
pub enum MasterAddress {
    /// The master of this user on this machine; the master of root if this user runs none.
    Local,
    /// The master that listens on this socket.
    Socket(PathBuf),
    /// A remote master. The client connects to it as the operator of a stored login.
    Remote(Arc<RemoteMaster>),
}

/// A remote master.
#[derive(Debug)]
pub struct RemoteMaster {
    /// The name by which this client knows it.
    pub name: String,
    /// The host name or address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The TLS configuration: the operator's certificate and key, and the CA to trust.
    pub tls: Arc<ClientConfig>,
}

/// The error for a master that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No master listens on any of the default sockets.
    #[error(
        "no master runs on this machine for this user (looked at {0}); start one with `sloth-runner master`, name its socket with --master unix:PATH, or log in to one elsewhere with `sloth-runner login`"
    )]
    NoMaster(String),
    /// No master listens on the given socket.
    #[error("no master answers on {path}: {source}; {}", hint(source))]
    Socket {
        /// The path of the socket.
        path: String,
        /// The cause of the error.
        source: io::Error,
    },
    /// The remote master does not answer.
    #[error("the master {name}: {source}")]
    Remote {
        /// The name by which this client knows it.
        name: String,
        /// The cause of the error.
        source: DialError,
    },
}

/// Returns advice for the operator after a failed connection to a socket.
fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "this user may not use it: `sudo`, or as root `sloth-runner master operator add NAME --role ROLE --unix-user USER`"
    } else {
        "is it running (`sloth-runner master status`)?"
    }
}

/// A stream of answers. Answers of a kind that this version does not know are skipped.
#[derive(Debug)]
pub struct Events<T: Carried>(Incoming<T>);

impl<T: Carried> Events<T> {
    /// Returns the next answer; `None` at the end. No answer is lost when the future is dropped.
    ///
    /// # Errors
    /// The error that ended or broke the stream.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        self.0.known_message().await
    }
}

/// The events of a job.
pub(crate) type JobEvents = Events<JobEvent>;

/// A connection to a master, for operators.
#[derive(Clone, Debug)]
pub struct ControlClient {
    channel: Channel,
}

impl ControlClient {
    /// Creates a client on an existing connection.
    #[must_use]
    pub fn on(channel: Channel) -> Self {
        Self { channel }
    }

    /// Connects to a master.
    ///
    /// # Errors
    /// When no master answers.
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
                // Boxed because it is large, and would otherwise be on the stack of every command.
                Box::pin(Self::over_network(master)).await.map_err(failed)
            }
        }
    }

    async fn over_socket(stream: std::os::unix::net::UnixStream, path: &str) -> Result<Self, ConnectError> {
        let io = |source| ConnectError::Socket { path: path.to_owned(), source };
        stream.set_nonblocking(true).map_err(io)?;
        // The preface and the settings of HTTP/2 are two small writes. Without a buffer, each wakes the
        // master.
        let stream = BufWriter::new(UnixStream::from_std(stream).map_err(io)?);
        // A local master can become silent too, for example when it is suspended or waits for a disk.
        let shaken = Channel::handshake_kept_alive(stream, KeepAlive::PATIENT).await;
        let (channel, connection) = shaken.map_err(|error| io(io::Error::other(error)))?;
        // The task ends when the last client is dropped. An error of the connection fails its open calls.
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

    fn generated(&self) -> ControlServiceClient<Channel> {
        let client = ControlServiceClient::with_origin(self.channel.clone(), Channel::origin());
        client.max_decoding_message_size(LONGEST_OF_MASTER)
    }
}

/// The calls of operators. A call fails when the connection breaks or the master refuses it.
impl ControlClient {
    /// Returns the state of the master.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn status(&self) -> Result<MasterStatus, CallError> {
        let answer = self.generated().get_status(proto::GetStatusRequest {}).await?;
        Ok(MasterStatus::from_message(answer.into_inner())?)
    }

    /// Returns the agents of a selection. Without a selection, returns all agents and all pending keys.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn agents(&self, selection: Option<Selection>) -> Result<Vec<AgentView>, CallError> {
        self.listed(selection.map_or(ListAgents::All, ListAgents::Selected)).await
    }

    /// Returns the pending keys.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn waiting_keys(&self) -> Result<Vec<AgentView>, CallError> {
        self.listed(ListAgents::Pending).await
    }

    async fn listed(&self, request: ListAgents) -> Result<Vec<AgentView>, CallError> {
        let answer = self.generated().list_agents(request.into_message()).await?;
        let mut parts = Events::<Vec<AgentView>>(answer.into_inner().into());
        let mut agents = Vec::new();
        while let Some(part) = parts.next().await? {
            agents.extend(part);
        }
        Ok(agents)
    }

    /// Watches the agents.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn watch_agents(&self, request: WatchAgents) -> Result<Events<FleetChange>, CallError> {
        Ok(Events(self.generated().watch_agents(request.into_message()).await?.into_inner().into()))
    }

    /// Approves a pending key.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn approve_agent(&self, request: ApproveAgent) -> Result<Approved, CallError> {
        let answer = self.generated().approve_agent(request.into_message()).await?;
        Ok(Approved::from_message(answer.into_inner())?)
    }

    /// Rejects pending keys, and returns their number.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn reject_agents(&self, request: RejectAgents) -> Result<u32, CallError> {
        Ok(self.generated().reject_agent(request.into_message()).await?.into_inner().rejected)
    }

    /// Deletes an agent, and returns the number of its tasks that are lost.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_agent(&self, request: DeleteAgent) -> Result<u32, CallError> {
        Ok(self.generated().delete_agent(request.into_message()).await?.into_inner().lost_tasks)
    }

    /// Changes labels.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn label_agents(&self, request: LabelAgents) -> Result<Labelled, CallError> {
        let answer = self.generated().label_agents(request.into_message()).await?;
        Ok(Labelled::from_message(answer.into_inner())?)
    }

    /// Stops an agent, and returns the number of its running tasks.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn stop_agent(&self, request: StopAgent) -> Result<u32, CallError> {
        Ok(self.generated().stop_agent(request.into_message()).await?.into_inner().running)
    }

    /// Drains agents, or ends their drain.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn drain_agents(&self, request: DrainAgents) -> Result<Drained, CallError> {
        let answer = self.generated().drain_agents(request.into_message()).await?;
        Ok(Drained::from_message(answer.into_inner())?)
    }

    /// Creates a join token.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create_token(&self, request: CreateToken) -> Result<CreatedToken, CallError> {
        let answer = self.generated().create_token(request.into_message()).await?;
        Ok(CreatedToken::from_message(answer.into_inner())?)
    }

    /// Returns the join tokens.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, CallError> {
        let answer = self.generated().list_tokens(proto::ListTokensRequest {}).await?;
        all(answer.into_inner().tokens)
    }

    /// Revokes a join token, and returns the number of its remaining uses.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn revoke_token(&self, request: RevokeToken) -> Result<u32, CallError> {
        Ok(self.generated().revoke_token(request.into_message()).await?.into_inner().uses_left)
    }

    /// Adds an operator, or issues a new login to an existing operator.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn invite_operator(&self, request: InviteOperator) -> Result<Invited, CallError> {
        let answer = self.generated().invite_operator(request.into_message()).await?;
        Ok(Invited::from_message(answer.into_inner())?)
    }

    /// Returns the operators.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn operators(&self) -> Result<Vec<OperatorView>, CallError> {
        let answer = self.generated().list_operators(proto::ListOperatorsRequest {}).await?;
        all(answer.into_inner().operators)
    }

    /// Revokes an operator, and returns the number of its keys.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn revoke_operator(&self, request: RevokeOperator) -> Result<u32, CallError> {
        Ok(self.generated().revoke_operator(request.into_message()).await?.into_inner().keys)
    }

    /// Starts a job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn start_job(&self, request: StartJob) -> Result<JobEvents, CallError> {
        let request = tokio_stream::once(request.into_message());
        Ok(Events(START_JOB.call(self.channel.clone(), request).await?.into()))
    }

    /// Runs the command of a job again.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn rerun_job(&self, request: RerunJob) -> Result<JobEvents, CallError> {
        let request = tokio_stream::once(request.into_message());
        Ok(Events(RERUN_JOB.call(self.channel.clone(), request).await?.into()))
    }

    /// Follows a job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn follow_job(&self, request: FollowJob) -> Result<JobEvents, CallError> {
        let request = tokio_stream::once(request.into_message());
        Ok(Events(FOLLOW_JOB.call(self.channel.clone(), request).await?.into()))
    }

    /// Watches the groups of a job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn watch_job(&self, request: WatchJob) -> Result<Events<JobDigest>, CallError> {
        Ok(Events(self.generated().watch_job(request.into_message()).await?.into_inner().into()))
    }

    /// Returns jobs, newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn jobs(&self, request: ListJobs) -> Result<Vec<Job>, CallError> {
        let listed = self.generated().list_jobs(request.into_message()).await?.into_inner();
        // Jobs that this version does not understand are left out. A newer master can send them.
        Ok(listed.jobs.into_iter().filter_map(|job| Job::from_message(job).ok()).collect())
    }

    /// Watches the jobs.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn watch_jobs(&self, request: WatchJobs) -> Result<Events<JobsChange>, CallError> {
        Ok(Events(self.generated().watch_jobs(request.into_message()).await?.into_inner().into()))
    }

    /// Continues a job that waits at a gate.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn promote_job(&self, request: PromoteJob) -> Result<Promoted, CallError> {
        let answer = self.generated().promote_job(request.into_message()).await?;
        Ok(Promoted::from_message(answer.into_inner())?)
    }

    /// Stops a job: no more of its tasks are started.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn stop_job(&self, request: StopJob) -> Result<StoppedJob, CallError> {
        let answer = self.generated().stop_job(request.into_message()).await?;
        Ok(StoppedJob::from_message(answer.into_inner())?)
    }

    /// Deletes a job and its output, and returns its number.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_job(&self, request: DeleteJob) -> Result<u64, CallError> {
        Ok(self.generated().delete_job(request.into_message()).await?.into_inner().number)
    }

    /// Cancels a job, or some of its tasks.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cancel_job(&self, request: CancelJob) -> Result<Cancelled, CallError> {
        let answer = self.generated().cancel_job(request.into_message()).await?;
        Ok(Cancelled::from_message(answer.into_inner())?)
    }

    /// Sends the messages of `outgoing` to a command's standard input.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn send_input(
        &self,
        outgoing: mpsc::Receiver<InputRequest>,
    ) -> Result<Events<InputProgress>, CallError> {
        let requests = ReceiverStream::new(outgoing).map(Carried::into_message);
        Ok(Events(self.generated().send_input(requests).await?.into_inner().into()))
    }
}

/// Returns the domain values of messages. Fails if one of the messages is not valid.
fn all<T: Carried>(messages: Vec<T::Message>) -> Result<Vec<T>, CallError> {
    Ok(messages.into_iter().map(T::from_message).collect::<Result<_, _>>()?)
}
