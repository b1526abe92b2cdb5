//! Jobs: from the request to the last outcome on the disk.
//!
//! This module and the agent together guarantee that a task starts at most once. Only the incarnation of the
//! agent that was recorded before the task was first sent may start it, before the deadline, and not after
//! the task was cancelled.
//!
//! A step applies facts to tasks, and marks their jobs as changed. Then [`gate`] processes each changed job
//! until nothing changes any more.

mod cancelling;
mod dispatching;
mod ending;
mod gate;
mod held;
mod live;
mod operating;
mod presence;
mod registry;
mod restoring;
mod returning;
mod showing;
mod starting;
mod task;
mod waiting;

pub use self::held::HeldBy;
pub(super) use self::{
    cancelling::PendingOrder,
    live::{LiveJob, Phase},
    registry::LiveJobs,
};
