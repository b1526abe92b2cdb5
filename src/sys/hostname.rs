//! The name of this machine.

/// Returns the machine's host name; empty if it has none, or if it is not UTF-8.
#[must_use]
pub(crate) fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
