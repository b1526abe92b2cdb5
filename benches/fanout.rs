//! `true` on 200 agents, process start to exit, beside spawning 200 `bash -c true`, 64 at once, on the same machine.

mod floor;

use std::{process::Command, time::Duration};

use floor::{Fleet, Row, play_role, time_rows};

/// Agents, all in one process, with real connections, supervisors and commands.
const AGENTS: u32 = 200;
/// Commands of the floor that run at once.
const AT_ONCE: u32 = 64;
/// Rounds that are counted.
const ROUNDS: usize = 15;
/// Between two rows: supervisors get ready for the next command when nothing has come for a while.
const SETTLE: Duration = Duration::from_millis(2_500);

fn main() {
    if play_role() {
        return;
    }
    let fleet = Fleet::simulate(AGENTS);
    let rows: [Row; 2] = [
        (
            "200 x bash -c true, 64 at once",
            Box::new(|| {
                let mut spawn = Command::new(std::env::current_exe().expect("a program"));
                spawn.args(["floor-spawn", &AGENTS.to_string(), &AT_ONCE.to_string()]);
                spawn
            }),
        ),
        ("sloth-runner run @all true", Box::new(move || fleet.client_on(&["@all"], "true"))),
    ];
    time_rows(ROUNDS, SETTLE, &rows);
}
