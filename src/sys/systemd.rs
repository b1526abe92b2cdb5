//! Notifies the service manager of the state of a daemon, and runs systemctl. Without a service manager,
//! notifications do nothing.

use std::{fs, io, path::Path, process::Command, time::Duration};

use sd_notify::NotifyState;

use super::vital::Pulse;

/// Reports whether this machine runs under systemd.
#[must_use]
pub(crate) fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn tell(state: &[NotifyState<'_>]) {
    // A failure is ignored: the daemon works without a service manager.
    let _ = sd_notify::notify(state);
}

/// Reports that the daemon is ready, with a status text for `systemctl status`.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the status text for `systemctl status`.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Reports that the daemon is stopping.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Notifies the service manager's watchdog, if it is enabled, that the daemon still works. Never returns.
///
/// With the pulse of a loop, the watchdog is not notified while that loop is stuck, even if this thread runs.
pub(crate) async fn keep_watchdog(pulse: Option<Pulse>) -> std::convert::Infallible {
    let Some(within) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut step = tokio::time::interval(within / 2);
    let mut seen = None;
    loop {
        step.tick().await;
        let count = pulse.as_ref().map(Pulse::count);
        if count.is_none() || std::mem::replace(&mut seen, count) != count {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Returns the service to which this process belongs; `None` outside of services.
#[must_use]
pub(crate) fn own_service() -> Option<String> {
    // Every process of a service has this variable. The name of the unit comes from the process's cgroup.
    std::env::var_os("INVOCATION_ID")?;
    service_of(i32::try_from(std::process::id()).ok()?)
}

/// Returns the service to which a process belongs; `None` outside of services, as in a login session.
#[must_use]
pub(crate) fn service_of(pid: i32) -> Option<String> {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let last = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    });
    let last = last?.rsplit('/').next()?.to_owned();
    last.ends_with(".service").then_some(last)
}

/// Returns a property of a unit, as `systemctl show` prints it.
///
/// # Errors
/// When systemctl cannot be run.
pub(crate) fn property(unit: &str, property: &str) -> io::Result<String> {
    let output =
        Command::new("systemctl").args(["show", "--value", "--property", property, "--", unit]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reports whether a process is the main process of a unit, and not only a child of it.
#[must_use]
pub(crate) fn is_main_process(unit: &str, pid: i32) -> bool {
    is_here() && property(unit, "MainPID").is_ok_and(|main| main == pid.to_string())
}

/// Runs systemctl with these arguments.
///
/// # Errors
/// When systemctl fails, with the first line of its error output.
pub(crate) fn order(words: &[&str]) -> io::Result<()> {
    let output = Command::new("systemctl").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it did not say why").to_owned();
    Err(io::Error::other(format!("systemctl {}: {first}", words.join(" "))))
}

/// Interval between two checks of a unit while waiting for it.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
