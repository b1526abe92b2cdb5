//! What the command line says where something did not go as it was asked for: through real processes, in every format.

#![expect(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

mod rig;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    process::Stdio,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rig::{Printed, Rig, numbers, until};

/// A file that takes nothing, like one on a full disk.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn into_full(rig: &Rig, arguments: &[&str]) -> Printed {
    rig.program().args(arguments).stdin(Stdio::null()).stdout(full()).output().unwrap().into()
}

#[test]
fn output_that_is_not_taken_is_an_error_of_every_command() {
    let rig = Rig::with_agents(&["a", "b"]);
    assert_eq!(rig.on("a,b", "seq 1 3").status, 0);
    for line in [
        "agent list",
        "agent list -o json",
        "agent get a",
        "job list",
        "job list -o json",
        "job show last",
        "job show last -o json",
        "inventory",
        "config show",
        "config example",
        "master status",
        "master token create",
        "master token list",
        "master operator list -o json",
        "doctor",
        "completions bash",
        "--help",
        "agent run --help",
        "--version",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let printed = into_full(&rig, &words);
        assert_eq!(printed.status, 1, "{line}: {printed:?}");
        assert!(
            printed.err.contains("cannot write to standard output: No space left"),
            "{line}: {printed:?}"
        );
    }
    for line in [
        "agent run a,b|printf hi",
        "agent run a,b|echo hi",
        "agent run a|echo hi",
        "agent run -o json a|seq 1 9",
        "agent run -o ndjson a|seq 1 9",
        "agent run -b a,b|echo hi",
        "agent run -b -o json a,b|echo hi",
        "agent run --diff a,b|echo hi",
        "agent run -d a|echo hi",
    ] {
        let words: Vec<&str> = line.split([' ', '|']).collect();
        let (words, command) =
            words.split_at(words.len() - line.split('|').nth(1).unwrap().split(' ').count());
        let printed = into_full(&rig, &[words, &[&command.join(" ")]].concat());
        assert_eq!(printed.status, 125, "{line}: {printed:?}");
        assert!(
            printed.err.contains("cannot write to standard output: No space left"),
            "{line}: {printed:?}"
        );
        let number = rig.run(&["job", "show", "last", "-o", "json"]);
        let number = serde_json::from_str::<serde_json::Value>(&number.out).unwrap()["number"].to_string();
        assert!(printed.err.contains(&format!("run {number} ")), "{line}: the run's number: {printed:?}");
    }
    let printed = into_full(&rig, &["job", "logs", "last"]);
    assert_eq!(printed.status, 1, "{printed:?}");
    assert!(printed.err.contains("cannot write to standard output"), "{printed:?}");
    // A reader that is gone has seen what it wanted, and the run is over.
    assert_eq!(rig.on("a,b", "seq 1 100000; exit 7").status, 7);
    let mut client = rig
        .program()
        .args(["job", "logs", "last"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(client.stdout.take());
    let left: Printed = client.wait_with_output().unwrap().into();
    assert_eq!((left.status, left.err.as_str()), (141, ""));
    assert_eq!(rig.run(&["job", "logs", "-b", "last"]).status, 0, "how it ended is not what was asked");
}

/// Bytes that lie in a pipe.
fn unread(reader: &io::PipeReader) -> u64 {
    rustix::io::ioctl_fionread(reader).unwrap()
}

#[test]
fn a_pipe_that_does_not_wait_is_waited_for() {
    let rig = Rig::with_agents(&["a", "b"]);
    for arguments in [
        &["run", "-o", "json", "a", "seq 1 100000"][..],
        &["run", "-b", "a,b", "seq 1 100000"],
        &["run", "a", "seq 1 100000"],
    ] {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let writer: OwnedFd = writer.into();
        let mut client = rig.program().args(arguments).stdin(Stdio::null()).stdout(writer).spawn().unwrap();
        until("the pipe is full", || unread(&reader) > 60_000);
        let mut out = String::new();
        reader.read_to_string(&mut out).unwrap();
        assert!(client.wait().unwrap().success(), "{arguments:?}");
        assert!(out.contains("99999") && out.contains("100000"), "{arguments:?}: {} bytes", out.len());
    }
}

#[test]
fn a_directory_for_output_is_looked_at_before_anything_starts() {
    let rig = Rig::with_agents(&["web-1", "web-2"]);
    let marker = rig.path("marker");
    let command = format!("echo $SLOTH_AGENT >> {}", marker.display());
    let printed = rig.run(&["run", "--outdir", "/proc/nosuch", "web-[1-2]", &command]);
    assert_eq!(printed.status, 2, "{printed:?}");
    assert!(printed.err.contains("cannot write into /proc/nosuch"), "{printed:?}");
    assert!(!marker.exists() && rig.task_if_known("last").is_err(), "nothing has run");

    // A reader that is gone is not the only one: the files are written to the end.
    let directory = rig.path("out");
    let mut client = rig
        .program()
        .args(["run", "--outdir", directory.to_str().unwrap(), "web-[1-2]", "seq 1 50000; exit 0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut few = [0; 10];
    client.stdout.take().unwrap().read_exact(&mut few).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(141));
    for name in ["web-1.log", "web-2.log"] {
        assert!(fs::read_to_string(directory.join(name)).unwrap() == numbers(50_000), "{name} is whole");
    }
    assert_eq!(fs::read_to_string(directory.join("failed")).unwrap(), "");
}
