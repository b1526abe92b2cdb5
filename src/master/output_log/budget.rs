//! Limits how far agents may send ahead of the disk: one budget of bytes for all tasks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes of all tasks together that may be on their way to the disk.
pub const IN_ALL: u64 = 128 * 1024 * 1024;
/// Bytes of one task, while less than half of the budget is used: enough to sync 8 MiB beside 8 MiB that stream.
pub const WIDE: u64 = 16 * 1024 * 1024;
/// Bytes of one task, while there is room.
pub const MIDDLE: u64 = 4 * 1024 * 1024;
/// Bytes of one task in any case.
pub const NARROW: u64 = 64 * 1024;

/// The budget. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    used: Arc<AtomicU64>,
}

/// One task's share, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// A narrow share, which there always is.
    #[must_use]
    pub fn narrow(&self) -> Share {
        self.used.fetch_add(NARROW, Ordering::Relaxed);
        Share { budget: self.clone(), bytes: NARROW }
    }
}

impl Share {
    /// How many bytes the task may send ahead.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it as wide as there is room for, for a task that uses what it has.
    pub fn widen(&mut self) {
        for (size, room) in [(WIDE, IN_ALL / 2), (MIDDLE, IN_ALL)] {
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
