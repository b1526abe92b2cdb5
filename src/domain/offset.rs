//! Positions in the output of a task. Knows nothing of files or of positions in them.

use std::ops::{Add, AddAssign, Sub};

use derive_more::Display;
use serde::{Deserialize, Serialize};

/// A position in the output of a task: the number of payload bytes before it, both streams together.
#[derive(
    Clone, Copy, Debug, Default, Display, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct OutputOffset(pub u64);

impl OutputOffset {
    /// The beginning of the output.
    pub const START: Self = Self(0);
    /// A position that no output reaches.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the number of bytes from an earlier position to this one; 0 if that one is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for OutputOffset {
    type Output = Self;

    /// Returns the position that is this many bytes later, at most [`OutputOffset::MAX`].
    fn add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl AddAssign<u64> for OutputOffset {
    fn add_assign(&mut self, bytes: u64) {
        *self = *self + bytes;
    }
}

impl Sub<u64> for OutputOffset {
    type Output = Self;

    /// Returns the position that is this many bytes earlier, at most the beginning.
    fn sub(self, bytes: u64) -> Self {
        Self(self.0.saturating_sub(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stop_at_both_ends() {
        assert_eq!(OutputOffset(5) + u64::MAX, OutputOffset::MAX, "a window without a limit");
        assert_eq!(OutputOffset(5) - 7, OutputOffset::START);
        assert_eq!((OutputOffset(9).since(OutputOffset(5)), OutputOffset(5).since(OutputOffset(9))), (4, 0));
    }
}
