//! The agent: a connector that talks to the master, and a supervisor that owns the running commands.
//!
//! Must not depend on the master's modules, the terminal or the command line.

mod actor;
pub(crate) mod attach;
pub(crate) mod connector;
pub mod core;
pub mod emergency;
pub(crate) mod enrollment;
pub(crate) mod facts;
pub mod finished;
pub(crate) mod handle;
pub(crate) mod incarnation;
pub mod layout;
pub(crate) mod link;
pub(crate) mod listen;
pub(crate) mod metrics;
pub(crate) mod seen;
pub(crate) mod service;
pub(crate) mod session;
pub mod spool;
pub mod supervisor;
pub(crate) mod supervisor_client;
pub(crate) mod task_memory;
pub(crate) mod task_process;
pub(crate) mod troubles;
