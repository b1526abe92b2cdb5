//! Proposals of agents, and their acceptance: labels, and addresses for direct links.

use std::{
    io::ErrorKind,
    net::TcpListener,
    process::{Output, Stdio},
    sync::Arc,
};

use crate::peers::{RogueAgent, stolen};
use crate::rig::{TestCluster, screen::Screen, secret, until};
use sloth_runner::wire::proto::{self, session_request, session_response};

/// Starts an agent in the background, and returns the output of the command.
fn start(rig: &TestCluster, name: &str, token: Option<&str>, flags: &[&str]) -> Output {
    let mut command = rig.agent_command(name, &["--daemon"]);
    command.args(flags).envs(token.map(|token| ("SLOTH_RUNNER_TOKEN", token)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a port on which no process listens now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts an agent that reports `localhost`, which is not its observed address, with a free port. Returns its
/// output, and the address that it reports.
fn start_reporting(rig: &TestCluster, name: &str, token: &str, label: &str) -> (String, String) {
    loop {
        let port = free_port().to_string();
        let direct = format!("localhost:{port}");
        let flags = ["--label", label, "--port", &port, "--report-address", &direct];
        let started = start(rig, name, Some(token), &flags);
        // Another process may have taken the port by now.
        if !text(&started.stderr).contains("cannot listen") {
            assert!(started.status.success(), "{started:?}");
            return (text(&started.stdout), direct);
        }
    }
}

#[test]
fn labels_and_addresses_take_effect_when_they_are_accepted() {
    let rig = TestCluster::new();
    let (said, direct) = start_reporting(&rig, "web-1", &rig.token(), "role=web");
    let proposed = format!("role=web, direct address {direct}");
    assert!(said.contains(&format!("without effect until it is accepted: {proposed}")), "{said}");
    assert!(said.contains("sloth-runner agent label --accept web-1"), "{said}");
    let listed = rig.run(&["agent", "list"]);
    assert!(listed.out.contains("role=web (proposed)"), "{listed:?}");
    assert!(listed.err.contains("1 agent proposes") && listed.err.contains("--accept web-1"), "{listed:?}");
    let shown = rig.run(&["agent", "get", "web-1"]).out;
    assert!(shown.contains(&format!("proposed          {proposed}")), "{shown}");
    let agent = rig.agent("web-1").unwrap();
    assert_eq!(
        (agent["labels"].to_string(), agent["proposed_labels"]["role"].as_str()),
        ("{}".into(), Some("web"))
    );
    assert_eq!(
        (agent["link"].as_str(), agent["proposed_address"].as_str()),
        (Some("tunnel"), Some(direct.as_str()))
    );

    let refused = rig.on("@role:web", "true");
    assert_eq!(refused.status, 125, "{refused:?}");
    assert!(refused.err.contains("web-1 proposes role=web"), "{refused:?}");
    assert!(refused.err.contains("`sloth-runner agent label --accept web-1`"), "{refused:?}");
    let accepted = rig.run(&["agent", "label", "--accept", "web-1"]);
    assert_eq!(accepted.out, format!("web-1: accepted {proposed}\n"), "{accepted:?}");
    assert_eq!(rig.on("@role:web", "echo here").out, "web-1: here\n");
    until("a direct link", || rig.agent("web-1").is_some_and(|agent| agent["link"] == "direct"));
    let again = rig.run(&["agent", "label", "--accept", "@all"]);
    assert_eq!((again.out.as_str(), again.status), ("", 0));
    assert!(again.err.contains("nothing is proposed by web-1"), "{again:?}");
    rig.stop_agent("web-1");
}

#[test]
fn the_terms_of_a_token_limit_who_may_join_and_accept_proposals() {
    let rig = TestCluster::new();
    let made = rig.run(&[
        "master",
        "token",
        "create",
        "--uses",
        "3",
        "--label",
        "role=db",
        "--names",
        "db-*",
        "--from",
        "127.0.0.0/8",
        "--report-address",
        "localhost",
    ]);
    let token = secret(&made.out).to_owned();
    let terms = "names db-*; labels role=db; from 127.0.0.0/8; direct addresses localhost";
    assert!(made.err.contains(terms), "{made:?}");
    assert!(rig.run(&["master", "token", "list"]).out.contains(terms));
    let elsewhere = rig.run(&["master", "token", "create", "--from", "203.0.113.0/24"]);
    let refused = start(&rig, "db-1", Some(secret(&elsewhere.out)), &[]);
    assert!(
        text(&refused.stderr).contains("for machines of 203.0.113.0/24, and this one comes from 127.0.0.1")
    );
    let refused = start(&rig, "web-1", Some(&token), &[]);
    assert!(text(&refused.stderr).contains("for other names than web-1: for db-*"), "{refused:?}");

    let (said, _) = start_reporting(&rig, "db-1", &token, "rack=3");
    assert!(said.contains("until it is accepted: rack=3\n"), "its address needs no more: {said}");
    until("a direct link", || rig.agent("db-1").is_some_and(|agent| agent["link"] == "direct"));
    assert_eq!(rig.on("@role:db", "echo here").out, "db-1: here\n");
    rig.stop_agent("db-1");
    for wrong in
        [["--names", "@role:db"], ["--from", "10.0.0.0/40"], ["--report-address", "a b"], ["--label", "x"]]
    {
        let refused = rig.run(&[&["master", "token", "create"], &wrong[..]].concat());
        assert_eq!(refused.status, 2, "{refused:?}");
    }
}

/// Starts an agent that proposes a label, and returns its one-time code.
fn start_waiting(rig: &TestCluster, name: &str) -> String {
    let said = text(&start(rig, name, None, &["--label", "role=web"]).stdout);
    let code = said.lines().find(|line| line.len() == 19 && line.matches('-').count() == 3);
    code.unwrap_or_else(|| panic!("no code in {said}")).to_owned()
}

#[test]
fn an_approval_accepts_the_proposal_only_on_request() {
    let rig = TestCluster::new();
    let approve = |name: &str, flags: &[&str]| {
        let code = start_waiting(&rig, name);
        let shown = rig.run(&["agent", "approve", name]);
        assert!(shown.out.contains("proposes role=web; can be accepted with its approval"), "{shown:?}");
        let approved = rig.run(&[&["agent", "approve", name, &code], flags].concat());
        rig.wait_state(name, "active");
        approved
    };
    let approved = approve("web-1", &["--accept"]);
    assert!(approved.out.contains(", with role=web\n"), "{approved:?}");
    let approved = approve("web-2", &["--accept-nothing"]);
    assert!(!approved.out.contains("role=web") && approved.err.is_empty(), "{approved:?}");
    let approved = approve("web-3", &[]);
    assert!(!approved.out.contains("role=web"), "nobody was there to be asked: {approved:?}");
    assert!(approved.err.contains("web-3 proposes role=web: it has no effect"), "{approved:?}");
    assert_eq!(rig.on("@role:web", "echo here").out, "web-1: here\n");

    // On a terminal the proposal is shown, and the operator is asked.
    for (name, answer, is_accepted) in [("web-4", "yes\r", true), ("web-5", "\r", false)] {
        let code = start_waiting(&rig, name);
        let mut screen = Screen::open(&rig, &["agent", "approve", name, &code]);
        screen.wait(&format!("{name} proposes role=web. Accept it?"));
        screen.keys(answer);
        screen.wait("may join with key");
        assert!(screen.client.wait().unwrap().success());
        rig.wait_state(name, "active");
        let counts = rig.agent(name).unwrap()["labels"]["role"] == "web";
        assert_eq!(counts, is_accepted, "{}", screen.text());
    }
    let mut screen = Screen::open(&rig, &["agent", "label", "--accept", "web-*"]);
    screen.wait("web-[2-3,5]: role=web");
    screen.keys("no\r");
    screen.wait("nothing was accepted");
    assert!(screen.client.wait().unwrap().success());
    let accepted = rig.run(&["agent", "label", "--accept", "--yes", "web-*"]);
    assert_eq!(accepted.out, "web-[2-3,5]: accepted role=web\n", "{accepted:?}");
    for n in 1..=5 {
        rig.stop_agent(&format!("web-{n}"));
    }
}

#[test]
fn the_master_dials_only_accepted_addresses_and_reports_only_a_state() {
    let mut rig = TestCluster::new();
    let identity = stolen(&mut rig, "stolen");
    // Observed at 127.0.0.1, it proposes another machine, and then a closed port of its own.
    let victim = TcpListener::bind("127.0.0.2:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let turn = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (port, closed) = (victim.local_addr().unwrap().port(), free_port());
    let first = Arc::clone(&turn);
    let says = move || {
        let elsewhere = first.load(std::sync::atomic::Ordering::SeqCst);
        let (host, port) = if elsewhere { ("127.0.0.2", port) } else { ("127.0.0.1", closed) };
        vec![session_response::Kind::Hello(proto::Hello {
            protocol: Some(sloth_runner::wire::PROTOCOL.into()),
            incarnation: "dir/boot".into(),
            direct: Some(proto::ReportedAddress { host: Some(host.into()), port: port.into() }),
            ..proto::Hello::default()
        })]
    };
    let rogue = RogueAgent { says: Arc::new(says), answers: Arc::new(|_| Vec::new()), heard: Arc::default() };
    let heard = Arc::clone(&rogue.heard);
    let words = move || -> Vec<String> {
        let heard = heard.lock().unwrap();
        let word = |kind: &session_request::Kind| match kind {
            session_request::Kind::Link(report) => Some(report.state().as_str_name().to_owned()),
            _ => None,
        };
        heard.iter().filter_map(word).collect()
    };
    let loose = rogue.dial_repeatedly(&rig, identity);
    until("the agent is told", || words() == ["DIRECT_STATE_PROPOSED"]);
    let reason = rig.agent("stolen").unwrap()["link_reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("127.0.0.2") && reason.contains("label --accept stolen"), "{reason}");
    assert_eq!(victim.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody was dialled");

    turn.store(false, std::sync::atomic::Ordering::SeqCst);
    rig.kill_master();
    rig.start_master(&[]);
    until("the agent is told", || words().len() == 2);
    assert_eq!(words()[1], "DIRECT_STATE_UNREACHABLE");
    let reason = rig.agent("stolen").unwrap()["link_reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("connection refused"), "operators hear why: {reason}");
    assert_eq!(victim.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(loose);
}
