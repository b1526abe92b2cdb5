//! Commands and flags of ssh, clush, pdsh and Ansible: they work, or an error names the right ones.

use crate::rig::TestCluster;

#[test]
fn commands_of_other_tools_work_as_in_those_tools() {
    let rig = TestCluster::with_agents(&["web-1"]);
    assert_eq!(rig.run(&["exec", "web-1", "echo exec"]).out, "exec\n");
    assert_eq!(rig.run(&["exec", "-N", "web-*", "echo exec"]).out, "exec\n");
    // A shell needs a terminal, which is checked before anything begins.
    for word in ["shell", "ssh"] {
        let printed = rig.run(&[word, "web-1"]);
        assert_eq!(printed.status, 2, "{printed:?}");
        assert!(printed.err.contains("a remote terminal needs a terminal here"), "{printed:?}");
    }
    let home = rig.on("web-1", "echo $HOME").out;
    for directory in ["~", "~/"] {
        assert_eq!(rig.run(&["run", "--cwd", directory, "web-1", "pwd"]).out, home);
    }
    let nowhere = rig.run(&["run", "--cwd", "~nobody", "web-1", "pwd"]);
    assert!(nowhere.status == 125 && nowhere.err.contains("~nobody"), "{nowhere:?}");
}

#[test]
fn flags_of_other_tools_get_a_helpful_error() {
    let rig = TestCluster::new();
    for (words, helps) in [
        (&["run", "-w", "web-[1-3]", "uptime"][..], "the target needs no flag"),
        (&["run", "-f", "32", "@all", "uptime"], "--fanout"),
        (&["exec", "-f32", "@all", "uptime"], "--fanout"),
        (&["agent", "run", "--forks=5", "@all", "uptime"], "--fanout"),
        (&["run", "-u", "root", "@all", "uptime"], "sudo -u NAME"),
        (&["agent", "exec", "-m", "shell", "@all"], "there are no modules"),
        (&["run", "-a", "uptime"], "@all"),
        (&["run", "-g", "web", "uptime"], "@role:web"),
        (&["run", "-S", "@all", "uptime"], "the largest one"),
    ] {
        let printed = rig.run(words);
        assert_eq!(printed.status, 2, "{words:?}: {printed:?}");
        assert!(printed.err.contains(helps) && printed.err.lines().count() == 1, "{words:?}: {printed:?}");
    }
    // Other commands, and unknown flags, get the parser's error.
    for words in [&["job", "list", "-w", "x"][..], &["run", "--no-such-flag", "a", "true"]] {
        let printed = rig.run(words);
        assert!(printed.status == 2 && printed.err.contains("unexpected argument"), "{printed:?}");
    }
}

#[test]
fn times_are_relative_to_the_masters_clock() {
    let rig = TestCluster::with_agents(&["web-1"]);
    assert_eq!(rig.on("web-1", "true").status, 0);
    // A client whose clock is two hours ahead.
    let ahead = rig.compile_preloaded("other_clock.c");
    let client = |words: &[&str]| {
        let mut command = rig.program();
        command.args(words).env("LD_PRELOAD", &ahead).env("SLOTH_CLOCK_SECONDS", "7200");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let listed = client(&["agent", "list"]);
    assert!(listed.contains(" s ago") && !listed.contains(" h "), "{listed}");
    assert!(client(&["job", "list", "--since", "1h"]).contains("1 of 1 exited 0"));
}
