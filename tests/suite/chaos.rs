//! Random kills, freezes, broken and silent networks, wiped agents and restored masters during jobs that
//! print numbered lines. No line is lost or doubled, nothing is started twice, and every outcome is true.
//!
//! The suite injects a few faults. `SLOTH_CHAOS_FAULTS=1000 SLOTH_CHAOS_SEED=7 cargo test --release --test
//! chaos -- --nocapture` injects more. The seed is printed, and determines everything except the machine's
//! timing.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::dice::Dice;
use crate::rig::{self, TestCluster, numbers, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Number of faults in the suite.
const FAULTS: u64 = 24;
/// Number of lines of each job.
const LINES: u32 = 3_000;
/// Number of parts in which the lines are printed.
const PARTS: u64 = 6;
/// One job in [`JOBS_PER_MEMORY_LOSS`] destroys the memory of the agent or the master.
const JOBS_PER_MEMORY_LOSS: u64 = 6;

/// Whose memory is destroyed during a job, besides other faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgotten {
    Nobodys,
    /// The directory in which the agent remembers tasks is removed.
    Agents,
    /// The master's data are restored from a backup from before the job.
    Masters,
}

/// A proxy between agent and master, which can cut connections or stop forwarding.
struct Network {
    port: u16,
    cut: Arc<AtomicBool>,
    /// Whether data are held back while connections stay open.
    silent: Arc<Silence>,
    /// The current generation. Connections of an earlier one are dead.
    generation: Arc<AtomicU64>,
}

/// Whether data are held back, and a condition variable that signals changes.
#[derive(Default)]
struct Silence(Mutex<bool>, Condvar);

impl Silence {
    fn set(&self, silent: bool) {
        *self.0.lock().unwrap() = silent;
        self.1.notify_all();
    }

    /// Returns when data are no longer held back, or the connection is dead.
    fn wait_for_its_end(&self, alive: impl Fn() -> bool) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |silent| *silent && alive()).unwrap());
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, silent: &Silence, alive: impl Fn() -> bool) {
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = [0; 16 * 1024];
    while alive() {
        silent.wait_for_its_end(&alive);
        let told = match from.read(&mut bytes) {
            Ok(count) if count > 0 && alive() => to.write_all(&bytes[..count]).is_ok(),
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if !told {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

impl Network {
    fn to(master: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let generation = Arc::new(AtomicU64::new(0));
        let silent = Arc::new(Silence::default());
        let (is_cut, is_silent, now) = (Arc::clone(&cut), Arc::clone(&silent), Arc::clone(&generation));
        thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let Ok(master) = TcpStream::connect(("127.0.0.1", master)) else { continue };
                if is_cut.load(Ordering::Relaxed) {
                    continue;
                }
                let born = now.load(Ordering::Relaxed);
                for (from, to) in [(&agent, &master), (&master, &agent)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (is_silent, now) = (Arc::clone(&is_silent), Arc::clone(&now));
                    thread::spawn(move || pump(from, to, &is_silent, || now.load(Ordering::Relaxed) == born));
                }
            }
        });
        Self { port, cut, silent, generation }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

struct Chaos {
    rig: TestCluster,
    /// The file in which the current command writes the part that it has begun. Each command has its own,
    /// since a lost one continues.
    part: PathBuf,
    dice: Dice,
    network: Network,
    agent: Child,
    client: Child,
}

impl Chaos {
    fn agent(rig: &TestCluster, network: &Network, token: Option<&str>) -> Child {
        let command = rig.agent_command("a", &[]);
        let address = format!("127.0.0.1:{}", network.port);
        // Without what restores ignored signals: `rig.program` does that.
        let words = command.get_args().skip_while(|word| *word != "agent");
        let words: Vec<_> = words.map(std::ffi::OsStr::to_owned).collect();
        let mut again = rig.program();
        for word in words {
            again.arg(if word == *rig.address() { address.clone().into() } else { word });
        }
        if let Some(token) = token {
            again.env("SLOTH_RUNNER_TOKEN", token);
        }
        again.stdout(Stdio::null()).stderr(rig.log("agent-a.log")).spawn().unwrap()
    }

    fn client(rig: &TestCluster, job: &str) -> Child {
        let mut command = rig.program();
        command.args(["job", "attach", job]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Returns the last part that the command has begun; 0 before the first.
    fn part(&self) -> u64 {
        let text = std::fs::read_to_string(&self.part).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Waits until the command, if it runs, has begun `parts` more parts. So faults depend on its progress,
    /// not on a clock.
    fn await_parts(&self, parts: u64) {
        let from = self.part();
        let target = (from + parts).min(PARTS);
        if from > 0 {
            until("the command continues", || self.part() >= target);
        }
    }

    /// Stops a process while the command prints some parts, as an overloaded machine does.
    fn freeze(&self, process: i32, parts: u64) {
        let process = Pid::from_raw(process);
        kill(process, Signal::SIGSTOP).unwrap();
        self.await_parts(parts);
        kill(process, Signal::SIGCONT).unwrap();
    }

    /// Copies the data directory of a master that is stopped.
    fn copy(from: &Path, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    /// Makes a backup, and holds the next command until it is restored: the outcome of a command that ended
    /// before would be lost.
    fn back_up(&mut self) {
        self.rig.kill_master();
        Self::copy(&self.rig.master_dir(), &self.rig.path("backup"));
        self.rig.start_master(&[]);
        self.rig.file("hold", b"");
    }

    fn destroy_memory(&mut self, whose: Forgotten) -> &'static str {
        match whose {
            Forgotten::Nobodys => "nothing forgotten",
            Forgotten::Agents => {
                self.rig.wipe_agent("a");
                "wiped agent"
            }
            Forgotten::Masters => {
                until("the command was started", || self.part() > 0);
                self.rig.kill_master();
                Self::copy(&self.rig.path("backup"), &self.rig.master_dir());
                self.rig.start_master(&[]);
                std::fs::remove_file(self.rig.path("hold")).unwrap();
                "restored master"
            }
        }
    }

    /// Restarts the master with `--restored`, so that it starts commands again.
    fn restart_as_restored(&mut self) {
        self.rig.kill_master();
        self.rig.start_master(&["--restored"]);
    }

    fn fault(&mut self, job: &str) -> &'static str {
        let parts = self.dice.roll(3);
        match self.dice.roll(9) {
            0 => {
                self.rig.kill_master();
                self.await_parts(parts);
                self.rig.start_master(&[]);
                "master"
            }
            1 => {
                self.agent.kill().unwrap();
                self.agent.wait().unwrap();
                self.await_parts(parts);
                self.agent = Self::agent(&self.rig, &self.network, None);
                "connector"
            }
            2 => {
                self.network.cut();
                self.await_parts(parts);
                self.network.heal();
                "network"
            }
            3 => {
                let _ = self.client.kill();
                let _ = self.client.wait();
                self.client = Self::client(&self.rig, job);
                "client"
            }
            4 => {
                self.freeze(self.rig.master_pid(), parts);
                "frozen master"
            }
            5 => {
                self.freeze(i32::try_from(self.agent.id()).unwrap(), parts);
                "frozen connector"
            }
            6 => {
                let supervisor = self.rig.pid_in("a", "keeper.lock");
                if rig::is_alive(supervisor) {
                    self.freeze(supervisor, parts);
                }
                "frozen supervisor"
            }
            7 => {
                self.network.silent.set(true);
                self.await_parts(parts);
                self.network.silent.set(false);
                "silent network"
            }
            _ => {
                let supervisor = self.rig.pid_in("a", "keeper.lock");
                if rig::is_alive(supervisor) {
                    TestCluster::kill(supervisor);
                }
                "supervisor"
            }
        }
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
        self.network.heal();
    }
}

/// Returns how many commands were started, and checks that none was started twice.
fn started_once(marks: &Path) -> usize {
    let marks = std::fs::read_to_string(marks).unwrap();
    let mut started: Vec<u32> = marks.lines().map(|line| line.parse().unwrap()).collect();
    started.sort_unstable();
    assert!(started.is_sorted_by(|a, b| a < b), "no command was started twice: {started:?}");
    started.len()
}

#[test]
fn nothing_is_lost_or_doubled_and_every_outcome_is_true() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (faults, seed) = (number("SLOTH_CHAOS_FAULTS", FAULTS), number("SLOTH_CHAOS_SEED", 1));
    println!("{faults} faults, seed {seed}");
    let rig = TestCluster::new();
    let network = Network::to(rig.port());
    let agent = Chaos::agent(&rig, &network, Some(&rig.token()));
    rig.wait_state("a", "active");
    let client = Chaos::client(&rig, "last");
    let part = rig.path("part");
    let mut chaos = Chaos { rig, part, dice: Dice(seed), network, agent, client };
    let expected = numbers(LINES);
    let marks = chaos.rig.path("marks");
    let mut done = 0;
    let mut jobs = 0u32;
    let mut lost_memories = 0;
    while done < faults {
        jobs += 1;
        chaos.part = chaos.rig.path(&format!("part-{jobs}"));
        let status = u8::try_from(chaos.dice.roll(100)).unwrap();
        // Slow enough for faults to occur during it. It records that it was started.
        let command = format!(
            "echo {jobs} >> {}; for part in 1 2 3 4 5 6; do echo $part > {part}.new; mv {part}.new {part}; \
             seq $((part * 500 - 499)) $((part * 500)); sleep 0.08; while [ -e {hold} ]; do sleep 0.02; done; done; \
             exit {status}",
            marks.display(),
            hold = chaos.rig.path("hold").display(),
            part = chaos.part.display()
        );
        let forgotten = match chaos.dice.roll(2 * JOBS_PER_MEMORY_LOSS) {
            0 => Forgotten::Agents,
            1 => Forgotten::Masters,
            _ => Forgotten::Nobodys,
        };
        if forgotten == Forgotten::Masters {
            chaos.back_up();
        }
        let started = chaos.rig.run(&["run", "--detach", "--start-within", "1min", "a", &command]);
        assert_eq!(started.status, 0, "{started:?}");
        let job = started.out.trim().to_owned();
        let mut hit = Vec::new();
        let count = chaos.dice.roll(4);
        let forgotten_after = match forgotten {
            Forgotten::Masters => 0,
            Forgotten::Agents | Forgotten::Nobodys => chaos.dice.roll(count + 1),
        };
        for fault in 0..=count {
            if forgotten != Forgotten::Nobodys && fault == forgotten_after {
                hit.push(chaos.destroy_memory(forgotten));
                done += 1;
            }
            let parts = chaos.dice.roll(3);
            chaos.await_parts(parts);
            hit.push(chaos.fault(&job));
            done += 1;
        }
        let mut task = serde_json::Value::Null;
        until(&format!("job {job} has an outcome after {hit:?}"), || {
            task = chaos.rig.task_if_known(&job).unwrap_or_default();
            !task["outcome"].is_null()
        });
        let logs = chaos.rig.run(&["job", "logs", &job]);
        // The task of a wiped agent is lost. Output that a restored master had acknowledged may be a gap.
        if forgotten != Forgotten::Agents || task["state"] != "lost" {
            assert_eq!(task["state"], "exited", "job {job} after {hit:?}: {task}");
            assert_eq!(task["status"], u64::from(status), "job {job} after {hit:?}: {task}");
        }
        if forgotten == Forgotten::Nobodys {
            assert!(
                logs.out == expected,
                "job {job} after {hit:?}: {} of {} bytes; {}",
                logs.out.len(),
                expected.len(),
                logs.err
            );
        } else {
            lost_memories += 1;
            let lines: Vec<&str> = logs.out.lines().collect();
            let numbers: Vec<u32> = lines.iter().filter_map(|line| line.parse().ok()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "job {job} after {hit:?}: doubled lines");
        }
        match forgotten {
            Forgotten::Nobodys => {}
            // The agent may notice only with the next command, whose outcome is unknown then.
            Forgotten::Agents => {
                until("a wiped agent takes commands", || chaos.rig.on("a", "true").status == 0);
            }
            Forgotten::Masters => chaos.restart_as_restored(),
        }
        chaos.rig.wait_state("a", "active");
    }
    let unstarted = jobs as usize - started_once(&marks);
    assert!(unstarted <= lost_memories, "{unstarted} commands were not started");
    println!(
        "{done} faults over {jobs} jobs of {LINES} lines, {lost_memories} of them with a memory lost: 0 lines lost \
         that anybody had, 0 doubled, 0 started twice, every outcome true"
    );
    let _ = chaos.agent.kill();
    let _ = chaos.agent.wait();
    chaos.rig.stop_agent("a");
}
