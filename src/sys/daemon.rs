//! Implements `--daemon`: starts the program again in a new session, and waits for its report.
//!
//! The new process writes its report to its standard output, as one line of JSON. No process forks while
//! tokio runs in it.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use serde::{Deserialize, Serialize};

use super::{
    arguments::given,
    process::{in_new_session, own_program},
};

/// The hidden flag that marks the new process as the daemon.
pub(crate) const FLAG: &str = "--daemonized";

/// The report of a daemon when its start has succeeded or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The daemon serves requests. The text is for the person who started it.
    Ready(String),
    /// The daemon ends. The text is the reason.
    Failed(String),
}

/// Starts this program again with the same arguments and with `input` on its standard input. Returns the
/// report of the new process.
///
/// # Errors
/// When it cannot be started, or its report cannot be read.
pub(crate) fn start(input: &str) -> io::Result<Report> {
    let arguments: Vec<&OsString> =
        given().iter().skip(1).filter(|argument| *argument != "--daemon").collect();
    // The flag comes directly after the subcommands, where it cannot be parsed as the value of an option.
    let words = arguments.iter().take_while(|argument| !argument.to_string_lossy().starts_with('-')).count();
    let mut command = own_program();
    command
        .args(&arguments[..words])
        .arg(FLAG)
        .args(&arguments[words..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = in_new_session(&mut command).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the process ended without reading its input, its report below contains the reason.
        let _ = stdin.write_all(input.as_bytes());
    }
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    Ok(serde_json::from_str(&line).unwrap_or_else(|_| {
        Report::Failed("the daemon ended before it could say why; its log may tell".to_owned())
    }))
}

/// Changes to the root directory, so that the process keeps no file system busy. Relative paths must be made
/// absolute before this call.
///
/// # Errors
/// When the root directory is not accessible.
pub(crate) fn leave_directory() -> io::Result<()> {
    std::env::set_current_dir("/")
}

/// Writes the report of the new process, and closes the pipes to the process that started it.
///
/// # Errors
/// When standard input or output cannot be replaced.
pub(crate) fn report(report: &Report) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // The process that started the daemon may have ended; the daemon continues.
    let _ = serde_json::to_writer(&mut stdout, report);
    let _ = stdout.write_all(b"\n").and_then(|()| stdout.flush());
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}
