//! The digest by which two processes recognize that they run on the same machine.

use crate::{domain::fingerprint::Fingerprint, sys::process::machine_id};

/// Returns the digest of this machine's id; `None` if the machine has no id.
#[must_use]
pub(crate) fn machine_digest() -> Option<Fingerprint> {
    machine_id().ok().map(|id| Fingerprint::of(id.as_bytes()))
}
