//! Signals to clients and daemons: ignored signals stay ignored, and a daemon survives a hangup.

use std::{
    fs,
    process::{Child, Stdio},
};

use crate::rig::{Printed, TestCluster, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Returns a command that a shell starts with ignored signals, as `nohup` and `&` do.
fn ignoring(rig: &TestCluster, signals: &str, words: &[&str]) -> std::process::Command {
    let program = rig.program();
    let mut shell = std::process::Command::new("bash");
    shell
        .args(["-c", &format!("trap '' {signals}; exec \"$0\" \"$@\"")])
        // Not `program` itself, which may restore ignored signals.
        .arg(env!("CARGO_BIN_EXE_sloth-runner"))
        .args(words);
    for (name, value) in program.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

fn send(signal: Signal, child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    let rig = TestCluster::with_agents(&["a"]);
    for (name, signal) in [("HUP", Signal::SIGHUP), ("INT", Signal::SIGINT), ("TERM", Signal::SIGTERM)] {
        for flags in [&[][..], &["-b"]] {
            let go = rig.path(&format!("go-{name}-{}", flags.len()));
            let command =
                format!("echo begun; while [ ! -e {} ]; do sleep 0.02; done; echo ended", go.display());
            let client = ignoring(&rig, name, &[&["run"], flags, &["a", &command]].concat()).spawn().unwrap();
            until("it runs", || {
                rig.task_if_known("last").is_ok_and(|task| task["state"] == "running")
                    && rig.run(&["job", "logs", "last"]).out == "begun\n"
            });
            for _ in 0..2 {
                send(signal, &client);
            }
            fs::write(&go, "").unwrap();
            let left: Printed = client.wait_with_output().unwrap().into();
            assert_eq!(left.status, 0, "{name} {flags:?}: {left:?}");
            assert!(left.out.ends_with("begun\nended\n"), "{name} {flags:?}: {left:?}");
        }
    }
}

#[test]
fn daemons_survive_a_hangup_and_reopen_their_logs() {
    let rig = TestCluster::new();
    let other = rig.path("other");
    let start = |words: &[&str]| {
        let mut command = rig.program();
        command
            .args(words)
            .args(["--daemon", "--data-dir"])
            .arg(&other)
            .env("SLOTH_RUNNER_TOKEN", rig.token());
        let started: Printed = command.output().unwrap().into();
        assert_eq!(started.status, 0, "{started:?}");
    };
    let pid_file = |name: &str| {
        let text = fs::read_to_string(other.join(name)).unwrap();
        Pid::from_raw(text.trim().parse().unwrap())
    };
    let log = || {
        let entries = fs::read_dir(other.join("log")).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect::<Vec<_>>()
    };
    let is_reopened = |pid: Pid| {
        for path in log() {
            fs::rename(&path, path.with_extension("old")).unwrap();
        }
        kill(pid, Signal::SIGHUP).unwrap();
        until("there is a new log", || {
            log()
                .iter()
                .any(|path| fs::read_to_string(path).unwrap().contains("SIGHUP: the log was opened anew"))
        });
    };
    start(&["master", "start", "--bind-address", "127.0.0.1", "--port", "0"]);
    is_reopened(pid_file("master.pid"));
    let stop = |words: &[&str]| rig.program().args(words).arg("--data-dir").arg(&other).output().unwrap();
    assert!(stop(&["master", "stop"]).status.success(), "it lived");

    start(&["agent", "start", "--name", "b", "--master", &rig.address()]);
    is_reopened(pid_file("agent.pid"));
    rig.wait_state("b", "active");
    assert_eq!(rig.on("b", "echo well").out, "well\n");
    assert!(stop(&["agent", "stop"]).status.success());
}
