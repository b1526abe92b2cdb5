//! Guarantees when a disk is full or fails, on real small volumes. Skipped with a message if nothing can be
//! mounted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::rig::{TestCluster, numbers, until};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sloth_runner::{
    agent::{emergency::is_unwritable, layout::Layout},
    domain::ids::TaskId,
};

const SHORT_OF_ROOM: &str = "its disk is short of room (less than 8 MiB free); commands run in memory";

/// A small volume in memory, until it is dropped.
struct Volume(PathBuf);

impl Volume {
    fn at(path: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={megabytes}m,mode=0700");
        match mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())) {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                println!("skipped: cannot mount a small volume ({error}); run the tests as root");
                None
            }
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Moves the master to a small volume that is half full. Returns the volume, and the file that fills it.
fn on_a_small_volume(rig: &mut TestCluster) -> Option<(Volume, PathBuf)> {
    rig.kill_master();
    let data = rig.master_dir();
    let kept = rig.path("kept");
    fs::rename(&data, &kept).unwrap();
    let volume = Volume::at(&data, 32)?;
    let copied =
        std::process::Command::new("cp").arg("-a").arg(format!("{}/.", kept.display())).arg(&data).status();
    assert!(copied.unwrap().success());
    let filler = data.join("filler");
    fs::write(&filler, vec![0; 16 * 1024 * 1024]).unwrap();
    rig.start_master(&["--disk-cap", "100"]);
    rig.wait_state("a", "active");
    Some((volume, filler))
}

#[test]
fn a_client_that_waits_for_a_full_master_is_notified_and_can_be_interrupted() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let Some((volume, filler)) = on_a_small_volume(&mut rig) else { return };
    let said = rig.path("said.log");
    let mut client = rig
        .program()
        .args(["run", "a", "seq 1 3000000; sleep 300"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let text = || fs::read_to_string(&said).unwrap();
    until("the client says what it waits for", || {
        text().contains("a waits: the master cannot write its output: No space left")
    });
    let status = rig.run(&["master", "status"]);
    let held = "! 1 running task is held back (a: the master cannot write its output: No space left";
    assert!(status.out.contains(held), "{}", status.out);
    kill(Pid::from_raw(client.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = client.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{}", text());
    assert!(text().contains("job 1 continues: sloth-runner job attach 1"), "{}", text());
    // The task was cancelled all the same, which is reported once there is space.
    fs::remove_file(&filler).unwrap();
    rig.wait_task("1", "cancelled");
    let status = rig.run(&["master", "status", "-o", "json"]);
    assert!(status.out.contains("\"holding_back\": null"), "{}", status.out);
    rig.kill_master();
    drop(volume);
}

#[test]
fn a_full_master_reports_it_and_continues_where_it_stopped() {
    let mut rig = TestCluster::with_agents(&["a", "b"]);
    let Some((volume, filler)) = on_a_small_volume(&mut rig) else { return };
    let job = rig.start_detached("a", "seq 1 3000000; exit 5");
    until("the task says what it waits for", || {
        rig.task(&job)["waiting"].as_str().is_some_and(|text| text.contains("cannot write its output"))
    });
    fs::remove_file(&filler).unwrap();
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["status"], 5);
    let logs = rig.run(&["job", "logs", &job]);
    assert!(logs.out == numbers(3_000_000), "{} bytes, {}", logs.out.len(), logs.err);
    rig.kill_master();
    drop(volume);
}

#[test]
fn no_job_begins_above_the_disk_cap() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let job = rig.start_detached("a", "until [ -e /nowhere ]; do sleep 0.1; done");
    rig.wait_task(&job, "running");
    rig.kill_master();
    rig.start_master(&["--disk-cap", "1"]);
    rig.wait_state("a", "active");
    until("jobs are refused", || rig.on("a", "true").err.contains("over the cap of 1 %"));
    rig.wait_task(&job, "running");
}

#[test]
fn a_full_agent_holds_its_command_back_and_loses_nothing() {
    let mut rig = TestCluster::with_agents(&["b"]);
    // The filler leaves space for one segment before the volume is 90 % full.
    let Some(volume) = Volume::at(&rig.agent_dir("a"), 16) else { return };
    fs::write(rig.agent_dir("a").join("filler"), vec![0; 7 * 1024 * 1024]).unwrap();
    rig.start_agent("a", &[]);
    rig.wait_state("a", "active");
    let gate = rig.path("gate");
    let command = format!("until [ -e {} ]; do sleep 0.05; done; seq 1 3000000; exit 6", gate.display());
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    rig.kill_master();
    rig.file("gate", b"");
    let spool = || {
        let tasks = fs::read_dir(rig.agent_dir("a").join("tasks")).unwrap().flatten();
        let files =
            tasks.flat_map(|task| fs::read_dir(task.path().join("spool")).into_iter().flatten().flatten());
        files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum::<u64>()
    };
    until("the volume is nearly full", || spool() > 7 * 1024 * 1024);
    rig.start_master(&[]);
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["status"], 6, "{task}");
    let logs = rig.run(&["job", "logs", &job]);
    assert!(logs.out == numbers(3_000_000), "{} bytes, {}", logs.out.len(), logs.err);
    rig.stop_agent("a");
    drop(volume);
}

#[test]
fn a_full_agent_runs_new_commands_in_memory_and_continues_where_it_stopped() {
    let mut rig = TestCluster::with_agents(&["b"]);
    let Some(volume) = Volume::at(&rig.agent_dir("a"), 16) else { return };
    rig.start_agent("a", &[]);
    rig.wait_state("a", "active");
    let gate = rig.path("gate");
    let command = format!("until [ -e {} ]; do sleep 0.05; done; seq 1 300000; exit 8", gate.display());
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    until("shims are ready and done with the disk", || {
        let mut tasks = fs::read_dir(rig.agent_dir("a").join("tasks")).unwrap().flatten();
        tasks.any(|entry| entry.file_name().to_string_lossy().starts_with("spare-"))
    });
    let filler = rig.agent_dir("a").join("filler");
    let full = fs::write(&filler, vec![0; 16 * 1024 * 1024]);
    assert!(full.is_err(), "the volume is full");
    rig.file("gate", b"");
    until("the task says what it waits for", || {
        rig.task(&job)["waiting"].as_str().is_some_and(|text| text.contains("does not take its output"))
    });
    // New commands run in memory, so that an operator can inspect the disk and free space.
    let printed = rig.on("a", "seq 1 20000; exit 3");
    assert!(printed.status == 3 && printed.out == numbers(20_000), "{}", printed.err);
    let long = rig.start_detached("a", "until [ -e /nowhere ]; do sleep 0.05; done");
    rig.wait_task(&long, "running");
    rig.kill_connector("a");
    rig.restart_agent("a");
    rig.wait_task(&long, "running");
    until("the list says so", || rig.agent("a").is_some_and(|agent| agent["hint"] == SHORT_OF_ROOM));
    assert_eq!(rig.run(&["job", "cancel", &long]).status, 0);
    rig.wait_task(&long, "cancelled");
    let printed = rig.on("a", &format!("rm {}", filler.display()));
    assert_eq!(printed.status, 0, "{printed:?}");
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["status"], 8, "{task}");
    assert_eq!(rig.run(&["job", "logs", &job]).out, numbers(300_000));
    rig.stop_agent("a");
    drop(volume);
}

#[test]
fn an_agent_whose_disk_is_read_only_runs_commands_and_starts_again() {
    let mut rig = TestCluster::new();
    let Some(volume) = Volume::at(&rig.agent_dir("a"), 16) else { return };
    rig.start_agent("a", &[]);
    rig.wait_state("a", "active");
    assert_eq!(rig.on("a", "echo before").out, "before\n");
    let path = rig.agent_dir("a");
    let remount = |flags| mount(None::<&str>, &path, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>);
    // A remount is refused while files are open for writing, unlike the failure of a disk.
    rig.kill_connector("a");
    TestCluster::kill(rig.pid_in("a", "keeper.lock"));
    until("nothing writes", || remount(MsFlags::MS_RDONLY).is_ok());
    rig.restart_agent("a");
    rig.wait_state("a", "active");
    for _ in 0..3 {
        let printed = rig.on("a", "echo during; exit 4");
        assert_eq!((printed.status, printed.out.as_str()), (4, "during\n"), "{}", printed.err);
    }
    let job = rig.start_detached("a", "sleep 1; echo long; exit 5");
    rig.wait_task(&job, "running");
    rig.kill_connector("a");
    // A task that was never started can be cancelled, which the agent records.
    let never = rig.run(&["run", "-d", "--start-within", "1h", "a", "true"]).out.trim().to_owned();
    assert_eq!(rig.run(&["job", "cancel", &never]).status, 0);
    rig.restart_agent("a");
    rig.wait_task(&never, "cancelled");
    let task = rig.wait_task(&job, "exited");
    assert_eq!((&task["status"], rig.run(&["job", "logs", &job]).out.as_str()), (&5.into(), "long\n"));
    until("the list says so", || {
        rig.agent("a").is_some_and(|agent| agent["hint"] == "its disk is read-only; commands run in memory")
    });
    assert!(is_unwritable(&path), "as of one that failed");
    remount(MsFlags::empty()).unwrap();
    assert!(!is_unwritable(&path));
    assert_eq!(rig.on("a", "echo after").out, "after\n");
    until("the list says nothing more", || rig.agent("a").is_some_and(|agent| agent["hint"].is_null()));
    let emergency = Layout::new(rig.agent_dir("a")).emergency().path().unwrap();
    let names = || {
        let entries = fs::read_dir(&emergency).unwrap().flatten().map(|entry| entry.file_name());
        entries.filter(|name| name.to_string_lossy().parse::<TaskId>().is_ok()).collect::<Vec<_>>()
    };
    until("no task is left in memory", || names().is_empty());
    assert!(rig.agent_dir("a").join("tasks/finished.log").exists());
    rig.stop_agent("a");
    drop(volume);
}

/// Makes the master's syncs of files with this prefix fail while the returned file exists.
fn failing_syncs(rig: &mut TestCluster, files: &str) -> PathBuf {
    let library = rig.compile_preloaded("failing_disk.c");
    let failing = rig.path("failing");
    rig.kill_master();
    rig.master_env = vec![
        ("LD_PRELOAD", library),
        ("SLOTH_FAILING_FILES", rig.master_dir().join(files)),
        ("SLOTH_FAILING_WHILE", failing.clone()),
    ];
    rig.start_master(&[]);
    failing
}

#[test]
fn output_that_the_master_cannot_sync_stays_on_the_agent_and_is_reported() {
    let mut rig = TestCluster::with_agents(&["a", "b"]);
    let failing = failing_syncs(&mut rig, "jobs");
    rig.wait_state("a", "active");
    rig.wait_state("b", "active");
    fs::write(&failing, "").unwrap();
    let gate = rig.path("gate");
    let command = format!(
        "echo one; while [ ! -e {}.$SLOTH_AGENT ]; do sleep 0.05; done; echo two; exit 4",
        gate.display()
    );
    // The log stays open as long as one of the two tasks runs.
    let job = rig.start_detached("a,b", &command);
    until("the task says what its output waits for", || {
        rig.task(&job)["waiting"].as_str().is_some_and(|text| text.contains("disk does not take its output"))
    });
    fs::write(rig.path("gate.a"), "").unwrap();
    let task = rig.wait_task(&job, "exited");
    assert_eq!(task["status"], 4, "its end is told all the same");
    let spools = |rig: &TestCluster| {
        let tasks = fs::read_dir(rig.agent_dir("a").join("tasks")).unwrap().flatten();
        tasks.filter(|entry| entry.path().join("spool").exists()).count()
    };
    rig.wait_heartbeats("a", 2);
    assert!(spools(&rig) > 0, "the agent keeps what is not on the master's disk");

    // After a new Attach, the agent does not consider output acknowledged that is in the log and not synced.
    rig.kill_connector("a");
    rig.restart_agent("a");
    rig.wait_state("a", "active");
    rig.wait_heartbeats("a", 2);
    assert!(spools(&rig) > 0, "and keeps it when it comes back");
    fs::write(rig.path("gate.b"), "").unwrap();

    // Output that was not synced is lost with the machine's memory.
    rig.kill_master();
    let mut logs = fs::read_dir(rig.master_dir().join("jobs")).unwrap().flatten();
    for entry in logs.by_ref().flat_map(|job| fs::read_dir(job.path()).unwrap().flatten()) {
        fs::File::options().write(true).open(entry.path()).unwrap().set_len(0).unwrap();
    }
    drop(logs);
    fs::remove_file(&failing).unwrap();
    rig.start_master(&[]);
    until("the agents have handed everything over", || {
        let logs = rig.run(&["job", "logs", &job]).out;
        logs.matches("one").count() == 2 && logs.matches("two").count() == 2
    });
    until("they may forget it", || spools(&rig) == 0);
}

#[test]
fn a_job_starts_only_when_it_is_on_the_masters_disk() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let failing = failing_syncs(&mut rig, "sloth-runner.db");
    rig.wait_state("a", "active");
    let marks = rig.path("marks");
    fs::write(&failing, "").unwrap();
    let printed = rig.on("a", &format!("echo mark >> {}", marks.display()));
    assert_eq!(printed.status, 125, "{printed:?}");
    assert!(printed.err.contains("disk I/O error"), "{printed:?}");
    // The database's log may contain the job all the same, and no later commit overwrites it.
    assert!(printed.err.contains("may find it there all the same"), "{printed:?}");
    assert!(!marks.exists());
    fs::remove_file(&failing).unwrap();
    until("the disk takes writes again", || !rig.run(&["master", "status"]).out.contains("disk I/O error"));
    rig.kill_master();
    rig.start_master(&[]);
    rig.wait_state("a", "active");
    assert_eq!(
        rig.run(&["job", "list", "-o", "json"]).out.matches("\"number\"").count(),
        0,
        "it was refused"
    );
    until("the disk takes jobs again", || {
        rig.on("a", &format!("echo mark >> {}", marks.display())).status == 0
    });
    assert_eq!(fs::read_to_string(&marks).unwrap(), "mark\n");
}

#[test]
fn an_outcome_that_the_master_cannot_store_stays_on_the_agent() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let failing = failing_syncs(&mut rig, "sloth-runner.db");
    rig.wait_state("a", "active");
    let (gate, printed) = (rig.path("gate"), rig.path("printed"));
    let command = format!(
        "while [ ! -e {} ]; do sleep 0.05; done; echo over; echo > {}; exit 4",
        gate.display(),
        printed.display()
    );
    let job = rig.start_detached("a", &command);
    rig.wait_task(&job, "running");
    fs::write(&failing, "").unwrap();
    fs::write(&gate, "").unwrap();
    until("it has ended", || printed.exists());
    until("its output is with the master", || rig.run(&["job", "logs", &job]).out == "over\n");
    until("the master says what is kept back", || {
        let status = rig.run(&["master", "status"]);
        status.out.contains("disk I/O error")
    });
    let id = rig.run(&["job", "show", &job, "-o", "json"]).out;
    let id = serde_json::from_str::<serde_json::Value>(&id).unwrap()["id"].as_str().unwrap().to_owned();
    let is_forgotten = || {
        let finished = fs::read_to_string(rig.agent_dir("a").join("tasks/finished.log")).unwrap_or_default();
        finished.contains(&id)
    };
    rig.wait_heartbeats("a", 2);
    assert!(!is_forgotten(), "the agent keeps what is not on the master's disk");
    fs::remove_file(&failing).unwrap();
    assert_eq!(rig.wait_task(&job, "exited")["status"], 4);
    until("the agent has handed it over", is_forgotten);
}

/// Fills the rest of a volume, to the last byte.
fn fill(directory: &Path) -> PathBuf {
    let filler = directory.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    for size in [1024 * 1024, 4096, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
    }
    filler
}

#[test]
fn a_master_and_an_agent_start_with_a_full_disk_and_report_it() {
    let mut rig = TestCluster::with_agents(&["a"]);
    assert_eq!(rig.on("a", "true").status, 0);
    rig.kill_master();
    rig.kill_connector("a");
    let supervisor = rig.pid_in("a", "keeper.lock");
    TestCluster::kill(supervisor);
    let mut volumes = Vec::new();
    for directory in [rig.master_dir(), rig.agent_dir("a")] {
        let kept = rig.path("kept");
        fs::rename(&directory, &kept).unwrap();
        let Some(volume) = Volume::at(&directory, 32) else { return };
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", kept.display()))
            .arg(&directory)
            .status();
        assert!(copied.unwrap().success());
        fs::remove_dir_all(&kept).unwrap();
        volumes.push((volume, fill(&directory)));
    }
    rig.start_master(&["--disk-cap", "100"]);
    rig.restart_agent("a");
    rig.wait_state("a", "active");
    // If the master still has space for the job, the agent runs it in memory. There is no space for output.
    let printed = rig.on("a", "true");
    let is_refused = ["No space left on device", "full"].iter().any(|text| printed.err.contains(text));
    assert!(printed.status == 0 || (printed.status == 125 && is_refused), "{printed:?}");
    until("the list says so", || rig.agent("a").is_some_and(|agent| agent["hint"] == SHORT_OF_ROOM));
    for (_, filler) in &volumes {
        fs::remove_file(filler).unwrap();
    }
    until("commands run again", || rig.on("a", "echo well").out == "well\n");
}
