//! Jobs over many agents through real processes: batches and gates, groups, and what scripts read.

use std::fs;

use crate::rig::{TestCluster, until};
use serde_json::Value;

fn fleet(count: usize) -> TestCluster {
    let mut rig = TestCluster::new();
    rig.simulate("node[01-99]", count, "role=web");
    rig
}

fn events(rig: &TestCluster, arguments: &[&str]) -> Vec<Value> {
    let printed = rig.run(arguments);
    printed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_canary_job_waits_at_a_gate_until_it_is_promoted_or_stopped() {
    let rig = fleet(6);
    let command = "echo same; [ $SLOTH_AGENT != node02 ] || echo other";
    let flags = ["run", "--canary", "1", "--batch", "1", "--stop-if", "differs"];
    let printed = rig.run(&[&flags[..], &["@role:web", command]].concat());
    assert_eq!(printed.status, 125, "a script does not wait at a gate: {printed:?}");
    assert!(printed.err.contains("job 1 waits: node02 did not print and end as node01 did"), "{printed:?}");
    assert_eq!(printed.out.lines().filter(|line| line.contains("same")).count(), 2, "{printed:?}");
    assert_eq!(rig.run(&["job", "promote", "1"]).out, "job 1 continues with batch 3\n");
    let attached = rig.run(&["job", "attach", "1"]);
    assert_eq!(attached.status, 0, "{attached:?}");
    assert_eq!(attached.out.lines().filter(|line| line.ends_with("same")).count(), 6);
    assert_eq!(rig.run(&["job", "promote", "1"]).status, 1, "it is over");

    rig.run(&[&flags[..], &["@role:web", command]].concat());
    let stopped = rig.run(&["job", "stop", "2"]);
    assert_eq!(stopped.out, "job 2: 4 tasks skipped; running tasks continue\n");
    until("job 2 is over", || rig.run(&["job", "stop", "2"]).status == 1);
    let printed = rig.run(&["job", "attach", "2"]);
    assert_eq!(printed.status, 125, "{printed:?}");
    assert!(printed.err.contains("4 node[03-06] skipped"), "{printed:?}");
}

#[test]
fn failures_over_the_limit_skip_what_was_not_started() {
    let rig = fleet(6);
    let printed = rig.run(&["run", "--batch", "2", "--max-failures", "1", "@all", "exit 4"]);
    assert_eq!(printed.status, 125);
    assert!(
        printed.err.contains("4 node[03-06] skipped: 2 of 6 failed, over --max-failures 1"),
        "{printed:?}"
    );
    let printed = rig.run(&["run", "--fanout", "1", "@all", "echo $SLOTH_AGENT"]);
    let order: Vec<&str> = printed.out.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(order, ["node01", "node02", "node03", "node04", "node05", "node06"], "one after another");
}

#[test]
fn identical_output_is_printed_once() {
    let rig = fleet(8);
    let command = "echo one; case $SLOTH_AGENT in node03) echo three;; node05) echo five >&2; exit 5;; *) echo two;; esac";
    let printed = rig.run(&["run", "-b", "@all", command]);
    assert_eq!(printed.status, 5);
    let line = "-".repeat(15);
    let blocks = [("node[01-02,04,06-08] (6)", "one\ntwo"), ("node03", "one\nthree"), ("node05", "one")];
    let expected = blocks.map(|(names, text)| format!("{line}\n{names}\n{line}\n{text}\n"));
    assert_eq!(printed.out, expected.concat(), "clush's layout, what needs a person last");
    assert!(printed.err.starts_with("node05: five\n✗ node05 exited 5 in "), "{printed:?}");

    let printed = rig.run(&["job", "logs", "last", "--diff"]);
    assert!(printed.out.contains("-two\n+three\n"), "{}", printed.out);
    let printed = rig.run(&["run", "-b", "@all", "echo $SLOTH_AGENT; date +%N"]);
    assert_eq!(printed.out.matches("node").count(), 16, "everybody differs");
    let masked = rig.run(&["job", "logs", "last", "-b", "--mask", "names,numbers"]);
    assert!(masked.out.starts_with(&format!("{line}\nnode[01-08] (8)\n{line}\nnode01\n")), "{}", masked.out);
    let grouped = rig.run(&["job", "logs", "last", "-b", "--mask", "names,numbers", "-o", "json"]);
    let grouped: Value = serde_json::from_str(&grouped.out).unwrap();
    assert_eq!(grouped["groups"][0]["folded"], "node[01-08]");
}

#[test]
fn scripts_read_events_with_a_schema() {
    let rig = fleet(3);
    let command = r"printf 'a\nb'; printf '\377' >&2; [ $SLOTH_AGENT != node02 ]";
    let all = events(&rig, &["run", "-o", "ndjson", "@all", command]);
    assert!(all.iter().all(|event| event["schema_version"] == 1));
    assert_eq!((&all[0]["event"], &all[all.len() - 1]["event"]), (&"job".into(), &"ended".into()));
    assert_eq!(all[all.len() - 1]["exit_status"], 1);
    let lines: Vec<&Value> =
        all.iter().filter(|event| event["event"] == "line" && event["agent"] == "node02").collect();
    let texts: Vec<(&Value, &Value, &Value)> =
        lines.iter().map(|line| (&line["stream"], &line["text"], &line["newline"])).collect();
    let out: Value = "stdout".into();
    assert!(texts.contains(&(&out, &"a".into(), &true.into())), "{texts:?}");
    assert!(texts.contains(&(&out, &"b".into(), &false.into())), "{texts:?}");
    assert!(lines.iter().any(|line| line["stream"] == "stderr" && line["base64"] == "/w=="), "{lines:?}");
    let ended = |event: &&Value| event["event"] == "task" && event["state"] == "exited";
    assert_eq!(all.iter().filter(ended).count(), 3);

    let directory = rig.path("out");
    let printed = rig.run(&["run", "--outdir", directory.to_str().unwrap(), "@all", command]);
    assert_eq!(printed.status, 1);
    assert_eq!(fs::read(directory.join("node02.log")).unwrap().len(), 4);
    assert_eq!(fs::read_to_string(directory.join("failed")).unwrap(), "node02\n");
}

#[test]
fn jobs_are_listed_rerun_and_deleted() {
    let rig = fleet(3);
    rig.run(&["run", "@all", "echo first; [ $SLOTH_AGENT != node02 ]"]);
    rig.run(&["run", "node01", "echo second"]);
    let numbers = |flags: &[&str]| {
        let printed = rig.run(&[&["job", "list", "-o", "json"], flags].concat());
        let value: Value = serde_json::from_str(&printed.out).unwrap();
        value["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["number"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    until("both are stored", || numbers(&["--outcome", "running"]).is_empty());
    assert_eq!(numbers(&[]), [2, 1]);
    assert_eq!(numbers(&["--outcome", "failed"]), [1]);
    assert_eq!(numbers(&["--outcome", "ok"]), [2]);
    assert_eq!(numbers(&["--agent", "node02"]), [1]);
    assert_eq!(numbers(&["--text", "SECOND"]), [2]);
    assert_eq!(numbers(&["--operator", "nobody"]), [0u64; 0]);
    assert_eq!(numbers(&["--since", "1h", "-n", "1"]), [2]);
    assert_eq!(numbers(&["--before", "2"]), [1]);

    let again = rig.run(&["job", "rerun", "--failed", "1"]);
    assert_eq!((again.status, again.out.as_str()), (1, "first\n"), "one plain name is left: {again:?}");
    assert_eq!(rig.run(&["job", "rerun", "--failed", "2"]).status, 125);
    let again = rig.run(&["job", "rerun", "1"]);
    assert_eq!(again.out.lines().count(), 3);

    let logs = rig.run(&["job", "logs", "--timestamps", "--stream", "stdout", "1", "--agent", "node01"]);
    let line = logs.out.lines().next().unwrap();
    assert!(line.ends_with(" node01: first") && line.as_bytes()[2] == b':', "{line}");
    assert_eq!(rig.run(&["job", "logs", "--stream", "stderr", "1"]).out, "");

    until("job 1 can be deleted", || rig.run(&["job", "delete", "1"]).status == 0);
    let gone = rig.run(&["job", "show", "1"]);
    assert!(gone.err.contains("job 1 is gone: deleted by"), "{gone:?}");
    assert_eq!(rig.run(&["job", "logs", "1"]).status, 1);
    assert!(!numbers(&[]).contains(&1));
    let left = fs::read_dir(rig.master_dir().join("jobs")).unwrap().count();
    assert_eq!(left, numbers(&[]).len(), "its output is gone too");
    let held = rig.run(&["run", "--detach", "node01", "sleep 86407.5"]);
    assert!(rig.run(&["job", "delete", held.out.trim()]).err.contains("is not over"));
}

#[test]
fn a_signal_handler_can_start_processes_during_the_grace() {
    let rig = TestCluster::with_agents(&["a"]);
    let scratch = rig.path("scratch");
    let clean = format!(
        "mkdir {0}; trap 'cp -r /etc/ssl {0}/copy 2>/dev/null; sleep 0.3; echo helper: $?; rm -rf {0}; echo removed: $?; exit 7' \
         TERM; echo ready; {1} & wait",
        scratch.display(),
        "sleep 99999"
    );
    let timed_out = rig.run(&["run", "--timeout", "500ms", "a", &clean]);
    assert_eq!((timed_out.status, timed_out.out.as_str()), (124, "ready\nhelper: 0\nremoved: 0\n"));
    assert!(!scratch.exists());
    // A cancel does the same, with the requested grace.
    let job = rig.start_detached("a", &clean);
    until("it is ready", || rig.run(&["job", "logs", &job]).out == "ready\n");
    assert_eq!(rig.run(&["job", "cancel", &job]).status, 0);
    rig.wait_task(&job, "cancelled");
    assert_eq!(rig.run(&["job", "logs", &job]).out, "ready\nhelper: 0\nremoved: 0\n");
}
