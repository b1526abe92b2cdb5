//! Limits how far agents may send ahead of the disk: all tasks share one budget of bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The budget of all tasks together, in bytes.
pub(crate) const TOTAL_BYTES: u64 = 128 * 1024 * 1024;
/// Window of one task while less than half of the budget is used, in bytes. Large enough to sync 8 MiB while
/// 8 MiB arrive.
pub(crate) const WIDE: u64 = 16 * 1024 * 1024;
/// Window of one task while the budget is not used up, in bytes.
pub(crate) const MIDDLE: u64 = 4 * 1024 * 1024;
/// Minimum window of one task, in bytes.
pub(crate) const NARROW: u64 = 64 * 1024;

/// A handle to the budget; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    used: Arc<AtomicU64>,
}

/// One task's share of the budget, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// Returns a share of [`NARROW`] bytes, even if the budget is used up.
    #[must_use]
    pub(crate) fn narrow(&self) -> Share {
        self.used.fetch_add(NARROW, Ordering::Relaxed);
        Share { budget: self.clone(), bytes: NARROW }
    }
}

impl Share {
    /// Returns how many bytes the task may send ahead.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Widens the share as far as the budget allows. Meant for a task that uses its whole share.
    pub(crate) fn widen(&mut self) {
        for (size, room) in [(WIDE, TOTAL_BYTES / 2), (MIDDLE, TOTAL_BYTES)] {
            let more = size.saturating_sub(self.bytes);
            let fits = |used: u64| (used + more <= room).then_some(used + more);
            let used = &self.budget.used;
            if more > 0 && used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
                self.bytes = size;
                return;
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_wide_while_there_is_room_and_never_nothing() {
        let budget = Budget::default();
        let mut shares: Vec<Share> = (0..100).map(|_| budget.narrow()).collect();
        shares.iter_mut().for_each(Share::widen);
        let count = |size| shares.iter().filter(|share| share.bytes() == size).count();
        assert_eq!((count(WIDE), count(MIDDLE), count(NARROW)), (3, 18, 79));
        assert!(shares.iter().all(|share| share.bytes() >= NARROW));
        drop(shares);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
