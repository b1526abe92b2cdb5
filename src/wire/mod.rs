//! Protobuf and HTTP/2: generated types, their conversions to and from the domain, channels, clients and
//! servers.
//!
//! Only this tier names generated types. Does not depend on the store or on policy.

pub use crate::domain::SOFTWARE_VERSION;
use crate::domain::session::Protocol;

pub mod accept;
pub mod agent;
pub mod bounds;
pub mod budget;
pub mod channel;
pub mod client;
pub mod codec;
pub mod connect;
pub mod control;
pub mod convert;
pub mod crowd;
pub mod enrollment;
pub mod incoming;
pub mod login;
pub mod metered;
pub mod outbox;
pub mod pieces;
pub mod protocol_1;
pub mod scraped;
pub mod serve;
pub mod status;
pub mod streaming;
pub mod unauthenticated;

/// The generated types of `proto/sloth/v2`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    missing_docs,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("sloth.v2");

    /// The compiled proto files, for reflection and for the test that walks every method.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// The protocol that this version speaks.
pub const PROTOCOL: Protocol = Protocol { major: 2, minor: 0 };
