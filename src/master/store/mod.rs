//! The store: agents, tokens, operators, jobs, tasks and audit records in `SQLite`. Output is stored elsewhere.
//!
//! One thread writes, and combines all waiting changes in one transaction; readers share a few connections of
//! their own.

mod database;
mod listing;
mod rows;
pub(crate) mod salvage;
mod schema;
mod values;
mod writer;

use self::database::{BUSY_TIMEOUT, FILE, log_of, make_room_in_log};
pub use self::{
    database::{Ended, Store, StoreError},
    listing::Wanted,
    writer::{StoreWriter, Written},
};
