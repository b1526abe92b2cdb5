//! The data types of sloth-runner and their rules.
//!
//! This tier is pure: it uses no clock, no I/O, no tokio and no wire types.

pub mod agent;
pub mod attach;
pub mod bounded;
pub mod code;
pub mod command;
pub mod control;
pub mod digest;
pub mod fingerprint;
pub mod frame;
pub mod groups;
pub mod ids;
pub mod input;
pub mod job;
pub mod name;
pub mod network;
pub mod offset;
pub mod operator;
pub mod outcome;
pub mod plan;
pub mod proposal;
pub(crate) mod reply_to;
pub mod revision;
pub(crate) mod seal;
pub(crate) mod seam;
pub mod session;
pub(crate) mod share;
pub(crate) mod sign;
pub mod target;
pub mod terms;
pub mod text;
pub mod time;
mod version;

pub use self::version::SOFTWARE_VERSION;
