//! Moments of a master's store, which tell an agent whether its master was restored from a backup.

use serde::{Deserialize, Serialize};

use super::seal::Seal;

/// A moment of a master's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "(u64, u64)", from = "(u64, u64)")]
pub struct Revision {
    /// Counts the restorations of the store, as operators report them with `--restored`.
    pub epoch: u64,
    /// Counts the commits within that epoch.
    pub number: u64,
}

impl From<(u64, u64)> for Revision {
    fn from((epoch, number): (u64, u64)) -> Self {
        Self { epoch, number }
    }
}

impl From<Revision> for (u64, u64) {
    fn from(revision: Revision) -> Self {
        (revision.epoch, revision.number)
    }
}

/// A revision with the master's proof that its store was there.
///
/// Of two that are otherwise the same, the one with a proof is the higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedRevision {
    /// The revision.
    pub revision: Revision,
    /// The master's seal on it; `None` where there is no proof.
    pub seal: Option<Seal>,
}
