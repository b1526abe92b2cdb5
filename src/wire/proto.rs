//! The generated types of `proto/sloth/v2`.

tonic::include_proto!("sloth.v2");

/// The compiled proto files, for reflection and for the test that walks every method.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
