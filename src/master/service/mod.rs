//! The services of the master: `EnrollmentService` for anyone, `ControlService` for operators. Converts; makes no decisions.

mod agents;
pub(crate) mod begin;
mod choosing;
mod control;
mod digest;
pub(crate) mod enrollment;
mod follow;
mod history;
mod input;
mod invitations;
mod master;
mod news;
pub(crate) mod watch;

use self::master::invalid;
pub(crate) use self::master::{Master, Parts};
