//! sloth-runner: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    sloth_runner::cli::run(std::env::args_os())
}
