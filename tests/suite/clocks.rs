//! Masters and agents with wrong clocks: no task gets more time to start than was requested, and commands
//! run.

use crate::rig::{TestCluster, unix_seconds, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const DAY: i64 = 86_400;

#[test]
fn a_master_that_restarts_with_a_clock_set_back_extends_no_deadline() {
    let mut rig = TestCluster::with_agents(&["a", "b"]);
    rig.kill_connector("b");
    let started = rig.path("started");
    let connector = Pid::from_raw(rig.pid_in("a", "agent.pid"));
    kill(connector, Signal::SIGSTOP).unwrap();
    let command = format!("echo started >> {}", started.display());
    let late = rig.run(&["agent", "run", "--detach", "--start-within", "2s", "a", &command]);
    let late = late.out.trim().to_owned();
    rig.wait_task(&late, "dispatched");

    rig.kill_master();
    let clock = rig.compile_preloaded("other_clock.c");
    rig.master_env = vec![("LD_PRELOAD", clock), ("SLOTH_CLOCK_SECONDS", (-DAY).to_string().into())];
    rig.start_master(&[]);
    // When this task, whose agent is offline, has expired, the time of the first one is over too.
    let other = rig.run(&["agent", "run", "--detach", "--start-within", "3s", "b", "true"]);
    rig.wait_task(other.out.trim(), "undeliverable");
    let shown = rig.run(&["job", "show", other.out.trim(), "-o", "json"]).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let created = shown["created_ms"].as_i64().unwrap_or_else(|| panic!("{shown}")) / 1000;
    assert!(created < unix_seconds() - DAY / 2, "the master's clock is another one: {created}");
    kill(connector, Signal::SIGCONT).unwrap();
    rig.wait_task(&late, "undeliverable");
    rig.wait_state("a", "active");
    assert_eq!(rig.on("a", "echo on time").out, "on time\n");
    assert!(!started.exists(), "it was started after its deadline");
}

#[test]
fn an_agent_whose_clock_is_wrong_runs_commands_in_time() {
    let mut rig = TestCluster::new();
    let clock = rig.compile_preloaded("other_clock.c");
    for (name, seconds) in [("behind", -DAY), ("ahead", DAY)] {
        let agent = rig
            .agent_command(name, &[])
            .env("SLOTH_RUNNER_TOKEN", rig.token())
            .env("LD_PRELOAD", &clock)
            .env("SLOTH_CLOCK_SECONDS", seconds.to_string())
            .spawn()
            .unwrap();
        rig.adopt(name, agent);
        rig.wait_state(name, "active");
        let before = unix_seconds();
        let job = rig.run(&["agent", "run", "--detach", "--start-within", "5s", name, "exit 3"]);
        let job = job.out.trim().to_owned();
        let task = rig.wait_task(&job, "exited");
        assert_eq!(task["status"], 3, "{task}");
        let day = format!("\"day\":{}", (unix_seconds() + seconds) / DAY);
        let finished = rig.agent_dir(name).join("tasks/finished.log");
        let has_day = || std::fs::read_to_string(&finished).is_ok_and(|text| text.contains(&day));
        until("the agent remembers the task by its own clock", has_day);
        let shown = rig.run(&["job", "show", &job, "-o", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        let ended = shown["ended_ms"].as_i64().unwrap_or_else(|| panic!("{shown}"));
        assert!(
            (before - 1..=unix_seconds() + 1).contains(&(ended / 1000)),
            "by the master's clock: {shown}"
        );
    }
}
