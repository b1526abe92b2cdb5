//! sloth-runner: parse, run, exit.

use std::process::ExitCode;

use sloth_runner::{cli::secrets, sys::arguments};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the kernel does not allow it they stay in sight, as those of every other program do.
    let _ = arguments::hide(secrets::find);
    sloth_runner::cli::run(arguments::given().iter().cloned())
}
