//! The control center in a real terminal, inside tmux, with a real master and real agents.

use std::{path::PathBuf, process::Command, time::Duration};

use crate::rig::{self, TestCluster, until};

/// The pause before a key. Keys of a person come at least this far apart; the control center takes faster ones as a paste.
const KEY_PAUSE: Duration = Duration::from_millis(150);
/// The time in which a question is read. Keys that come sooner answer nothing.
const READING_TIME: Duration = Duration::from_millis(400);

/// A separate tmux server, with the control center in its only pane.
struct Screen {
    /// The server's socket, one for each server: a killed server may hold its socket for a moment.
    socket: PathBuf,
}

impl Screen {
    fn new(rig: &TestCluster, name: &str) -> Self {
        Self { socket: rig.path(name) }
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]);
        tmux
    }

    /// Opens the control center with further arguments. What it leaves on the terminal stays visible.
    fn open(rig: &TestCluster, size: (u16, u16), words: &[&str]) -> Self {
        Self::open_after(rig, size, "", words)
    }

    /// Opens the control center after some lines of shell.
    fn open_after(rig: &TestCluster, size: (u16, u16), before: &str, words: &[&str]) -> Self {
        let screen = Self::new(rig, &format!("tmux-{}-{}.sock", size.0, size.1));
        let program = env!("CARGO_BIN_EXE_sloth-runner");
        let line = format!(
            "export LANG=C.UTF-8 TERM=tmux-256color SLOTH_RUNNER_TUI_DATA_DIR={home} SLOTH_RUNNER_MASTER={master}; {before}
stty -a | grep -o -- '-\\?icanon'; {program} tui {words}; code=$?; stty -a | grep -o -- '-\\?icanon'; echo ended $code; exec sleep 1000",
            home = rig.path("home").display(),
            master = rig.socket(),
            words = words.join(" "),
        );
        let (width, height) = (size.0.to_string(), size.1.to_string());
        let status = screen
            .tmux()
            .args(["new-session", "-d", "-x", &width, "-y", &height, "sh", "-c", &line])
            .status()
            .unwrap();
        assert!(status.success(), "tmux starts");
        screen
    }

    /// Sends bytes in one piece, which is faster than a person types.
    fn send(&self, arguments: &[&str]) {
        assert!(self.tmux().arg("send-keys").args(arguments).status().unwrap().success());
    }

    /// Presses a key as a person does who has seen the effect of the last one: alone.
    fn key(&self, key: &str) {
        std::thread::sleep(KEY_PAUSE);
        self.send(&[key]);
    }

    /// Answers a question with yes after it was read.
    fn agree(&self, question: &str) {
        self.wait(question);
        std::thread::sleep(READING_TIME);
        self.send(&["y"]);
    }

    /// Inserts a text into a field, and waits for it on the screen.
    fn write(&self, text: &str) {
        self.send(&["-l", text]);
        let last: String = text.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
        self.wait(&last);
    }

    fn text(&self) -> String {
        let output = self.tmux().args(["capture-pane", "-p"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait(&self, text: &str) {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(text, || {
                last = self.text();
                last.contains(text)
            });
        }));
        assert!(found.is_ok(), "{text:?} did not appear on the screen:\n{last}");
    }

    /// Returns the process id of the control center.
    fn pid(&self) -> i32 {
        let mut found = None;
        until("the control center runs", || {
            let shell = self.tmux().args(["display-message", "-p", "#{pane_pid}"]).output().unwrap();
            let shell = String::from_utf8_lossy(&shell.stdout).trim().to_owned();
            let child =
                std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
            found = child.split_whitespace().next().and_then(|pid| pid.parse().ok());
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").status();
    }
}

fn has_tmux() -> bool {
    let there = Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: tmux is not installed");
    }
    there
}

#[test]
fn agents_can_be_selected_run_on_watched_filtered_and_cancelled() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3"]);
    let screen = Screen::open(&rig, (100, 30), &[]);
    screen.wait("● 3 active");
    screen.key("a");
    screen.agree("Pick all that is shown?");
    screen.wait("3 picked");
    screen.key("i");
    screen.wait("Command → 3 agents  web-[1-3]");
    screen.wait("Esc leave");
    screen.write("if [ $SLOTH_AGENT = web-2 ]; then echo other; else echo same; fi");
    screen.key("Enter");
    screen.wait("✓ 3");
    screen.wait("web-[1,3]");
    let text = screen.text();
    let (other, same) = (text.find("other\n").unwrap(), text.rfind("web-[1,3]").unwrap());
    assert!(other > 0 && same > 0, "{text}");
    // The group that diverged is above the group that agrees.
    assert!(text.find("    1  web-2").unwrap() < text.find("    2  web-[1,3]").unwrap(), "{text}");
    screen.key("i");
    screen.wait("Esc leave");
    screen.write("sleep 1000 & sleep 2000");
    screen.key("Enter");
    screen.wait("▸ 3");
    screen.wait("X cancel job");
    screen.key("X");
    screen.agree("Cancel job 2?");
    screen.wait("0 left");
    screen.wait("✗ 3");
    screen.key("1");
    screen.wait("━ Fleet");
    screen.key("/");
    screen.wait("Filter the fleet");
    screen.write("web-2");
    screen.key("Enter");
    screen.wait("1 of 3 · 3 picked, 2 of them hidden");
    screen.key("Escape");
    screen.wait("Fleet  3 · 3 picked");
    screen.key("q");
    screen.agree("Quit? 3 agents are picked.");
    screen.wait("ended 0");
    let text = screen.text();
    assert_eq!(text.matches("-icanon").count(), 0, "the terminal is as before: {text}");
    assert_eq!(text.matches("icanon").count(), 2, "{text}");
}

#[test]
fn what_is_pasted_waits_in_the_command_line() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["web-1"]);
    let screen = Screen::open(&rig, (100, 30), &[]);
    screen.wait("● 1 active");
    let ran = rig.path("ran");
    let text = format!("check web again: id; touch {}\n", ran.display());
    // A terminal without marked pastes sends keys. In one with them, the text may contain the mark of its end.
    let marked = format!("\x1b[200~one\x1b[201~{text}\x1b[201~");
    for (sent, seen) in [(text.clone(), "web again"), (marked, "one"), (format!("aiX{text}"), "aiX")] {
        screen.send(&["-l", &sent]);
        screen.wait(seen);
        screen.wait("press it again");
        screen.key("C-c");
        until("the line is empty", || !screen.text().contains(seen));
        screen.key("Escape");
        screen.wait("i command");
    }
    assert!(!ran.exists(), "nothing ran");
    let jobs = rig.run(&["job", "list"]);
    assert!(!jobs.out.contains("touch"), "{jobs:?}");
}

#[test]
fn output_continues_without_a_gap_after_the_master_is_killed() {
    if !has_tmux() {
        return;
    }
    let mut rig = TestCluster::with_agents(&["a"]);
    let screen = Screen::open(&rig, (100, 30), &[]);
    screen.wait("● 1 active");
    screen.key("i");
    screen.wait("Esc leave");
    screen.write("for i in $(seq 1 300); do echo line $i; sleep 0.05; done; echo finished");
    screen.key("Enter");
    screen.wait("line 5");
    screen.wait("X cancel job");
    screen.key("Enter");
    screen.wait("follows");
    rig.kill_master();
    screen.wait("no answer for");
    screen.key("3");
    screen.wait("Esc leave");
    screen.write("typing works");
    rig.start_master(&[]);
    screen.wait("finished");
    screen.wait("✓ exited 0");
    let text = screen.text();
    let numbers: Vec<u32> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("line ")?.split_whitespace().next()?.parse().ok())
        .collect();
    assert!(numbers.len() > 5 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{text}");
    assert!(text.contains("typing works"), "the line was kept: {text}");
}

#[test]
fn output_of_a_command_cannot_control_the_terminal() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["a"]);
    let screen = Screen::open(&rig, (100, 30), &[]);
    screen.wait("● 1 active");
    let script = rig.path("attack.sh");
    std::fs::write(
        &script,
        "printf '\\033]0;owned\\007\\033]2;owned\\033\\\\\\033]52;c;b3duZWQ=\\007\\033[2J\\033[H\\033[?1049l\\033[?25l\\033P+q\\033\\\\\\033[6n'\n\
         printf '\\033]0;never ended '; head -c 3000000 /dev/zero | tr '\\0' x\n\
         printf '\\nstill here\\n'\n",
    )
    .unwrap();
    screen.key("i");
    screen.wait("Esc leave");
    screen.write(&format!("sh {}", script.display()));
    screen.key("Enter");
    screen.wait("✓ 1");
    screen.wait("still here");
    let title = screen.tmux().args(["display-message", "-p", "#{pane_title}"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&title.stdout).contains("owned"));
    let buffers = screen.tmux().arg("list-buffers").output().unwrap();
    assert!(buffers.stdout.is_empty(), "the clipboard is untouched");
    let text = screen.text();
    assert!(text.contains("connected") && text.contains("Command →"), "the screen is whole: {text}");
}

#[test]
fn a_signal_restores_the_terminal_and_the_program_ends_with_its_terminal() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["a"]);
    let screen = Screen::open(&rig, (80, 24), &[]);
    screen.wait("● 1 active");
    screen.key("i");
    screen.wait("Esc leave");
    screen.write("half a line");
    let pid = nix::unistd::Pid::from_raw(screen.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    screen.wait("ended");
    let text = screen.text();
    assert_eq!(text.matches("-icanon").count(), 0, "{text}");
    drop(screen);
    let screen = Screen::open(&rig, (81, 24), &[]);
    screen.wait("half a line");
    screen.wait("nothing was sent");
    let pid = screen.pid();
    drop(screen);
    until("the program ends with its terminal", || !rig::is_alive(pid));
}

#[test]
fn the_keys_of_a_pager_are_for_the_pager() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["a"]);
    let pager = rig.path("pager");
    let script = "trap 'echo interrupted' INT QUIT\ncat >/dev/null\necho ready to read\nuntil read -r line </dev/tty && [ \"$line\" = finished ]; do :; done\n";
    std::fs::write(&pager, script).unwrap();
    // The shell around it is in the same group of processes, and lives on as an interactive one does.
    let before = format!("trap : INT QUIT; export PAGER='sh {}'", pager.display());
    let screen = Screen::open_after(&rig, (100, 30), &before, &[]);
    let job = rig.run(&["run", "a", "echo printed"]);
    assert_eq!(job.status, 0, "{job:?}");
    screen.wait("● 1 active");
    screen.key("[");
    screen.wait("Job 1");
    screen.key("2");
    screen.wait("━ Job 1");
    screen.key("p");
    screen.agree("Open the output of a in the pager?");
    screen.wait("ready to read");
    for key in ["C-c", "C-\\"] {
        screen.send(&[key]);
        screen.wait("interrupted");
    }
    screen.send(&["finished", "Enter"]);
    screen.wait("━ Job 1");
    drop(screen);
    let screen = Screen::open_after(&rig, (101, 30), "export PAGER=nosuchpager", &["1"]);
    screen.wait("━ Job 1");
    screen.key("p");
    screen.agree("Open the output of a in the pager?");
    screen.wait("cannot show it with nosuchpager: it is not installed");
}

#[test]
fn a_stopped_control_center_restores_the_terminal_and_takes_it_again() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["a"]);
    let screen = Screen::open(&rig, (100, 30), &[]);
    screen.wait("● 1 active");
    let is_taken = || {
        let flag = screen.tmux().args(["display-message", "-p", "#{alternate_on}"]).output().unwrap();
        String::from_utf8_lossy(&flag.stdout).trim() == "1"
    };
    let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(screen.pid()), signal).unwrap();
    signal(nix::sys::signal::Signal::SIGTSTP);
    until("the terminal is restored", || !is_taken());
    signal(nix::sys::signal::Signal::SIGCONT);
    until("the terminal is taken again", is_taken);
    screen.wait("● 1 active");
    signal(nix::sys::signal::Signal::SIGQUIT);
    screen.wait("ended 0");
    assert!(!is_taken());
}

#[test]
fn a_terminal_that_reports_no_size_shows_the_screen() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::with_agents(&["a"]);
    let screen = Screen::open_after(&rig, (100, 30), "stty rows 0 columns 0", &[]);
    screen.wait("● 1 active");
    screen.wait("i command");
}

#[test]
fn without_a_terminal_the_control_center_is_refused() {
    let rig = TestCluster::new();
    let printed = rig.run(&["tui"]);
    assert_eq!(printed.status, 2);
    assert!(printed.err.contains("needs a terminal"), "{}", printed.err);
}

/// A helper of the next test, which runs it in a terminal.
#[test]
#[ignore = "panics in a terminal that it took; run by the test below"]
fn takes_the_terminal_and_panics() {
    sloth_runner::tui::terminal::restore_on_panic();
    sloth_runner::tui::terminal::take(true).unwrap();
    panic!("something went wrong");
}

#[test]
fn a_panic_restores_the_terminal() {
    if !has_tmux() {
        return;
    }
    let rig = TestCluster::new();
    let screen = Screen::new(&rig, "tmux-100-30.sock");
    let program = std::env::current_exe().unwrap();
    let line = format!(
        "{} --ignored --exact tui::takes_the_terminal_and_panics --nocapture 2>&1 | cat; stty -a | grep -o -- '-\\?icanon'; echo over; exec sleep 1000",
        program.display()
    );
    let started =
        screen.tmux().args(["new-session", "-d", "-x", "100", "-y", "40", "sh", "-c", &line]).status();
    assert!(started.unwrap().success());
    screen.wait("over");
    let text = screen.text();
    assert!(text.contains("something went wrong"), "the message is on the terminal itself: {text}");
    assert!(text.contains("icanon") && !text.contains("-icanon"), "{text}");
    let asked = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
    let modes = screen.tmux().args(["display-message", "-p", asked]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&modes.stdout).trim(), "0 1 0");
}
