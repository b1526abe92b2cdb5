//! sloth-runner: parse, run, exit.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sloth_runner::cli::run(std::env::args_os())
}
