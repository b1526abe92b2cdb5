//! Protobuf and HTTP/2: generated types, their conversions to and from the domain, channels, clients and
//! servers.
//!
//! Only this tier names generated types. Does not depend on the store or on policy.

pub mod accept;
pub(crate) mod agent;
pub(crate) mod bounds;
pub mod budget;
pub mod channel;
pub(crate) mod client;
pub(crate) mod codec;
pub mod connect;
pub(crate) mod control;
pub mod convert;
pub(crate) mod crowd;
pub(crate) mod enrollment;
pub(crate) mod incoming;
pub mod login;
pub(crate) mod metered;
pub(crate) mod outbox;
pub(crate) mod pieces;
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    missing_docs,
    reason = "generated code"
)]
pub mod proto;
pub(crate) mod protocol_1;
pub(crate) mod scraped;
pub mod serve;
pub(crate) mod status;
pub(crate) mod streaming;
pub mod unauthenticated;
mod version;

pub use self::version::PROTOCOL;
pub use crate::domain::SOFTWARE_VERSION;
