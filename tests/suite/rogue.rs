//! A stolen agent: an attacker with the identity of a real agent sends arbitrary messages. Other agents and
//! operators are not affected.

use std::sync::Arc;

use crate::peers::{RogueAgent, stolen};
use crate::rig::{TestCluster, until};
use sloth_runner::{
    domain::ids::JobId,
    wire::proto::{self, attach_response, outcome, session_response},
};

fn hello() -> proto::Hello {
    proto::Hello {
        protocol: Some(sloth_runner::wire::PROTOCOL.into()),
        software_version: "0.1.0".into(),
        incarnation: "dir/boot".into(),
        ..proto::Hello::default()
    }
}

fn started() -> attach_response::Kind {
    attach_response::Kind::Started(proto::TaskStarted { elapsed_ns: 1 })
}

fn ended(kind: outcome::Kind, end_offset: u64) -> attach_response::Kind {
    let outcome = proto::Outcome { kind: Some(kind), background: u32::MAX };
    attach_response::Kind::Ended(proto::TaskEnded { outcome: Some(outcome), end_offset, duration_ns: 1 })
}

fn count(rig: &TestCluster, sql: &str) -> u64 {
    let database = rusqlite::Connection::open(rig.master_dir().join("sloth-runner.db")).unwrap();
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Checks that honest agents and operators are still served.
fn expect_others_served(rig: &TestCluster) {
    for _ in 0..5 {
        let printed = rig.run(&["run", "honest", "echo works"]);
        assert_eq!((printed.status, printed.out.as_str()), (0, "works\n"), "{printed:?}");
    }
}

#[test]
fn a_stolen_agent_that_reports_false_tasks_has_no_effect_and_can_be_deleted() {
    let mut rig = TestCluster::with_agents(&["honest"]);
    let identity = stolen(&mut rig, "stolen");
    expect_others_served(&rig);
    let jobs = count(&rig, "SELECT count(*) FROM jobs");
    let tasks = |batch: u64| {
        let task = move |number: u64| proto::HeldTask {
            spec: Some(proto::TaskSpec {
                job_id: JobId::from_parts(1, u128::from(number)).to_bytes().to_vec().into(),
                job_number: 1_000_000 + number,
                task_index: if number.is_multiple_of(2) { u32::MAX - 1 } else { u32::MAX },
                operator: "root\u{202e}\u{1b}[2J".repeat(100),
                target: "@all".into(),
                command: Some(proto::Command { words: vec![vec![b'x'; 100].into()] }),
                timeout_ms: Some(u64::MAX),
                kill_grace_ms: u32::MAX,
                seal: Some(vec![7; 32].into()),
                by_admin: true,
                ..proto::TaskSpec::default()
            }),
            started_ms: u64::MAX,
        };
        session_response::Kind::Inventory(proto::Inventory {
            tasks: (batch * 200..(batch + 1) * 200).map(task).collect(),
        })
    };
    let says = move || {
        let label = |n: u32| proto::Label { key: format!("key{n}"), value: "v".repeat(60) };
        let labels = (0..5_000).map(label).collect();
        let seen = |seal| Some(proto::Revision { epoch: u64::MAX, number: u64::MAX, seal });
        let lies = proto::Hello {
            software_version: "\u{1b}[31m9".repeat(10_000),
            seen: seen(Some(vec![9; 32].into())),
            trust: i32::MIN,
            at_ms: u64::MAX,
            labels,
            ..hello()
        };
        let plain = proto::Hello { seen: seen(None), ..hello() };
        let first = if rand() { lies } else { plain };
        // 20,000 tasks.
        std::iter::once(session_response::Kind::Hello(first)).chain((0..100).map(tasks)).collect()
    };
    let rogue = RogueAgent { says: Arc::new(says), answers: Arc::new(|_| Vec::new()), heard: Arc::default() };
    let loose = rogue.dial_repeatedly(&rig, identity);
    until("the lies were heard", || {
        count(&rig, "SELECT count(*) FROM audit WHERE actor = 'agent stolen'") >= 2
    });
    let before = rig.master_resident();
    expect_others_served(&rig);
    assert!(rig.run(&["run", "@all!stolen", "true"]).status == 0);
    let listed = rig.run(&["agent", "list"]);
    assert!(listed.status == 0 && !listed.out.contains(['\u{1b}', '\u{202e}']), "{listed:?}");
    assert_eq!(count(&rig, "SELECT count(*) FROM jobs"), jobs + 6, "none of what it told of");
    let recorded = count(&rig, "SELECT count(*) FROM audit WHERE actor = 'agent stolen'");
    assert!(recorded <= 4, "{recorded} records: each kind once, and how often within the minute");
    assert!(rig.master_resident() < before + 64 * 1024 * 1024, "{before} and then {}", rig.master_resident());

    assert_eq!(rig.run(&["agent", "delete", "stolen"]).status, 0);
    assert!(rig.agent("stolen").is_none());
    expect_others_served(&rig);
    drop(loose);
}

/// Returns true and false in turns.
fn rand() -> bool {
    static TURN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);
    TURN.fetch_xor(true, std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn a_stolen_agent_that_floods_the_master_delays_only_its_own_task() {
    let mut rig = TestCluster::with_agents(&["honest"]);
    let identity = stolen(&mut rig, "stolen");
    let answers = |_: proto::Open| {
        let held = |n: u64| {
            attach_response::Kind::Held(proto::Held { reason: Some(format!("\u{1b}[2J{n}").repeat(500)) })
        };
        let frame =
            |offset: u64| proto::Frame { offset, data: vec![b'x'].into(), stream: 1, time_ns: offset };
        let output = |at: u64| attach_response::Kind::Output(proto::Output { frames: vec![frame(at)] });
        let floods = (0..20_000).flat_map(|n| [started(), held(n), output(n)]);
        floods.collect()
    };
    let says = || vec![session_response::Kind::Hello(hello())];
    let rogue = RogueAgent { says: Arc::new(says), answers: Arc::new(answers), heard: Arc::default() };
    let loose = rogue.dial_repeatedly(&rig, identity);
    rig.wait_state("stolen", "active");
    let job = rig.start_detached("stolen", "true");
    rig.wait_task(&job, "running");
    let before = rig.master_resident();
    for _ in 0..5 {
        expect_others_served(&rig);
    }
    let shown = rig.run(&["job", "show", &job]);
    assert!(shown.status == 0 && !shown.out.contains('\u{1b}') && shown.out.len() < 4_096, "{shown:?}");
    assert!(rig.master_resident() < before + 64 * 1024 * 1024);
    assert_eq!(rig.run(&["agent", "delete", "stolen"]).status, 0);
    expect_others_served(&rig);
    drop(loose);
}

#[test]
fn a_stolen_agent_cannot_forge_who_cancelled_a_task_or_exceed_bounds() {
    let mut rig = TestCluster::with_agents(&["honest"]);
    let identity = stolen(&mut rig, "stolen");
    let cancelled = |open: proto::Open| {
        let by = "root, at 04:00 by ticket 77\u{202e}\u{1b}[2J".to_owned();
        let true_looking =
            outcome::Kind::Cancelled(proto::Cancelled { by, proof: None, seal: Some(vec![1; 32].into()) });
        // The first attempt ends at an impossible offset: the master drops the Attach and tries again.
        let end = if open.attempt.is_multiple_of(2) { u64::MAX } else { 0 };
        vec![started(), ended(true_looking, end)]
    };
    let says = || vec![session_response::Kind::Hello(hello())];
    let rogue = RogueAgent { says: Arc::new(says), answers: Arc::new(cancelled), heard: Arc::default() };
    let loose = rogue.dial_repeatedly(&rig, identity);
    rig.wait_state("stolen", "active");
    for _ in 0..2 {
        let printed = rig.run(&["run", "stolen", "true"]);
        assert!(printed.status != 0 && !printed.err.contains("root"), "{printed:?}");
        assert!(!printed.err.contains(['\u{1b}', '\u{202e}']), "{printed:?}");
    }
    expect_others_served(&rig);
    drop(loose);
}
