//! Jobs: from the request to the last outcome on the disk.
//!
//! At most once is kept here and on the agent: a task may only be started by the life of the agent that was recorded
//! before it was first sent, before its deadline, and not after somebody cancelled it.
//!
//! A step applies facts to tasks, and marks their jobs as changed. When it has done so, [`gate`] continues with each changed
//! job until nothing changes any more.

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
