//! Revisions of a master's store.

use super::seal::{seal_in, seal_out};
use crate::{
    domain::revision::{Revision, SealedRevision},
    wire::proto,
};

impl From<SealedRevision> for proto::Revision {
    fn from(sealed: SealedRevision) -> Self {
        let SealedRevision { revision: Revision { epoch, number }, seal } = sealed;
        Self { epoch, number, seal: seal_out(seal) }
    }
}

impl From<proto::Revision> for SealedRevision {
    fn from(revision: proto::Revision) -> Self {
        let seal = seal_in(revision.seal.as_ref());
        Self { revision: Revision { epoch: revision.epoch, number: revision.number }, seal }
    }
}
