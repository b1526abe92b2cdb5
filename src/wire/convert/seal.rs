//! Seals: 32 bytes, or none.

use bytes::Bytes;

use crate::domain::seal::Seal;

pub(super) fn seal_out(seal: Option<Seal>) -> Option<Bytes> {
    seal.map(|seal| Bytes::copy_from_slice(seal.as_bytes()))
}

/// Converts a seal. Invalid bytes count as no seal, because they prove nothing.
pub(super) fn seal_in(bytes: Option<&Bytes>) -> Option<Seal> {
    bytes.and_then(|bytes| Seal::try_from(bytes.as_ref()).ok())
}
