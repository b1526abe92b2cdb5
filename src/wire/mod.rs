//! Protobuf and HTTP/2: generated types, their conversions to and from the domain, channels and serving.
//!
//! Besides this tier only the two `service` modules see generated types. Knows no store and no policy.

pub mod accept;
pub mod agent;
pub mod bounds;
pub mod budget;
pub mod channel;
pub mod client;
pub mod codec;
pub mod command;
pub mod connect;
pub mod crowd;
pub mod digest;
pub mod frame;
pub mod job;
pub mod login;
pub mod metered;
pub mod outcome;
pub mod pieces;
pub mod plan;
pub mod proposal;
pub mod protocol_1;
pub mod scraped;
pub mod selection;
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
pub const PROTOCOL: proto::ProtocolVersion = proto::ProtocolVersion { major: 2, minor: 0 };
pub use crate::domain::SOFTWARE_VERSION;

/// A message that cannot be what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message that makes no sense: {0}")]
pub struct InvalidMessage(pub String);

impl InvalidMessage {
    /// A field that must be set is not.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self(format!("{field} is missing"))
    }

    /// Wraps what a domain type says of a value.
    pub fn because(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}
