//! Starts, runs and stops a master.

use std::{
    io,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rusqlite::Connection;
use tokio_rustls::TlsAcceptor;

use super::{
    actor::{Actor, now_since},
    clock::SendClock,
    core::{Core, Enroll, Policy, Remembered, messages::Input},
    handle::Handle,
    listen::{Port, accept_local, unauthenticated},
    output_log::OutputLogs,
    retention::{self, Retention},
    service::{Master, Parts, watch::Watched},
    session::Sessions,
    stdin_relay::StdinRelays,
    store::{Store, StoreError, StoreWriter},
    users::Users,
};
use crate::{
    domain::{fingerprint::Fingerprint, network::HostPort, time::UnixMs},
    sys::{
        clock::{BootInstant, unix_ms},
        file::volume_used_percent,
        lock::Lock,
        paths::{Directories, UnusableDirectory, make_private, make_runtime_directory, master_socket},
        shutdown::Shutdown,
        socket::{listen, listen_tcp},
        vital::Pulse,
    },
    trust::{
        authority::Authority,
        identity::Identity,
        key::{Key, KeyError},
        sealer::Sealer,
        tls::{self, ALPN_H2, ALPN_TUNNEL, Credentials},
        verify::Trust,
    },
    wire::{
        budget::{Budgets, Limits},
        scraped,
    },
};

/// How long calls and sessions may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The configuration of a master.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The directories of its files.
    pub directories: Directories,
    /// The host to listen on; `None` for all addresses.
    pub host: Option<String>,
    /// The port to listen on; 0 for any free one.
    pub port: u16,
    /// How keys without a token are enrolled.
    pub enroll: Enroll,
    /// Maximum stored output of a task, in bytes.
    pub output_cap: u64,
    /// Percentage of the volume that may be used; above it no new job starts.
    pub disk_cap: u8,
    /// Limits for stored jobs.
    pub retention: Retention,
    /// Whether an operator states that a backup was restored, and that jobs may start again.
    pub restored: bool,
    /// The host and port of the metrics; `None` to serve none.
    pub metrics: Option<HostPort>,
    /// Limits for each operator.
    pub limits: Limits,
}

/// Why a master cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A directory cannot be used.
    #[error(transparent)]
    Directory(#[from] UnusableDirectory),
    /// Another master uses the data directory.
    #[error(
        "a master already runs on {0} (pid {1}); stop it with `sloth-runner master stop`, or give another --data-dir"
    )]
    Running(String, String),
    /// The port cannot be opened.
    #[error("cannot listen on {0}: {1}; give another --port or --bind-address")]
    Listen(String, io::Error),
    /// The port of the metrics cannot be opened.
    #[error("cannot serve metrics on {0}: {1}; give another --metrics")]
    Metrics(String, io::Error),
    /// A file or the local socket cannot be used.
    #[error("cannot use {0}: {1}")]
    Files(String, io::Error),
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS, gRPC or a thread cannot be set up.
    #[error("cannot set up TLS or gRPC: {0}")]
    Internal(String),
}

/// A master that is set up, but does not serve yet.
pub(crate) struct Server {
    config: Config,
    authority: Arc<Authority>,
    sealer: Arc<Sealer>,
    store: Store,
    logs: OutputLogs,
    connection: Connection,
    remembered: Remembered,
    port: TcpListener,
    socket: UnixListener,
    address: std::net::SocketAddr,
    metrics: Option<TcpListener>,
    pulse: Pulse,
    _lock: Lock,
}

impl Server {
    /// Locks the data directory, opens the store, and binds the port and the socket.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn set_up(config: Config) -> Result<Self, StartError> {
        let directories = &config.directories;
        make_private(&directories.data)?;
        if directories.runtime != directories.data {
            make_runtime_directory(&directories.runtime)?;
        }
        let lock = take_lock(&directories.data.join("master.pid"))?;
        let shown =
            HostPort::new(config.host.as_deref().unwrap_or("[::]").trim_matches(['[', ']']), config.port)
                .to_string();
        let port = listen_tcp(config.host.as_deref(), config.port)
            .map_err(|error| StartError::Listen(shown.clone(), error))?;
        let address = port.local_addr().map_err(|error| StartError::Listen(shown, error))?;
        let metrics = config.metrics.as_ref().map(|at| {
            let refused = |error| StartError::Metrics(at.to_string(), error);
            listen_tcp(Some(&at.host), at.port).map_err(refused)
        });
        let metrics = metrics.transpose()?;
        let identity = directories.data.join("identity");
        make_private(&identity)?;
        let authority = Authority::load_or_create(&identity)?;
        let sealer = Sealer::load_or_create(&identity)?;
        let logs = OutputLogs::new(directories.data.join("jobs"));
        let unmade = |error| StartError::Files(logs.root().display().to_string(), error);
        logs.make_root().map_err(unmade)?;
        logs.adopt(&directories.data.join("runs")).map_err(unmade)?;
        let (store, connection) = Store::open(&directories.data)?;
        let mut remembered = store.remembered(&connection)?;
        // A full disk must not stop the master from serving running jobs: the term is then counted in memory,
        // and written later.
        (remembered.term, remembered.trouble) = match store.begin_term(&connection) {
            Ok(term) => (term, None),
            Err(error) => {
                tracing::error!(%error, "cannot write to the database; nothing new starts until this works");
                (remembered.term + 1, Some(error.to_string()))
            }
        };
        if config.restored {
            // Later than any epoch that agents may have seen, even if the same backup was restored before.
            remembered.epoch = (remembered.epoch + 1).max(unix_ms());
            store.set_epoch(&connection, remembered.epoch)?;
            remembered.agents.iter_mut().for_each(|agent| agent.ahead = None);
        }
        let path = master_socket(&directories.runtime);
        // Open to all users of the machine: the uid of the peer decides.
        let socket =
            listen(&path, 0o666).map_err(|error| StartError::Files(path.display().to_string(), error))?;
        Ok(Self {
            authority: Arc::new(authority),
            sealer: Arc::new(sealer),
            store,
            logs,
            connection,
            remembered,
            port,
            socket,
            address,
            metrics,
            pulse: Pulse::default(),
            config,
            _lock: lock,
        })
    }

    /// Returns the address of the port.
    #[must_use]
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Returns a pulse that beats at least twice a second while the master's core handles its inputs.
    #[must_use]
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Returns the CA's fingerprint.
    #[must_use]
    pub(crate) fn ca_fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// Returns the path of the local socket.
    #[must_use]
    pub(crate) fn socket_path(&self) -> PathBuf {
        master_socket(&self.config.directories.runtime)
    }

    /// Serves until `shutdown.stop`.
    ///
    /// # Errors
    /// When TLS or a thread cannot be set up.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), StartError> {
        let internal = |error: &dyn std::fmt::Display| StartError::Internal(error.to_string());
        let started = BootInstant::now();
        let policy = Policy {
            enroll: self.config.enroll,
            output_cap: self.config.output_cap,
            ca: self.authority.fingerprint(),
        };
        let core = Core::new(policy, self.remembered, now_since(started));
        let connection = self.connection;
        let (inputs, clock) = (StdinRelays::default(), SendClock::new());
        let (actor, handle) = Actor::new(
            core,
            (started, clock, Arc::clone(&self.sealer)),
            move |written| StoreWriter::start(connection, written),
            self.store.clone(),
            self.logs.clone(),
            inputs.clone(),
            shutdown.clone(),
        )
        .map_err(|error| internal(&error))?;
        let acting = tokio::spawn(actor.run(self.pulse));

        let cluster: Arc<str> = self.authority.cluster().into();
        // The same key for server and client: by it agents verify that a direct link comes from the master of
        // their session.
        let own = own_credentials(&self.authority)?;
        let trust = || Trust::Pinned(self.authority.certificate().clone());
        let server = tls::server(own.copy(), trust(), false, &[ALPN_H2, ALPN_TUNNEL])
            .map_err(|error| internal(&error))?;
        let direct = tls::client(Some(own), trust(), ALPN_H2).map_err(|error| internal(&error))?;
        let master = Master::new(Parts {
            handle: handle.clone(),
            store: self.store,
            logs: self.logs,
            users: Users::default(),
            watched: Watched::default(),
            inputs,
            authority: Arc::clone(&self.authority),
            budgets: Budgets::new(self.config.limits),
            shutdown: shutdown.clone(),
            started,
            started_ms: UnixMs(unix_ms()),
            address: self.address.to_string().into(),
            port: self.address.port(),
            enroll_any: self.config.enroll == Enroll::Any,
        });
        let sessions = Sessions {
            handle,
            direct: Arc::new(direct),
            cluster: Arc::clone(&cluster),
            shutdown: shutdown.clone(),
            next: Arc::new(AtomicU64::new(1)),
            clock,
            sealer: self.sealer,
        };
        let port = Port {
            routes: master.routes(false).await.map_err(|error| internal(&error))?,
            master: master.clone(),
            sessions,
            tls: TlsAcceptor::from(Arc::new(server)),
            cluster,
            unauthenticated: unauthenticated(),
        };
        let room = watch_volume(
            self.config.directories.data.clone(),
            self.config.disk_cap,
            master.handle.clone(),
            shutdown.clone(),
        );
        shutdown.tracker.spawn(room);
        let (store, logs) = (master.store.clone(), master.logs.clone());
        let keeping =
            retention::keep(self.config.retention, master.handle.clone(), store, logs, shutdown.clone());
        shutdown.tracker.spawn(keeping);
        if let Some(listener) = self.metrics {
            let measured = master.clone();
            let serving = scraped::serve(listener, move || measured.clone().metrics(), shutdown.stop.clone());
            shutdown.tracker.spawn(serving);
        }
        let local = master.routes(true).await.map_err(|error| internal(&error))?;
        shutdown.tracker.spawn(accept_local(master.clone(), local, self.socket));
        shutdown.tracker.spawn(port.accept(self.port));
        shutdown.stop.cancelled().await;
        shutdown.finish(SHUTDOWN_TIMEOUT).await;
        shutdown.now.cancel();
        let _ = acting.await;
        Ok(())
    }
}

/// Interval between two checks of the used space of the volume.
const VOLUME_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Reports to the core when the volume becomes full, and when it no longer is.
async fn watch_volume(data: PathBuf, cap: u8, handle: Handle, shutdown: Shutdown) {
    let mut was_full = false;
    let mut look = tokio::time::interval(VOLUME_CHECK_INTERVAL);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = shutdown.stop.cancelled() => return,
        }
        let path = data.clone();
        let used = tokio::task::spawn_blocking(move || volume_used_percent(&path)).await;
        let Ok(Ok(used)) = used else { continue };
        let is_full = used > cap;
        if is_full != was_full {
            was_full = is_full;
            let text = format!("its volume is {used} % full, over the cap of {cap} %");
            if is_full {
                tracing::warn!(used, cap, "the volume is nearly full; no new job begins");
            }
            handle.tell(Input::Room(is_full.then_some(text))).await;
        }
    }
}

/// Creates a new key and certificate for this process. Only those of the CA are stored on the disk.
fn own_credentials(authority: &Authority) -> Result<Credentials, KeyError> {
    let key = Key::generate()?;
    let certificate = authority.issue(&key, &Identity::Master("1".to_owned()))?;
    let chain = vec![certificate, authority.certificate().clone()];
    Ok(Credentials { chain, key: key.to_der() })
}

fn take_lock(path: &std::path::Path) -> Result<Lock, StartError> {
    let shown = path.parent().unwrap_or(path).display().to_string();
    let files = |error| StartError::Files(shown.clone(), error);
    if let Some(mut lock) = Lock::try_take(path).map_err(files)? {
        lock.write_pid().map_err(files)?;
        Ok(lock)
    } else {
        let holder = std::fs::read_to_string(path).map_err(files)?;
        Err(StartError::Running(shown.clone(), holder.trim().to_owned()))
    }
}
