//! The parts of the operating system that sloth-runner uses.
//!
//! Knows nothing of agents, masters or the wire. Its unsafe code is in `process`.

pub mod arguments;
pub(crate) mod clock;
pub(crate) mod daemon;
pub(crate) mod descriptors;
pub mod disk;
pub mod file;
pub(crate) mod giving_way;
pub(crate) mod hostname;
pub(crate) mod lock;
mod log_format;
mod log_volume;
pub(crate) mod logging;
pub(crate) mod paths;
pub(crate) mod process;
pub mod random;
pub(crate) mod rate;
pub(crate) mod runtime;
pub(crate) mod shutdown;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod systemd;
pub mod terminal;
pub(crate) mod vital;
