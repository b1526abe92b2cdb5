//! The main use cases with real processes: bytes, statuses, cancelling, environment, links, and bad input.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
};

use crate::rig::{TestCluster, long, numbers, processes_with, until};

#[test]
fn output_and_status_are_those_of_the_command() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let printed = rig.on("web-1", "echo out; echo err >&2; exit 3");
    assert_eq!((printed.status, printed.out.as_str()), (3, "out\n"));
    assert!(printed.err.starts_with("err\n✗ web-1 exited 3 in "), "{printed:?}");

    let printed = rig.on("web-1", "kill -9 $$");
    assert_eq!(printed.status, 137);

    let printed = rig.on("web-*", "echo $SLOTH_AGENT");
    let mut lines: Vec<&str> = printed.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web-1: web-1", "web-2: web-2"], "any expression prints whole lines");
    assert_eq!(rig.on("web-[", "true").status, 2);
    let printed = rig.run(&["agent", "run", "-N", "web-2,", "echo x"]);
    assert_eq!(printed.status, 2, "an empty part is a typing error");

    let printed = rig.run(&["agent", "exec", "web-1", "printf", "%s|", "a b", "$HOME", "it's"]);
    assert_eq!(printed.out, "a b|$HOME|it's|", "several words arrive as they are");
    assert_eq!(rig.on("web-1,web-2", "[ $SLOTH_AGENT = web-1 ] || exit 7").status, 7);
}

#[test]
fn agent_list_previews_the_targets_of_run() {
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3", "db-1"]);
    let printed = rig.run(&["agent", "label", "web-[1-3]", "role=web"]);
    assert_eq!(printed.out, "labels of 3 agents are set: web-[1-3]\n", "{printed:?}");
    let preview = rig.run(&["agent", "list", "@role:web!web-3,db-1"]);
    assert!(preview.out.ends_with("3 agents: db-1,web-[1-2]\n"), "{preview:?}");
    let printed =
        rig.run(&["run", "--limit", "1", "--seed", "4", "-l", "role=web", "-x", "web-2", "@all", "true"]);
    assert_eq!(printed.status, 0, "{printed:?}");
    let sample = rig.run(&["list", "--limit", "1", "--seed", "4", "-l", "role=web", "-x", "web-2"]);
    let ran = rig.task("last")["agent"].as_str().unwrap().to_owned();
    assert!(sample.out.ends_with(&format!("1 agent: {ran}\n")), "{sample:?}");

    let printed = rig.on("web-1,web[1-5", "true");
    assert_eq!(printed.status, 2);
    assert!(printed.err.contains("  web-1,web[1-5\n           ^"), "{printed:?}");
    let printed = rig.on("web-[1-9]", "true");
    assert_eq!(printed.status, 125);
    assert!(printed.err.contains("no such agents: web-[4-9]"), "{printed:?}");
    let details = rig.run(&["agent", "get", "web-1"]);
    assert!(details.out.contains("role=web (set here)"), "{details:?}");
}

#[test]
fn every_byte_of_large_and_binary_output_arrives() {
    let rig = TestCluster::with_agents(&["a"]);
    let random: Vec<u8> = (0..40_000_000u64)
        .map(|n| u8::try_from((n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) & 0xff).unwrap())
        .collect();
    let all_values: Vec<u8> = (0..=255).collect();
    let one_line = vec![b'x'; 30_000_000];
    for (name, bytes) in [("random", random), ("values", all_values), ("line", one_line)] {
        let path = rig.file(name, &bytes);
        let output = rig.program().args(["run", "a", "cat"]).arg(&path).output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == bytes, "{name}: {} of {} bytes", output.stdout.len(), bytes.len());
        let logs = rig.program().args(["job", "logs", "last"]).output().unwrap();
        assert!(logs.stdout == bytes, "{name} in the log");
    }
    let from = rig.run(&["job", "logs", "last", "--agent", "a", "--from", "29999990"]);
    assert_eq!(from.out, "x".repeat(10), "any offset");
}

#[test]
fn short_commands_lose_nothing() {
    let rig = TestCluster::with_agents(&["a"]);
    let numbers = numbers(2000);
    for _ in 0..60 {
        assert_eq!(rig.on("a", "echo hello").out, "hello\n");
        assert_eq!(rig.on("a", "seq 1 2000").out, numbers);
    }
}

#[test]
fn a_command_has_a_clean_environment() {
    let rig = TestCluster::with_agents(&["a"]);
    let printed = rig.on("a", "env | cut -d= -f1 | sort | tr '\\n' ' '; umask; wc -c");
    assert!(!printed.out.contains("TOKEN") && !printed.out.contains("SLOTH_RUNNER"), "{}", printed.out);
    for name in ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "SLOTH_JOB_ID", "SLOTH_TASK_ID", "USER"] {
        assert!(printed.out.contains(name), "{name} in {}", printed.out);
    }
    assert!(printed.out.ends_with("0022\n0\n"), "umask and an empty stdin: {}", printed.out);
    let printed = rig.run(&["run", "-e", "X=a b", "--cwd", "/usr", "a", "echo \"$X\"; pwd"]);
    assert_eq!(printed.out, "a b\n/usr\n");
}

#[test]
fn a_command_inherits_no_descriptors_of_the_agents_parent() {
    let mut rig = TestCluster::new();
    let token = rig.token();
    // A shell that leaves two descriptors open for the agent.
    let mut shell = std::process::Command::new("bash");
    let agent = rig.agent_command("a", &[]);
    let words = agent.get_args().map(|word| format!("'{}'", word.display()));
    let line = format!(
        "exec 7</etc/passwd 9>&2; exec '{}' {}",
        agent.get_program().display(),
        words.collect::<Vec<_>>().join(" ")
    );
    shell.args(["-c", &line]).env("SLOTH_RUNNER_TOKEN", token).stdin(Stdio::null()).stdout(Stdio::null());
    rig.adopt("a", shell.stderr(Stdio::null()).spawn().unwrap());
    rig.wait_state("a", "active");
    // Checked one by one, since a program that lists them opens more of them.
    let open = "for n in {0..99}; do [ ! -e /proc/$$/fd/$n ] || printf '%s ' $n; done";
    assert_eq!(rig.on("a", open).out, "0 1 2 ", "and nothing of the supervisor's own");
}

#[test]
fn cancelling_ends_all_processes_and_reports_their_count() {
    let rig = TestCluster::with_agents(&["a"]);
    let (one, two) = (&long(), &long());
    let mut client = rig
        .program()
        .args(["run", "a", &format!("sleep {one} & (setsid sleep {two} &) ; wait")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("both sleep", || !processes_with(one).is_empty() && !processes_with(two).is_empty());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(client.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let mut said = String::new();
    client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(said.contains("3 processes ended, 0 left"), "{said}");
    assert!(processes_with(one).is_empty() && processes_with(two).is_empty());
}

#[test]
fn timeouts_end_the_tree_and_background_children_live_on() {
    let rig = TestCluster::with_agents(&["a"]);
    let sleeps = long();
    let printed = rig.run(&["run", "--timeout", "300ms", "a", &format!("sleep {sleeps} & sleep {sleeps}")]);
    assert_eq!(printed.status, 124);
    assert!(printed.err.contains("timed out, 3 processes ended, 0 left"), "{}", printed.err);
    let in_time = rig.run(&["run", "--timeout", "1h", "a", "sleep 0.1; exit 5"]);
    assert_eq!(in_time.status, 5, "{}", in_time.err);

    let sleeps = long();
    let printed = rig.run(&["run", "-o", "json", "a", &format!("sleep {sleeps} & echo started")]);
    let job: serde_json::Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(job["tasks"][0]["stdout"], "started\n");
    assert_eq!(job["tasks"][0]["outcome"]["background"], 1);
    assert_eq!(printed.status, 0);
    let sleeping = processes_with(&sleeps);
    assert_eq!(sleeping.len(), 1, "a background child lives on");
    TestCluster::kill(sleeping[0]);
}

#[test]
fn a_signal_of_any_kind_ends_a_command() {
    let rig = TestCluster::with_agents(&["a"]);
    for (signal, status) in [(9, 137), (34, 162), (64, 192)] {
        assert_eq!(rig.on("a", &format!("kill -{signal} $$")).status, status);
        // A signal to another process than the command itself does not end it.
        let printed = rig
            .on("a", &format!("(kill -{signal} $BASHPID) & wait; sh -c 'kill -{signal} $$' & wait; exit 3"));
        assert_eq!(printed.status, 3, "{}", printed.err);
    }
}

#[test]
fn a_client_can_detach_and_attach_again_at_an_offset() {
    let rig = TestCluster::with_agents(&["a"]);
    let gate = rig.path("gate");
    let command = format!("echo one; until [ -e {} ]; do sleep 0.05; done; echo two", gate.display());
    let mut client = rig.program().args(["run", "a", &command]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    rig.wait_task("last", "running");
    let attached =
        rig.program().args(["job", "attach", "last", "--from", "4"]).stdout(Stdio::piped()).spawn();
    rig.file("gate", b"");
    let output = attached.unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "two\n", "it continues at the next byte");
    assert_eq!(rig.run(&["job", "logs", "last"]).out, "one\ntwo\n");
}

#[test]
fn a_closed_pipe_cancels_a_job_on_one_agent() {
    let rig = TestCluster::with_agents(&["a"]);
    let mut client = rig.program().args(["run", "a", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 100];
    client.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(141));
    assert_eq!(rig.wait_task("last", "cancelled")["state"], "cancelled");
}

#[test]
fn a_pipe_that_closes_when_the_command_has_ended_changes_nothing() {
    let rig = TestCluster::with_agents(&["a"]);
    // Much more than fits into a pipe, and less than the command may be ahead of its reader.
    let mut client = rig
        .program()
        .args(["run", "a", "seq 1 400000; exit 3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the job is known", || rig.task_if_known("last").is_ok());
    rig.wait_task("last", "exited");
    drop(client.stdout.take());
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("not running"), "{output:?}");
    assert_eq!(rig.wait_task("last", "exited")["status"], 3);
}

#[test]
fn a_start_request_without_an_answer_starts_the_job_once() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let marks = rig.path("marks");
    let master = nix::unistd::Pid::from_raw(rig.master_pid());
    nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let client = rig
        .program()
        .args(["run", "a", &format!("echo mark | tee -a {}", marks.display())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = format!("/proc/{}/io", client.id());
    until("the client has sent something", || {
        let written = std::fs::read_to_string(&written).unwrap_or_default();
        written.lines().any(|line| line.strip_prefix("wchar: ").is_some_and(|bytes| bytes != "0"))
    });
    rig.kill_master();
    rig.start_master(&[]);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"mark\n", "{output:?}");
    assert_eq!(std::fs::read_to_string(&marks).unwrap(), "mark\n");
}

#[test]
fn the_list_shows_each_agents_link_and_why() {
    let mut rig = TestCluster::with_agents(&["plain"]);
    assert_eq!(rig.agent("plain").unwrap()["link"], "tunnel");
    let port = free_port();
    rig.start_agent("direct", &["--port", &port.to_string(), "--bind-address", "127.0.0.1"]);
    until("a direct link", || rig.agent("direct").is_some_and(|agent| agent["link"] == "direct"));
    let report = format!("127.0.0.1:{}", free_port());
    let other = free_port().to_string();
    rig.start_agent("wrong", &["--port", &other, "--bind-address", "127.0.0.1", "--report-address", &report]);
    until("a diagnosis", || {
        let said = rig.agent("wrong").map(|agent| agent["link_reason"].to_string()).unwrap_or_default();
        said.contains(&report) && said.contains("refused") && said.contains("using the tunnel")
    });
    assert_eq!(rig.on("plain,direct,wrong", "true").status, 0);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Forwards connections to a port, until the sender that it returns cuts them.
fn forwarder(to: u16) -> (u16, std::sync::mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cut, told) = std::sync::mpsc::channel::<()>();
    let connections = std::sync::Arc::new(std::sync::Mutex::new(Vec::<TcpStream>::new()));
    let all = std::sync::Arc::clone(&connections);
    let stopped = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_stopped = std::sync::Arc::clone(&stopped);
    thread::spawn(move || {
        for incoming in listener.incoming().flatten() {
            if is_stopped.load(std::sync::atomic::Ordering::SeqCst) {
                return;
            }
            let Ok(outgoing) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            for (mut from, mut into) in [
                (incoming.try_clone().unwrap(), outgoing.try_clone().unwrap()),
                (outgoing.try_clone().unwrap(), incoming.try_clone().unwrap()),
            ] {
                thread::spawn(move || std::io::copy(&mut from, &mut into));
            }
            all.lock().unwrap().extend([incoming, outgoing]);
        }
    });
    thread::spawn(move || {
        let _ = told.recv();
        stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        for connection in connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    });
    (port, cut)
}

#[test]
fn a_job_survives_the_end_of_its_direct_link() {
    let mut rig = TestCluster::new();
    let port = free_port();
    let (reported, cut) = forwarder(port);
    let flags = ["--port", &port.to_string(), "--bind-address", "127.0.0.1"];
    let report = format!("127.0.0.1:{reported}");
    rig.start_agent("box", &[&flags[..], &["--report-address", &report]].concat());
    until("a direct link", || rig.agent("box").is_some_and(|agent| agent["link"] == "direct"));
    let gate = rig.path("gate");
    let command = format!("seq 1 500; until [ -e {} ]; do sleep 0.05; done; seq 501 1000", gate.display());
    let job = rig.start_detached("box", &command);
    rig.wait_task(&job, "running");
    cut.send(()).unwrap();
    until("the tunnel", || rig.agent("box").is_some_and(|agent| agent["link"] == "tunnel"));
    rig.file("gate", b"");
    rig.wait_task(&job, "exited");
    assert_eq!(rig.run(&["job", "logs", &job]).out, numbers(1000));
}

#[test]
fn eight_floods_starve_neither_another_task_nor_the_session() {
    let rig = TestCluster::with_agents(&["a"]);
    let floods: Vec<_> = (0..8).map(|_| rig.start_detached("a", "exec yes")).collect();
    for flood in &floods {
        rig.wait_task(flood, "running");
    }
    for _ in 0..5 {
        assert_eq!(rig.on("a", "echo quick").out, "quick\n");
        assert_eq!(rig.agent("a").unwrap()["state"], "active");
    }
    for flood in &floods {
        assert_eq!(rig.task(flood)["outcome"], serde_json::Value::Null, "all of them flood still");
        rig.run(&["job", "cancel", flood]);
        until("the flood has ended", || rig.task(flood)["outcome"] != serde_json::Value::Null);
    }
}

#[test]
fn bad_input_gets_a_clear_answer_and_the_right_status() {
    let rig = TestCluster::with_agents(&["web-1"]);
    let long = "x".repeat(120_000);
    let table: [(&[&str], i32, &str); 13] = [
        (&["run", "wbe-1", "true"], 125, "did you mean web-1?"),
        (&["run", "db-*", "true"], 125, "no agent matches db-*"),
        (&["run", "--cwd", "/no/such", "web-1", "true"], 125, "cannot run in /no/such on web-1"),
        (&["run", "web-1", "no-such-command"], 127, "command not found"),
        (&[&["run", "web-1"][..], &[long.as_str(); 9]].concat(), 2, "at most 1 MiB is taken"),
        (&["run", "web-1"], 2, "COMMAND"),
        (&["run", "-e", "X", "web-1", "true"], 2, "NAME=VALUE"),
        (&["run", "a b", "true"], 2, "cannot be an agent's name"),
        (&["agent", "get", "web-2"], 1, "did you mean web-1?"),
        (&["agent", "approve", "web-9"], 1, "no key waits"),
        (&["agent", "delete", "web-9"], 1, "no such agent: web-9"),
        (&["job", "show", "99"], 1, "no such job: 99"),
        (
            &["run", "--master", "unix:/no/such.sock", "web-1", "true"],
            125,
            "no master answers on /no/such.sock",
        ),
    ];
    for (arguments, status, text) in table {
        let printed = rig.run(arguments);
        assert_eq!(printed.status, status, "{arguments:.60?} {printed:?}");
        assert!(printed.err.contains(text), "{arguments:.60?} {printed:?}");
        assert!(!printed.err.contains("Status {") && !printed.err.contains("panicked"), "{printed:?}");
    }
    let odd = std::os::unix::ffi::OsStrExt::as_bytes(std::ffi::OsStr::new("printf '"));
    let command = [odd, b"\xff\xfe'"].concat();
    let command: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&command);
    let output = rig.program().args(["run", "web-1"]).arg(command).output().unwrap();
    assert_eq!(output.stdout, b"\xff\xfe", "a command that is no UTF-8 runs as it is");
}

#[test]
fn daemons_report_why_they_cannot_start() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let second = rig
        .program()
        .args(["master", "--port", "0", "--daemon", "--data-dir"])
        .arg(rig.master_dir())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("a master already runs on"));
    let other = rig.path("other");
    let used = rig.port().to_string();
    let taken = rig
        .program()
        .args(["master", "--bind-address", "127.0.0.1", "--port", &used, "--daemon", "--data-dir"])
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(1));
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(said.contains("cannot listen on") && said.contains("in use"), "{said}");

    let relative = rig
        .program()
        .args(["master", "--port", "0", "--daemon", "--data-dir", "here"])
        .current_dir(rig.path(""))
        .output();
    assert!(relative.unwrap().status.success() && rig.path("here/sloth-runner.db").exists());
    let stop =
        rig.program().args(["master", "stop", "--data-dir", "here"]).current_dir(rig.path("")).status();
    assert!(stop.unwrap().success());

    let agent = rig.agent_command("a", &["--daemon"]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(agent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&agent.stderr).contains("an agent already runs on"));

    let daemon = rig.agent_command("b", &["--daemon"]).stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&daemon.stdout).into_owned();
    assert_eq!(daemon.status.code(), Some(0));
    assert!(said.contains("b is pending") && said.contains("agent approve b "), "{said}");
    let code = said.split_whitespace().last().unwrap().to_owned();
    let approved = rig.run(&["agent", "approve", "b", &code]);
    assert_eq!(approved.status, 0, "{approved:?}");
    rig.wait_state("b", "active");
    assert_eq!(rig.on("b", "echo hello").out, "hello\n");
    let stop = rig.program().args(["agent", "stop", "--data-dir"]).arg(rig.agent_dir("b")).output().unwrap();
    assert!(stop.status.success());
    rig.wait_state("b", "offline");
    let printed = rig.run(&["agent", "stop", "a"]);
    assert_eq!(printed.status, 0, "{printed:?}");
    rig.wait_state("a", "offline");
    rig.restart_agent("a");
    rig.wait_state("a", "active");
}

#[test]
fn garbage_on_the_port_does_not_affect_agents() {
    let rig = TestCluster::with_agents(&["a"]);
    for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 100], &[0x16, 3, 1, 255, 255, 0, 0]] {
        let mut connection = TcpStream::connect(("127.0.0.1", rig.port())).unwrap();
        let _ = connection.write_all(bytes);
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
    }
    let silent: Vec<_> =
        (0..1_000).filter_map(|_| TcpStream::connect(("127.0.0.1", rig.port())).ok()).collect();
    assert_eq!(rig.on("a", "echo hello").out, "hello\n");
    let resident = rig.master_resident();
    assert!(resident < 128 << 20, "the master holds {resident} bytes");
    drop(silent);
    assert_eq!(rig.agent("a").unwrap()["state"], "active");
}

#[test]
fn metrics_are_served_only_with_the_metrics_flag() {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (masters, agents) = (free(), free());
    let mut rig = TestCluster::with_master(&["--metrics", &masters.to_string()]);
    rig.start_agent("a", &["--metrics", &format!("127.0.0.1:{agents}")]);
    rig.wait_state("a", "active");
    let get = |port: u16, path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let of_master = get(masters, "/metrics");
    assert!(of_master.starts_with("HTTP/1.1 200") && of_master.contains("openmetrics-text"), "{of_master}");
    for line in
        ["sloth_runner_agents{state=\"active\"} 1", "sloth_runner_jobs_active 0", "sloth_runner_takes_jobs 1"]
    {
        assert!(of_master.contains(line), "{line}\n{of_master}");
    }
    assert!(of_master.trim_end().ends_with("# EOF"), "{of_master}");
    let job = rig.start_detached("a", "sleep 600");
    rig.wait_task(&job, "running");
    let of_agent = get(agents, "/metrics");
    for line in ["sloth_runner_agent_connected 1", "sloth_runner_agent_tasks_running 1"] {
        assert!(of_agent.contains(line), "{line}\n{of_agent}");
    }
    assert!(get(agents, "/").starts_with("HTTP/1.1 404"));
}
