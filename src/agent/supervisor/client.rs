//! Connects to the supervisor, for the connector (which starts it if necessary) and for `agent stop`.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Stdio},
};

use super::protocol::{SupervisorReply, SupervisorRequest, line};
use crate::{
    agent::layout::Layout,
    sys::{
        daemon::Report,
        process::{in_new_session, own_program},
        socket,
    },
};

/// Connects to the supervisor, in the data directory or in the emergency directory.
fn connect(layout: &Layout) -> io::Result<UnixStream> {
    socket::connect(&layout.supervisor_socket()).or_else(|error| {
        let emergency = layout.emergency_socket().ok_or(io::ErrorKind::NotFound)?;
        socket::connect(&emergency).map_err(|_| error)
    })
}

/// Connects to the supervisor of a data directory. If there is none, starts one as a child of this process.
///
/// # Errors
/// When there is no supervisor and none can be started.
pub(crate) fn connect_or_start(layout: &Layout) -> io::Result<(UnixStream, Option<Child>)> {
    if let Ok(socket) = connect(layout) {
        return Ok((socket, None));
    }
    let mut command = own_program();
    command
        .args(["agent", "supervisor", "--data-dir"])
        .arg(layout.root())
        .args(layout.is_one_of_many().then_some("--of-many"))
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "LANG"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = in_new_session(&mut command).spawn()?;
    let mut report = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut report)?;
    }
    let reason = match serde_json::from_str(&report) {
        Ok(Report::Ready(_)) => return Ok((connect(layout)?, Some(child))),
        Ok(Report::Failed(reason)) => reason,
        Err(_) => "the supervisor ended before it was ready".to_owned(),
    };
    child.wait()?;
    Err(io::Error::other(reason))
}

/// Orders the agent of a data directory to stop, calls `stopping` with the number of running tasks, and
/// waits. Returns the number of tasks that could not be killed, or `None` if the supervisor ended without a
/// report.
///
/// # Errors
/// When no supervisor is listening.
pub(crate) fn stop(layout: &Layout, grace_ms: u32, stopping: impl FnOnce(u32)) -> io::Result<Option<u32>> {
    let mut socket = connect(layout)?;
    socket.write_all(&line(&SupervisorRequest::Stop { grace_ms }))?;
    let mut lines = BufReader::new(socket).lines();
    if let Some(first) = lines.next()
        && let Ok(SupervisorReply::Stopping { running }) = serde_json::from_str(&first?)
    {
        stopping(running);
    }
    let last = lines.next().and_then(Result::ok).and_then(|line| serde_json::from_str(&line).ok());
    Ok(match last {
        Some(SupervisorReply::Stopped { left }) => Some(left),
        _ => None,
    })
}
