//! Operators on other machines than the master's: logging in, named masters, the rights of each role, and
//! revoking.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::rig::{Printed, TestCluster, secret, until};

/// An operator on another machine: with its own home directory, and without the master's socket.
struct Elsewhere {
    home: tempfile::TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sloth-runner"));
        for name in ["SLOTH_RUNNER_MASTER", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.home.path()).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Printed {
        self.program().args(arguments).output().unwrap().into()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.home.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                if entry.path().is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found
    }
}

/// The login string for a new operator.
fn invite(rig: &TestCluster, name: &str, role: &str) -> String {
    let add = ["master", "operator", "add", name, "--role", role, "--address", &rig.address()];
    let printed = rig.run(&add);
    assert_eq!(printed.status, 0, "{printed:?}");
    secret(&printed.out).to_owned()
}

#[test]
fn roles_limit_operators_and_a_revoked_one_is_disconnected() {
    let mut rig = TestCluster::with_agents(&["cautious"]);
    rig.start_agent("a", &["--trust-operators"]);
    rig.wait_state("a", "active");
    let (ana, eve) = (Elsewhere::new(), Elsewhere::new());
    let printed = ana.run(&["login", &invite(&rig, "ana", "operator"), "--name", "prod"]);
    assert_eq!(printed.status, 0, "{printed:?}");
    assert!(printed.out.starts_with("logged in to prod (127.0.0.1:"), "{printed:?}");
    assert_eq!(eve.run(&["login", &invite(&rig, "eve", "viewer"), "--name", "prod"]).status, 0);

    // No master is named: the login has selected one.
    let printed = ana.run(&["run", "a", "echo out; echo err >&2; exit 3"]);
    assert_eq!((printed.status, printed.out.as_str()), (3, "out\n"));
    assert!(printed.err.starts_with("err\n✗ a exited 3 in "), "{printed:?}");
    // Commands as root on the master's machine could read the CA's key, so only administrators may run them
    // by default.
    let refused = ana.run(&["run", "cautious", "id"]);
    assert!(refused.status == 125 && refused.err.contains("with --trust-operators"), "{refused:?}");
    assert_eq!(rig.run(&["run", "cautious", "true"]).status, 0);
    let again = ana.run(&["job", "rerun", "last"]);
    assert!(again.status == 125 && again.err.contains("with --trust-operators"), "{again:?}");
    let printed = ana.run(&["run", "a", "true"]);
    assert_eq!(printed.status, 0, "{printed:?}");
    let shown: serde_json::Value =
        serde_json::from_str(&eve.run(&["job", "show", "last", "-o", "json"]).out).unwrap();
    assert_eq!(shown["operator"], "ana", "who it was comes from the certificate");
    assert!(eve.run(&["--help"]).status == 0 && eve.run(&["agent", "list"]).out.contains("● active"));
    let refused = eve.run(&["run", "a", "true"]);
    assert_eq!(refused.status, 125);
    assert!(refused.err.contains("eve (viewer) may not do this: it needs the role operator"), "{refused:?}");
    for admins in
        [&["agent", "delete", "a"][..], &["master", "token", "create"], &["master", "operator", "list"]]
    {
        let refused = ana.run(admins);
        assert_eq!(refused.status, 1, "{admins:?}");
        assert!(refused.err.contains("it needs the role admin"), "{refused:?}");
    }
    let recorded = || {
        let database = rusqlite::Connection::open(rig.master_dir().join("sloth-runner.db")).unwrap();
        let mut audit = database
            .prepare("SELECT actor || ' ' || subject FROM audit WHERE action = 'refused' ORDER BY id")
            .unwrap();
        let rows = audit.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.collect::<Result<Vec<String>, _>>().unwrap()
    };
    let expected = ["eve StartJob", "ana DeleteAgent", "ana CreateToken", "ana ListOperators"];
    until("what was refused is recorded", || recorded() == expected);

    // The operator is revoked while it follows a job.
    let mut following = ana
        .program()
        .args(["run", "a", "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(following.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let revoked = rig.run(&["master", "operator", "revoke", "ana"]);
    assert!(revoked.out.contains("its key is no longer valid"), "{revoked:?}");
    let ended = following.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(125));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("ana is not, or no longer, an operator of this master"), "{said}");
    let refused = ana.run(&["agent", "list"]);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("no longer, an operator"), "{refused:?}");
    // The job itself belongs to the master, and continues.
    assert_eq!(rig.task("last")["state"], "running");
    rig.run(&["job", "cancel", "last"]);
    let listed = rig.run(&["master", "operator", "list"]).out;
    assert!(listed.contains("revoked") && listed.contains("eve"), "{listed}");
}

#[test]
fn a_login_string_is_valid_for_one_key_and_a_failed_login_leaves_no_files() {
    let rig = TestCluster::new();
    let login = invite(&rig, "ana", "admin");
    let (first, second) = (Elsewhere::new(), Elsewhere::new());
    assert_eq!(first.run(&["login", &login, "--name", "prod"]).status, 0);
    let refused = second.run(&["login", &login, "--name", "prod"]);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("was used already"), "{refused:?}");
    let forged = login.replace('@', "0@");
    assert_eq!(second.run(&["login", &forged]).status, 2);
    let other_ca = format!("{}@{}", &format!("{}-{}", &login[..39], "AB".repeat(32)), rig.address());
    let refused = second.run(&["login", &other_ca]);
    assert!(refused.status == 1 && refused.err.contains("wrong CA"), "{refused:?}");
    assert_eq!(second.files(), Vec::<PathBuf>::new());

    // Another machine of the same operator needs a new login, and a key is readable by its owner only.
    let printed = rig.run(&["master", "operator", "login", "ana", "--address", &rig.address()]);
    let again = secret(&printed.out);
    assert_eq!(second.run(&["login", again, "--name", "prod"]).status, 0);
    for person in [&first, &second] {
        assert_eq!(person.run(&["agent", "list"]).status, 0);
        let key = person.files().into_iter().find(|path| path.ends_with("operator.key")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(key).unwrap()) & 0o777, 0o600);
    }
    let known = rig.run(&["master", "operator", "add", "ana", "--role", "viewer"]);
    assert!(known.status == 1 && known.err.contains("is an operator already"), "{known:?}");
    let expired = rig.run(&[
        "master",
        "operator",
        "add",
        "bob",
        "--role",
        "viewer",
        "--ttl",
        "1ms",
        "--address",
        &rig.address(),
    ]);
    let login = secret(&expired.out).to_owned();
    until("the login has expired", || {
        rig.run(&["master", "operator", "list"]).out.contains("its login has expired")
    });
    let refused = Elsewhere::new().run(&["login", &login]);
    assert!(refused.err.contains("the login string has expired"), "{refused:?}");
}

#[test]
fn masters_are_added_selected_and_removed_like_contexts() {
    let (one, two) = (TestCluster::new(), TestCluster::new());
    let ana = Elsewhere::new();
    assert_eq!(ana.run(&["login", &invite(&one, "ana", "admin"), "--name", "one"]).status, 0);
    let printed = ana.run(&["login", &invite(&two, "ana", "viewer"), "--name", "two"]);
    assert!(printed.out.contains("`sloth-runner master select two` makes it the default"), "{printed:?}");
    let amy = invite(&two, "amy", "viewer");
    let taken = ana.run(&["login", &amy, "--name", "one"]);
    assert!(taken.status == 1 && taken.err.contains("one is another master"), "{taken:?}");
    // That did not use up the login string. Masters on one host get distinct names.
    assert_eq!(ana.run(&["login", &amy]).status, 0);
    let eve = ana.run(&["login", &invite(&one, "eve", "viewer")]);
    assert!(eve.status == 0 && eve.out.contains("-2 (127.0.0.1:"), "{eve:?}");
    let listed = ana.run(&["master", "list"]).out;
    let row = |name: &str| {
        let mut lines = listed.lines();
        lines.find(|line| line.split_whitespace().any(|word| word == name)).unwrap().to_owned()
    };
    assert!(row("one").starts_with('*') && !row("two").starts_with('*'), "{listed}");
    let cluster = |arguments: &[&str]| {
        let status = ana.run(&[&["master", "status", "-o", "json"][..], arguments].concat()).out;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["cluster"].as_str().unwrap().to_owned()
    };
    let (first, second) = (cluster(&[]), cluster(&["--master", "two"]));
    assert_ne!(first, second);
    assert_eq!(cluster(&["--master", &two.address()]), second, "by address too");
    assert_eq!(ana.run(&["master", "select", "two"]).status, 0);
    assert_eq!(cluster(&[]), second);
    let unknown = ana.run(&["agent", "list", "--master", "twoo"]);
    assert!(unknown.status == 2 && unknown.err.contains("did you mean two?"), "{unknown:?}");
    assert_eq!(ana.run(&["master", "add", "three", &one.socket()]).status, 0);
    assert_eq!(cluster(&["--master", "three"]), first);
    let elsewhere = ana.run(&["master", "add", "four", "10.0.0.1:50053"]);
    assert!(
        elsewhere.status == 2 && elsewhere.err.contains("sloth-runner login --name four"),
        "{elsewhere:?}"
    );
    assert!(ana.run(&["master", "show"]).out.contains("operator ana (viewer)"));
    assert_eq!(ana.run(&["master", "remove", "two"]).status, 0);
    assert!(ana.run(&["master", "list"]).out.contains("*  local"), "{}", ana.run(&["master", "list"]).out);
}

#[test]
fn a_draining_agent_is_left_out_with_its_reason_and_its_tasks_continue() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let go = rig.path("go");
    let running = rig
        .start_detached("web-1", &format!("while [ ! -e {} ]; do sleep 0.05; done; echo done", go.display()));
    rig.wait_task(&running, "running");
    let printed = rig.run(&["agent", "drain", "web-1", "--reason", "a new kernel"]);
    assert_eq!(printed.out, "web-1 takes no new tasks; 1 task still runs\n", "{printed:?}");
    let listed = rig.run(&["agent", "list"]).out;
    assert!(listed.contains("▽ draining") && listed.contains(": a new kernel"), "{listed}");
    let some = rig.run(&["run", "web-*", "echo here"]);
    assert_eq!((some.status, some.out.as_str()), (0, "web-2: here\n"), "{some:?}");
    let shown = rig.run(&["job", "show", "last"]).out;
    assert!(shown.contains("web-1") && shown.contains("a new kernel"), "who was left out, and why: {shown}");
    let plain = rig.run(&["run", "web-1", "echo here"]);
    assert_eq!(plain.status, 125);
    assert!(plain.err.contains("refused") && plain.err.contains("a new kernel"), "{plain:?}");
    let none = rig.run(&["run", "web-1,web-1", "true"]);
    assert!(none.status == 125 && none.err.contains("all agents that match are draining"), "{none:?}");
    fs::write(go, "").unwrap();
    assert_eq!(rig.wait_task(&running, "exited")["status"], 0);
    let printed = rig.run(&["agent", "resume", "web-*"]);
    assert_eq!(
        (printed.out.as_str(), printed.err.as_str()),
        ("web-1 takes tasks again\n", "web-2 was not draining\n")
    );
    assert_eq!(rig.on("web-1", "echo here").out, "here\n");
}
