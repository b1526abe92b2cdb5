//! sloth-runner: parse, run, exit.

use std::process::ExitCode;

use sloth_runner::{cli::secrets, sys::arguments};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // If the kernel does not permit this, the secrets stay visible in the process list, as in any other
    // program.
    let _ = arguments::hide(secrets::find);
    sloth_runner::cli::run(arguments::given().iter().cloned())
}
