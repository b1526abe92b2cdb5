//! The master's side of an Attach: output goes into the output log (`taking`), facts go to the core.
//!
//! Decides nothing: the core decides whether a task may start, and what follows when a link breaks.

mod attach;
mod taking;

pub(crate) use self::attach::{AttachSignals, Context, attach};
use self::attach::{DISK_RETRY, Lost, within};
