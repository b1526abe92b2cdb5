//! Secrets stay secret: other users do not see them on a command line, nor do commands in the agent's
//! environment.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use crate::rig::{TestCluster, processes_with, until};

/// Returns a process's command line as every user of the machine sees it.
fn shown(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_join_token_is_never_visible_to_other_users() {
    let rig = TestCluster::new();
    let secret = |token: &str| token.split('-').nth(1).unwrap().to_owned();
    for (name, way) in
        [("word", "--token"), ("input", "--token-file"), ("environment", ""), ("file", "--token-file")]
    {
        let token = rig.token();
        let mut start = rig.agent_command(name, &["--daemon"]);
        match name {
            "word" => start.args([way, &token]),
            "input" => start.args([way, "-"]).stdin(Stdio::piped()),
            "environment" => start.env("SLOTH_RUNNER_TOKEN", &token),
            _ => {
                fs::write(rig.path("token"), &token).unwrap();
                start.arg(way).arg(rig.path("token"))
            }
        };
        let mut child = start.spawn().unwrap();
        if let Some(mut input) = child.stdin.take() {
            input.write_all(token.as_bytes()).unwrap();
        }
        assert!(child.wait().unwrap().success(), "{name}");
        rig.wait_state(name, "active");
        let printed = rig.run(&["run", name, "env; cat /proc/$PPID/environ"]);
        assert!(printed.status == 0 && !printed.out.contains("sloth1-"), "{printed:?}");
        let daemons = processes_with(&rig.agent_dir(name).display().to_string());
        let seen: Vec<String> = daemons.into_iter().map(shown).collect();
        assert!(!seen.is_empty() && !seen.iter().any(|words| words.contains(&secret(&token))), "{seen:?}");
        rig.stop_agent(name);
    }
}

/// Returns the files below a directory that contain a text.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).unwrap_or_default().windows(text.len()).any(|part| part == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_master_deletes_values_of_variables_and_commands_of_deleted_jobs() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let begun = |rig: &TestCluster| files_with(&rig.master_dir(), "hunter2");
    let options = ["run", "--detach", "--start-within", "1h", "--env", "DBPASS=hunter2"];
    rig.kill_connector("a");
    rig.wait_state("a", "offline");
    let waiting =
        rig.run(&[&options[..], &["a", "true other-secret; sleep 0.1; [ ${#DBPASS} = 7 ]"]].concat());
    assert!(waiting.status == 0, "{waiting:?}");
    assert!(!begun(&rig).is_empty(), "the agent is not there yet");
    rig.kill_master();
    rig.start_master(&[]);
    rig.restart_agent("a");
    let job = "1";
    let task = rig.wait_task(job, "exited");
    assert_eq!(task["status"], 0, "{task}");
    until("the value has left the store", || begun(&rig).is_empty());

    let again = rig.run(&["job", "rerun", job]);
    assert!(again.status == 125 && again.err.contains("was given DBPASS, and values"), "{again:?}");
    assert!(!files_with(&rig.master_dir(), "other-secret").is_empty(), "the job is still there");
    let digest = "777ef30599e9d1fbe47bfe7b9bc4051001bed9e0412e0c5e0c232c6d167cf056";
    assert_eq!(rig.run(&["job", "delete", job]).status, 0);
    until("the command has left the store", || files_with(&rig.master_dir(), "other-secret").is_empty());
    let database = rusqlite::Connection::open(rig.master_dir().join("sloth-runner.db")).unwrap();
    let kept: String =
        database.query_row("SELECT detail FROM audit WHERE action = 'run'", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, format!("job 1, command sha256 {digest}"));
}

#[test]
fn values_of_variables_are_not_visible_on_a_command_line() {
    let rig = TestCluster::with_agents(&["a"]);
    for words in [&["--env", "DBPASS=hunter2"][..], &["-eDBPASS=hunter2"], &["-qe", "DBPASS=hunter2"]] {
        let mut job = rig.program();
        job.arg("run").args(words).args(["a", "echo $DBPASS; sleep 60"]).stdout(Stdio::piped());
        let mut child = job.spawn().unwrap();
        let mut first = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut first)
            .unwrap();
        let seen = shown(child.id().cast_signed());
        assert!(
            first == "hunter2\n" && seen.contains("DBPASS=xxxxxxx") && !seen.contains("hunter2"),
            "{seen}"
        );
        end(child);
    }
    let mut from_here = rig.program();
    from_here.args(["run", "--env", "DBPASS", "a", "echo $DBPASS"]).env("DBPASS", "hunter2");
    assert_eq!(String::from_utf8_lossy(&from_here.output().unwrap().stdout), "hunter2\n");
    let unset = rig.run(&["run", "--env", "NO_SUCH_NAME", "a", "true"]);
    assert!(unset.status == 2 && unset.err.contains("NO_SUCH_NAME is not set here"), "{unset:?}");
}
