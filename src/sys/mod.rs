//! The parts of the operating system that sloth-runner uses.
//!
//! Knows nothing of agents, masters or the wire. Its unsafe code is in [`process`].

pub mod arguments;
pub mod clock;
pub mod daemon;
pub mod descriptors;
pub mod disk;
pub mod file;
pub mod giving_way;
pub mod hostname;
pub mod lock;
mod log_format;
mod log_volume;
pub mod logging;
pub mod paths;
pub mod process;
pub mod random;
pub mod rate;
pub mod runtime;
pub mod shutdown;
pub mod socket;
pub mod spawn;
pub mod systemd;
pub mod terminal;
pub mod vital;
