//! The integration tests, in one binary: each file would link the whole program again.
//!
//! `cargo test --test suite` runs all of them, and `cargo test --test suite jobs::` those of one file.

#![expect(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

mod dice;
mod peers;
mod rig;

mod afterwards;
mod architecture;
mod chaos;
mod clocks;
mod clustershell;
mod command_line;
mod contact;
mod disks;
mod end_to_end;
mod extremes;
mod floods;
mod fuzzed;
mod habits;
mod input;
mod install;
mod jobs;
mod json_output;
mod manual;
mod operators;
mod promises;
mod proposed;
mod protocol;
mod rogue;
mod secrets;
mod signals;
mod simulation;
mod trouble;
mod trust;
mod tui;
mod words;

#[test]
fn every_file_is_part_of_the_suite() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let main = std::fs::read_to_string(directory.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_code = path.is_dir() || path.extension().is_some_and(|ending| ending == "rs");
        let is_listed = main.contains(&format!("mod {name};\n"));
        assert!(!is_code || is_listed || ["main", "snapshots"].contains(&&*name), "{name} is not in main.rs");
    }
}
