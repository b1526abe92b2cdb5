//! Process start to exit of `agent run a true`, beside the two-hop floor, `bash -c true` and multiplexed ssh.

mod floor;

use std::{process::Command, time::Instant};

use floor::{Fleet, Floor, Row, Ssh, play_role, print_row, rounds};

/// Rounds that are counted.
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
    let figures = rounds(ROUNDS, rows.len(), |row| {
        let mut command = rows[row].1();
        let begun = Instant::now();
        assert!(command.status().is_ok_and(|status| status.success()), "{}", rows[row].0);
        begun.elapsed().as_secs_f64() * 1000.0
    });
    println!("process start to exit, {ROUNDS} rounds, shuffled; median [lowest..highest]");
    for ((name, _), row) in rows.iter().zip(&figures) {
        print_row(name, "ms", row, &figures[0]);
    }
}
