//! A master and agents as real processes in a temporary directory, for end-to-end tests.

pub(crate) mod screen;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a test waits for anything. Generous, since the machines are small and busy.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until a condition holds. It polls, since other processes send no notification.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_until_found(what, || if condition() { Ok(()) } else { Err("") });
}

/// Waits until something is found, and returns it. Panics with the last other result when that takes too
/// long.
pub(crate) fn wait_until_found<T, E: std::fmt::Debug>(
    what: &str,
    mut find: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match find() {
            Ok(found) => return found,
            Err(other) => assert!(Instant::now() < deadline, "timed out: {what}; last result: {other:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns a command that ignores no signals even if the tests do, as in the background of a script: the
/// program leaves ignored signals ignored.
pub(crate) fn with_default_signals(program: &str) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    // A bit for each of HUP, INT, QUIT and TERM, from signal 1 on.
    if u64::from_str_radix(ignored, 16).unwrap() & 0x4007 == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT,TERM", program]);
    command
}

/// Returns what `seq 1 LAST` prints.
pub(crate) fn numbers(last: u32) -> String {
    (1..=last).map(|n| n.to_string() + "\n").collect()
}

/// A fleet of one master and any number of agents.
pub(crate) struct TestCluster {
    dir: tempfile::TempDir,
    master: Option<Child>,
    port: u16,
    agents: Vec<(String, Child)>,
    /// Processes with many agents.
    fleets: Vec<Child>,
    /// Variables for the environment of masters that start from now on.
    pub master_env: Vec<(&'static str, PathBuf)>,
}

/// What a command printed, as text.
#[derive(Debug)]
pub(crate) struct Printed {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Printed {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl TestCluster {
    /// A master without agents.
    pub(crate) fn new() -> Self {
        Self::with_master(&[])
    }

    /// A master with further flags.
    pub(crate) fn with_master(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Self {
            dir,
            master: None,
            port: 0,
            agents: Vec::new(),
            fleets: Vec::new(),
            master_env: Vec::new(),
        };
        rig.start_master(flags);
        rig
    }

    /// A master and active agents.
    pub(crate) fn with_agents(names: &[&str]) -> Self {
        let mut rig = Self::new();
        for name in names {
            rig.start_agent(name, &[]);
        }
        for name in names {
            rig.wait_state(name, "active");
        }
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn master_dir(&self) -> PathBuf {
        self.path("master")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket(&self) -> String {
        format!("unix:{}", self.master_dir().join("master.sock").display())
    }

    pub(crate) fn log(&self, name: &str) -> Stdio {
        let file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.into()
    }

    /// Returns a command for this program, in whose environment no real master or agent of this machine is
    /// found.
    pub(crate) fn program(&self) -> Command {
        let mut command = with_default_signals(env!("CARGO_BIN_EXE_sloth-runner"));
        command.env("SLOTH_RUNNER_MASTER", self.socket()).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command.env("SLOTH_RUNNER_CONFIG", "").env("LC_ALL", "C.UTF-8");
        command.env("XDG_DATA_HOME", self.path("home"));
        // The fill level of this machine's disk must not decide a test. Tests of full disks pass a flag.
        command.env("SLOTH_RUNNER_MASTER_DISK_CAP", "100");
        command
    }

    /// Starts the master, on the same port if it ran before.
    pub(crate) fn start_master(&mut self, flags: &[&str]) {
        let child = self
            .program()
            .envs(self.master_env.iter().cloned())
            .args(["master", "start", "--bind-address", "127.0.0.1"])
            .args(["--port", &self.port.to_string()])
            .arg("--data-dir")
            .arg(self.master_dir())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(self.log("master.log"))
            .spawn()
            .unwrap();
        self.master = Some(child);
        until("the master serves", || {
            let printed = self.run(&["master", "status", "-o", "json"]);
            let status: Option<Value> = serde_json::from_str(&printed.out).ok();
            let address = status.and_then(|status| Some(status["address"].as_str()?.to_owned()));
            if let Some(port) = address.and_then(|address| address.rsplit(':').next()?.parse().ok()) {
                self.port = port;
            }
            self.port != 0 && printed.status == 0
        });
    }

    /// The master's process id.
    pub(crate) fn master_pid(&self) -> i32 {
        i32::try_from(self.master.as_ref().unwrap().id()).unwrap()
    }

    /// Resident memory of the master, in bytes.
    pub(crate) fn master_resident(&self) -> u64 {
        let pid = self.master_pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Kills the master as `kill -9` does.
    pub(crate) fn kill_master(&mut self) {
        let mut master = self.master.take().unwrap();
        master.kill().unwrap();
        master.wait().unwrap();
    }

    pub(crate) fn agent_dir(&self, name: &str) -> PathBuf {
        self.path(&format!("agent-{name}"))
    }

    /// A join token.
    pub(crate) fn token(&self) -> String {
        self.token_for(1, "")
    }

    fn token_for(&self, agents: u32, labels: &str) -> String {
        let (uses, address) = (agents.to_string(), self.address());
        let mut create = vec!["master", "token", "create", "--uses", &uses, "--address", &address];
        if !labels.is_empty() {
            create.extend(["--label", labels]);
        }
        secret(&self.run(&create).out).to_owned()
    }

    /// Stops an agent that the rig did not start, with its supervisor and its tasks.
    pub(crate) fn stop_agent(&self, name: &str) {
        let mut stop = self.program();
        stop.args(["agent", "stop", "--grace", "1ms", "--data-dir"]).arg(self.agent_dir(name));
        let _ = stop.output();
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The command that starts an agent, without a token.
    pub(crate) fn agent_command(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = self.program();
        command
            .args(["agent", "start", "--name", name, "--master", &self.address()])
            .arg("--data-dir")
            .arg(self.agent_dir(name))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(self.log(&format!("agent-{name}.log")));
        command
    }

    /// Starts an agent with a token.
    pub(crate) fn start_agent(&mut self, name: &str, flags: &[&str]) {
        let token = self.token();
        let child = self.agent_command(name, flags).env("SLOTH_RUNNER_TOKEN", token).spawn().unwrap();
        self.agents.push((name.to_owned(), child));
    }

    /// Starts many agents in one process, and waits until they are active.
    pub(crate) fn simulate(&mut self, names: &str, count: usize, labels: &str) {
        let token = self.token_for(1000, labels);
        let status: Value =
            serde_json::from_str(&self.run(&["master", "status", "-o", "json"]).out).unwrap_or_default();
        let master = format!("{}#{}", self.address(), status["ca_fingerprint"].as_str().unwrap_or_default());
        let child = self
            .program()
            .args(["agent", "simulate", "--name", names, "--count", &count.to_string()])
            .args(["--master", &master, "--log-level", "warn", "--data-dir"])
            .arg(self.path("fleet"))
            .env("SLOTH_RUNNER_TOKEN", token)
            .stderr(self.log("simulate.log"))
            .spawn()
            .unwrap();
        self.fleets.push(child);
        until("the fleet is active", || {
            let status = self.run(&["master", "status", "-o", "json"]);
            let status: Value = serde_json::from_str(&status.out).unwrap_or_default();
            status["connected"].as_u64().is_some_and(|connected| connected >= count as u64)
        });
    }

    /// Adopts an agent that was started by other means, so that it ends with the rig.
    pub(crate) fn adopt(&mut self, name: &str, agent: Child) {
        self.agents.push((name.to_owned(), agent));
    }

    /// Starts an agent again.
    pub(crate) fn restart_agent(&mut self, name: &str) {
        let child = self.agent_command(name, &[]).spawn().unwrap();
        self.agents.push((name.to_owned(), child));
    }

    /// Kills an agent's connector as `kill -9` does.
    pub(crate) fn kill_connector(&mut self, name: &str) {
        let at = self.agents.iter().position(|(known, _)| known == name).unwrap();
        let (_, mut child) = self.agents.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends an agent's connector as a service manager does.
    pub(crate) fn end_connector(&mut self, name: &str) {
        let at = self.agents.iter().position(|(known, _)| known == name).unwrap();
        let (_, mut child) = self.agents.remove(at);
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status =
            wait_until_found("the connector has ended", || child.try_wait().unwrap().ok_or("it runs"));
        assert!(status.success(), "{status}");
    }

    /// The process id in an agent's file.
    pub(crate) fn pid_in(&self, agent: &str, file: &str) -> i32 {
        fs::read_to_string(self.agent_dir(agent).join(file)).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn kill(pid: i32) {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// Kills processes. Some of them may end when others do.
    pub(crate) fn kill_all(pids: impl IntoIterator<Item = i32>) {
        use nix::{errno::Errno, sys::signal};
        for pid in pids {
            match signal::kill(nix::unistd::Pid::from_raw(pid), signal::Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => panic!("{pid}: {errno}"),
            }
        }
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Printed {
        self.program().args(arguments).output().unwrap().into()
    }

    /// Runs a command with `agent run`.
    pub(crate) fn on(&self, target: &str, command: &str) -> Printed {
        self.run(&["agent", "run", target, command])
    }

    /// Starts a job and returns its number.
    pub(crate) fn start_detached(&self, target: &str, command: &str) -> String {
        let printed = self.run(&["agent", "run", "--detach", target, command]);
        assert_eq!(printed.status, 0, "{printed:?}");
        printed.out.trim().to_owned()
    }

    /// The first task of a job, as JSON.
    pub(crate) fn task(&self, job: &str) -> Value {
        self.task_if_known(job).unwrap_or_else(|printed| panic!("{printed:?}"))
    }

    /// The first task of a job that the master may not know yet, for example after it was restored.
    pub(crate) fn task_if_known(&self, job: &str) -> Result<Value, Printed> {
        let printed = self.run(&["job", "show", job, "-o", "json"]);
        let value: Option<Value> = serde_json::from_str(&printed.out).ok();
        value.map(|value| value["tasks"][0].clone()).ok_or(printed)
    }

    /// Waits until the first task of a job is in a state.
    pub(crate) fn wait_task(&self, job: &str, state: &str) -> Value {
        wait_until_found(&format!("job {job} is {state}"), || {
            let task = self.task(job);
            if task["state"] == state { Ok(task) } else { Err(task) }
        })
    }

    pub(crate) fn agent(&self, name: &str) -> Option<Value> {
        let printed = self.run(&["agent", "list", "-o", "json"]);
        let value: Value = serde_json::from_str(&printed.out).ok()?;
        value["agents"].as_array()?.iter().find(|agent| agent["name"] == name).cloned()
    }

    pub(crate) fn wait_state(&self, name: &str, state: &str) {
        until(&format!("{name} is {state}"), || {
            self.agent(name).is_some_and(|agent| agent["state"] == state)
        });
    }

    /// Waits for `count` heartbeats of an agent. It has then processed earlier requests of the master.
    pub(crate) fn wait_heartbeats(&self, name: &str, count: u32) {
        for _ in 0..count {
            let heard = || self.agent(name).and_then(|agent| agent["last_seen_ms"].as_u64());
            let before = heard();
            until("a heartbeat", || heard() > before);
        }
    }

    /// Removes an agent's memory of tasks while it runs.
    pub(crate) fn wipe_agent(&self, name: &str) {
        self.wipe(&self.agent_dir(name).join("tasks"));
    }

    /// Removes a directory that is in use.
    pub(crate) fn wipe(&self, directory: &Path) {
        // Moved away first, since processes still create files in it.
        let wiped = self.path("wiped");
        fs::rename(directory, &wiped).unwrap();
        until("its files are gone", || {
            let _ = fs::remove_dir_all(&wiped);
            !wiped.exists()
        });
    }

    /// Compiles a library of this directory that is preloaded into processes. Building this program needs a C
    /// compiler anyway.
    pub(crate) fn compile_preloaded(&self, source: &str) -> PathBuf {
        let library = self.path(source).with_extension("so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(compiled.unwrap().success());
        library
    }

    /// Creates a file with these bytes.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let mut directories: Vec<PathBuf> = Vec::new();
        for (name, _) in &self.agents {
            directories.push(self.agent_dir(name));
        }
        for directory in directories {
            let mut stop = self.program();
            stop.args(["agent", "stop", "--grace", "1ms", "--data-dir"]).arg(directory);
            let _ = stop.output();
        }
        for fleet in &mut self.fleets {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(fleet.id()).unwrap_or(i32::MAX));
            // With SIGTERM, so that its supervisors end too.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = fleet.wait();
        }
        for (name, child) in &mut self.agents {
            let _ = child.kill();
            let _ = child.wait();
            // A killed agent leaves its emergency directory in memory.
            let layout =
                sloth_runner::agent::layout::Layout::new(self.dir.path().join(format!("agent-{name}")));
            if let Some(left) = layout.emergency().path() {
                let _ = fs::remove_dir_all(left);
            }
        }
        if let Some(master) = &mut self.master {
            let _ = master.kill();
            let _ = master.wait();
        }
        if thread::panicking() {
            for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|ending| ending == "log") {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    eprintln!("--- {}\n{text}", entry.path().display());
                }
            }
        }
    }
}

/// The machine's time of day, in seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_secs()).unwrap()
}

/// Reports whether a process exists.
pub(crate) fn is_alive(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok()
}

/// Returns a number of seconds for `sleep`, longer than any test lasts. It is unique for each call and
/// process, so that a test finds only its own commands by it.
pub(crate) fn long() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 86_400 + CALLS.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// The join token or login string in what was printed.
pub(crate) fn secret(printed: &str) -> &str {
    printed.split_whitespace().find(|word| word.starts_with("sloth1-")).expect("a token or login string")
}

/// Returns the processes whose command line has this word.
pub(crate) fn processes_with(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        if words.contains(&text.as_bytes()) {
            found.push(pid);
        }
    }
    found
}
