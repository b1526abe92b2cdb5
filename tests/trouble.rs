//! A master and agents on machines that are in trouble: ports that are taken, and descriptors that run out. Disks are in
//! `disks`.

#![expect(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

mod rig;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use rig::{Rig, until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

#[test]
fn an_agent_works_without_its_ports_and_takes_them_when_they_are_free() {
    let mut rig = Rig::new();
    let taken = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let [port, metrics] = [0, 1].map(|which: usize| taken[which].local_addr().unwrap().port().to_string());
    let flags = ["--bind-address", "127.0.0.1", "--port", &port, "--metrics", &metrics];
    rig.start_agent("a", &flags);
    rig.wait_state("a", "active");
    assert_eq!(rig.on("a", "echo by tunnel").out, "by tunnel\n");
    until("the list says why", || {
        let hint = rig.agent("a").map(|agent| agent["hint"].as_str().unwrap_or_default().to_owned());
        let hint = hint.unwrap_or_default();
        [
            format!("cannot listen on 127.0.0.1:{port}: "),
            format!("cannot serve metrics on 127.0.0.1:{metrics}: "),
        ]
        .iter()
        .all(|text| hint.contains(text))
    });
    drop(taken);
    until("both are served", || {
        let is_served = |port: &str| TcpStream::connect(("127.0.0.1", port.parse().unwrap())).is_ok();
        is_served(&port) && is_served(&metrics)
    });
    until("the list says nothing more of that", || {
        rig.agent("a").is_some_and(|agent| !agent["hint"].as_str().unwrap().contains("cannot "))
    });

    // An address that this machine does not have, for a starter that waits for a word.
    let daemon = rig
        .agent_command("b", &["--daemon", "--bind-address", "192.0.2.7", "--port", "50999"])
        .env("SLOTH_RUNNER_TOKEN", rig.token())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&daemon.stdout).into_owned();
    assert!(daemon.status.success() && said.contains("b is active on "), "{said}");
    assert!(said.contains("\n! cannot listen on 192.0.2.7:50999: Cannot assign"), "{said}");
    assert_eq!(rig.on("b", "echo here").out, "here\n");
    rig.stop_agent("b");
}

fn limit_files(pid: i32, files: u64) {
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    prlimit(Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
}

fn open_files(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

#[test]
fn a_master_without_free_descriptors_answers_its_operators_and_says_so() {
    let rig = Rig::with_agents(&["a"]);
    assert_eq!(rig.on("a", "true").status, 0);
    // Some are left, and others want all of them.
    let pid = rig.master_pid();
    limit_files(pid, open_files(pid) + 120);
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.extend(TcpStream::connect(("127.0.0.1", rig.port())));
    }
    for _ in 0..10 {
        let status = rig.run(&["master", "status"]);
        assert_eq!(status.status, 0, "{status:?}");
        assert_eq!(rig.on("a", "echo works").out, "works\n");
        assert_eq!(rig.run(&["agent", "list"]).status, 0);
    }
    let log = fs::read_to_string(rig.path("master.log")).unwrap();
    assert!(log.contains("connections are turned away") && log.contains("ulimit -n"), "{log}");
    assert_eq!(log.matches("turned away").count(), 1, "said once");
    drop(crowd);
}

#[test]
fn commands_have_the_limit_of_files_that_their_agent_was_started_with() {
    let mut rig = Rig::new();
    let token = rig.token();
    let agent = rig.agent_command("a", &[]);
    let words: Vec<_> = agent.get_args().map(std::ffi::OsStr::to_owned).collect();
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", "ulimit -Sn 777; exec \"$0\" \"$@\""]).arg(agent.get_program()).args(words);
    for (name, value) in agent.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell.env("SLOTH_RUNNER_TOKEN", token).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    rig.adopt("a", shell.spawn().unwrap());
    rig.wait_state("a", "active");
    assert_eq!(rig.on("a", "ulimit -Sn").out, "777\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", rig.pid_in("a", "agent.pid"))).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = files.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers[0], numbers[1], "the agent itself takes all it may have");
}
