//! The first contact of an agent with a master that it does not trust yet: by a one-time code, also with an
//! attacker between the two or in the master's place.

use std::{
    fs,
    process::{Output, Stdio},
    sync::Arc,
};

use crate::rig::{TestCluster, until};
use sloth_runner::{
    trust::{
        access::Caller,
        authority::Authority,
        identity::Identity,
        key::Key,
        tls::{self, ALPN_H2, ALPN_TUNNEL, Credentials},
        verify::Trust,
    },
    wire::{
        accept::ConnectionLimiter,
        budget::{Budget, Principal},
        channel::Channel,
        proto::{
            EnrollRequest, EnrollResponse, Enrolled, LogInRequest, LogInResponse,
            enroll_response::Kind,
            enrollment_service_client::EnrollmentServiceClient,
            enrollment_service_server::{EnrollmentService, EnrollmentServiceServer},
        },
        serve::{self, Connected},
        unauthenticated::introduce,
    },
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

/// Starts an agent in the background, and returns the output of the command.
fn start(rig: &TestCluster, name: &str, master: &str) -> Output {
    let mut command = rig.program();
    command.args(["agent", "start", "--name", name, "--master", master, "--daemon", "--data-dir"]);
    let output = command.arg(rig.agent_dir(name)).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    output.unwrap()
}

fn stop(rig: &TestCluster, name: &str) {
    let stopped = rig.program().args(["agent", "stop", "--data-dir"]).arg(rig.agent_dir(name)).output();
    assert!(stopped.unwrap().status.success());
}

/// Returns the code that an agent printed when it started.
fn code_in(said: &str) -> String {
    let line = said.lines().find(|line| line.len() == 19 && line.matches('-').count() == 3);
    line.unwrap_or_else(|| panic!("no code in {said}")).to_owned()
}

/// Returns the contents of an agent's log.
fn log_of(rig: &TestCluster, name: &str) -> String {
    let directory = rig.agent_dir(name).join("log");
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
}

#[test]
fn an_agent_without_prior_trust_is_enrolled_by_its_code() {
    let rig = TestCluster::new();
    let started = start(&rig, "web-1", &rig.address());
    let said = String::from_utf8_lossy(&started.stdout).into_owned();
    assert!(started.status.success() && said.contains("web-1 is pending"), "{started:?}");
    let code = code_in(&said);
    assert!(said.contains(&format!("sloth-runner agent approve web-1 {code}")), "{said}");
    assert!(log_of(&rig, "web-1").contains(&code), "it is in the agent's own log as well");
    for format in ["text", "json"] {
        let listed = rig.run(&["agent", "list", "-o", format]).out;
        assert!(listed.contains("web-1") && !listed.contains(&code), "{listed}");
    }
    let asked = rig.run(&["agent", "approve", "web-1"]);
    assert!(asked.status == 2 && asked.err.contains("agent approve web-1 CODE"), "{asked:?}");
    let digits = asked.out.split_whitespace().next().unwrap().to_owned();
    let refused = rig.run(&["agent", "approve", "web-1", "--fingerprint", &digits]);
    assert!(refused.status == 1 && refused.err.contains("printed a code"), "{refused:?}");
    let wrong = rig.run(&["agent", "approve", "web-1", "0000-0000-0000-0000"]);
    assert!(wrong.status == 1 && wrong.err.contains("look for typing errors"), "{wrong:?}");
    let typing = rig.run(&["agent", "approve", "web-1", "0000"]);
    assert!(typing.status == 2 && typing.err.contains("16 letters and digits"), "{typing:?}");
    let approved = rig.run(&["agent", "approve", "web-1", &code.to_lowercase()]);
    assert_eq!(approved.status, 0, "{approved:?}");
    rig.wait_state("web-1", "active");
    assert_eq!(rig.agent("web-1").unwrap()["trust"], "code");
    assert_eq!(rig.on("web-1", "echo hello").out, "hello\n");
    assert!(!rig.agent_dir("web-1").join("identity/code").exists(), "it was good for once");
    stop(&rig, "web-1");
}

#[test]
fn an_agent_with_the_cas_fingerprint_needs_no_code() {
    let rig = TestCluster::new();
    let status: serde_json::Value =
        serde_json::from_str(&rig.run(&["master", "status", "-o", "json"]).out).unwrap();
    let fingerprint = status["ca_fingerprint"].as_str().unwrap().to_owned();
    let started = start(&rig, "web-1", &format!("{}#{fingerprint}", rig.address()));
    let said = String::from_utf8_lossy(&started.stdout).into_owned();
    assert!(said.contains("agent approve web-1 --fingerprint"), "{said}");
    let digits = said.split_whitespace().last().unwrap().to_owned();
    assert_eq!(rig.run(&["agent", "approve", "web-1", "--fingerprint", &digits]).status, 0);
    rig.wait_state("web-1", "active");
    stop(&rig, "web-1");
    // A master with another CA at that address is refused.
    let wrong = start(&rig, "web-2", &format!("{}#{}", rig.address(), "00".repeat(32)));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("wrong CA"), "{wrong:?}");
    stop(&rig, "web-2");
    let nonsense = start(&rig, "web-3", &format!("{}#4F2A", rig.address()));
    assert_eq!(nonsense.status.code(), Some(2), "{nonsense:?}");
}

#[test]
fn a_false_master_that_approves_without_the_code_is_not_trusted() {
    let rig = TestCluster::with_master(&["--enroll", "any"]);
    let started = start(&rig, "web-1", &rig.address());
    let said = String::from_utf8_lossy(&started.stdout).into_owned();
    assert!(said.contains("without its one-time code"), "{said}");
    // The false master considers the agent enrolled, and cannot use it.
    rig.wait_state("web-1", "offline");
    let mark = rig.path("was-here");
    let job = rig.run(&["run", "--start-within", "3s", "web-1", "touch", mark.to_str().unwrap()]);
    assert!(job.status == 125 && !mark.exists(), "{job:?}");
    assert!(!rig.agent_dir("web-1").join("identity/agent.der").exists());
    assert!(!rig.agent_dir("web-1").join("identity/ca.der").exists(), "nor is its CA believed in");
    stop(&rig, "web-1");
}

/// A false master that forwards requests of agents to the true one, with its own key.
struct Relay {
    /// The port of the true master.
    port: u16,
    key: Key,
    authority: Arc<Authority>,
}

impl Relay {
    async fn ask(&self, agent: EnrollRequest) -> Result<Option<Kind>, Box<dyn std::error::Error>> {
        let there = introduce("127.0.0.1", self.port, Trust::FirstUse).await?;
        let mut client = EnrollmentServiceClient::with_origin(there.channel, Channel::origin());
        let own = EnrollRequest { certificate_request: self.key.certificate_request()?.into(), ..agent };
        Ok(client.enroll(own).await?.into_inner().kind)
    }
}

#[tonic::async_trait]
impl EnrollmentService for Relay {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let agent = request.into_inner();
        let kind = self.ask(agent).await.map_err(|error| Status::internal(error.to_string()))?;
        let kind = match kind {
            Some(Kind::Enrolled(enrolled)) => Some(Kind::Enrolled(Enrolled {
                ca_certificate: self.authority.certificate().to_vec().into(),
                ..enrolled
            })),
            other => other,
        };
        Ok(Response::new(EnrollResponse { kind }))
    }

    async fn log_in(&self, _: Request<LogInRequest>) -> Result<Response<LogInResponse>, Status> {
        Err(Status::unimplemented("only agents are deceived"))
    }
}

/// Serves the false master.
async fn deceive(listener: tokio::net::TcpListener, relay: Relay) {
    let own = Key::generate().unwrap();
    let certificate = relay.authority.issue(&own, &Identity::Master("1".to_owned())).unwrap();
    let chain = vec![certificate, relay.authority.certificate().clone()];
    let trust = Trust::Pinned(relay.authority.certificate().clone());
    let credentials = Credentials { chain, key: own.to_der() };
    let config = tls::server(credentials, trust, false, &[ALPN_H2, ALPN_TUNNEL]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let routes = Routes::new(EnrollmentServiceServer::new(relay)).prepare();
    let door = Arc::new(ConnectionLimiter::of_master());
    loop {
        let (stream, address) = listener.accept().await.unwrap();
        let (door, acceptor, routes) = (Arc::clone(&door), acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            let Some(accepted) = door.admit(stream, address, acceptor).await else { return };
            let connected = Connected {
                caller: Caller::Unauthenticated,
                address: address.to_string().into(),
                uid: None,
                budget: Budget::unlimited(Principal::Source(address.ip())),
                refusals: None,
                over: None,
            };
            let _ = serve::serve(accepted.stream, routes, connected, CancellationToken::new()).await;
        });
    }
}

#[test]
fn a_false_master_that_relays_the_enrollment_gains_nothing() {
    let rig = TestCluster::new();
    let directory = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::load_or_create(directory.path()).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let between = listener.local_addr().unwrap().to_string();
    let relay = Relay { port: rig.port(), key: Key::generate().unwrap(), authority };
    let stolen = relay.key.fingerprint().to_string();
    runtime.spawn(deceive(listener, relay));

    let started = start(&rig, "web-1", &between);
    let said = String::from_utf8_lossy(&started.stdout).into_owned();
    let code = code_in(&said);
    // At the true master the relay's key is pending under the agent's name, with the agent's proof.
    until("a waiting key", || rig.agent("web-1").is_some_and(|agent| agent["fingerprint"] == *stolen));
    let refused = rig.run(&["agent", "approve", "web-1", &code]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.err.contains("an attacker is between the two"), "{refused:?}");
    let refused = rig.run(&["agent", "approve", "web-1", "--fingerprint", &stolen]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert_eq!(rig.agent("web-1").unwrap()["state"], "pending");
    assert!(!rig.agent_dir("web-1").join("identity/agent.der").exists());
    stop(&rig, "web-1");
}
