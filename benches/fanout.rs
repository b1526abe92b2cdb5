//! `true` on 200 agents, from process start to exit, compared with 200 times `bash -c true`, 64 at once, on
//! the same machine.

mod floor;

use std::{process::Command, time::Duration};

use floor::{Fleet, Row, play_role, time_rows};

/// Number of agents. All are in one process, with real connections, supervisors and commands.
const AGENTS: u32 = 200;
/// Number of commands of the floor that run at once.
const AT_ONCE: u32 = 64;
/// Number of rounds that are counted.
const ROUNDS: usize = 15;
/// Pause between two rows: supervisors prepare shims for the next command when they have been idle for a
/// while.
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
