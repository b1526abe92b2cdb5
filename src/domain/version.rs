//! The version of the program.

/// The version of this program, as its package has it.
pub const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");
