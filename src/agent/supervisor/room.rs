//! Limits a task's output that the master has not acknowledged: at the limit, the command has to wait. Pure.
//!
//! Must not measure the volume: the caller passes in its usage.

use std::time::{Duration, Instant};

use crate::{agent::spool::SEGMENT, domain::offset::OutputOffset};

/// The number of unacknowledged bytes at which the command has to wait while a client reads: the network is
/// slower than the command.
const CAP_ATTACHED: u64 = 32 * 1024 * 1024;
/// The same while no client reads: the network is down, and the command should continue as long as possible.
const CAP_DETACHED: u64 = 1024 * 1024 * 1024;
/// The usage of the volume, in per cent, above which a task's unacknowledged output is limited to one
/// segment, even while a client reads it: the machine needs the rest of the volume, and all tasks together
/// must not fill it.
const VOLUME_CAP: u8 = 90;
/// The pause before a write that has failed is tried again.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(1);

/// The usage of the volume at the last check, and the limit that follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputLimit {
    /// Whether the limit is one segment: the volume was nearly full, or is memory.
    pub(super) is_tight: bool,
    /// Whether the task's directory is in memory, since the disk could not be written.
    is_memory: bool,
    /// The number of bytes that the task had spooled at the last check.
    spooled: OutputOffset,
    when: Instant,
}

impl OutputLimit {
    /// Returns the state for a new task.
    pub(super) fn new(is_memory: bool, now: Instant) -> Self {
        Self { is_tight: is_memory, is_memory, spooled: OutputOffset::START, when: now }
    }

    /// Reports whether to check the volume: once per segment of output, or once a second while it is nearly
    /// full.
    pub(super) fn is_due(&self, spooled: OutputOffset, now: Instant) -> bool {
        if self.is_tight { now >= self.when + DISK_RETRY } else { spooled >= self.spooled + SEGMENT }
    }

    /// Notes the usage of the volume.
    pub(super) fn note(&mut self, used_percent: u8, spooled: OutputOffset, now: Instant) {
        let is_tight = self.is_memory || used_percent > VOLUME_CAP;
        *self = Self { is_tight, spooled, when: now, ..*self };
    }

    /// Returns the number of unacknowledged bytes at which the command has to wait.
    pub(super) fn limit(&self, is_read: bool) -> u64 {
        let cap = if is_read { CAP_ATTACHED } else { CAP_DETACHED };
        if self.is_tight { cap.min(SEGMENT) } else { cap }
    }

    /// Returns the reason for which the disk holds the command back, as text for operators; empty if it does
    /// not. `refused` is the error of the last write, if it failed.
    pub(super) fn held_reason(&self, refused: Option<&str>, may_read: bool) -> String {
        match refused {
            Some(error) => format!("the agent's disk does not take its output: {error}"),
            None if self.is_memory && !may_read => {
                "the agent's disk takes nothing: its output waits in memory until the master has it"
                    .to_owned()
            }
            None if self.is_tight && !may_read => {
                format!(
                    "the agent's volume is over {VOLUME_CAP} % full: its output waits until the master has it"
                )
            }
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_looked_at_once_a_segment_and_once_a_second_while_it_is_nearly_full() {
        let now = Instant::now();
        let mut room = OutputLimit::new(false, now);
        let long = now + 60 * DISK_RETRY;
        assert!(!room.is_due(OutputOffset(SEGMENT - 1), long));
        assert!(room.is_due(OutputOffset(SEGMENT), now));
        room.note(VOLUME_CAP, OutputOffset(SEGMENT), now);
        assert!(!room.is_tight);
        assert!(!room.is_due(OutputOffset(2 * SEGMENT - 1), long));
        assert!(room.is_due(OutputOffset(2 * SEGMENT), now));
        room.note(VOLUME_CAP + 1, OutputOffset(2 * SEGMENT), now);
        assert!(room.is_tight);
        assert!(!room.is_due(OutputOffset(9 * SEGMENT), now + DISK_RETRY / 2));
        assert!(room.is_due(OutputOffset(2 * SEGMENT), now + DISK_RETRY));
    }

    #[test]
    fn a_command_that_nobody_reads_continues_for_longer_but_not_on_a_volume_that_is_nearly_full() {
        let mut room = OutputLimit::new(false, Instant::now());
        assert_eq!((room.limit(true), room.limit(false)), (CAP_ATTACHED, CAP_DETACHED));
        room.note(100, OutputOffset::START, Instant::now());
        assert_eq!((room.limit(true), room.limit(false)), (SEGMENT, SEGMENT));
    }

    #[test]
    fn a_command_that_the_disk_holds_back_is_told_so() {
        let mut room = OutputLimit::new(false, Instant::now());
        assert_eq!(room.held_reason(None, true), "");
        assert_eq!(room.held_reason(None, false), "", "the network is slower than the command");
        assert!(room.held_reason(Some("no space"), false).ends_with("does not take its output: no space"));
        room.note(VOLUME_CAP + 1, OutputOffset::START, Instant::now());
        assert_eq!(room.held_reason(None, true), "");
        assert!(room.held_reason(None, false).contains("over 90 % full"));
    }
    #[test]
    fn in_memory_there_is_room_for_one_segment_and_the_disk_is_named() {
        let mut room = OutputLimit::new(true, Instant::now());
        assert_eq!((room.limit(true), room.limit(false), room.is_tight), (SEGMENT, SEGMENT, true));
        room.note(1, OutputOffset::START, Instant::now());
        assert_eq!(room.limit(true), SEGMENT);
        assert_eq!(room.held_reason(None, true), "");
        assert!(room.held_reason(None, false).contains("takes nothing"));
    }
}
