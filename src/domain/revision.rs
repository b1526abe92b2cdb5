//! Revisions of a master's store. With them an agent detects that its master was restored from a backup.

use serde::{Deserialize, Serialize};

use super::seal::Seal;

/// A point in the history of a master's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "(u64, u64)", from = "(u64, u64)")]
pub struct Revision {
    /// The number of restorations of the store that operators have reported with `--restored`.
    pub epoch: u64,
    /// The number of commits within that epoch.
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

/// A revision with the master's proof that its store had reached it.
///
/// Of two equal revisions, the one with a seal is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedRevision {
    /// The revision.
    pub revision: Revision,
    /// The master's seal on it; `None` if there is no proof.
    pub seal: Option<Seal>,
}
