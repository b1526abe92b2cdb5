//! Clients that use all the resources that they can get: a viewer, unauthenticated peers, and an agent with a
//! stolen key. The others are still served. `SLOTH_FLOODS=5000 cargo test --release --test suite floods:: --
//! --nocapture --test-threads 1` prints figures; no time is asserted.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::peers::{Operator, stolen};
use crate::rig::{TestCluster, until};
use http::Request;
use sloth_runner::{
    trust::{
        key::Key,
        tls::{self, ALPN_H2, ALPN_TUNNEL},
        verify::Trust,
    },
    wire::{
        channel::{Channel, KeepAlive},
        connect::dial,
        proto::{
            self, control_service_client::ControlServiceClient, enroll_response::Kind,
            enrollment_service_client::EnrollmentServiceClient,
        },
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsConnector;
use tonic::{Status, body::Body};
use tower::ServiceExt as _;

/// Number of connections, streams and keys of a flood.
fn flood_size() -> usize {
    std::env::var("SLOTH_FLOODS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000)
}

/// The runtime of an attacker. A real one has its own machine, so this one has a low priority.
fn attacker_runtime() -> Runtime {
    let nice = || {
        let _ = rustix::process::nice(19);
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(nice)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs a command several times, and returns the median duration.
fn median_job_time(rig: &TestCluster) -> Duration {
    let mut took: Vec<Duration> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            let printed = rig.run(&["run", "honest", "echo works"]);
            assert_eq!((printed.status, printed.out.as_str()), (0, "works\n"), "{printed:?}");
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

/// Resources that the master holds.
struct Held {
    memory: u64,
    descriptors: usize,
    log: u64,
}

impl Held {
    fn by(rig: &TestCluster) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", rig.master_pid())).unwrap().count();
        let log = fs::metadata(rig.path("master.log")).unwrap().len();
        Self { memory: rig.master_resident(), descriptors, log }
    }
}

const MIB: u64 = 1024 * 1024;

/// Measures and prints the effect of a flood on others while it continues. Others must be served, and root
/// must be able to revoke.
fn expect_others_served(rig: &TestCluster, what: &str, idle: Duration, before: &Held, most: u64) {
    static REVOKED: AtomicU64 = AtomicU64::new(0);
    let honest = median_job_time(rig);
    let name = format!("other-{}", REVOKED.fetch_add(1, Ordering::Relaxed));
    assert_eq!(rig.run(&["master", "operator", "add", &name, "--role", "viewer"]).status, 0);
    let begun = Instant::now();
    assert_eq!(rig.run(&["master", "operator", "revoke", &name]).status, 0, "root gets in and revokes");
    let revoked = begun.elapsed();
    let now = Held::by(rig);
    println!(
        "{what:<34} honest job {honest:>9.1?} ({:.2} x idle), revoke {revoked:>9.1?}, memory +{} MiB, descriptors {} -> {}, log +{} KiB",
        honest.as_secs_f64() / idle.as_secs_f64(),
        now.memory.saturating_sub(before.memory) / MIB,
        before.descriptors,
        now.descriptors,
        (now.log - before.log) / 1024,
    );
    assert!(now.memory < before.memory + most * MIB, "{what}: {} MiB", now.memory / MIB);
    assert!(now.descriptors < before.descriptors + 400, "{what}: {} descriptors", now.descriptors);
    assert!(now.log < before.log + 20 * MIB, "{what}: {} bytes of log", now.log);
}

fn control(channel: Channel) -> ControlServiceClient<Channel> {
    ControlServiceClient::with_origin(channel, Channel::origin())
}

async fn list(channel: &Channel, target: String) -> Result<(), Status> {
    let selection = proto::Selection { target, ..proto::Selection::default() };
    let request =
        proto::ListAgentsRequest { which: Some(proto::list_agents_request::Which::Selection(selection)) };
    let mut stream = control(channel.clone()).list_agents(request).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Fifty expensive expressions, or ones that would be if they were expanded.
fn hostile_targets() -> Vec<String> {
    let mut all = Vec::new();
    for n in 1..=10_u32 {
        let groups = (0..10 * n).map(|group| format!("@g{group}:x[1-100000]"));
        all.push(groups.collect::<Vec<_>>().join(","));
        all.push(format!("n[000001-{}/2],n[1-{}/2]", 900_000 + n, 900_000 + n));
        all.push(format!("n[1-999999999999999999/{}]", 1_000_000_000_000_u64 * u64::from(n)));
        let product = format!("a[1-{}]", 900 + n).repeat(usize::try_from(n % 4 + 3).unwrap());
        all.push(product);
        let globs: Vec<String> = (0..200 * n + 900).map(|glob| format!("*{glob}*a*b*c*")).collect();
        all.push(globs.join("^"));
    }
    all
}

#[test]
fn hostile_targets_are_refused_at_once() {
    let rig = TestCluster::with_agents(&["honest"]);
    let viewer = Operator::log_in(&rig, "viewer", "viewer");
    let idle = median_job_time(&rig);
    let before = Held::by(&rig);
    let runtime = attacker_runtime();
    let slowest = runtime.block_on(async {
        let channel = viewer.connect().await.unwrap();
        let mut slowest = Duration::ZERO;
        for target in hostile_targets() {
            let begun = Instant::now();
            let shown = target[..target.len().min(60)].to_owned();
            let refused = list(&channel, target).await;
            assert!(
                refused.as_ref().is_err_and(|status| status.message().len() < 4_096),
                "{shown}: {refused:?}"
            );
            slowest = slowest.max(begun.elapsed());
        }
        slowest
    });
    println!("fifty hostile targets: the slowest is refused after {slowest:.1?}");
    expect_others_served(&rig, "hostile targets", idle, &before, 16);
    // An expression just within the limits, in a loop: its cost is charged to its operator.
    let allowed = "n[000001-099000/2],n[1-99000/2]".to_owned();
    for _ in 0..4 {
        let (viewer, allowed) = (Arc::clone(&viewer), allowed.clone());
        runtime.spawn(async move {
            let channel = viewer.connect().await.unwrap();
            loop {
                let _ = list(&channel, allowed.clone()).await;
            }
        });
    }
    expect_others_served(&rig, "targets at the limit, in a loop", idle, &before, 64);
    drop(runtime);
}

/// Follows a job on many connections without reading. The returned values keep the calls open.
async fn follow_and_never_read(flood: &Operator, number: u64) -> Vec<impl Sized> {
    let mut held = Vec::new();
    for _ in 0..flood_size().div_ceil(500) {
        let Some(channel) = flood.connect().await else { continue };
        let request = proto::FollowJobRequest {
            job: Some(proto::JobReference { kind: Some(proto::job_reference::Kind::Number(number)) }),
            follow: true,
            ..proto::FollowJobRequest::default()
        };
        let calls = (0..500).map(|_| {
            let (mut client, request) = (control(channel.clone()), request.clone());
            async move { tokio::time::timeout(Duration::from_secs(2), client.follow_job(request)).await }
        });
        let all: Vec<_> = calls.map(tokio::spawn).collect();
        for call in all {
            if let Ok(Ok(Ok(stream))) = call.await {
                // Kept open, and never read.
                held.push((channel.clone(), stream));
            }
        }
    }
    held
}

/// Sends HTTP/2 frames of this type and payload in a loop. RFC 9113, 6.7 and 6.5.
async fn send_frames(flood: &Operator, kind: u8, payload: &[u8], frames: &AtomicU64) {
    let length = u8::try_from(payload.len()).unwrap();
    let frame = [&[0, 0, length, kind, 0, 0, 0, 0, 0], payload].concat().repeat(256);
    loop {
        let dialled = dial("127.0.0.1", flood.port, flood.tls(), tls::server_name("m")).await;
        let Ok(dialled) = dialled else { continue };
        let (mut read, mut write) = tokio::io::split(dialled.stream);
        tokio::spawn(async move {
            let mut answers = vec![0; 65_536];
            while let Ok(1..) = read.read(&mut answers).await {}
        });
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let mut sent = write.write_all(begin).await;
        while sent.is_ok() {
            sent = write.write_all(&frame).await;
            frames.fetch_add(256, Ordering::Relaxed);
        }
    }
}

#[test]
fn one_viewer_cannot_take_connections_memory_or_the_log_from_others() {
    let rig = TestCluster::with_agents(&["honest"]);
    let idle = median_job_time(&rig);
    assert_eq!(rig.run(&["run", "-q", "honest", "seq 3000000"]).status, 0);
    let job = rig.start_detached("honest", "seq 3000000");
    rig.wait_task(&job, "exited");
    let mut name = 0..;
    let mut viewer = || Operator::log_in(&rig, &format!("viewer-{}", name.next().unwrap()), "viewer");

    let (flood, before) = (viewer(), Held::by(&rig));
    let runtime = attacker_runtime();
    let number: u64 = job.parse().unwrap();
    let followers = runtime.block_on(follow_and_never_read(&flood, number));
    println!("{} followers are served, of {} that asked", followers.len(), flood_size().div_ceil(500) * 500);
    expect_others_served(&rig, "followers that never read", idle, &before, 256);
    drop(followers);
    drop(runtime);

    let (flood, before) = (viewer(), Held::by(&rig));
    let runtime = attacker_runtime();
    let open = Arc::new(AtomicU64::new(0));
    for _ in 0..64 {
        let (flood, open) = (Arc::clone(&flood), Arc::clone(&open));
        runtime.spawn(async move {
            let mut held = Vec::new();
            for _ in 0..flood_size() / 64 {
                held.extend(flood.connect().await);
                open.fetch_add(1, Ordering::Relaxed);
            }
            std::future::pending::<()>().await;
        });
    }
    until("half of the connections were tried", || open.load(Ordering::Relaxed) > flood_size() as u64 / 2);
    expect_others_served(&rig, "connections that do nothing", idle, &before, 128);
    drop(runtime);

    let (flood, before) = (viewer(), Held::by(&rig));
    let runtime = attacker_runtime();
    let sent = Arc::new(AtomicU64::new(0));
    for _ in 0..8 {
        let (flood, sent) = (Arc::clone(&flood), Arc::clone(&sent));
        runtime.spawn(async move {
            let path = format!("http://sloth-runner/{}", "x".repeat(14_000));
            while let Some(channel) = flood.connect().await {
                loop {
                    let request = Request::post(&path).header("content-type", "application/grpc");
                    let request = request.body(Body::empty()).unwrap();
                    if channel.clone().oneshot(request).await.is_err() {
                        break;
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    until("calls were made", || sent.load(Ordering::Relaxed) > flood_size() as u64);
    expect_others_served(&rig, "calls that fill the log", idle, &before, 64);
    drop(runtime);

    for (what, kind, payload) in [("pings", 6_u8, &[0_u8; 8][..]), ("settings", 4, &[0, 3, 0, 0, 0, 9][..])] {
        let (flood, before) = (viewer(), Held::by(&rig));
        let runtime = attacker_runtime();
        let frames = Arc::new(AtomicU64::new(0));
        for _ in 0..8 {
            let (flood, frames) = (Arc::clone(&flood), Arc::clone(&frames));
            runtime.spawn(async move {
                send_frames(&flood, kind, payload, &frames).await;
            });
        }
        until("frames were sent", || frames.load(Ordering::Relaxed) > 20 * flood_size() as u64);
        expect_others_served(&rig, what, idle, &before, 64);
        drop(runtime);
    }
    let revoked = rig.run(&["master", "operator", "list"]).out.matches("viewer-").count();
    assert_eq!(revoked, 5);
}

/// Connects from one of this machine's own addresses, in place of another machine.
async fn connect_from(source: Ipv4Addr, port: u16) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::from((source, 0))).ok()?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.ok()
}

/// Keeps `each` connections from each of these addresses open, and replaces those that are closed.
fn keep_silent(runtime: &Runtime, port: u16, sources: &[Ipv4Addr], each: usize, tls: bool) -> Arc<AtomicU64> {
    let opened = Arc::new(AtomicU64::new(0));
    let config = Arc::new(tls::client(None, Trust::FirstUse, ALPN_H2).unwrap());
    for source in sources.iter().copied().flat_map(|source| std::iter::repeat_n(source, each)) {
        let (opened, config) = (Arc::clone(&opened), Arc::clone(&config));
        runtime.spawn(async move {
            loop {
                if let Some(mut stream) = connect_from(source, port).await {
                    opened.fetch_add(1, Ordering::Relaxed);
                    if tls {
                        let name = tls::server_name("m");
                        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
                        if let Ok(mut stream) = stream {
                            let _ = stream.read(&mut [0; 4096]).await;
                            let _ = stream.read(&mut [0; 4096]).await;
                        }
                    } else {
                        let _ = stream.read(&mut [0; 1]).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    opened
}

/// Makes keys pending from these addresses, ten from each.
fn send_keys(runtime: &Runtime, port: u16, sources: &[Ipv4Addr]) -> Arc<AtomicU64> {
    let asked = Arc::new(AtomicU64::new(0));
    for source in sources.iter().copied() {
        let asked = Arc::clone(&asked);
        runtime.spawn(async move {
            let config = Arc::new(tls::client(None, Trust::FirstUse, ALPN_H2).unwrap());
            // Repeated until enough were sent, since not all connections get through at once.
            for n in (0..10).cycle().take_while(|_| asked.load(Ordering::Relaxed) < 1_000) {
                let ask = async {
                    let stream = connect_from(source, port).await?;
                    let name = tls::server_name("m");
                    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.ok()?;
                    let (channel, connection) =
                        Channel::handshake_kept_alive(stream, KeepAlive::QUICK).await.ok()?;
                    tokio::spawn(connection);
                    let request = proto::EnrollRequest {
                        protocol: Some(sloth_runner::wire::PROTOCOL.into()),
                        name: format!("unauthenticated-{n}"),
                        certificate_request: Key::generate().ok()?.certificate_request().ok()?.into(),
                        ..proto::EnrollRequest::default()
                    };
                    let mut client = EnrollmentServiceClient::with_origin(channel, Channel::origin());
                    client.enroll(request).await.ok()?.into_inner().kind
                };
                if let Some(Kind::Pending(_)) = ask.await {
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    asked
}

#[test]
fn floods_of_unauthenticated_peers_do_not_block_agents() {
    let mut rig = TestCluster::with_agents(&["honest"]);
    let idle = median_job_time(&rig);
    let one = [Ipv4Addr::new(127, 0, 0, 9)];
    let sources: Vec<Ipv4Addr> = (1..=32).map(|n| Ipv4Addr::new(127, 0, n, 9)).collect();
    let crowd: Vec<Ipv4Addr> = (1..=100).map(|n| Ipv4Addr::new(127, 1, n, 9)).collect();
    for (n, what) in
        ["256 silent unauthenticated peers", "2,048 silent ones of 32 sources", "1,000 keys that wait"]
            .iter()
            .enumerate()
    {
        let runtime = attacker_runtime();
        let before = Held::by(&rig);
        let (done, wanted) = match n {
            0 => (keep_silent(&runtime, rig.port(), &one, 256, true), 256),
            1 => (keep_silent(&runtime, rig.port(), &sources, 64, false), 2_048),
            _ => (send_keys(&runtime, rig.port(), &crowd), 1_000),
        };
        until(what, || done.load(Ordering::Relaxed) >= wanted);
        let begun = Instant::now();
        let name = format!("new-{n}");
        rig.start_agent(&name, &[]);
        rig.wait_state(&name, "active");
        let joined = begun.elapsed();
        let begun = Instant::now();
        rig.kill_connector(&name);
        rig.wait_state(&name, "offline");
        rig.restart_agent(&name);
        rig.wait_state(&name, "active");
        println!(
            "{what:<34} an agent joins within {joined:.1?}, and comes back within {:.1?}",
            begun.elapsed()
        );
        let descriptors = if n == 0 { 400 } else { 2_500 };
        let now = Held::by(&rig);
        assert!(now.descriptors < before.descriptors + descriptors, "{what}: {}", now.descriptors);
        let before = Held { descriptors: now.descriptors, ..before };
        expect_others_served(&rig, what, idle, &before, 128);
        drop(runtime);
    }
    // A pending key is still shown when the list is full.
    let mut late = rig.agent_command("late", &[]).spawn().unwrap();
    rig.wait_state("late", "pending");
    late.kill().unwrap();
    late.wait().unwrap();
    rig.stop_agent("late");
    assert_eq!(rig.run(&["agent", "reject", "--all"]).status, 0);
    until("nobody waits", || rig.agent("unauthenticated-1").is_none());
}

#[test]
fn the_key_of_a_deleted_agent_uses_no_connections() {
    let mut rig = TestCluster::with_agents(&["honest"]);
    let (own, ca) = stolen(&mut rig, "stolen");
    let idle = median_job_time(&rig);
    assert_eq!(rig.run(&["agent", "delete", "stolen"]).status, 0);
    let before = Held::by(&rig);
    let runtime = attacker_runtime();
    let config = Arc::new(tls::client(Some(own), ca, ALPN_TUNNEL).unwrap());
    let opened = Arc::new(AtomicU64::new(0));
    for _ in 0..flood_size().min(512) {
        let (config, opened, port) = (Arc::clone(&config), Arc::clone(&opened), rig.port());
        runtime.spawn(async move {
            loop {
                if let Ok(mut dialled) =
                    dial("127.0.0.1", port, Arc::clone(&config), tls::server_name("m")).await
                {
                    opened.fetch_add(1, Ordering::Relaxed);
                    while let Ok(1..) = dialled.stream.read(&mut [0; 4096]).await {}
                }
            }
        });
    }
    until("tunnels were opened", || opened.load(Ordering::Relaxed) > 64);
    expect_others_served(&rig, "tunnels of a deleted agent", idle, &before, 64);
    drop(runtime);
}

#[test]
fn a_stolen_agent_uses_no_connections_of_other_agents() {
    let mut rig = TestCluster::with_agents(&[]);
    let (own, ca) = stolen(&mut rig, "stolen");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    rig.start_agent("honest", &["--port", &port.to_string(), "--bind-address", "127.0.0.1"]);
    until("a direct link", || rig.agent("honest").is_some_and(|agent| agent["link"] == "direct"));
    let idle = median_job_time(&rig);
    let pid = rig.pid_in("honest", "agent.pid");
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let (before, held) = (Held::by(&rig), descriptors());
    let runtime = attacker_runtime();
    let config = Arc::new(tls::client(Some(own), ca, ALPN_H2).unwrap());
    let opened = Arc::new(AtomicU64::new(0));
    for _ in 0..flood_size().min(512) {
        let (config, opened) = (Arc::clone(&config), Arc::clone(&opened));
        runtime.spawn(async move {
            loop {
                if let Ok(mut dialled) =
                    dial("127.0.0.1", port, Arc::clone(&config), tls::server_name("honest")).await
                {
                    opened.fetch_add(1, Ordering::Relaxed);
                    while let Ok(1..) = dialled.stream.read(&mut [0; 4096]).await {}
                }
            }
        });
    }
    until("connections were made", || opened.load(Ordering::Relaxed) > flood_size() as u64 / 10);
    expect_others_served(&rig, "an agent's port, by another agent", idle, &before, 64);
    println!("descriptors of the agent: {held} -> {}", descriptors());
    assert!(descriptors() < held + 128, "{held} -> {}", descriptors());
    let agent = rig.agent("honest").unwrap();
    assert_eq!(agent["link"], "direct", "{agent}");
    let said = fs::read_to_string(rig.path("agent-honest.log")).unwrap();
    assert!(!said.contains("unreachable"), "the link never broke: {said}");
    drop(runtime);
}
