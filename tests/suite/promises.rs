//! Guarantees when a part dies: the master, the connector, the supervisor, a shim, the spool, or the client.

use std::{fs, process::Stdio};

use crate::rig::{self, TestCluster, numbers, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sloth_runner::{agent::spool::intact_end, domain::offset::OutputOffset, sys::disk::Disk};

/// A command that prints numbers before and after a gate file appears, and what it prints.
fn gated(rig: &TestCluster) -> (String, String) {
    let gate = rig.path("gate");
    let command =
        format!("seq 1 20000; until [ -e {} ]; do sleep 0.05; done; seq 20001 40000; exit 7", gate.display());
    (command, numbers(40_000))
}

/// Waits until the only job, which a client has started, runs.
fn wait_until_it_runs(rig: &TestCluster) {
    until("a job", || rig.run(&["job", "show", "last"]).status == 0);
    rig.wait_task("last", "running");
}

fn assert_complete(rig: &TestCluster, job: &str, expected: &str) {
    let task = rig.wait_task(job, "exited");
    assert_eq!(task["status"], 7, "{task}");
    let printed = rig.run(&["job", "logs", job]);
    assert!(printed.out == expected, "{} of {} bytes", printed.out.len(), expected.len());
}

#[test]
fn a_killed_master_loses_nothing() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    rig.kill_master();
    rig.file("gate", b"");
    rig.start_master(&[]);
    assert_complete(&rig, &job, &expected);
    assert_eq!(rig.on("a", "echo again").out, "again\n");
    assert_eq!(rig.run(&["job", "list"]).status, 0);
}

#[test]
fn a_client_survives_a_killed_master() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let client = rig.program().args(["run", "a", &command]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until_it_runs(&rig);
    rig.kill_master();
    rig.start_master(&[]);
    rig.wait_state("a", "active");
    rig.file("gate", b"");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stdout == expected.as_bytes(), "{} of {}", output.stdout.len(), expected.len());
}

#[test]
fn a_client_can_be_interrupted_while_no_master_runs() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let mut client = rig.program().args(["run", "a", &command]).stdout(Stdio::null()).spawn().unwrap();
    wait_until_it_runs(&rig);
    let listed: serde_json::Value =
        serde_json::from_str(&rig.run(&["job", "list", "-o", "json"]).out).unwrap();
    let job = listed["jobs"][0]["number"].to_string();
    rig.kill_master();
    // The client cannot cancel without a master, whether it has already noticed that the master is away or
    // not.
    let pid = Pid::from_raw(i32::try_from(client.id()).unwrap());
    until("the client leaves", || {
        kill(pid, Signal::SIGINT).unwrap();
        client.try_wait().unwrap().is_some()
    });
    assert_eq!(client.wait().unwrap().code(), Some(130));
    rig.start_master(&[]);
    rig.wait_state("a", "active");
    rig.file("gate", b"");
    assert_complete(&rig, &job, &expected);
}

#[test]
fn a_client_whose_reader_does_not_read_can_be_interrupted() {
    let rig = TestCluster::with_agents(&["a"]);
    let mut client = rig.program().args(["run", "a", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until_it_runs(&rig);
    let pid = Pid::from_raw(i32::try_from(client.id()).unwrap());
    until("the client leaves", || {
        kill(pid, Signal::SIGINT).unwrap();
        client.try_wait().unwrap().is_some()
    });
    assert_eq!(client.wait().unwrap().code(), Some(130));
}

#[test]
fn an_unanswered_cancel_is_sent_again_to_a_restarted_master() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let client = rig.program().args(["run", "a", "sleep 600"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until_it_runs(&rig);
    let master = Pid::from_raw(rig.master_pid());
    // The stopped master accepts the call and never answers it.
    kill(master, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(i32::try_from(client.id()).unwrap()), Signal::SIGTERM).unwrap();
    rig.kill_master();
    rig.start_master(&[]);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    rig.wait_task("last", "cancelled");
}

#[test]
fn a_killed_connector_loses_nothing() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    rig.kill_connector("a");
    until("no contact is shown", || !rig.task(&job)["no_contact_since_ms"].is_null());
    rig.file("gate", b"");
    rig.restart_agent("a");
    assert_complete(&rig, &job, &expected);
}

#[test]
fn a_killed_supervisor_loses_nothing() {
    let rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    let supervisor = rig.pid_in("a", "keeper.lock");
    TestCluster::kill(supervisor);
    until("a new supervisor", || rig.pid_in("a", "keeper.lock") != supervisor);
    assert_eq!(rig.on("a", "echo new supervisor").out, "new supervisor\n");
    rig.file("gate", b"");
    assert_complete(&rig, &job, &expected);
}

#[test]
fn a_command_continues_when_all_daemons_are_killed_at_once() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    rig.kill_master();
    let supervisor = rig.pid_in("a", "keeper.lock");
    rig.kill_connector("a");
    TestCluster::kill(supervisor);
    rig.file("gate", b"");
    rig.restart_agent("a");
    rig.start_master(&[]);
    assert_complete(&rig, &job, &expected);
}

#[test]
fn a_killed_idle_shim_loses_no_task_and_idle_shims_end_with_their_supervisor() {
    let rig = TestCluster::with_agents(&["a"]);
    let supervisor = rig.pid_in("a", "keeper.lock");
    let children = || -> Vec<i32> {
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    // Before the first command there is only the process that holds process ids in reserve.
    until("process ids are held", || children().len() == 1);
    let reserve = children()[0];
    let waiting = || -> Vec<i32> { children().into_iter().filter(|pid| *pid != reserve).collect() };
    assert_eq!(rig.on("a", "echo first").out, "first\n");
    until("processes wait for more", || waiting().len() == 2);
    waiting().into_iter().for_each(TestCluster::kill);
    assert_eq!(rig.on("a", "echo second").out, "second\n");
    until("others wait", || waiting().len() == 2);
    let others = waiting();
    TestCluster::kill(supervisor);
    until("they ended too", || !others.iter().any(|pid| rig::is_alive(*pid)));
}

#[test]
fn a_task_whose_shim_is_killed_is_lost_and_never_started_again() {
    let rig = TestCluster::with_agents(&["a"]);
    let marks = rig.path("marks");
    let sleeps = rig::long();
    let command = format!("echo mark >> {}; sleep {sleeps}; true", marks.display());
    let job = rig.start_detached("a", &command);
    until("it runs", || marks.exists());
    let shell = rig::processes_with(&command);
    let stat = fs::read_to_string(format!("/proc/{}/stat", shell[0])).unwrap();
    let parent: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    TestCluster::kill(parent);
    let task = rig.wait_task(&job, "lost");
    assert!(task["outcome"].to_string().contains("was killed"), "{task}");
    TestCluster::kill_all(rig::processes_with(&sleeps).into_iter().chain(shell));
    assert_eq!(fs::read_to_string(&marks).unwrap(), "mark\n");
}

#[test]
fn a_task_whose_spool_is_wiped_is_lost_and_never_started_again() {
    wipe_the_spool(false);
}

#[test]
fn an_agent_whose_memory_was_removed_takes_commands_again() {
    let rig = TestCluster::with_agents(&["a"]);
    // Idle shims have their directories in what is removed.
    (0..3).for_each(|_| assert_eq!(rig.on("a", "true").status, 0));
    rig.wipe_agent("a");
    until("it takes commands", || {
        let printed = rig.on("a", "echo back");
        assert!(!printed.err.contains("refused"), "{printed:?}");
        printed.out == "back\n"
    });
}

#[test]
fn a_task_whose_spool_is_wiped_is_lost_even_if_the_master_was_restarted() {
    wipe_the_spool(true);
}

/// Wipes the tasks directory of an agent that runs a command, and checks that the command is lost and was
/// started once.
fn wipe_the_spool(master_restarts: bool) {
    let mut rig = TestCluster::with_agents(&["a"]);
    let marks = rig.path("marks");
    let sleeps = rig::long();
    let command = format!("echo mark >> {}; sleep {sleeps}", marks.display());
    let job = rig.start_detached("a", &command);
    until("it runs", || marks.exists());
    let supervisor = rig.pid_in("a", "keeper.lock");
    rig.kill_connector("a");
    TestCluster::kill(supervisor);
    rig.wipe_agent("a");
    if master_restarts {
        rig.kill_master();
        rig.start_master(&[]);
    }
    rig.restart_agent("a");
    let task = rig.wait_task(&job, "lost");
    assert!(task["outcome"].to_string().contains("memory of its tasks was removed"), "{task}");
    assert_eq!(fs::read_to_string(&marks).ok().as_deref(), Some("mark\n"));
    TestCluster::kill_all(rig::processes_with(&sleeps).into_iter().chain(rig::processes_with(&command)));
}

#[test]
fn a_master_restored_from_a_backup_runs_nothing_twice_and_reports_the_restoration() {
    let mut rig = TestCluster::with_agents(&["a"]);
    assert_eq!(rig.on("a", "true").status, 0);
    rig.kill_master();
    let (data, copy) = (rig.master_dir(), rig.path("copy"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap();
    assert!(copied.success());
    rig.start_master(&[]);
    rig.wait_state("a", "active");
    let marks = rig.path("marks");
    let command = format!("echo mark >> {}; exit 4", marks.display());
    assert_eq!(rig.on("a", &command).status, 4);
    rig.kill_master();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&copy, &data).unwrap();
    rig.start_master(&[]);
    rig.wait_state("a", "active");
    let printed = rig.on("a", "true");
    assert_eq!(printed.status, 125);
    assert!(
        printed.err.contains("restored from a backup") && printed.err.contains("--restored"),
        "{printed:?}"
    );
    assert_eq!(fs::read_to_string(&marks).unwrap(), "mark\n");
    rig.kill_master();
    rig.start_master(&["--restored"]);
    rig.wait_state("a", "active");
    assert_eq!(rig.on("a", "echo continues").out, "continues\n");
}

#[test]
fn output_that_the_masters_disk_lost_is_shown_as_a_gap() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let gate = rig.path("gate");
    let command = format!("echo one; until [ -e {} ]; do sleep 0.05; done; echo two", gate.display());
    let job = rig.start_detached("a", &command);
    // In a frame of its own.
    until("the first line is there", || rig.run(&["job", "logs", &job]).out == "one\n");
    fs::write(&gate, "").unwrap();
    until("the second one is there", || rig.run(&["job", "logs", &job]).out == "one\ntwo\n");
    // Until then the agent would send the lost output again.
    let finished = rig.agent_dir("a").join("tasks/finished.log");
    until("the agent has let go of it", || fs::read_to_string(&finished).is_ok_and(|ids| !ids.is_empty()));
    rig.kill_master();
    let job = fs::read_dir(rig.master_dir().join("jobs")).unwrap().next().unwrap().unwrap();
    let log = fs::read_dir(job.path()).unwrap().next().unwrap().unwrap().path();
    let file = fs::File::options().write(true).open(&log).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    rig.start_master(&[]);
    let printed = rig.run(&["job", "logs", "1"]);
    assert_eq!(printed.out, "one\n");
    assert!(printed.err.contains("4 bytes of output are missing at offset 4"), "{printed:?}");
}

#[test]
fn a_command_for_an_offline_agent_waits_for_start_within() {
    let mut rig = TestCluster::with_agents(&["a"]);
    rig.kill_connector("a");
    rig.wait_state("a", "offline");
    let printed = rig.run(&["run", "--start-within", "100ms", "a", "true"]);
    assert_eq!(printed.status, 125);
    assert!(printed.err.contains("undeliverable") && printed.err.contains("offline"), "{printed:?}");
    let job = rig.start_detached("a", "echo late");
    rig.restart_agent("a");
    assert_eq!(rig.wait_task(&job, "exited")["status"], 0);
    assert_eq!(rig.run(&["job", "logs", &job]).out, "late\n");
}

#[test]
fn the_output_cap_keeps_the_beginning_and_the_end_and_shows_the_gap() {
    let rig = TestCluster::with_agents(&["a"]);
    let flood = "seq -w 1 3000000; exit 7";
    let job = rig.run(&["run", "--detach", "--output-cap", "1M", "a", flood]).out.trim().to_owned();
    let task = rig.wait_task(&job, "exited");
    assert_eq!((&task["status"], &task["end_offset"]), (&7.into(), &24_000_000.into()), "{task}");
    let printed = rig.run(&["job", "logs", &job]);
    assert!(printed.err.contains("bytes of output are missing at offset"), "{}", printed.err);
    assert!(printed.out.starts_with("0000001\n0000002\n") && printed.out.ends_with("\n3000000\n"));
    assert!(printed.out.len() < 2 * 1024 * 1024, "{}", printed.out.len());

    let printed = rig.run(&["run", "--output-cap", "1M", "a", flood]);
    assert_eq!((printed.status, printed.out.len()), (7, 24_000_000), "who waits for it gets every byte");
}

#[test]
fn output_over_the_cap_keeps_its_end_when_the_master_restarts() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let gate = rig.path("gate");
    let command =
        format!("seq -w 1 1000000; until [ -e {} ]; do sleep 0.05; done; echo the end", gate.display());
    let job = rig.run(&["run", "--detach", "--output-cap", "1M", "a", &command]).out.trim().to_owned();
    until("it is over the cap", || {
        rig.task(&job)["waiting"].as_str().is_some_and(|text| text.contains("over the cap"))
    });
    rig.kill_master();
    rig.start_master(&[]);
    rig.file("gate", b"");
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["end_offset"], 8_000_008, "{task}");
    let printed = rig.run(&["job", "logs", &job]);
    assert!(printed.out.ends_with("\nthe end\n"), "{}", printed.out.len());
}

#[test]
fn a_restored_master_recovers_the_jobs_that_its_store_lost() {
    let mut rig = TestCluster::with_agents(&["a", "b"]);
    let (command, expected) = gated(&rig);
    assert_eq!(rig.on("a", "true").status, 0);
    rig.kill_master();
    let (data, copy) = (rig.master_dir(), rig.path("copy"));
    assert!(std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap().success());
    rig.start_master(&[]);
    for agent in ["a", "b"] {
        rig.wait_state(agent, "active");
    }
    let job = rig.start_detached("a,b", &command);
    until("both job", || rig.run(&["job", "show", &job]).out.matches("running").count() == 2);
    rig.kill_master();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&copy, &data).unwrap();
    rig.start_master(&[]);
    until("both tasks are back", || rig.run(&["job", "show", &job]).out.matches("running").count() == 2);
    rig.file("gate", b"");
    until("both have ended", || rig.run(&["job", "show", &job]).out.matches("exited 7").count() == 2);
    for agent in ["a", "b"] {
        let printed = rig.run(&["job", "logs", "--agent", agent, "-N", &job]);
        assert!(printed.out == expected, "{agent}: {} of {} bytes", printed.out.len(), expected.len());
        until("the agent has forgotten it", || {
            let mut left = fs::read_dir(rig.agent_dir(agent).join("tasks")).unwrap().flatten();
            left.all(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.starts_with("spare-") || name == "id" || name == "finished.log"
            })
        });
    }
    assert_eq!(rig.on("a", "true").status, 125, "nothing new before --restored");
}

#[test]
fn the_true_outcome_of_a_lost_task_is_recorded_later() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let (command, expected) = gated(&rig);
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    rig.kill_connector("a");
    rig.wait_state("a", "offline");
    assert_eq!(rig.run(&["agent", "delete", "a"]).status, 0);
    rig.wait_task(&job, "lost");
    rig.file("gate", b"");
    rig.start_agent("a", &[]);
    until("the facts are known", || rig.run(&["job", "show", &job]).out.contains("later that it exited 7"));
    let task = rig.task(&job);
    assert_eq!(task["state"], "lost", "an outcome is final: {task}");
    assert_eq!(rig.run(&["job", "logs", &job]).out, expected);
}

#[test]
fn a_background_child_that_floods_does_not_delay_the_end() {
    let rig = TestCluster::with_agents(&["a"]);
    let flood = format!("flood{}", rig::long());
    let job = rig.start_detached("a", &format!("echo own; yes {flood} & exit 3"));
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["status"], 3, "{task}");
    assert!(rig.run(&["job", "logs", &job]).out.contains("own\n"));
    TestCluster::kill_all(rig::processes_with(&flood));
}

#[test]
fn the_last_output_of_a_command_is_read_however_long_the_agent_must_wait() {
    let rig = TestCluster::with_agents(&["a"]);
    let (gate, full) = (rig.path("gate"), rig.path("full"));
    let (printed, lingered) = (rig.path("printed"), rig.path("lingered"));
    // As much as an agent keeps while the master accepts nothing, and then what fits into a pipe.
    let (kept, more) = (32 * 1024 * 1024, 40 * 1024);
    let sleeps = rig::long();
    let command = format!(
        "wait_for() {{ while [ ! -e $1 ]; do sleep 0.05; done; }}; echo; \
         wait_for {}; head -c {kept} /dev/zero; wait_for {}; head -c {more} /dev/zero; \
         {{ sleep 3; echo > {}; sleep {sleeps}; }} & echo > {}; exit 3",
        gate.display(),
        full.display(),
        lingered.display(),
        printed.display()
    );
    let job = rig.start_detached("a", &command);
    // The agent has learned that its output is read. If nobody reads, it keeps more.
    until("it has begun to print", || rig.run(&["job", "logs", &job]).out == "\n");
    for _ in 0..5 {
        // When these have ended, the agent has also received what the master sent before.
        assert_eq!(rig.on("a", "echo").status, 0);
    }
    let master = Pid::from_raw(rig.master_pid());
    kill(master, Signal::SIGSTOP).unwrap();
    rig.file("gate", b"");
    let spooled = |task: &fs::DirEntry| intact_end(&Disk::default(), &task.path().join("spool"));
    until("the agent keeps all that it may", || {
        let mut tasks = fs::read_dir(rig.path("agent-a").join("tasks")).unwrap().flatten();
        tasks.any(|task| spooled(&task).is_ok_and(|end| end == OutputOffset(kept + 1)))
    });
    rig.file("full", b"");
    until("the rest is in the pipe", || printed.exists());
    // If another process has the output open, the end is reported two seconds after the command's, and not
    // before all output is read.
    until("what it left behind has run for longer than that", || lingered.exists());
    kill(master, Signal::SIGCONT).unwrap();
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["status"], 3, "{task}");
    assert_eq!(rig.run(&["job", "logs", &job]).out.len() as u64, kept + 1 + more);
    TestCluster::kill_all(rig::processes_with(&sleeps));
}

#[test]
fn an_agent_that_was_frozen_starts_nothing_late_or_after_a_cancel() {
    let rig = TestCluster::with_agents(&["a"]);
    let marks = rig.path("marks");
    let connector = Pid::from_raw(rig.pid_in("a", "agent.pid"));
    kill(connector, Signal::SIGSTOP).unwrap();
    let command = format!("echo mark >> {}", marks.display());
    let start = |within: &str| {
        let printed = rig.run(&["run", "--detach", "--start-within", within, "a", &command]);
        assert_eq!(printed.status, 0, "{printed:?}");
        printed.out.trim().to_owned()
    };
    let (late, cancelled) = (start("1s"), start("1h"));
    // Both are on their way to an agent that does not read them. The cancel is answered when the task cannot
    // start any more.
    let answered = rig.run(&["job", "cancel", &cancelled]);
    assert_eq!(answered.status, 0, "{answered:?}");
    kill(connector, Signal::SIGCONT).unwrap();
    let late = rig.wait_task(&late, "undeliverable");
    assert!(late["outcome"].to_string().contains("start"), "{late}");
    rig.wait_task(&cancelled, "cancelled");
    assert_eq!(rig.on("a", "true").status, 0, "the agent is well");
    assert!(!marks.exists(), "nothing was started");
}

#[test]
fn an_agent_recreates_its_removed_directory_and_continues() {
    let mut rig = TestCluster::with_agents(&["a"]);
    assert_eq!(rig.on("a", "echo before").out, "before\n");
    let supervisor = rig.pid_in("a", "keeper.lock");
    rig.wipe(&rig.agent_dir("a"));
    // No command has to run for that.
    until("there is another one", || {
        let dir = rig.agent_dir("a");
        dir.join("tasks/id").exists() && dir.join("identity/agent.der").exists()
    });
    rig.wait_state("a", "active");
    until("it is connected again and runs commands", || rig.on("a", "echo after").out == "after\n");
    rig.kill_connector("a");
    TestCluster::kill(supervisor);
    rig.restart_agent("a");
    rig.wait_state("a", "active");
    assert_eq!(rig.on("a", "echo again").out, "again\n");
}
