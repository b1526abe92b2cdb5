//! Starts, runs and stops the connector.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    core::Input,
    emergency::is_disk_failure,
    enrollment::{Enrollment, Introduction},
    handle::{Agent, ConnectionState, Description},
    incarnation::DirectoryId,
    layout::Layout,
    link, listen,
    metrics::metrics,
    supervisor_client::Supervisor,
    task_process,
    troubles::{Trouble, Troubles},
};
use crate::{
    domain::{network::HostPort, outcome::AGENT_STOP},
    sys::{
        clock::unix_ms,
        lock::Lock,
        paths::{UnusableDirectory, make_private},
        shutdown::Shutdown,
        socket::listen_tcp,
    },
    wire::scraped,
};

/// The first and the longest pause between attempts to listen on a port.
const LISTEN_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often a stopping agent checks whether its tasks have ended.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a stopping agent waits until the master has stored the last output and outcomes.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stopping agent waits for the list of running tasks. A disk may not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stopping agent waits until the directories of finished tasks are removed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between TERM and KILL when a stopping agent kills the remaining tasks.
const STOP_KILL_GRACE_MS: u32 = 2_000;

/// The configuration of an agent.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The master: host and port.
    pub master: HostPort,
    /// What the agent reports about itself.
    pub description: Description,
    /// The address on which it listens for a direct link: host (`None` for all addresses) and port.
    pub listen: Option<(Option<String>, u16)>,
    /// The address on which metrics are served.
    pub metrics: Option<HostPort>,
    /// The data with which it can trust the master.
    pub introduction: Introduction,
    /// Whether operators' commands run on the master's machine, too.
    pub trusts_operators: bool,
    /// Whether it is one of many agents in one process.
    pub is_one_of_many: bool,
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] UnusableDirectory),
    /// Another agent uses its directory.
    #[error(
        "an agent already runs on {0} (pid {1}); give another --name or --data-dir, or stop it with `sloth-runner agent stop`"
    )]
    Running(String, String),
    /// The files in the data directory cannot be used.
    #[error("cannot use the agent's files in {0}: {1}")]
    Files(String, io::Error),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] crate::trust::key::KeyError),
}

/// An agent that is set up, but not yet connected.
pub(crate) struct Connector {
    agent: Agent,
    enrollment: Arc<Enrollment>,
    listener: Option<Listening>,
    metrics: Option<Listening>,
    master: HostPort,
    stop_orders: mpsc::Receiver<u32>,
    /// Runs the agent's core.
    core: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    supervisor_link: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    _lock: Lock,
}

/// How the connector ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The agent was ordered to stop, and has stopped.
    Stopped,
    /// Only the connector ended; this number of commands continue.
    Connector(u32),
}

/// A port on which the agent listens as soon as it can. The agent works without it.
struct Listening {
    host: Option<String>,
    port: u16,
    trouble: Trouble,
    listener: Option<TcpListener>,
}

impl Listening {
    /// Tries to listen, and notes the reason if that fails.
    fn begin(host: Option<String>, port: u16, trouble: Trouble, troubles: &Troubles) -> Self {
        let mut listening = Self { host, port, trouble, listener: None };
        listening.try_now(troubles);
        listening
    }

    fn try_now(&mut self, troubles: &Troubles) {
        let text = match listen_tcp(self.host.as_deref(), self.port) {
            Ok(listener) => {
                self.listener = Some(listener);
                None
            }
            Err(error) => Some(self.text(&error)),
        };
        if troubles.note(self.trouble, text.clone()) {
            if let Some(text) = text {
                tracing::error!("{text}; it is tried again");
            } else {
                tracing::info!(port = self.port, "listening now");
            }
        }
    }

    fn text(&self, error: &io::Error) -> String {
        let at = match &self.host {
            Some(host) => HostPort::new(host, self.port).to_string(),
            None => format!("port {}", self.port),
        };
        match self.trouble {
            Trouble::Listen => format!("cannot listen on {at}: {error}; the link is a tunnel"),
            Trouble::Metrics | Trouble::Processes => format!("cannot serve metrics on {at}: {error}"),
        }
    }

    /// Tries until it can listen, and returns the listener; `None` if the agent ends first.
    async fn listener(mut self, troubles: &Troubles, stop: &CancellationToken) -> Option<TcpListener> {
        let mut pause = LISTEN_RETRY.0;
        loop {
            if let Some(listener) = self.listener.take() {
                return Some(listener);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return None,
            }
            pause = (pause * 2).min(LISTEN_RETRY.1);
            self.try_now(troubles);
        }
    }
}

/// Creates a directory that only this user can read. On a read-only disk an existing directory is used as it
/// is.
fn make_usable(path: &Path) -> Result<(), UnusableDirectory> {
    match make_private(path) {
        Err(unusable) if is_disk_failure(&unusable.source) && path.is_dir() => {
            tracing::error!(%unusable, "commands run in memory");
            Ok(())
        }
        made => made,
    }
}

impl Connector {
    /// Locks the directory, starts the supervisor, and binds the port if that is possible now.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn set_up(config: Config) -> Result<Self, StartError> {
        let layout =
            if config.is_one_of_many { Layout::of_many(&config.data) } else { Layout::new(&config.data) };
        make_usable(layout.root())?;
        make_usable(&layout.identity())?;
        let had_tasks = layout.tasks().is_dir();
        make_usable(&layout.tasks())?;
        let shown = config.data.display().to_string();
        let files = |error| StartError::Files(shown.clone(), error);
        let lock = take_lock(&layout.connector_lock()).map_err(files)?;
        let lock = lock.map_err(|holder| StartError::Running(shown.clone(), holder))?;
        // Before the supervisor starts: no task may start in a directory that has no id yet.
        let directory = DirectoryId::open(&layout, had_tasks).map_err(files)?;
        let (stop_orders, ordered) = mpsc::channel(4);
        let troubles = Troubles::default();
        let connected = Supervisor::connect(&layout, stop_orders.clone(), troubles.clone());
        let (supervisor, supervisor_link) = connected.map_err(files)?;
        let enrollment = Enrollment::new(
            layout.identity(),
            config.description.clone(),
            config.master.clone(),
            config.introduction,
        )?;
        let (agent, core) = Agent::new(
            config.description,
            layout,
            (supervisor, troubles),
            directory,
            stop_orders,
            config.trusts_operators,
        )
        .map_err(files)?;
        let listen = |(host, port), trouble| Listening::begin(host, port, trouble, &agent.troubles);
        let listener = config.listen.map(|at| listen(at, Trouble::Listen));
        let metrics = config.metrics.map(|at| listen((Some(at.host), at.port), Trouble::Metrics));
        Ok(Self {
            enrollment: Arc::new(enrollment),
            listener,
            metrics,
            agent,
            master: config.master,
            stop_orders: ordered,
            core: Box::pin(core),
            supervisor_link: Box::pin(supervisor_link),
            _lock: lock,
        })
    }

    /// Returns a receiver of the agent's connection state.
    #[must_use]
    pub(crate) fn standing(&self) -> watch::Receiver<ConnectionState> {
        self.agent.standing.subscribe()
    }

    /// Returns the problems of this machine.
    #[must_use]
    pub(crate) fn troubles(&self) -> Troubles {
        self.agent.troubles.clone()
    }

    /// Returns a handle to the agent.
    #[must_use]
    pub(crate) fn agent(&self) -> Agent {
        self.agent.clone()
    }

    /// Runs until the agent is ordered to stop, or `shutdown.stop` ends the connector.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Ended {
        let (agent, enrollment) = (self.agent, self.enrollment);
        let ended = CancellationToken::new();
        let _ends_the_link = ended.clone().drop_guard();
        let supervisor_link = self.supervisor_link;
        // Not tracked: it ends with the last handle.
        tokio::spawn(self.core);
        // Not tracked: it ends last, when the agent's handles are dropped or the supervisor has received the order to end.
        tokio::spawn(async move {
            tokio::select! {
                () = supervisor_link => {}
                () = ended.cancelled() => {}
            }
        });
        if let Some(listening) = self.listener.take() {
            let (agent, enrollment, shutdown) = (agent.clone(), Arc::clone(&enrollment), shutdown.clone());
            shutdown.tracker.clone().spawn(async move {
                if let Some(listener) = listening.listener(&agent.troubles, &shutdown.stop).await {
                    listen::accept(agent, enrollment, listener, shutdown).await;
                }
            });
        }
        if let Some(listening) = self.metrics.take() {
            let (measured, started_s) = (agent.clone(), unix_ms() / 1000);
            let stop = shutdown.stop.clone();
            shutdown.tracker.spawn(async move {
                let Some(listener) = listening.listener(&measured.troubles, &stop).await else { return };
                let render = move || {
                    let measured = measured.clone();
                    async move { metrics(&measured, started_s).await }
                };
                scraped::serve(listener, render, stop).await;
            });
        }
        let linked = link::keep_connected(agent.clone(), enrollment, self.master, shutdown.clone());
        shutdown.tracker.spawn(linked);
        let stopped = tokio::select! {
            // An order to stop the agent takes precedence over the end of the connector alone, after which
            // the supervisor would continue.
            biased;
            Some(grace_ms) = self.stop_orders.recv() => {
                stop_tasks(&agent, Duration::from_millis(grace_ms.into()), &mut self.stop_orders).await;
                true
            }
            () = shutdown.stop.cancelled() => false,
        };
        let going_on = tokio::time::timeout(READ_TIMEOUT, agent.running_count()).await.unwrap_or(0);
        match tokio::time::timeout(REMOVAL_TIMEOUT, agent.remove_left_over()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot remove the directories of finished tasks"),
            Err(_) => tracing::warn!("the disk is slow; the directories of finished tasks stay for now"),
        }
        shutdown.finish(Duration::from_secs(2)).await;
        if stopped {
            agent.supervisor.end().await;
            agent.layout.emergency().remove();
            Ended::Stopped
        } else {
            Ended::Connector(going_on)
        }
    }

    /// Returns the channel for orders to stop the agent. A message is the grace, in milliseconds.
    #[must_use]
    pub(crate) fn stop_orders(&self) -> mpsc::Sender<u32> {
        self.agent.stop_orders.clone()
    }
}

/// Takes the lock. Returns the process id of the holder if another process has it.
fn take_lock(path: &Path) -> io::Result<Result<Lock, String>> {
    match Lock::try_take(path)? {
        Some(mut lock) => {
            lock.write_pid()?;
            Ok(Ok(lock))
        }
        None => Ok(Err(fs::read_to_string(path)?.trim().to_owned())),
    }
}

/// Waits for running tasks, kills those that have not ended within the grace, and waits until the master has
/// stored their ends.
///
/// A second order ends the grace immediately.
async fn stop_tasks(agent: &Agent, grace: Duration, orders: &mut mpsc::Receiver<u32>) {
    agent.tell(Input::Stop).await;
    let running = tokio::time::timeout(READ_TIMEOUT, agent.running_count()).await.unwrap_or(0);
    tracing::info!(
        running,
        grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        "stopping; takes no new tasks"
    );
    tokio::select! {
        () = until_idle(agent) => {}
        () = tokio::time::sleep(grace) => {}
        _ = orders.recv() => {}
    }
    let left = match tokio::time::timeout(READ_TIMEOUT, agent.running()).await {
        Ok(Ok(left)) => left,
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot read the running tasks, so they are not killed");
            Vec::new()
        }
        Err(_) => {
            tracing::error!("the disk does not answer, so the running tasks are not killed");
            Vec::new()
        }
    };
    if !left.is_empty() {
        tracing::warn!(killed = left.len(), "killing the remaining tasks");
        for id in left {
            let by = AGENT_STOP.to_owned();
            if let Err(error) = task_process::kill(&agent.layout, id, by, None, STOP_KILL_GRACE_MS).await {
                tracing::error!(task = %id, %error, "cannot kill a task");
            }
        }
        let given_up = Duration::from_millis(u64::from(STOP_KILL_GRACE_MS)) + Duration::from_secs(5);
        let _ = tokio::time::timeout(given_up, until_idle(agent)).await;
    }
    let connected = matches!(*agent.standing.borrow(), ConnectionState::Active(_));
    if connected {
        let _ = tokio::time::timeout(HAND_OVER_TIMEOUT, until_handed_over(agent)).await;
    }
}

/// Waits until no task runs.
async fn until_idle(agent: &Agent) {
    while !agent.is_idle().await {
        tokio::time::sleep(STOP_CHECK_INTERVAL).await;
    }
}

/// Waits until the master has stored the ends of all tasks.
async fn until_handed_over(agent: &Agent) {
    while !agent.unfinished().await.is_ok_and(|tasks| tasks.is_empty()) {
        tokio::time::sleep(STOP_CHECK_INTERVAL).await;
    }
}
