//! The floor: a bare tonic client that calls a bare relay over a Unix socket, and through it, over one open
//! mTLS link, a bare agent that spawns `bash -c`. It has no state, no access check and no audit. With a log,
//! the relay writes the output to it and syncs every 8 MiB.
//!
//! The bench starts itself in these roles, so that whole processes are timed.

#![expect(
    dead_code,
    clippy::unwrap_used,
    reason = "each bench uses its part of the floor, and a floor that breaks ends the bench"
)]

use std::{
    convert::Infallible,
    fs::File,
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sloth_runner::{
    trust::{
        authority::Authority,
        identity::Identity,
        key::Key,
        tls::{self, ALPN_H2, Credentials},
        verify::Trust,
    },
    wire::{
        channel::{CONNECTION_WINDOW, Channel, STREAM_WINDOW},
        connect::dial,
        proto::{Command as Words, Frame},
    },
};
use tokio::{io::AsyncReadExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body, server::ServerStreamingService};
use tonic_prost::ProstCodec;

/// A name, and a function that creates the command to time.
pub(crate) type Row = (&'static str, Box<dyn Fn() -> Command>);

type Frames = ReceiverStream<Result<Frame, Status>>;

/// How a role handles a call.
#[derive(Clone)]
enum Bare {
    Agent,
    Relay(Channel, Option<PathBuf>),
}

impl ServerStreamingService<Words> for Bare {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Frames>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Words>) -> Self::Future {
        let bare = self.clone();
        Box::pin(async move {
            let (frames, stream) = mpsc::channel(4);
            match bare {
                Self::Agent => drop(tokio::spawn(spawn_bash(request.into_inner(), frames))),
                Self::Relay(channel, log) => {
                    let answers = call(channel, request.into_inner()).await?;
                    tokio::spawn(relay(answers, log, frames));
                }
            }
            Ok(tonic::Response::new(ReceiverStream::new(stream)))
        })
    }
}

impl Service<Request<Incoming>> for Bare {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let bare = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Frame, Words>::default());
            Ok(grpc.server_streaming(bare, request).await)
        })
    }
}

async fn serve<S>(io: S, bare: Bare)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let _ = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io), bare)
        .await;
}

async fn call(channel: Channel, words: Words) -> Result<tonic::Streaming<Frame>, Status> {
    let mut grpc = tonic::client::Grpc::with_origin(channel, Channel::origin());
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/floor/Run");
    let codec = ProstCodec::<Words, Frame>::default();
    Ok(grpc.server_streaming(tonic::Request::new(words), path, codec).await?.into_inner())
}

async fn spawn_bash(words: Words, frames: mpsc::Sender<Result<Frame, Status>>) {
    let command = String::from_utf8_lossy(&words.words[0]).into_owned();
    let mut child = Command::new("bash")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(stdout.into()).unwrap();
    let mut offset = 0;
    let mut buffer = bytes::BytesMut::new();
    loop {
        buffer.reserve(256 * 1024);
        let count = pipe.read_buf(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        let frame = Frame { stream: 1, offset, time_ns: 0, data: buffer.split().freeze() };
        offset += count as u64;
        if frames.send(Ok(frame)).await.is_err() {
            break;
        }
    }
    child.wait().unwrap();
    let _ = frames.send(Ok(Frame { stream: 2, ..Frame::default() })).await;
}

async fn relay(
    mut answers: tonic::Streaming<Frame>,
    log: Option<PathBuf>,
    frames: mpsc::Sender<Result<Frame, Status>>,
) {
    let file = log.map(|path| Arc::new(File::create(path).unwrap()));
    let mut unsynced = 0;
    let mut syncing: Option<tokio::task::JoinHandle<()>> = None;
    while let Ok(Some(frame)) = answers.message().await {
        if let Some(file) = &file {
            (&**file).write_all(&frame.data).unwrap();
            unsynced += frame.data.len();
            if unsynced >= 8 * 1024 * 1024
                && syncing.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
            {
                unsynced = 0;
                let file = Arc::clone(file);
                syncing = Some(tokio::task::spawn_blocking(move || file.sync_data().unwrap()));
            }
        }
        if frames.send(Ok(frame)).await.is_err() {
            return;
        }
    }
    if let Some(file) = file {
        tokio::task::spawn_blocking(move || file.sync_data().unwrap()).await.unwrap();
    }
}

fn credentials(directory: &Path, identity: &Identity) -> (Credentials, Trust) {
    let authority = Authority::load_or_create(directory).unwrap();
    let key = Key::generate().unwrap();
    let chain = vec![authority.issue(&key, identity).unwrap(), authority.certificate().clone()];
    (Credentials { chain, key: key.to_der() }, Trust::Pinned(authority.certificate().clone()))
}

/// Plays a role of the floor if the bench was started in one. Returns false if it was started as the bench
/// itself.
pub(crate) fn play_role() -> bool {
    let words: Vec<String> = std::env::args().collect();
    let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match words.get(1).map(String::as_str) {
        Some("floor-agent") => one_thread().block_on(agent(Path::new(&words[2]))),
        Some("floor-relay") => {
            let log = words.get(4).map(PathBuf::from);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(relay_role(Path::new(&words[2]), words[3].parse().unwrap(), log));
        }
        Some("floor-spawn") => spawn_all(words[2].parse().unwrap(), words[3].parse().unwrap()),
        Some("floor-client") => one_thread().block_on(client(Path::new(&words[2]), &words[3])),
        _ => return false,
    }
    true
}

/// Runs `bash -c true` `count` times, `at_once` processes at a time.
fn spawn_all(count: usize, at_once: usize) {
    let mut running = std::collections::VecDeque::new();
    for _ in 0..count {
        if running.len() == at_once {
            let child: Option<Child> = running.pop_front();
            assert!(child.unwrap().wait().unwrap().success());
        }
        let spawned =
            Command::new("bash").args(["-c", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        running.push_back(spawned.unwrap());
    }
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
}

async fn agent(directory: &Path) {
    let (own, trust) = credentials(directory, &Identity::Agent("floor".parse().unwrap()));
    let config = tls::server(own, trust, true, &[ALPN_H2]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        tokio::spawn(serve(stream, Bare::Agent));
    }
}

async fn relay_role(directory: &Path, port: u16, log: Option<PathBuf>) {
    let (own, trust) = credentials(directory, &Identity::Master("floor".to_owned()));
    let config = Arc::new(tls::client(Some(own), trust, ALPN_H2).unwrap());
    let dialled = dial("127.0.0.1", port, config, tls::server_name("floor")).await.unwrap();
    let (channel, connection) = Channel::handshake(dialled.stream).await.unwrap();
    tokio::spawn(connection);
    let listener = tokio::net::UnixListener::bind(directory.join("relay.sock")).unwrap();
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, Bare::Relay(channel.clone(), log.clone())));
    }
}

async fn client(socket: &Path, command: &str) {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (channel, connection) = Channel::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let words = Words { words: vec![command.to_owned().into()] };
    let mut answers = call(channel, words).await.unwrap();
    let mut stdout = std::io::stdout();
    while let Some(frame) = answers.message().await.unwrap() {
        stdout.write_all(&frame.data).unwrap();
    }
}

/// The floor's two daemons.
pub(crate) struct Floor {
    directory: tempfile::TempDir,
    daemons: Vec<Child>,
}

fn first_line(child: &mut Child) -> String {
    use std::io::BufRead as _;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

impl Floor {
    /// Starts the relay and the agent. If `logged`, the relay writes and syncs a log.
    pub(crate) fn start(logged: bool) -> Self {
        // On the same disk as the master's data, and not in a file system in memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Authority::load_or_create(directory.path()).unwrap();
        let role = |words: &[&str]| {
            Command::new(std::env::current_exe().unwrap()).args(words).stdout(Stdio::piped()).spawn().unwrap()
        };
        let path = directory.path().display().to_string();
        let mut agent = role(&["floor-agent", &path]);
        let port = first_line(&mut agent);
        let log = directory.path().join("log").display().to_string();
        let mut words = vec!["floor-relay", &path, &port];
        if logged {
            words.push(&log);
        }
        let mut relay = role(&words);
        assert_eq!(first_line(&mut relay), "ready");
        Self { directory, daemons: vec![agent, relay] }
    }

    /// Returns the client's command line.
    pub(crate) fn client(&self, command: &str) -> Command {
        let mut client = Command::new(std::env::current_exe().unwrap());
        client.arg("floor-client").arg(self.directory.path().join("relay.sock")).arg(command);
        client
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A master of sloth-runner with its agents, to compare with the floor.
pub(crate) struct Fleet {
    directory: tempfile::TempDir,
    master: Child,
    agent: Child,
    is_simulated: bool,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_sloth-runner");

impl Fleet {
    /// Starts a master with one agent, `a`.
    pub(crate) fn start() -> Self {
        Self::start_with(&["start", "--name", "a"], 1, "")
    }

    /// Starts a master with many agents in one process.
    pub(crate) fn simulate(count: u32) -> Self {
        Self::start_with(&["simulate", "--count", &count.to_string()], count, "fleet")
    }

    fn start_with(agents: &[&str], count: u32, below: &str) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (data, socket) = (directory.path().join("master"), directory.path().join("master/master.sock"));
        let daemon = |words: &[&str]| {
            let mut command = Command::new(PROGRAM);
            command.args(words).args(["--log-level", "error"]).stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let master = daemon(&["master", "--port", "0", "--bind-address", "127.0.0.1", "--enroll", "any"])
            .arg("--data-dir")
            .arg(&data)
            .spawn()
            .unwrap();
        let environment = format!("unix:{}", socket.display());
        let ask = |words: &[&str]| {
            let output =
                Command::new(PROGRAM).args(words).env("SLOTH_RUNNER_MASTER", &environment).output().unwrap();
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default()
        };
        let mut address = String::new();
        wait("the master", || {
            let status = ask(&["master", "status", "-o", "json"]);
            let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
            // Without the fingerprint of its CA the agents would wait for an operator who types their codes.
            address = format!("{}#{}", text("address"), text("ca_fingerprint"));
            !text("address").is_empty()
        });
        let words = [&["agent"], agents, &["--master", &address]].concat();
        let agent = daemon(&words)
            .arg("--data-dir")
            .arg(directory.path().join("agent").join(below))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait("the agents", || {
            ask(&["master", "status", "-o", "json"])["connected"].as_u64() == Some(count.into())
        });
        Self { directory, master, agent, is_simulated: !below.is_empty() }
    }

    pub(crate) fn client(&self, command: &str) -> Command {
        self.client_on(&["a"], command)
    }

    /// Returns the command line of `agent run`, with flags and a target.
    pub(crate) fn client_on(&self, target: &[&str], command: &str) -> Command {
        let mut client = Command::new(PROGRAM);
        let socket = self.directory.path().join("master/master.sock");
        client.args(["agent", "run", "--master", &format!("unix:{}", socket.display())]);
        client.args(target).arg(command).stdin(Stdio::null());
        client
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.is_simulated {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(self.agent.id()).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        } else {
            let mut stop = Command::new(PROGRAM);
            stop.args(["agent", "stop", "--data-dir"])
                .arg(self.directory.path().join("agent"))
                .stdout(Stdio::null());
            let _ = stop.status();
        }
        let _ = self.agent.wait();
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// A multiplexed ssh connection to an sshd that the bench starts.
pub(crate) struct Ssh {
    directory: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

impl Ssh {
    pub(crate) fn start() -> Option<Self> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() {
            println!("skipped: ssh (no /usr/sbin/sshd on this machine)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(key))
                .status();
            if !made.is_ok_and(|status| status.success()) {
                println!("skipped: ssh (no ssh-keygen)");
                return None;
            }
        }
        std::fs::copy(path("user.pub"), path("authorized")).unwrap();
        let _ = std::fs::create_dir("/run/sshd");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let daemon = Command::new(sshd)
            .args(["-D", "-f", "/dev/null", "-o", "StrictModes=no", "-o", "PidFile=none"])
            .args(["-o", &format!("ListenAddress=127.0.0.1:{port}")])
            .args(["-o", &format!("HostKey={}", path("host").display())])
            .args(["-o", &format!("AuthorizedKeysFile={}", path("authorized").display())])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let ssh = Self { directory, daemon, port };
        let begun = Instant::now();
        while !ssh.client("true").status().is_ok_and(|status| status.success()) {
            if begun.elapsed() > Duration::from_secs(10) {
                println!("skipped: ssh (cannot log in to the sshd of the bench)");
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(ssh)
    }

    pub(crate) fn client(&self, command: &str) -> Command {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let mut client = Command::new("ssh");
        client
            .args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"])
            .args(["-o", &format!("ControlPath={}", path("mux"))])
            .args(["-i", &path("user"), "-p", &self.port.to_string(), "127.0.0.1", command])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        client
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.client("").arg("-O").arg("exit").output();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Waits until a condition holds.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the median.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs each row once a round, in a random order, and returns the figures by row.
pub(crate) fn rounds(count: usize, rows: usize, mut row: impl FnMut(usize) -> f64) -> Vec<Vec<f64>> {
    let mut figures = vec![Vec::new(); rows];
    for round in 0..=count {
        let mut order: Vec<usize> = (0..rows).collect();
        for last in (1..rows).rev() {
            let dice = u32::from_le_bytes(sloth_runner::sys::random::bytes());
            order.swap(last, dice as usize % (last + 1));
        }
        for index in order {
            let figure = row(index);
            // The first round warms caches and is not counted.
            if round > 0 {
                figures[index].push(figure);
            }
        }
    }
    figures
}

/// Prints a row: median, extremes, and the median of the ratios to another row, round by round.
pub(crate) fn print_row(name: &str, unit: &str, figures: &[f64], against: &[f64]) {
    let ratios: Vec<f64> = figures.iter().zip(against).map(|(figure, floor)| figure / floor).collect();
    let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = figures.iter().copied().fold(0.0, f64::max);
    println!(
        "{name:<34} {:>9.2} {unit}  [{lowest:.2}..{highest:.2}]  {:>6.2} x floor",
        median(figures),
        median(&ratios)
    );
}

/// Times each row's command from process start to exit, and prints the figures compared with those of the
/// first row. A pause of `settle` before each keeps work that the row before leaves behind from counting for
/// it.
pub(crate) fn time_rows(count: usize, settle: Duration, rows: &[Row]) {
    let figures = rounds(count, rows.len(), |row| {
        std::thread::sleep(settle);
        let mut command = rows[row].1();
        let begun = Instant::now();
        assert!(command.status().is_ok_and(|status| status.success()), "{}", rows[row].0);
        begun.elapsed().as_secs_f64() * 1000.0
    });
    println!("process start to exit, {count} rounds, shuffled; median [lowest..highest]");
    for ((name, _), row) in rows.iter().zip(&figures) {
        print_row(name, "ms", row, &figures[0]);
    }
}
