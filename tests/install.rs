//! Installing: what `bootstrap.sh` refuses before it changes anything, and the units that `service` writes.

#![expect(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

fn script() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap.sh")).unwrap()
}

/// Runs the script as `curl | bash -s -- WORDS` does, with a home and temporary files of its own.
fn piped(script: &str, words: &[&str]) -> (i32, String, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new("bash")
        .args(["-s", "--"])
        .args(words)
        .env_remove("SLOTH_RUNNER_TOKEN")
        .envs([("HOME", home.path()), ("TMPDIR", home.path())])
        .env("SLOTH_RUNNER_RELEASES", "http://127.0.0.1:9/none")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A script that ends early leaves the rest of itself unread.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let left = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left = left.map(|name| name.to_string_lossy().into_owned()).collect();
    (output.status.code().unwrap(), said, left)
}

#[test]
fn bad_options_are_refused_before_anything_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("bin");
    let at = place.to_str().unwrap();
    let master = ["--master", "127.0.0.1:1", "--no-systemd", "--no-sudo", "--install-dir", at];
    let with = |more: &[&'static str]| [&master[..], more].concat();
    let table: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["--nonsense", "x"], 2, "unknown option: --nonsense"),
        (vec!["--name"], 2, "--name needs a value"),
        (vec!["--name", "a"], 2, "--master HOST:PORT is missing"),
        (vec!["--role", "boss"], 2, "--role is agent or master"),
        (vec!["--role", "master", "--name", "a"], 2, "a master takes only"),
        (vec!["--update", "--uninstall"], 2, "exclude each other"),
        (vec!["--master", "a b"], 2, "--master a b is no address"),
        (with(&["--name", "two words"]), 2, "--name 'two words' is no name"),
        (with(&["--name", "x'; touch y; '"]), 2, "is no name"),
        (with(&["--port", "70000"]), 2, "--port 70000 is no port"),
        (with(&["--incus", "192.168.1.17"]), 2, "with the port that the host forwards"),
        (with(&["--incus", "1.2.3.4:5", "--report-address", "h:1"]), 2, "--incus sets --report-address"),
        (with(&["--token", "secret"]), 2, "that is no join token"),
        (with(&["--token-file", "/nonexistent"]), 2, "cannot be read"),
        (with(&["--label", "role"]), 2, "write KEY=VALUE"),
        (with(&["--version", "newest"]), 2, "is no version"),
        (with(&["--from", "/nonexistent"]), 1, "there is no such file"),
        (with(&["--from", "/etc/passwd"]), 1, "no program that runs on this machine"),
        (with(&[]), 1, "cannot download http://127.0.0.1:9/none/latest"),
    ];
    for (words, status, text) in table {
        let (found, said, left) = piped(&script(), &words);
        assert_eq!(found, status, "{words:?}: {said}");
        assert!(said.contains(text), "{words:?}: {said}");
        assert_eq!(left, Vec::<String>::new(), "{words:?}");
    }
    assert!(!place.exists());
}

#[test]
fn a_script_that_was_cut_off_does_nothing_and_does_not_succeed() {
    let whole = script();
    let cuts: Vec<usize> =
        whole.char_indices().map(|(at, _)| at).filter(|at| at % 997 == 0 && *at > 1_500).collect();
    for at in cuts.into_iter().chain([whole.rfind('}').unwrap()]) {
        let (status, said, left) = piped(&whole[..at], &["--master", "127.0.0.1:1"]);
        assert_ne!(status, 0, "cut at {at}: {said}");
        assert_eq!(left, Vec::<String>::new());
    }
}

fn print(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sloth-runner"))
        .args(["service", "print"])
        .args(words)
        .env("SLOTH_RUNNER_TOKEN", format!("sloth1-{}-{}", "ab".repeat(16), "AB".repeat(32)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_unit_has_the_flags_that_were_given_and_never_the_token() {
    let agent = print(&[
        "agent",
        "--name",
        "main",
        "--master",
        "192.168.1.29:50053",
        "--bind-address",
        "0.0.0.0",
        "--report-address",
        "192.168.1.17:50052",
        "--label",
        "role=web",
        "--label",
        "dc=ams",
        "--user",
        "root",
        "--program",
        "/bin/true",
    ]);
    let wanted = "ExecStart=/bin/true agent start \\
  --name main \\
  --master 192.168.1.29:50053 \\
  --bind-address 0.0.0.0 \\
  --report-address 192.168.1.17:50052 \\
  --label role=web \\
  --label dc=ams \\
  --token-file /etc/sloth-runner/agent-main.token
";
    assert!(agent.contains(wanted), "{agent}");
    assert!(!agent.contains("sloth1-"), "{agent}");
    for line in [
        "Description=Sloth Runner Agent - main",
        "KillMode=process",
        "RestartPreventExitStatus=2 3",
        "WorkingDirectory=/var/lib/sloth-runner",
    ] {
        assert!(agent.lines().any(|found| found == line), "{line}\n{agent}");
    }
    let master = print(&["master", "--port", "50054", "--program", "/bin/true"]);
    assert!(master.contains("ExecStart=/bin/true master start \\\n  --port 50054\n"), "{master}");
    assert!(master.contains("\nNoNewPrivileges=true\n") && master.contains("\nPrivateTmp=true\n"));
}
