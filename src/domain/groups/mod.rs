//! Groups of tasks: which tasks have the same output so far, where their outputs diverge, and which ones are
//! silent.
//!
//! Lines are hashed into one prefix tree for each stream. Each line costs one step, and two tasks are
//! compared by their lowest common ancestor. Stdout and stderr are separate, because the order in which they
//! interleave must not make equal commands differ. Pure: the caller passes the bytes, the outcomes and the
//! time.

mod grouping;
pub(crate) mod line;
pub mod mask;
mod step;
mod tree;

pub use self::grouping::{Group, Grouping, PREVIEW, Parting};
