//! Implements `--daemon`: starts the program again in a new session, and waits for its report.
//!
//! The new process talks back on its standard output, one line of JSON; nothing forks under tokio.

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

/// The hidden flag that tells the new process what it is.
pub const FLAG: &str = "--daemonized";

/// What a daemon says once it knows whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It serves; the text is for the person who started it.
    Ready(String),
    /// It does not, and ends; the text says why.
    Failed(String),
}

/// Starts this program again with the same arguments and this on its standard input, and returns what the new process
/// reports.
///
/// # Errors
/// When it cannot be started.
pub fn start(input: &str) -> io::Result<Report> {
    let arguments: Vec<&OsString> =
        given().iter().skip(1).filter(|argument| *argument != "--daemon").collect();
    // The flag goes right behind the command's words, where it cannot be taken for a value.
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
        // One that ended without reading it says why below.
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

/// Changes to the root directory, so that the process keeps no file system busy. All given paths must be absolute by then.
///
/// # Errors
/// Never, where there is a root directory.
pub fn leave_directory() -> io::Result<()> {
    std::env::set_current_dir("/")
}

/// In the new process: reports, and lets go of the pipes.
///
/// # Errors
/// When standard input or output cannot be replaced.
pub fn report(report: &Report) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // The process that started the daemon may have ended; the daemon continues.
    let _ = serde_json::to_writer(&mut stdout, report);
    let _ = stdout.write_all(b"\n").and_then(|()| stdout.flush());
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}
