//! Secrets stay secret: what other users of a machine can see of a command line, and what commands see of an agent's.

mod rig;

use std::{
    fs,
    io::Write as _,
    process::{Child, Stdio},
};

use rig::{Rig, processes_with};

/// What everybody on the machine sees of a process's words.
fn shown(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_join_token_is_seen_by_nobody_however_it_is_given() {
    let rig = Rig::new();
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

#[test]
fn the_values_of_variables_and_login_strings_are_seen_by_nobody() {
    let rig = Rig::with_agents(&["a"]);
    for words in [&["--env", "DBPASS=hunter2"][..], &["-eDBPASS=hunter2"], &["-qe", "DBPASS=hunter2"]] {
        let mut run = rig.program();
        run.arg("run").args(words).args(["a", "echo $DBPASS; sleep 60"]).stdout(Stdio::piped());
        let mut child = run.spawn().unwrap();
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
