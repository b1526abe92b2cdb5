//! The digest by which two processes recognize that they run on the same machine. Does not know who compares it.

use crate::{domain::fingerprint::Fingerprint, sys::process::machine_id};

/// The digest of this machine's id; `None` where the machine has none.
#[must_use]
pub fn this_machine() -> Option<Fingerprint> {
    machine_id().ok().map(|id| Fingerprint::of(id.as_bytes()))
}
