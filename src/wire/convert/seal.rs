//! Seals, each of 32 bytes.

use bytes::Bytes;

use crate::domain::seal::Seal;

pub(super) fn seal_out(seal: Option<Seal>) -> Option<Bytes> {
    seal.map(|seal| Bytes::copy_from_slice(seal.as_bytes()))
}

/// Converts a seal. Returns `None` for invalid bytes, because they prove nothing.
pub(super) fn seal_in(bytes: Option<&Bytes>) -> Option<Seal> {
    bytes.and_then(|bytes| Seal::try_from(bytes.as_ref()).ok())
}
