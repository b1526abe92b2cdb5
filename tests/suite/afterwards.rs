//! Ended jobs: in lists, in files, in groups, and when they are run again.

use std::fs;

use serde_json::Value;

use crate::rig::{Printed, TestCluster, numbers};

fn drained(rig: &TestCluster, name: &str) {
    assert_eq!(rig.run(&["agent", "drain", name]).status, 0);
}

#[test]
fn an_agent_that_was_named_and_left_out_has_failed_and_is_rerun() {
    let mut rig = TestCluster::with_agents(&["web-1", "web-2"]);
    drained(&rig, "web-2");
    let directory = rig.path("out");
    let outdir = directory.to_str().unwrap();
    assert_eq!(rig.run(&["run", "--outdir", outdir, "web-1,web-2", "true"]).status, 125);
    assert_eq!(fs::read_to_string(directory.join("failed")).unwrap(), "web-2\n");
    // An agent that only matched was not asked for by name.
    assert_eq!(rig.run(&["run", "--outdir", outdir, "@all", "true"]).status, 0);
    assert_eq!(fs::read_to_string(directory.join("failed")).unwrap(), "");
    for is_stored in [false, true] {
        if is_stored {
            rig.kill_master();
            rig.start_master(&[]);
        }
        let listed = |outcome: &str| rig.run(&["job", "list", "--outcome", outcome]).out;
        let (failed, well) = (listed("failed"), listed("ok"));
        assert!(failed.contains("1 of 1 exited 0; 1 left out") && !failed.contains("@all"), "{failed}");
        assert!(well.contains("@all") && !well.contains("web-1,web-2"), "{well}");
    }
    rig.wait_state("web-1", "active");
    rig.wait_state("web-2", "draining");
    let again = rig.run(&["job", "rerun", "1", "--failed"]);
    assert!(again.status == 125 && again.err.contains("draining"), "{again:?}");
    assert_eq!(rig.run(&["agent", "resume", "web-2"]).status, 0);
    let again = rig.run(&["job", "rerun", "1", "--failed"]);
    assert_eq!(again.status, 0, "{again:?}");
    let newest: Value = serde_json::from_str(&rig.run(&["job", "show", "last", "-o", "json"]).out).unwrap();
    assert_eq!((&newest["target"], newest["tasks"].as_array().unwrap().len()), (&"web-2".into(), 1));
    assert_eq!(rig.run(&["job", "rerun", "1"]).status, 0);
    let newest: Value = serde_json::from_str(&rig.run(&["job", "show", "last", "-o", "json"]).out).unwrap();
    assert_eq!(newest["tasks"].as_array().unwrap().len(), 2, "all who were asked for: {newest}");
}

#[test]
fn output_files_are_complete_even_if_standard_output_fails() {
    let rig = TestCluster::with_agents(&["web-1", "web-2"]);
    let directory = rig.path("out");
    let mut program = rig.program();
    program.args(["run", "--outdir", directory.to_str().unwrap(), "web-[1-2]", "seq 1 50000; exit 3"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let printed = Printed::from(program.stdout(full).output().unwrap());
    assert_eq!(printed.status, 125);
    assert!(printed.err.contains("cannot write to standard output: No space left on device"), "{printed:?}");
    assert!(printed.err.contains("job 1 is over: sloth-runner job logs 1"), "{printed:?}");
    for name in ["web-1.log", "web-2.log"] {
        assert!(fs::read_to_string(directory.join(name)).unwrap() == numbers(50_000), "{name}");
    }
    assert_eq!(fs::read_to_string(directory.join("failed")).unwrap(), "web-1\nweb-2\n");
}

#[test]
fn unknown_and_ended_jobs_get_clear_errors() {
    let rig = TestCluster::with_agents(&["web-1"]);
    assert_eq!(rig.on("web-1", "true").status, 0);
    for command in ["cancel", "promote", "stop"] {
        let never = rig.run(&["job", command, "99999"]);
        assert!(never.status == 1 && never.err.contains("no such job: 99999"), "{command}: {never:?}");
        for job in ["1", "last"] {
            let over = rig.run(&["job", command, job]);
            assert!(over.status == 1 && over.err.contains("job 1 is over"), "{command}: {over:?}");
        }
    }
    for outcome in ["bogus", "success", "fail"] {
        let listed = rig.run(&["job", "list", "--outcome", outcome]);
        assert!(listed.status == 2 && listed.err.contains("one of ok, failed, running"), "{listed:?}");
    }
    assert_eq!(rig.run(&["job", "list", "--outcome", "timed-out"]).out, "no such jobs\n");
    // Flags that would have no effect, or would prevent everything.
    for none in [
        &["job", "list", "--limit", "0"][..],
        &["run", "--batch", "0", "@all", "true"],
        &["job", "logs", "-b", "--agent", "web-1", "last"],
        &["job", "logs", "--diff", "-t", "last"],
        &["job", "attach", "-b", "--from", "3", "last"],
    ] {
        assert_eq!(rig.run(none).status, 2, "{none:?}");
    }
}

#[test]
fn with_ndjson_each_object_is_one_line() {
    let rig = TestCluster::with_agents(&["web-1"]);
    assert_eq!(rig.on("web-1", "true").status, 0);
    let commands: [&[&str]; 5] = [
        &["agent", "list"],
        &["agent", "get", "web-1"],
        &["job", "list"],
        &["job", "show", "1"],
        &["master", "status"],
    ];
    for command in commands {
        let printed = rig.run(&[command, &["-o", "ndjson"]].concat());
        let lines: Vec<&str> = printed.out.lines().collect();
        assert!(
            lines.len() == 1 && serde_json::from_str::<Value>(lines[0]).is_ok(),
            "{command:?}: {printed:?}"
        );
    }
}

#[test]
fn output_with_gaps_never_counts_as_identical() {
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3"]);
    let groups = |flags: &[&str], command: &str| -> Vec<Value> {
        let flags = [&["run", "-b", "-o", "json"], flags, &["web-[1-3]", command]].concat();
        let shown: Value = serde_json::from_str(&rig.run(&flags).out).unwrap();
        shown["groups"].as_array().unwrap().clone()
    };
    let differs = "seq 1 1000; echo $SLOTH_AGENT differs; seq 1 1000";
    assert_eq!(groups(&["--output-cap", "1k"], differs).len(), 3);
    assert_eq!(groups(&["--output-cap", "1k"], "echo short").len(), 1);
    // Output that may differ holds the job at its gate.
    let gate = ["--batch", "1", "--canary", "1", "--stop-if", "differs", "--output-cap", "1k"];
    for flags in [&["-b"][..], &[]] {
        let printed = rig.run(&[&["run"], flags, &gate, &["web-[1-3]", differs]].concat());
        assert_eq!(printed.status, 125, "{printed:?}");
        let number = printed.err.split("job stop ").nth(1).unwrap().split_whitespace().next().unwrap();
        assert_eq!(rig.run(&["job", "stop", number]).status, 0);
    }
}
