//! Tests the log on a disk that crashes, fails and loses writes: no acknowledged byte is missing, and none is invented.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{JobLog, LogReader, opening};
use crate::master::output_log::LogPosition;
use crate::{
    domain::{
        frame::{Frame, Stream},
        offset::OutputOffset,
    },
    sys::disk::{Disk, model::Model},
};

const TASKS: u32 = 3;
/// Small, so that a history has many files.
const FILE_SIZE: u64 = 700;

/// Returns the byte that a task prints at an offset.
fn printed(task: u32, offset: OutputOffset) -> u8 {
    let mixed = (offset.0 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ u64::from(task) << 7);
    mixed.to_be_bytes()[0]
}

struct History {
    model: Model,
    log: Option<JobLog>,
    /// Positions, tasks and offsets: the offset is acknowledged once the log is synced up to the position.
    waiting: Vec<(u64, u32, OutputOffset)>,
    acknowledged: HashMap<u32, OutputOffset>,
    /// The end of the output that was ever sent of each task.
    sent: HashMap<u32, OutputOffset>,
    /// Output of any task before this offset may have been dropped.
    spare: OutputOffset,
    crashes: u64,
    failures: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let model = Model::new(seed);
        let disk = Disk::model(model.clone());
        disk.make_directory(Path::new("/runs")).unwrap();
        disk.sync_names(Path::new("/")).unwrap();
        Self {
            model,
            log: None,
            waiting: Vec::new(),
            acknowledged: HashMap::new(),
            sent: HashMap::new(),
            spare: OutputOffset::START,
            crashes: 0,
            failures: 0,
        }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.model.roll(sides)
    }

    fn directory() -> PathBuf {
        PathBuf::from("/runs/run")
    }

    /// Opens the log, and retries while the disk fails.
    fn open(&mut self) {
        self.waiting.clear();
        for attempt in 0.. {
            if attempt > 3 {
                self.model.fail(0);
            }
            match opening::open(&Disk::model(self.model.clone()), Self::directory(), FILE_SIZE) {
                Ok(log) => {
                    self.log = Some(log);
                    break;
                }
                Err(error) => assert!(attempt <= 3, "{error}"),
            }
        }
        self.check();
    }

    fn log(&self) -> &JobLog {
        self.log.as_ref().unwrap()
    }

    fn append(&mut self) {
        let task = u32::try_from(self.roll(u64::from(TASKS))).unwrap();
        let end = self.log().task_end(task);
        // An agent resends what was not acknowledged, even if the log already has it.
        let acknowledged = self.acknowledged.get(&task).copied().unwrap_or_default();
        let mut offset = if self.roll(4) == 0 { acknowledged.min(end) } else { end };
        let mut frames = Vec::new();
        for _ in 0..=self.roll(3) {
            // Few different sizes, so that a write can end where a failed write had the end of a frame.
            let size = [1, 40, 40, 170][usize::try_from(self.roll(4)).unwrap()];
            let data: Vec<u8> = (0..size).map(|at| printed(task, offset + at)).collect();
            let frame = Frame { stream: Stream::Stdout, offset, time_ns: 0, data: data.into() };
            offset = frame.end();
            frames.push(frame);
        }
        let sent = self.sent.entry(task).or_default();
        *sent = offset.max(*sent);
        match self.log().append_here(task, &frames) {
            Ok(position) => self.waiting.push((position.0, task, offset)),
            Err(_) => self.failures += 1,
        }
    }

    fn sync(&mut self) {
        let (end, unsynced) = self.log().begin_sync();
        // Appending does not wait for a sync.
        for _ in 0..self.roll(3) {
            self.append();
        }
        if self.log().finish_sync(end, unsynced).is_err() {
            self.failures += 1;
            if self.log().is_failed() {
                return self.open();
            }
        }
        let synced = *self.log().synced().borrow();
        if self.roll(2) == 0 {
            let _ = self.log().write_indices(synced.0);
        }
        for (_, task, end) in self.waiting.iter().filter(|(position, ..)| *position <= synced.0) {
            let acknowledged = self.acknowledged.entry(*task).or_default();
            *acknowledged = (*end).max(*acknowledged);
        }
        self.waiting.retain(|(position, ..)| *position > synced.0);
    }

    fn drop_spare(&mut self) {
        let least = (0..TASKS).map(|task| self.acknowledged.get(&task).copied().unwrap_or_default()).min();
        self.spare = self.spare.max(OutputOffset(least.unwrap_or_default().0 / 2));
        let (spare, position) = (self.spare, *self.log().appended().borrow());
        // If this fails, the next call does it.
        let _ = self.log().drop_spare(position, |(_, to), _| to <= spare);
    }

    /// Reads everything, and compares it with what was printed.
    fn check(&mut self) {
        self.model.fail(0);
        let until = *self.log().appended().borrow();
        let mut reader =
            LogReader::new(Disk::model(self.model.clone()), Self::directory(), LogPosition::START);
        let mut ends: HashMap<u32, OutputOffset> = HashMap::new();
        loop {
            let frames = reader.read(until).unwrap();
            if frames.is_empty() {
                break;
            }
            for (task, frame) in frames {
                let end = ends.entry(task).or_default();
                assert!(
                    frame.offset == *end || frame.offset <= self.spare.max(*end),
                    "a gap at {end} of {task}"
                );
                for (at, byte) in frame.data.iter().enumerate() {
                    assert_eq!(*byte, printed(task, frame.offset + at as u64), "a byte of task {task}");
                }
                *end = frame.end().max(*end);
            }
        }
        assert!(reader.position() >= until || until == LogPosition::START, "all of it was read");
        for task in 0..TASKS {
            let of = |known: &HashMap<u32, OutputOffset>| known.get(&task).copied().unwrap_or_default();
            let end = self.log().task_end(task);
            assert!(
                of(&self.acknowledged) <= end,
                "task {task}: {} were acknowledged, {end} are there",
                of(&self.acknowledged)
            );
            assert!(end <= of(&self.sent), "more than was printed");
            assert!(of(&ends) == end || end <= self.spare, "task {task}: {} can be read of {end}", of(&ends));
        }
    }

    fn run(&mut self, steps: u64) {
        self.open();
        for _ in 0..steps {
            match self.roll(24) {
                0..12 => self.append(),
                12..18 => self.sync(),
                18 => {
                    let one_in = self.roll(6);
                    self.model.fail(if one_in == 0 { 0 } else { one_in + 1 });
                }
                19 => self.model.fail(0),
                20 => self.drop_spare(),
                21 => self.check(),
                kind => {
                    self.crashes += 1;
                    self.log = None;
                    if kind == 22 {
                        self.model.crash();
                    } else {
                        self.model.restart();
                    }
                    self.open();
                }
            }
        }
        self.check();
    }
}

/// Returns how many histories are played; `SLOTH_CRASHES` changes it.
fn count() -> u64 {
    std::env::var("SLOTH_CRASHES").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000)
}

#[test]
fn nothing_acknowledged_is_lost_whatever_a_disk_forgets() {
    let (mut crashes, mut failures) = (0, 0);
    let only = std::env::var("SLOTH_HISTORY").ok().and_then(|only| only.parse().ok());
    for seed in only.map_or(0..count(), |only| only..only + 1) {
        let mut history = History::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.run(150)));
        if let Err(panic) = played {
            eprintln!("SLOTH_HISTORY={seed} plays this again");
            std::panic::resume_unwind(panic);
        }
        (crashes, failures) = (crashes + history.crashes, failures + history.failures);
    }
    eprintln!("{crashes} crashes and restarts, {failures} failures");
    assert!(
        only.is_some() || (crashes > count() && failures > count()),
        "{crashes} crashes, {failures} failures"
    );
}
