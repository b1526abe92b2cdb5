//! Input of commands: standard input arrives byte for byte whatever breaks; terminals pass keys, sizes and
//! signals.

use std::{fs::File, io::Write as _, process::Stdio, thread};

use crate::rig::{self, TestCluster, screen::Screen, until};

/// Returns pseudorandom bytes, which are not text.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn standard_input_and_its_end_arrive_byte_for_byte() {
    let rig = TestCluster::with_agents(&["a"]);
    let sent = noise(5_000_000);
    let path = rig.file("sent", &sent);
    let input = File::open(path).unwrap();
    let printed = rig.program().args(["run", "-i", "a", "cat; echo end >&2"]).stdin(input).output().unwrap();
    assert_eq!(printed.status.code(), Some(0));
    assert!(printed.stdout == sent, "{} of {} bytes", printed.stdout.len(), sent.len());
    assert_eq!(printed.stderr, b"end\n");
    // A command that stops reading ends all the same, and a command without input reads end of file.
    let path = rig.file("more", &sent);
    let mut some = rig.program();
    let some = some.args(["run", "-i", "a", "head -c 3 | wc -c"]).stdin(File::open(path).unwrap()).output();
    assert_eq!(some.unwrap().stdout, b"3\n");
    // A command that reads late receives everything.
    let path = rig.file("late", &sent);
    let mut late = rig.program();
    let late =
        late.args(["run", "-i", "a", "sleep 1; cat"]).stdin(File::open(path).unwrap()).output().unwrap();
    assert!(late.stdout == sent, "{} of {} bytes", late.stdout.len(), sent.len());
    let log = std::fs::read_to_string(rig.path("agent-a.log")).unwrap();
    assert!(!log.contains("an Attach failed"), "nobody sends more than may be under way: {log}");
    assert_eq!(rig.run(&["run", "-i", "a", "wc -c"]).out, "0\n");
    assert_eq!(rig.run(&["run", "a", "wc -c"]).out, "0\n", "without -i there is nothing to read");
    let several = rig.run(&["run", "-i", "a,a", "cat"]);
    assert!(several.status == 2 && several.err.contains("-i and -t are for one agent"), "{several:?}");
}

#[test]
fn input_survives_kills_of_the_master_and_the_connector() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let part = rig.path("part");
    let command =
        format!("while read -r line; do echo $line; echo $line > {}; sleep 0.01; done", part.display());
    let mut client = rig
        .program()
        .args(["run", "-i", "a", &command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let numbers = rig::numbers(300);
    let mut stdin = client.stdin.take().unwrap();
    let text = numbers.clone();
    let writing = thread::spawn(move || {
        stdin.write_all(text.as_bytes()).unwrap();
    });
    let reached = |count: u32| {
        let at = std::fs::read_to_string(&part).unwrap_or_default();
        at.trim().parse::<u32>().is_ok_and(|at| at >= count)
    };
    until("it reads", || reached(20));
    rig.kill_master();
    rig.start_master(&[]);
    until("it reads on", || reached(100));
    rig.kill_connector("a");
    rig.restart_agent("a");
    let ended = client.wait_with_output().unwrap();
    writing.join().unwrap();
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), numbers);
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn a_shell_passes_keys_sizes_signals_and_its_exit_code() {
    let rig = TestCluster::with_agents(&["a"]);
    let mut screen = Screen::open(&rig, &["agent", "shell", "a"]);
    screen.wait_for_prompt();
    screen.keys("PS1='% '; stty size; echo $((6*7)) $TERM\r");
    screen.wait("30 100");
    screen.wait("42 xterm-256color");
    screen.resize(11, 77);
    screen.keys("stty size\r");
    until("the new size", || {
        let has = screen.text().contains("11 77");
        if !has {
            // The size is sent separately, and may arrive after the keys.
            (&screen.terminal).write_all(b"stty size\r").unwrap();
        }
        has
    });
    // ^C interrupts the remote command, and not the client.
    screen.keys("echo be$((2))gun; sleep 600; echo af$((1))ter\r");
    screen.wait("be2gun");
    screen.keys("\x03");
    screen.keys("echo still$((1+1))here\r");
    screen.wait("still2here");
    assert!(!screen.text().contains("af1ter"));
    screen.keys("exit 7\r");
    assert_eq!(screen.client.wait().unwrap().code(), Some(7));
}

#[test]
fn the_escape_hangs_up_a_terminal_and_ends_everything_in_it() {
    let rig = TestCluster::with_agents(&["a"]);
    let mut screen = Screen::open(&rig, &["run", "-t", "a", "echo pid:$$:; trap '' HUP; sleep 600"]);
    screen.wait(":\r\n");
    let text = screen.text();
    let pid: i32 = text.split("pid:").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(rig::is_alive(pid));
    screen.keys("~?");
    screen.wait("~. hangs up");
    screen.keys("\r~.");
    assert_eq!(screen.client.wait().unwrap().code(), Some(125), "{}", screen.text());
    // Its last output may still be on its way through the terminal.
    screen.wait("cancelled");
    assert!(!rig::is_alive(pid));
    let plain = rig.run(&["run", "-t", "a", "true"]);
    assert!(plain.status == 2 && plain.err.contains("needs a terminal here"), "{plain:?}");
}

#[test]
fn a_terminal_can_be_left_while_the_master_does_not_answer() {
    let mut rig = TestCluster::with_agents(&["a"]);
    let mut screen = Screen::open(&rig, &["run", "-t", "a", "echo be$((1))gun; sleep 600"]);
    screen.wait("be1gun");
    rig.kill_master();
    screen.wait("does not answer");
    // The escape must be detected even if more keys wait for the network than are allowed.
    for _ in 0..100 {
        screen.keys("x");
    }
    screen.keys("\r~.");
    assert_eq!(screen.client.wait().unwrap().code(), Some(125), "{}", screen.text());
    assert!(screen.text().contains("continues"), "{}", screen.text());
}

#[test]
fn commands_ignore_no_signal_whatever_their_agent_was_started_by() {
    let mut rig = TestCluster::new();
    let agent = rig.agent_command("a", &[]);
    let mut script = std::process::Command::new("sh");
    script
        .args(["-c", "trap '' INT QUIT HUP USR1; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sloth-runner"));
    script
        .args(agent.get_args().skip_while(|word| *word != "agent"))
        .env("SLOTH_RUNNER_TOKEN", rig.token())
        .stderr(rig.log("agent-a.log"));
    let child = script.spawn().unwrap();
    rig.adopt("a", child);
    rig.wait_state("a", "active");
    let printed = rig.on("a", "exec grep -E '^Sig(Ign|Blk)' /proc/self/status");
    let masks: Vec<u64> = printed
        .out
        .lines()
        .map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap())
        // Signals after the first 31 belong to the C library and cannot be set by others.
        .map(|mask| mask & 0x7fff_ffff)
        .collect();
    assert_eq!(masks, [0, 0], "{printed:?}");
}
