//! The agent: a connector that talks to the master, and a supervisor that owns the running commands.
//!
//! Must not depend on the master's modules, the terminal or the command line.

mod actor;
pub mod attach;
pub mod connector;
pub mod core;
pub mod emergency;
pub mod enrollment;
pub mod facts;
pub mod finished;
pub mod handle;
pub mod incarnation;
pub mod layout;
pub mod link;
pub mod listen;
pub mod metrics;
pub mod seen;
pub mod service;
pub mod session;
pub mod spool;
pub mod supervisor;
pub mod supervisor_client;
pub mod task_memory;
pub mod task_process;
pub mod troubles;
