//! The services of the master: `EnrollmentService` for anyone, `ControlService` for operators. Converts; makes no decisions.

mod agents;
pub mod begin;
mod choosing;
mod control;
mod digest;
pub mod enrollment;
mod follow;
mod history;
mod input;
mod invitations;
mod master;
mod news;
pub mod watch;

use self::master::invalid;
pub use self::master::{Master, Parts};
