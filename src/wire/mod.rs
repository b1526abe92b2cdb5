//! Protobuf and HTTP/2: generated types, their conversions to and from the domain, channels, clients and
//! servers.
//!
//! Only this tier names generated types. Does not depend on the store or on policy.

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
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    missing_docs,
    reason = "generated code"
)]
pub mod proto;
pub mod protocol_1;
pub mod scraped;
pub mod serve;
pub mod status;
pub mod streaming;
pub mod unauthenticated;
mod version;

pub use self::version::PROTOCOL;
pub use crate::domain::SOFTWARE_VERSION;
