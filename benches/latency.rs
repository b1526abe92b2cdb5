//! `agent run a true`, from process start to exit, compared with the two-hop floor, `bash -c true` and
//! multiplexed ssh.

mod floor;

use std::{process::Command, time::Duration};

use floor::{Fleet, Floor, Row, Ssh, play_role, time_rows};

/// Number of rounds that are counted.
const ROUNDS: usize = 101;

fn main() {
    if play_role() {
        return;
    }
    let (floor, fleet, ssh) = (Floor::start(false), Fleet::start(), Ssh::start());
    let mut rows: Vec<Row> = vec![
        ("floor: two bare hops", Box::new(move || floor.client("true"))),
        ("sloth-runner agent run a true", Box::new(move || fleet.client("true"))),
        (
            "bash -c true",
            Box::new(|| {
                let mut command = Command::new("bash");
                command.args(["-c", "true"]);
                command
            }),
        ),
    ];
    if let Some(ssh) = ssh {
        rows.push(("ssh, multiplexed", Box::new(move || ssh.client("true"))));
    }
    time_rows(ROUNDS, Duration::ZERO, &rows);
}
