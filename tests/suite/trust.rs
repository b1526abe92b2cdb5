//! Access control: every method of both sides, called over the network by every kind of caller.

use std::{collections::BTreeMap, fs, net::TcpListener, sync::Arc};

use crate::peers::{create_operator, credentials, identity_of, methods};
use crate::rig::{self, TestCluster, secret, until};
use http::{Request, StatusCode};
use sloth_runner::{
    trust::{
        authority::Authority,
        key::Key,
        tls::{self, ALPN_H2, ALPN_TUNNEL, Credentials},
        verify::Trust,
    },
    wire::{
        channel::{Channel, KeepAlive},
        connect::dial,
        proto,
    },
};
use tonic::{Code, body::Body};
use tower::ServiceExt as _;

#[test]
fn every_method_has_a_row_in_the_access_table() {
    for method in methods() {
        assert!(sloth_runner::trust::access::has_row(&method), "{method} has no row");
    }
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It reached the method, which may have refused the empty message.
    Served,
    /// The access table refused it.
    Refused,
    /// The connection failed, or did not carry the call.
    NoConnection,
}

async fn call(port: u16, own: Option<Credentials>, ca: &Trust, method: &str) -> Verdict {
    let Ok(config) = tls::client(own, ca.clone(), ALPN_H2) else { return Verdict::NoConnection };
    let Ok(dialled) = dial("127.0.0.1", port, Arc::new(config), tls::server_name("x")).await else {
        return Verdict::NoConnection;
    };
    let Ok((channel, connection)) = Channel::handshake_kept_alive(dialled.stream, KeepAlive::QUICK).await
    else {
        return Verdict::NoConnection;
    };
    tokio::spawn(connection);
    // One empty message: the five bytes of gRPC's header.
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5])));
    let request = Request::post(format!("http://sloth-runner{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    let answer = tokio::time::timeout(rig::TIMEOUT, channel.oneshot(request)).await;
    let Ok(response) = answer.expect("an answer in time") else { return Verdict::NoConnection };
    assert_eq!(response.status(), StatusCode::OK);
    let code = response.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    match code {
        Some(Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented) => Verdict::Refused,
        _ => Verdict::Served,
    }
}

/// Creates the credentials that a caller presents, for each call.
type Present = Box<dyn Fn() -> Option<Credentials>>;

fn expected_on_master(caller: &str, method: &str) -> Verdict {
    let looks = ["GetStatus", "ListAgents", "FollowJob", "ListJobs", "WatchJob", "WatchAgents", "WatchJobs"];
    let works = ["StartJob", "CancelJob", "PromoteJob", "StopJob", "RerunJob", "DrainAgents", "SendInput"];
    let name = method.rsplit('/').next().unwrap();
    let is_control = method.contains("ControlService");
    let served = match caller {
        "other CA" => return Verdict::NoConnection,
        _ if method.contains("EnrollmentService") => true,
        "viewer" => is_control && looks.contains(&name),
        "operator" => is_control && (looks.contains(&name) || works.contains(&name)),
        "admin" => is_control,
        _ => false,
    };
    if served { Verdict::Served } else { Verdict::Refused }
}

#[test]
fn every_method_is_served_to_permitted_callers_only() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    rig.start_agent("direct", &["--port", &port.to_string(), "--bind-address", "127.0.0.1"]);
    until("a direct link", || rig.agent("direct").is_some_and(|agent| agent["link"] == "direct"));

    let authority = Arc::new(Authority::load_or_create(&rig.master_dir().join("identity")).unwrap());
    let other_dir = tempfile::tempdir().unwrap();
    let other = Arc::new(Authority::load_or_create(other_dir.path()).unwrap());
    let ca = Trust::Pinned(authority.certificate().clone());

    let mut callers: Vec<(&str, Present)> = vec![("unauthenticated", Box::new(|| None))];
    for (caller, kind, name) in [
        ("agent", "agent", "a"),
        ("other agent", "agent", "never-enrolled"),
        ("another master", "master", "2"),
        ("unknown operator", "operator", "nobody"),
    ] {
        let authority = Arc::clone(&authority);
        let present = move || Some(credentials(&authority, &identity_of(kind, name)));
        callers.push((caller, Box::new(present)));
    }
    for role in ["viewer", "operator", "admin"] {
        let own = create_operator(&rig, role, role);
        let present = move || Some(Credentials { chain: own.chain.clone(), key: own.key.clone_key() });
        callers.push((role, Box::new(present)));
    }
    let revoked = create_operator(&rig, "revoked", "admin");
    assert_eq!(rig.run(&["master", "operator", "revoke", "revoked"]).status, 0);
    let present = move || Some(Credentials { chain: revoked.chain.clone(), key: revoked.key.clone_key() });
    callers.push(("revoked", Box::new(present)));
    callers
        .push(("other CA", Box::new(move || Some(credentials(&other, &identity_of("operator", "admin"))))));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (caller, present) in &callers {
        for method in methods() {
            let verdict = runtime.block_on(call(rig.port(), present(), &ca, &method));
            table.entry(method.clone()).or_default().push(format!("{caller}: {verdict:?}"));
            let expected = expected_on_master(caller, &method);
            // A certificate of another CA may be refused before or after the first byte.
            assert_eq!(verdict, expected, "on the master: {caller} {method}");
        }
    }
    for (caller, present) in &callers {
        for method in methods() {
            let verdict = runtime.block_on(call(port, present(), &ca, &method));
            table.entry(format!("agent's side {method}")).or_default().push(format!("{caller}: {verdict:?}"));
            // The agent accepts only the master to which it is connected, whatever certificate another caller
            // has.
            assert_eq!(verdict, Verdict::NoConnection, "on the agent: {caller} {method}");
        }
    }
    for (method, verdicts) in table {
        println!("{method}\n    {}", verdicts.join(", "));
    }
}

#[test]
fn a_tunnel_needs_an_agents_certificate() {
    let rig = TestCluster::new();
    let authority = Authority::load_or_create(&rig.master_dir().join("identity")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ca = Trust::Pinned(authority.certificate().clone());
    for own in [None, Some(credentials(&authority, &identity_of("operator", "x")))] {
        let config = Arc::new(tls::client(own, ca.clone(), ALPN_TUNNEL).unwrap());
        let read = runtime.block_on(async {
            let dialled = dial("127.0.0.1", rig.port(), config, tls::server_name("x")).await;
            let mut stream = dialled.unwrap().stream;
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await
        });
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

#[test]
fn a_changed_key_and_a_deleted_agent_become_pending() {
    let mut rig = TestCluster::with_agents(&["web-1"]);
    // Another machine with the same name has another key.
    let thief = rig
        .program()
        .args(["agent", "start", "--name", "web-1", "--master", &rig.address(), "--daemon", "--data-dir"])
        .arg(rig.path("thief"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&thief.stdout).into_owned();
    assert!(said.contains("pending") && said.contains("another key is known"), "{said}");
    assert_eq!(rig.on("web-1", "echo mine").out, "mine\n");
    let listed = rig.run(&["agent", "list"]).out;
    assert!(listed.contains("another key claims this name"), "{listed}");
    let printed = rig.run(&["agent", "approve", "web-1"]);
    assert_eq!(printed.status, 2, "without a fingerprint the waiting keys are shown");
    assert!(printed.err.contains("type the code that web-1 printed"), "{printed:?}");
    assert_eq!(rig.run(&["agent", "approve", "web-1", "--fingerprint", "1234"]).status, 1);
    assert_eq!(rig.run(&["agent", "reject", "web-1"]).status, 0);
    let mut stop = rig.program();
    assert!(stop.args(["agent", "stop", "--data-dir"]).arg(rig.path("thief")).status().unwrap().success());

    assert_eq!(rig.run(&["agent", "delete", "web-1"]).status, 0);
    rig.wait_state("web-1", "pending");
    rig.kill_connector("web-1");
}

#[test]
fn a_token_enrolls_as_many_agents_as_it_has_uses() {
    let mut rig = TestCluster::new();
    let token = rig.token();
    let start = |name: &str, token: &str| {
        let mut command = rig.agent_command(name, &["--daemon"]);
        command.env("SLOTH_RUNNER_TOKEN", token).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped()).output().unwrap()
    };
    let first = start("one", &token);
    assert!(String::from_utf8_lossy(&first.stdout).contains("one is active"), "{first:?}");
    let second = start("two", &token);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("used up"), "{second:?}");
    let garbage = start("three", "garbage");
    assert_eq!(garbage.status.code(), Some(2));
    let fake = format!("{}-{}", &token[..token.rfind('-').unwrap()], "00".repeat(32));
    let wrong_ca = start("four", &fake);
    assert!(String::from_utf8_lossy(&wrong_ca.stdout).contains("wrong CA"), "{wrong_ca:?}");
    for name in ["one", "four"] {
        let mut stop = rig.program();
        assert!(
            stop.args(["agent", "stop", "--data-dir"]).arg(rig.agent_dir(name)).status().unwrap().success()
        );
    }
    rig.kill_master();
    rig.start_master(&["--enroll", "any"]);
    assert!(rig.run(&["master", "status"]).out.contains("every agent that reaches the port is enrolled"));
}

#[test]
fn a_revoked_token_enrolls_no_agent_and_keeps_enrolled_ones() {
    let mut rig = TestCluster::new();
    let made = rig.run(&["master", "token", "create", "--uses", "5"]);
    let token = secret(&made.out).to_owned();
    let join = |rig: &mut TestCluster, name: &str| {
        let mut command = rig.agent_command(name, &["--daemon"]);
        command.env("SLOTH_RUNNER_TOKEN", &token).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped()).output().unwrap()
    };
    assert!(join(&mut rig, "one").status.success());
    let listed = rig.run(&["master", "token", "list", "-o", "json"]).out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let listed = &listed["tokens"][0];
    let id = listed["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["uses_left"], 4);
    assert!(made.err.contains(&format!("master token revoke {id}")), "{made:?}");
    let table = rig.run(&["master", "token", "list"]).out;
    assert!(table.lines().count() == 2 && table.contains(&id), "{table}");

    let revoked = rig.run(&["master", "token", "revoke", &id.to_lowercase()]);
    assert!(revoked.out.contains("which was valid for 4 more agents"), "{revoked:?}");
    let again = rig.run(&["master", "token", "revoke", &id]);
    assert_eq!(again.status, 1);
    assert!(again.err.contains("`sloth-runner master token list` shows all"), "{again:?}");
    // The revocation is permanent: a killed and restarted master does not know the token.
    rig.kill_master();
    rig.start_master(&[]);
    let refused = join(&mut rig, "two");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("join token is unknown"), "{refused:?}");
    assert!(rig.run(&["master", "token", "list"]).err.contains("no join tokens"));
    rig.wait_state("one", "active");
    assert_eq!(rig.run(&["run", "one", "true"]).status, 0);
    let mut stop = rig.program();
    assert!(stop.args(["agent", "stop", "--data-dir"]).arg(rig.agent_dir("one")).status().unwrap().success());
}

#[test]
fn secrets_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = TestCluster::with_agents(&["a"]);
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(rig.master_dir().join("identity/ca.key")), 0o600);
    assert_eq!(mode(rig.agent_dir("a").join("identity/agent.key")), 0o600);
    assert_eq!(mode(rig.master_dir()), 0o700);
    assert_eq!(mode(rig.agent_dir("a")), 0o700);
}

#[test]
fn a_thousand_unauthenticated_peers_do_not_disturb_the_agents() {
    let rig = TestCluster::with_agents(&["a"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..1_000 {
            let port = rig.port();
            calls.spawn(async move {
                let config = Arc::new(tls::client(None, Trust::FirstUse, ALPN_H2).ok()?);
                let dialled = dial("127.0.0.1", port, config, tls::server_name("m")).await.ok()?;
                let (channel, connection) =
                    Channel::handshake_kept_alive(dialled.stream, KeepAlive::QUICK).await.ok()?;
                tokio::spawn(connection);
                let key = Key::generate().ok()?;
                let request = proto::EnrollRequest {
                    protocol: Some(sloth_runner::wire::PROTOCOL.into()),
                    name: format!("unauthenticated-{n}"),
                    certificate_request: key.certificate_request().ok()?.into(),
                    ..proto::EnrollRequest::default()
                };
                let origin = Channel::origin();
                let mut client =
                    proto::enrollment_service_client::EnrollmentServiceClient::with_origin(channel, origin);
                client.enroll(request).await.ok()
            });
        }
        while calls.join_next().await.is_some() {}
    });
    let status: serde_json::Value =
        serde_json::from_str(&rig.run(&["master", "status", "-o", "json"]).out).unwrap();
    assert_eq!(status["pending"], 10, "ten of one source may wait: {status}");
    assert!(status["refused_unauthenticated"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(rig.on("a", "echo hello").out, "hello\n");
    assert_eq!(rig.agent("a").unwrap()["state"], "active");
}
