//! The file operations of all code that promises durability. Tests replace the disk with a model that
//! crashes, fails and loses everything that a disk may lose.

mod files;
#[cfg(test)]
pub(crate) mod model;

pub use self::files::{Disk, File, Open};
