//! Notifies the service manager of the state of a daemon, and sends it orders. Does nothing without one.

use std::{fs, io, path::Path, process::Command, time::Duration};

use sd_notify::NotifyState;

use super::vital::Pulse;

/// Whether this machine runs under systemd.
#[must_use]
pub fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn tell(state: &[NotifyState<'_>]) {
    // A service manager that does not listen needs no report.
    let _ = sd_notify::notify(state);
}

/// Reports that the daemon is ready, with a status text for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says how the daemon stands.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Says that the daemon ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the manager's watchdog, where it has one, that the daemon still works; never returns.
///
/// With the pulse of a loop, the watchdog gets no report while that loop is stuck, even if this thread runs.
pub async fn keep_watchdog(pulse: Option<Pulse>) -> std::convert::Infallible {
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

/// The service that this process is the main process of; `None` outside of services.
#[must_use]
pub fn own_service() -> Option<String> {
    // Set for every process of a service, so the unit's name comes from where the process is.
    std::env::var_os("INVOCATION_ID")?;
    service_of(i32::try_from(std::process::id()).ok()?)
}

/// The service that a process belongs to; `None` for one of a login session or a bare terminal.
#[must_use]
pub fn service_of(pid: i32) -> Option<String> {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let last = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    });
    let last = last?.rsplit('/').next()?.to_owned();
    last.ends_with(".service").then_some(last)
}

/// A property of a unit, as `systemctl show` has it.
///
/// # Errors
/// When systemctl cannot be asked.
pub fn property(unit: &str, property: &str) -> io::Result<String> {
    let output =
        Command::new("systemctl").args(["show", "--value", "--property", property, "--", unit]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reports whether a process is the main process of a unit, and not only a child of it.
#[must_use]
pub fn is_main_process(unit: &str, pid: i32) -> bool {
    is_here() && property(unit, "MainPID").is_ok_and(|main| main == pid.to_string())
}

/// Gives systemctl an order.
///
/// # Errors
/// In systemctl's own words, when it does not carry it out.
pub fn order(words: &[&str]) -> io::Result<()> {
    let output = Command::new("systemctl").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it did not say why").to_owned();
    Err(io::Error::other(format!("systemctl {}: {first}", words.join(" "))))
}

/// How often a unit is looked at that is being waited for.
pub const LOOK: Duration = Duration::from_millis(100);
