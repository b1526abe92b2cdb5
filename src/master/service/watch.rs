//! Watching a run: states, counts and groups as digests, worked out on demand from the output log, live or later.
//!
//! It costs nothing when nobody watches, and a watcher that is slow gets fewer digests, not older ones.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    domain::{
        frame::Frame,
        groups::{Group, Grouping, mask::Masker},
        outcome::Outcome,
        run::{Run, Task, TaskState},
    },
    master::{
        journal::{Changes, Journal},
        output_log::{LogReader, OutputLogs},
    },
    sys::clock::unix_ms,
    wire::proto,
};

use super::follow::{LOG_AGAIN, MASTER_ENDS, has_failed};

/// Digests come at most so often …
const EVERY: Duration = Duration::from_millis(100);
/// … and working them out takes at most this share of the time: one part of so many.
const SHARE: u32 = 10;
/// Groups in a digest.
const GROUPS: usize = 200;
/// A task is quiet when it has printed nothing for so long; digests tell of it though nothing changed.
const QUIET_AFTER_MS: u64 = 5_000;
/// Reading the log holds a digest back for so long at most.
const LONGEST_FEED: Duration = Duration::from_millis(200);

type Digests = mpsc::Sender<Result<proto::RunDigest, Status>>;

/// What to watch.
pub(super) struct Watch {
    pub run: Run,
    /// `None` for a run that is over and stored.
    pub live: Option<Arc<Journal>>,
    pub maskers: Vec<Masker>,
    pub follow: bool,
    pub stop: CancellationToken,
}

struct Watcher {
    run: Run,
    grouping: Grouping,
    reader: LogReader,
    /// Tasks to be told with the next digest.
    changed: Vec<Task>,
    first: bool,
    /// Tasks that have ended, and where the log ended then: they are compared as such once all of it was read.
    ending: Vec<(u32, Outcome, u64)>,
    /// How long the last digest took to work out.
    cost: Duration,
}

impl Watcher {
    /// When a frame was printed, on the master's clock.
    fn time_of(&self, task: u32, frame: &Frame) -> u64 {
        let started_ms = self.run.task(task).and_then(|task| task.started_ms);
        started_ms.unwrap_or(self.run.created_ms) + frame.time_ns / 1_000_000
    }

    /// Reads the log up to `end`, but for so long only: states are told while a flood is still being compared. True
    /// when all there is was read. Only where a thread may wait for a disk.
    fn feed(&mut self, end: u64, longest: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        let mut has_read = false;
        while !has_read && begun.elapsed() < longest {
            let frames = self.reader.read(end)?;
            has_read = frames.is_empty();
            for (task, frame) in frames {
                let at_ms = self.time_of(task, &frame);
                self.grouping.feed(task, frame.stream, &frame.data, at_ms);
            }
        }
        let position = self.reader.position();
        for (task, outcome, at) in std::mem::take(&mut self.ending) {
            if has_read || at <= position {
                self.grouping.end(task, outcome);
            } else {
                self.ending.push((task, outcome, at));
            }
        }
        Ok(has_read)
    }

    /// Reads as much as there is time for, and works out a digest, on a thread that may take its time over both. With
    /// `all` there is none before everything is read, which the last value says.
    async fn work(mut self, end: u64, all: bool) -> io::Result<(Self, Option<proto::RunDigest>, bool)> {
        let work = move || {
            let has_read = self.feed(end, LONGEST_FEED)?;
            let digest = (has_read || !all).then(|| self.digest());
            Ok((self, digest, has_read))
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// Takes tasks' states; `until` is where the log ends, which holds what they printed before them.
    fn take(&mut self, news: Changes, until: u64) {
        for task in news.tasks {
            if let Some(outcome) = task.state.outcome() {
                self.ending.push((task.index, outcome.clone(), until));
            }
            if let Some(known) = self.run.task_mut(task.index) {
                known.clone_from(&task);
            }
            self.changed.push(task);
        }
        if let Some(gate) = news.gate {
            self.run.gate = gate;
        }
        self.run.ended_ms = news.ended_ms.or(self.run.ended_ms);
    }

    fn digest(&mut self) -> proto::RunDigest {
        let begun = Instant::now();
        let now_ms = unix_ms();
        let mut groups = self.grouping.groups();
        for group in &mut groups {
            // A run that was taken back from its agents has holes between its tasks.
            group.tasks.retain(|task| self.run.task(*task).is_some());
        }
        groups.retain(|group| !group.tasks.is_empty());
        let more_groups = u32::try_from(groups.len().saturating_sub(GROUPS)).unwrap_or(u32::MAX);
        let groups = groups.into_iter().take(GROUPS).map(|group| self.group_out(group, now_ms)).collect();
        let run = std::mem::take(&mut self.first).then(|| self.run.clone().into());
        let tasks = std::mem::take(&mut self.changed);
        self.cost = begun.elapsed();
        proto::RunDigest {
            tasks: if run.is_some() { Vec::new() } else { tasks.into_iter().map(Into::into).collect() },
            run,
            groups,
            more_groups,
            gate: Some(self.run.gate.clone().into()),
            // The last digest has all that was printed.
            ended_ms: if self.ending.is_empty() { self.run.ended_ms.unwrap_or(0) } else { 0 },
            closing: None,
        }
    }

    /// Those of these tasks that run and have been silent for a while.
    fn quiet(&self, tasks: &[u32], now_ms: u64) -> Vec<proto::QuietTask> {
        let quiet = |index: &u32| {
            let task = self.run.task(*index)?;
            let is_running = task.state == TaskState::Running;
            let since_ms = self.grouping.last_output_ms(*index).max(task.started_ms)?;
            let is_quiet = now_ms.saturating_sub(since_ms) >= QUIET_AFTER_MS;
            (is_running && is_quiet).then_some(proto::QuietTask { index: *index, since_ms })
        };
        tasks.iter().filter_map(quiet).collect()
    }

    fn has_running(&self) -> bool {
        self.run.tasks.iter().any(|task| task.state == TaskState::Running)
    }

    fn group_out(&self, group: Group, now_ms: u64) -> proto::Group {
        let last = group.tasks.iter().filter_map(|task| self.grouping.last_output_ms(*task)).max();
        let first = self.grouping.first_line(group.example);
        let stream_out = |stream| proto::Stream::from(stream).into();
        proto::Group {
            outcome: group.outcome.map(Into::into),
            example: group.example,
            stdout_lines: group.lines[0],
            stderr_lines: group.lines[1],
            parting: group
                .parted
                .map(|parting| proto::Parting { stream: stream_out(parting.stream), line: parting.line }),
            long: group.long,
            last_output_ms: last.unwrap_or(0),
            first_line: first.map_or_else(Vec::new, |(_, line)| line.to_vec()).into(),
            first_line_stream: first.map_or(0, |(stream, _)| stream_out(stream)),
            last_line: self.grouping.last_line(group.example).unwrap_or_default().to_vec().into(),
            quiet: self.quiet(&group.tasks, now_ms),
            tasks: group.tasks,
        }
    }
}

/// Watches a run until its end, the client's, or the master's.
pub(super) async fn serve(watch: Watch, logs: OutputLogs, digests: Digests) {
    if let Err(error) = run(watch, logs, &digests).await {
        // A client that is gone needs no reason.
        let _ = digests.send(Err(Status::data_loss(error.to_string()))).await;
    }
}

async fn run(watch: Watch, logs: OutputLogs, digests: &Digests) -> io::Result<()> {
    let id = watch.run.id;
    let mut watcher = Watcher {
        grouping: Grouping::new(watch.maskers),
        reader: logs.reader(id, 0),
        changed: Vec::new(),
        first: true,
        ending: Vec::new(),
        cost: Duration::ZERO,
        run: watch.run,
    };
    let Some(journal) = watch.live else {
        let end = logs.end(id).await?;
        for task in &watcher.run.tasks {
            watcher
                .ending
                .extend(task.state.outcome().map(|outcome| (task.index, outcome.clone(), u64::MAX)));
        }
        while !digests.is_closed() {
            let (next, digest, _) = watcher.work(end, true).await?;
            watcher = next;
            if let Some(digest) = digest {
                let _ = digests.send(Ok(digest)).await;
                break;
            }
        }
        return Ok(());
    };
    let log = logs.open(id).await?;
    let (mut appended, mut changed, mut trouble) = (log.appended(), journal.subscribe(), log.trouble());
    // The tasks as they were found are news too: some may have ended already.
    let mut found = watcher.run.tasks.clone();
    let mut seen = 0;
    loop {
        // States first, output second: what a task printed is in the log before its end is in the journal.
        changed.borrow_and_update();
        let mut news = journal.since(seen);
        seen = news.seen;
        news.tasks.splice(..0, std::mem::take(&mut found));
        let until = *appended.borrow_and_update();
        watcher.take(news, until);
        // Who wants a single digest wants all of it.
        let (next, digest, has_read) = watcher.work(until, !watch.follow).await?;
        watcher = next;
        let Some(digest) = digest else {
            if digests.is_closed() {
                return Ok(());
            }
            continue;
        };
        let is_over = has_read && (watcher.run.ended_ms.is_some() || !watch.follow);
        if digests.send(Ok(digest)).await.is_err() || is_over {
            return Ok(());
        }
        let pause = EVERY.max(watcher.cost * SHARE);
        let closing = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = digests.closed() => return Ok(()),
            () = watch.stop.cancelled() => true,
            () = has_failed(&mut trouble) => true,
        };
        if !closing && !has_read {
            continue;
        }
        let closing = closing
            || tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(QUIET_AFTER_MS)), if watcher.has_running() => false,
                _ = changed.changed() => false,
                _ = appended.changed() => false,
                () = digests.closed() => return Ok(()),
                () = watch.stop.cancelled() => true,
                () = has_failed(&mut trouble) => true,
            };
        if closing {
            let reason = if log.is_failed() { LOG_AGAIN } else { MASTER_ENDS }.to_owned();
            let closing = Some(proto::FollowClosing { reason, retry_after_ms: 1_000 });
            let _ = digests.send(Ok(proto::RunDigest { closing, ..proto::RunDigest::default() })).await;
            return Ok(());
        }
    }
}
