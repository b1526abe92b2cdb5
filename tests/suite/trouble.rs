//! Machines with problems: ports in use, and descriptors and process ids that run out. Full disks are in
//! `disks`.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::rig::{TestCluster, is_alive, until};

#[test]
fn an_agent_runs_without_its_ports_and_listens_when_they_are_free() {
    let mut rig = TestCluster::new();
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
        rig.agent("a").is_some_and(|agent| !agent["hint"].to_string().contains("cannot "))
    });

    // An address that this machine does not have, with `--daemon`, which reports the problem.
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
fn a_master_without_free_descriptors_answers_operators_and_logs_it() {
    let rig = TestCluster::with_agents(&["a"]);
    assert_eq!(rig.on("a", "true").status, 0);
    // Some descriptors are free, and the connections below need all of them.
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
fn commands_keep_the_descriptor_limit_with_which_their_agent_was_started() {
    let mut rig = TestCluster::new();
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

#[test]
fn an_agent_whose_descriptors_run_out_runs_commands_and_reports_it() {
    let rig = TestCluster::with_agents(&["a"]);
    let pid = rig.pid_in("a", "agent.pid");
    limit_files(pid, open_files(pid) + 12);
    until("the list says so", || {
        rig.agent("a").is_some_and(|agent| agent["hint"] == "nearly all of its descriptors are in use")
    });
    for _ in 0..10 {
        assert_eq!(rig.on("a", "echo works").out, "works\n");
    }
}

/// A cgroup with a limit on process ids, until it is dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        for hierarchy in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let path = Path::new(hierarchy).join(format!("sloth-runner-test-{}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                let group = Self(path);
                if group.0.join("pids.max").exists() {
                    return Some(group);
                }
            }
        }
        println!("skipped: no group of processes can be limited here; run the tests as root");
        None
    }

    fn take(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn count(&self) -> u64 {
        fs::read_to_string(self.0.join("pids.current")).unwrap().trim().parse().unwrap()
    }

    fn limit(&self, ids: &str) {
        fs::write(self.0.join("pids.max"), ids).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that are still in it are about to end.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn an_agent_without_a_master_and_free_process_ids_can_be_ended() {
    let Some(group) = Group::new() else { return };
    let mut rig = TestCluster::with_agents(&["a"]);
    assert_eq!(rig.on("a", "echo here").out, "here\n");
    let (connector, supervisor) = (rig.pid_in("a", "agent.pid"), rig.pid_in("a", "keeper.lock"));
    rig.kill_master();
    group.take(connector);
    // A runtime gives up idle threads after ten seconds by default. An agent without a master uses one five
    // seconds after its start, and then once a minute.
    std::thread::sleep(Duration::from_secs(16));
    group.limit(&group.count().to_string());
    rig.end_connector("a");
    assert!(is_alive(supervisor), "only the connector was told to end");
    group.limit("max");
}

#[test]
fn an_agent_without_free_process_ids_runs_commands_in_its_reserve() {
    let Some(group) = Group::new() else { return };
    let rig = TestCluster::with_agents(&["a"]);
    // All processes of the agent: its connector, its supervisor, and the supervisor's children.
    let supervisor = rig.pid_in("a", "keeper.lock");
    let children = || {
        let text = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
    };
    until("the reserve is there", || {
        children()
            .iter()
            .any(|pid| fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|all| all.count() == 8))
    });
    for pid in [rig.pid_in("a", "agent.pid"), supervisor].into_iter().chain(children()) {
        group.take(pid);
    }
    group.limit(&group.count().to_string());
    let printed = rig.on("a", "echo here; ls / | head -1; exit 3");
    assert_eq!((printed.status, printed.out.lines().next()), (3, Some("here")), "{printed:?}");
    assert_eq!(printed.out.lines().count(), 2, "the shell started others: {printed:?}");
    until("the list says so", || {
        rig.agent("a").is_some_and(|agent| agent["hint"].to_string().contains("no further process"))
    });
    group.limit("max");
    assert_eq!(rig.on("a", "echo again").out, "again\n");
    drop(rig);
}
