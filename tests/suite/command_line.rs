//! Messages and statuses of the command line when something does not go as requested, in every format, with
//! real processes.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    process::Stdio,
};

use crate::rig::{Printed, TestCluster, numbers, until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::Value;

/// Returns a file that accepts no data, like one on a full disk.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn into_full(rig: &TestCluster, arguments: &[&str]) -> Printed {
    rig.program().args(arguments).stdin(Stdio::null()).stdout(full()).output().unwrap().into()
}

#[test]
fn every_command_fails_when_its_output_cannot_be_written() {
    let rig = TestCluster::with_agents(&["a", "b"]);
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
        assert!(printed.err.contains(&format!("job {number} ")), "{line}: the job's number: {printed:?}");
    }
    let printed = into_full(&rig, &["job", "logs", "last"]);
    assert_eq!(printed.status, 1, "{printed:?}");
    assert!(printed.err.contains("cannot write to standard output"), "{printed:?}");
    // A reader that closed the pipe has read what it wanted, and the job has ended.
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

/// Returns the number of unread bytes in a pipe.
fn unread(reader: &io::PipeReader) -> u64 {
    rustix::io::ioctl_fionread(reader).unwrap()
}

#[test]
fn output_to_a_nonblocking_pipe_is_complete() {
    let rig = TestCluster::with_agents(&["a", "b"]);
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
fn the_output_directory_is_checked_before_anything_starts() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let marker = rig.path("marker");
    let command = format!("echo $SLOTH_AGENT >> {}", marker.display());
    let printed = rig.run(&["run", "--outdir", "/proc/nosuch", "web-[1-2]", &command]);
    assert_eq!(printed.status, 2, "{printed:?}");
    assert!(printed.err.contains("cannot write into /proc/nosuch"), "{printed:?}");
    assert!(!marker.exists() && rig.task_if_known("last").is_err(), "nothing has run");

    // The files are written to the end even if the reader has closed the pipe.
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

    // Alternating streams produce many frames, and failed agents are listed even without a reader of the
    // output.
    let command = "for n in $(seq 3000); do echo $n; echo e >&2; done; exit 3";
    let mut client = rig
        .program()
        .args(["run", "--outdir", directory.to_str().unwrap(), "web-[1-2]", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(client.stdout.take());
    assert_eq!(client.wait().unwrap().code(), Some(141));
    for name in ["web-1.log", "web-2.log"] {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        let errors = text.lines().filter(|line| *line == "e").count();
        let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(
            errors == 3_000 && numbers == (1..=3_000).collect::<Vec<_>>(),
            "{name}: {errors} {numbers:?}"
        );
    }
    assert_eq!(fs::read_to_string(directory.join("failed")).unwrap(), "web-1\nweb-2\n");
}

/// Runs a job on two agents that prints the numbers to 200,000, of which 64 KiB are kept. The middle is
/// missing, and the gap begins within a line.
fn with_a_gap(rig: &TestCluster) -> String {
    let job = rig.run(&["run", "-d", "--output-cap", "65540", "web-[1-2]", "seq 1 200000"]).out;
    let job = job.trim().to_owned();
    until("the job is over", || {
        let shown: Value = serde_json::from_str(&rig.run(&["job", "show", &job, "-o", "json"]).out).unwrap();
        !shown["ended_ms"].is_null()
    });
    job
}

#[test]
fn a_gap_never_joins_two_lines() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let job = with_a_gap(&rig);
    let is_number = |line: &str| line.parse::<u32>().is_ok_and(|number| (1..=200_000).contains(&number));
    let whole = |lines: &[&str]| {
        // The numbers are consecutive except for one jump, and a line that the gap has cut is no number.
        let numbers: Vec<u32> = lines.iter().filter_map(|line| line.parse().ok()).collect();
        let jumps = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
        let marked: Vec<&&str> = lines.iter().filter(|line| !is_number(line)).collect();
        let ends = (numbers.first(), numbers.last());
        assert_eq!((jumps, ends), (1, (Some(&1), Some(&200_000))), "{marked:?}");
        assert!(marked.iter().all(|line| line.contains("(bytes missing)")), "{marked:?}");
        assert!((1..=2).contains(&marked.len()), "{marked:?}");
    };
    let read = |flags: &[&str]| {
        let printed = rig.run(&[&["job", "logs", &job], flags].concat());
        assert!(printed.err.contains("bytes of output are missing"), "{flags:?}: {}", printed.err);
        printed.out
    };
    let of_one = |text: &str, agent: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(agent)).map(str::to_owned).collect()
    };
    let texts = |lines: &[String]| whole(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    texts(&of_one(&read(&[]), "web-1: "));
    let timed = read(&["-t", "--agent", "web-2"]);
    let behind_time = |line: &str| line.split_once("web-2: ").map(|(_, text)| text.to_owned());
    texts(&timed.lines().filter_map(behind_time).collect::<Vec<_>>());
    // The missing output may differ, so each task is a separate group.
    let grouped = read(&["-b"]);
    let is_text = |line: &&str| !line.starts_with("---");
    texts(&grouped.lines().skip(3).take_while(is_text).map(str::to_owned).collect::<Vec<_>>());

    let printed = rig.run(&["job", "logs", &job, "-o", "json", "--agent", "web-1"]);
    let shown: Value = serde_json::from_str(&printed.out).unwrap();
    let task = &shown["tasks"][0];
    assert_eq!(task["stdout_truncated"], true, "{}", task["gaps"]);
    let gap = &task["gaps"][0];
    let kept = usize::try_from(gap["stdout_at"].as_u64().unwrap()).unwrap();
    let (before, _) = task["stdout"].as_str().unwrap().split_at(kept);
    let (before, _cut) = before.trim_end().rsplit_once('\n').unwrap();
    assert!(numbers(200_000).starts_with(before), "the beginning is whole");
    let missing = gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap();
    let whole_length = task["end_offset"].as_u64().unwrap();
    // A newline may have been added where a line was cut.
    assert!(
        [0, 1].contains(&(task["stdout"].as_str().unwrap().len() as u64 + missing - whole_length)),
        "{gap}"
    );

    let printed = rig.run(&["job", "logs", &job, "-o", "ndjson", "--agent", "web-1"]);
    let events: Vec<Value> = printed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = events.iter().position(|event| event["event"] == "gap").unwrap();
    let of = |event: &Value| event["agent"] == "web-1" && event["event"] == "line";
    let before = events[..at].iter().rfind(|event| of(event)).unwrap();
    let behind = events[at..].iter().find(|event| of(event)).unwrap();
    assert_eq!(
        (&before["newline"], &behind["after_gap"]),
        (&false.into(), &true.into()),
        "{before} {behind}"
    );
    let end = before["offset"].as_u64().unwrap() + before["text"].as_str().unwrap().len() as u64;
    assert_eq!(events[at]["from"], end, "the gap begins where the line was cut");
}

#[test]
fn an_unterminated_last_line_is_printed_when_its_task_ends() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let go = rig.path("go");
    let command = format!(
        "if [ $SLOTH_AGENT = web-1 ]; then printf 'result 42'; else while [ ! -e {} ]; do sleep 0.05; done; echo slow; fi",
        go.display()
    );
    // The same holds for clients that attach after that task has ended.
    let mut clients = Vec::new();
    for words in [&["run", "web-[1-2]", &command][..], &["job", "attach", "1"], &["job", "logs", "-f", "1"]] {
        let mut client = rig.program();
        client.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut client = client.spawn().unwrap();
        let mut line = [0; 17];
        client.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(line, *b"web-1: result 42\n", "while the other one still runs: {words:?}");
        clients.push(client);
    }
    fs::write(&go, "").unwrap();
    for client in clients {
        assert_eq!(client.wait_with_output().unwrap().stdout, b"web-2: slow\n");
    }

    let printed = rig.run(&["run", "-o", "json", "web-1", r"printf 'caf\351'"]);
    let task = &serde_json::from_str::<Value>(&printed.out).unwrap()["tasks"][0];
    assert_eq!((&task["stdout"], &task["stdout_base64"]), (&"caf\u{fffd}".into(), &"Y2Fm6Q==".into()));
    // A very long line is still one line.
    let long = "head -c 3000000 /dev/zero | tr '\\0' x; echo";
    for (target, prefix) in [("web-1*", "web-1: "), ("web-[1-2]", "web-2: ")] {
        let printed = rig.on(target, long);
        let line = printed.out.lines().find_map(|line| line.strip_prefix(prefix)).unwrap();
        assert!(line.len() == 3_000_000 && line.bytes().all(|byte| byte == b'x'), "{}", line.len());
    }
}

#[test]
fn a_duration_of_zero_is_no_limit() {
    let rig = TestCluster::with_agents(&["a"]);
    let config = rig.file("sloth-runner.toml", b"[run]\ntimeout = \"200ms\"\ngrace = \"100ms\"\n");
    let job = |words: &[&str]| -> Printed {
        rig.program().env("SLOTH_RUNNER_CONFIG", &config).args(words).output().unwrap().into()
    };
    assert_eq!(job(&["run", "a", "sleep 5"]).status, 124);
    for none in ["0", "0s", "0min"] {
        let printed = job(&["run", "--timeout", none, "a", "sleep 0.4; echo done"]);
        assert_eq!((printed.status, printed.out.as_str()), (0, "done\n"), "{none}");
    }
    // The handler takes longer than the grace in the file, and less than the one of the flag.
    let clean = "trap 'sleep 0.5; echo clean; exit' TERM; sleep 9 & wait";
    assert_eq!(job(&["run", "a", clean]).out, "");
    assert_eq!(job(&["run", "--grace", "20s", "a", clean]).out, "clean\n");
    let started = std::time::Instant::now();
    let printed = job(&["run", "--grace", "0", "a", "trap '' TERM; sleep 60"]);
    assert!(printed.status == 124 && started.elapsed().as_secs() < 30, "{printed:?}");

    let printed = rig.run(&["run", "--start-within", "0", "--give-up", "0", "a", "echo here"]);
    assert_eq!(printed.out, "here\n");
    assert!(!rig.run(&["job", "list", "--since", "0"]).out.contains("no such jobs"));
    for words in [
        &["master", "token", "create", "--ttl", "0"][..],
        &["master", "operator", "login", "x", "--ttl", "0"],
    ] {
        let printed = rig.run(words);
        assert_eq!(printed.status, 2, "{printed:?}");
        assert!(printed.err.contains("it must not be zero"), "{printed:?}");
    }
}

#[test]
fn a_closed_pipe_ends_every_format_with_status_141() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    for format in [&[][..], &["-o", "ndjson"], &["-o", "json"], &["-b"], &["-b", "-o", "json"], &["-N"]] {
        for target in ["web-1", "web-[1-2]"] {
            // The reader closes the pipe before the command prints anything.
            let go = rig.path(&format!("go-{target}-{}", format.join("")));
            let command = format!("while [ ! -e {} ]; do sleep 0.02; done; seq 1 50000", go.display());
            let words = [&["run"], format, &[target, &command]].concat();
            let mut client = rig
                .program()
                .args(&words)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            drop(client.stdout.take());
            fs::write(&go, "").unwrap();
            let left: Printed = client.wait_with_output().unwrap().into();
            assert_eq!(left.status, 141, "{words:?}: {left:?}");
            assert!(!left.err.contains("Broken pipe"), "{words:?}: {left:?}");
        }
    }
}

#[test]
fn background_processes_that_hold_the_output_are_reported() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let printed = rig.on("web-1", "echo started; (sleep 4; echo late) &");
    assert_eq!((printed.status, printed.out.as_str()), (0, "started\n"));
    assert!(printed.err.contains("exited 0, 2 background processes continue"), "{printed:?}");
    // A background process that does not hold the output is not reported.
    let quiet = rig.on("web-1", "echo started; sleep 4 >/dev/null 2>&1 &");
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("started\n", ""));
    // The processes of several killed tasks are counted together.
    let command = "[ $SLOTH_AGENT = web-1 ] || sleep 60 & sleep 60";
    let killed = rig.run(&["run", "--timeout", "500ms", "web-[1-2]", command]);
    assert!(
        killed.err.starts_with("✗ 2 web-[1-2] timed out, ") && killed.err.contains("0 left"),
        "{killed:?}"
    );
}

#[test]
fn grouped_output_names_the_agents_of_errors() {
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3"]);
    let command = "echo same; [ $SLOTH_AGENT != web-2 ] || printf 'disk\\nfull' >&2";
    let printed = rig.run(&["run", "-b", "web-[1-3]", command]);
    assert_eq!(printed.err, "web-2: disk\nweb-2: full\n");
    // After `--` a command may begin with a dash. Without it, the word is an unknown flag, and nothing is
    // run.
    let mistyped = rig.run(&["run", "web-1", "--timout", "5s", "echo hi"]);
    assert_eq!(mistyped.status, 2, "{mistyped:?}");
    assert!(
        mistyped.err.contains("--timout is not an option") && mistyped.err.contains("-- --timout"),
        "{mistyped:?}"
    );
    assert_eq!(rig.run(&["run", "web-1", "--", "-n"]).status, 127);
}

fn draining(rig: &TestCluster, name: &str) {
    assert_eq!(rig.run(&["agent", "drain", name, "--reason", "disk swap"]).status, 0);
}

#[test]
fn agents_that_are_left_out_are_reported_in_every_format() {
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3"]);
    draining(&rig, "web-3");
    let said = "left out: web-3 (draining, by local:root: disk swap)\n";
    // An agent that is spelled out, alone or in a range, was named. An agent that only matches was not.
    for (target, status) in [("web-1,web-3", 125), ("web-[1-3]", 125), ("web-*", 0), ("@all", 0)] {
        for flags in [&[][..], &["-b"], &["--diff"], &["-q"], &["-N"]] {
            let printed = rig.run(&[&["run"], flags, &[target, "true"]].concat());
            assert_eq!(printed.status, status, "{target} {flags:?}: {printed:?}");
            assert!(printed.err.starts_with(said), "{target} {flags:?}: {printed:?}");
            assert!(!printed.out.contains("left out"), "{printed:?}");
        }
        let left = serde_json::json!([
            { "agent": "web-3", "kind": "draining", "reason": "draining, by local:root: disk swap", "named": status == 125 }
        ]);
        for format in ["json", "ndjson"] {
            for flags in [&[][..], &["-b"]] {
                let printed = rig.run(&[&["run", "-o", format], flags, &[target, "true"]].concat());
                assert_eq!(printed.status, status, "{target} {format}");
                let first = match format {
                    "ndjson" => printed.out.lines().next().unwrap(),
                    _ => &printed.out,
                };
                let job: Value = serde_json::from_str(first).unwrap();
                assert_eq!(job["left_out"], left, "{target} {format} {flags:?}");
            }
        }
        let shown: Value =
            serde_json::from_str(&rig.run(&["job", "show", "last", "-o", "json"]).out).unwrap();
        assert_eq!(shown["left_out"], left);
        let attached = rig.run(&["job", "attach", "last"]);
        assert!(attached.status == status && attached.err.contains(said), "{attached:?}");
        assert_eq!(rig.run(&["job", "logs", "last"]).status, 0);
        let detached = rig.run(&["run", "-d", target, "true"]);
        assert!(detached.status == status && detached.err.contains(said), "{detached:?}");
        assert!(rig.run(&["job", "show", "last"]).out.contains(said));
    }
    let alone = rig.on("web-3", "true");
    assert!(alone.status == 125 && alone.err.contains("draining, by local:root: disk swap"), "{alone:?}");
    assert!(alone.err.contains("(job "), "{alone:?}");
}

#[test]
fn without_a_terminal_only_failures_are_reported() {
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3"]);
    for flags in [&[][..], &["-b"], &["-N"]] {
        let job = |command: &str| rig.run(&[&["run"], flags, &["web-[1-3]", command]].concat());
        let well = job("echo well");
        assert_eq!((well.status, well.err.as_str()), (0, ""), "{flags:?}");
        let failed = job("test $SLOTH_AGENT = web-1");
        assert_eq!(failed.status, 1);
        let lines: Vec<&str> = failed.err.lines().collect();
        assert_eq!(lines[0], "✗ 2 web-[2-3] exited 1", "{flags:?}: {failed:?}");
        assert!(lines[1].contains("1 of 3 exited 0; 2 did not"), "{flags:?}: {failed:?}");
        assert!(lines[1].contains("sloth-runner job show "), "{flags:?}: {failed:?}");
    }
    let one = rig.on("web-1", "echo out; exit 3");
    assert_eq!((one.status, one.out.as_str()), (3, "out\n"));
    assert!(one.err.starts_with("✗ web-1 exited 3 in ") && one.err.contains("(job "), "{one:?}");
    assert_eq!(rig.on("web-1", "true").err, "");
    let cron: Printed =
        rig.program().env("LC_ALL", "C").args(["run", "web-1", "exit 3"]).output().unwrap().into();
    assert!(cron.err.starts_with("x web-1 exited 3 in "), "{cron:?}");
    assert_eq!(rig.run(&["run", "-q", "web-1", "exit 3"]).err, "");
    // The task that stops a job is named too, with the reason.
    let printed =
        rig.run(&["run", "--batch", "1", "--max-failures", "0", "web-[1-3]", "test $SLOTH_AGENT != web-1"]);
    assert_eq!(printed.status, 125);
    assert!(printed.err.contains("✗ web-1 exited 1"), "{printed:?}");
    assert!(printed.err.contains("web-[2-3] skipped"), "{printed:?}");
}

#[test]
fn a_reported_end_is_visible_to_the_next_command() {
    let mut rig = TestCluster::new();
    rig.simulate("sim[01-40]", 40, "");
    let json = |words: &[&str]| -> Value { serde_json::from_str(&rig.run(words).out).unwrap() };
    for _ in 0..12 {
        let failed = rig.run(&["run", "-q", "sim[01-40]", "test $SLOTH_AGENT != sim07"]);
        assert_eq!(failed.status, 1);
        let again = rig.run(&["job", "rerun", "--failed", "last"]);
        assert_eq!(again.status, 1, "{again:?}");
        let newest = &json(&["job", "list", "-n", "1", "-o", "json"])["jobs"][0];
        assert!(newest["ended_ms"].is_u64() && newest["target"] == "sim07", "{newest}");
        assert!(rig.run(&["job", "list", "-n", "1"]).out.contains("0 of 1 exited 0"));
        assert!(json(&["job", "show", "last", "-o", "json"])["ended_ms"].is_u64());
        for (outcome, is_in) in [("failed", true), ("exited", true), ("ok", false), ("running", false)] {
            let listed = json(&["job", "list", "--outcome", outcome, "-n", "1", "-o", "json"]);
            let found = listed["jobs"][0]["number"] == newest["number"];
            assert_eq!(found, is_in, "{outcome}: {listed}");
        }
        assert_eq!(rig.run(&["run", "sim[01-40]", "true"]).status, 0);
        let rerun = rig.run(&["job", "rerun", "--failed", "last"]);
        assert!(rerun.err.contains("exited 0 everywhere"), "{rerun:?}");
        let deleted = rig.run(&["job", "delete", "last"]);
        assert_eq!(deleted.status, 0, "{deleted:?}");
        let newest_now = &json(&["job", "list", "-n", "1", "-o", "json"])["jobs"][0];
        assert_eq!(newest_now["number"], newest["number"], "the deleted one is gone");
    }
}
