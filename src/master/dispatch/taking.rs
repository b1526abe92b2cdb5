//! Writes a task's output into the job's log: tracks what was received, what is in the log, what is on the disk, and so how much
//! more the agent may send.
//!
//! Knows the log, but not the stream on which the output arrives.

use std::{collections::VecDeque, io, sync::Arc, time::Instant};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{DISK_RETRY, Lost, within};
use crate::{
    domain::{
        frame::{Frame, HEADER, joined},
        ids::TaskId,
        job::Overflow,
        offset::OutputOffset,
    },
    master::{
        cap::{Cap, Newest},
        core::messages::{HeldBy, Input},
        flow_control::{FlowControl, MEASURE_INTERVAL},
        handle::Handle,
        output_log::{
            FILE_SIZE, JobLog, LogPosition, Trouble,
            budget::{Budget, NARROW, Share},
            writer::INLINE_WRITE_BYTES,
        },
    },
};

/// How far the log of a job may be ahead of a client that commands wait for, in bytes. Less than what stays
/// in the page cache.
const PACE_WINDOW: u64 = 16 * 1024 * 1024;

/// The output of one task.
pub(super) struct Taking {
    id: TaskId,
    handle: Handle,
    log: Arc<JobLog>,
    synced: watch::Receiver<LogPosition>,
    trouble: watch::Receiver<Option<Trouble>>,
    share: Share,
    /// Output before this offset is safe: it is synced, or was dropped.
    safe: OutputOffset,
    /// Output before this offset was received.
    end: OutputOffset,
    /// The agent may send output before this offset.
    granted: OutputOffset,
    cap: Cap,
    /// Bytes of the task that the log has, or will have, with headers.
    written: u64,
    /// The newest output over the cap, which is only written when the task ends.
    newest: Newest,
    /// The position of the slowest client that the command waits for.
    slowest: watch::Receiver<Option<LogPosition>>,
    pace: FlowControl,
    /// Number of whole files of the log that this client had passed when files were last dropped.
    passed: u64,
    /// Received frames that are not given to the log yet.
    unwritten: Vec<Frame>,
    /// The current write, of the frames before these.
    writing: Option<AbortOnDropHandle<Option<(LogPosition, OutputOffset)>>>,
    /// Positions in the log and offsets of the task: an offset is safe once its position is synced.
    waiting: VecDeque<(LogPosition, OutputOffset)>,
}

/// A change that concerns a task's output.
#[derive(Debug)]
pub(super) enum Change {
    /// A write has ended. Contains the end of the written frames, in the log and in the output of the task;
    /// `None` if it failed.
    Written(Option<(LogPosition, OutputOffset)>),
    /// The trouble of the log has changed.
    Trouble,
    /// More is synced, or was read by a client.
    Room,
    /// The log is closed.
    Closed,
}

/// What to report to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Output before this offset is safe.
    pub acknowledged: Option<OutputOffset>,
    /// The agent may send output before this offset.
    pub granted: Option<OutputOffset>,
}

impl Taking {
    /// Receives output from the offset `from` on.
    pub(super) fn new(
        id: TaskId,
        handle: Handle,
        log: Arc<JobLog>,
        from: OutputOffset,
        cap: Cap,
        budget: &Budget,
    ) -> Self {
        let mut trouble = log.trouble();
        if trouble.borrow().is_some() {
            trouble.mark_changed();
        }
        let share = budget.narrow();
        Self {
            id,
            handle,
            synced: log.synced(),
            slowest: log.slowest(),
            trouble,
            pace: FlowControl::default(),
            passed: 0,
            safe: from,
            end: from,
            granted: from + share.bytes(),
            cap,
            written: log.written(id.index),
            newest: Newest::new(cap),
            unwritten: Vec::new(),
            writing: None,
            waiting: VecDeque::new(),
            share,
            log,
        }
    }

    /// Returns the end offset of the received output.
    pub(super) fn end(&self) -> OutputOffset {
        self.end
    }

    /// Returns the offset before which the agent may send output.
    pub(super) fn granted(&self) -> OutputOffset {
        self.granted
    }

    /// Waits for the next change. Cancel safe.
    pub(super) async fn changed(&mut self) -> Change {
        let may_be_safe = !self.waiting.is_empty();
        let follows_pace = self.is_over_cap() || self.is_near_grant();
        tokio::select! {
            written = async { self.writing.as_mut()?.await.unwrap_or_default() }, if self.writing.is_some() => {
                Change::Written(written)
            }
            changed = self.synced.changed(), if may_be_safe => {
                if changed.is_ok() { Change::Room } else { Change::Closed }
            }
            _ = self.trouble.changed() => Change::Trouble,
            _ = self.slowest.changed(), if follows_pace => Change::Room,
            () = tokio::time::sleep(MEASURE_INTERVAL), if self.pace.waits() => Change::Room,
        }
    }

    /// Handles a change. Returns what to report to the agent.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn handle_change(&mut self, change: Change) -> Result<Progress, Lost> {
        match change {
            Change::Written(written) => self.written(written).await.map(|()| Progress::default()),
            Change::Trouble => self.report_trouble().await.map(|()| Progress::default()),
            Change::Room => Ok(self.progress()),
            Change::Closed => Err(Lost::Broken("the log is closed".into())),
        }
    }

    /// Reports whether the output has reached the end of the beginning that is always kept.
    fn is_over_cap(&self) -> bool {
        self.end >= OutputOffset(self.cap.beginning)
    }

    /// Reports whether the agent has sent nearly all that it may.
    fn is_near_grant(&self) -> bool {
        self.granted <= self.end + self.share.bytes() / 4
    }

    /// Reports whether new output goes into the log at the speed of a client that reads along.
    fn follows_client(&self) -> bool {
        self.cap.overflow == Overflow::Block && self.slowest.borrow().is_some()
    }

    /// Skips output that the agent no longer has. The output continues at `to`; the window moves there when
    /// everything before it is synced.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn skip_to(&mut self, to: OutputOffset) -> Result<Progress, Lost> {
        within(to.0, "a gap")?;
        self.write_out().await?;
        self.end = self.end.max(to);
        let position = *self.log.appended().borrow();
        self.wait_for(position, to);
        Ok(self.progress())
    }

    /// Reports whether output is held that is only written when the task ends. No sync announces the output
    /// that it displaces.
    pub(super) fn holds_newest(&self) -> bool {
        !self.newest.is_empty()
    }

    /// Writes everything that was received to the log. Must come before followers are notified of the end of
    /// the task.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn finish(&mut self) -> Result<(), Lost> {
        self.write_newest().await?;
        self.write_out().await
    }

    /// Waits until all earlier output of the task in the log is synced. An agent considers output
    /// acknowledged if the output after it is requested.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn wait_until_begin_is_safe(&mut self) -> Result<(), Lost> {
        let appended = *self.log.appended().borrow();
        if self.end == OutputOffset::START || *self.log.synced().borrow() >= appended {
            return Ok(());
        }
        self.log.flush();
        self.wait_synced(appended).await
    }

    /// Waits until everything that was received is synced.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn wait_until_safe(&mut self) -> Result<(), Lost> {
        self.log.flush();
        match self.waiting.back().copied() {
            Some((position, _)) => self.wait_synced(position).await,
            None => Ok(()),
        }
    }

    /// Receives frames of the agent.
    ///
    /// # Errors
    /// When the agent sends more than it was granted, or the log has failed.
    pub(super) async fn append(&mut self, frames: Vec<Frame>) -> Result<(), Lost> {
        let mut kept = Vec::with_capacity(frames.len());
        for frame in joined(frames) {
            if frame.end() > self.granted {
                return Err(Lost::Broken("the agent sent more than it was granted".into()));
            }
            let beginning = self.beginning();
            self.written += (HEADER + frame.data.len()) as u64;
            if self.follows_client() {
                self.write_newest().await?;
                kept.push(frame);
                continue;
            }
            // A frame across the end of the beginning is split.
            if frame.offset < beginning {
                kept.push(frame.clone().before_offset(beginning));
            }
            if let Some(frame) = frame.from_offset(beginning) {
                self.write(std::mem::take(&mut kept)).await?;
                // A dropped part is acknowledged together with the output before it, so that output is
                // written first.
                self.write_out().await?;
                self.keep_newest(frame).await;
            }
        }
        self.write(kept).await?;
        if self.end.since(self.safe) >= NARROW / 2 {
            self.share.widen();
        }
        if self.end.since(self.safe) >= self.share.bytes() / 2 {
            self.log.flush();
        }
        Ok(())
    }

    /// Returns the offset up to which output belongs to the beginning, which is kept; 0 once too many bytes
    /// are written.
    fn beginning(&self) -> OutputOffset {
        let room = if self.written > self.cap.most_written { 0 } else { self.cap.beginning };
        OutputOffset(room)
    }

    /// Queues frames for the log. Long output is written in the background, so that the next frames can be
    /// read meanwhile.
    async fn write(&mut self, frames: Vec<Frame>) -> Result<(), Lost> {
        let Some(end) = frames.last().map(Frame::end) else { return Ok(()) };
        self.end = self.end.max(end);
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        self.unwritten.extend(frames);
        if self.writing.is_none() && bytes < INLINE_WRITE_BYTES {
            let written = self.writing().await;
            return self.written(written).await;
        }
        self.start_write();
        Ok(())
    }

    /// Starts to write queued frames in the background, unless a write is running.
    fn start_write(&mut self) {
        if self.writing.is_none() && !self.unwritten.is_empty() {
            self.writing = Some(AbortOnDropHandle::new(tokio::spawn(self.writing())));
        }
    }

    /// Writes the queued frames. Completes when the log has them.
    fn writing(&mut self) -> impl Future<Output = Option<(LogPosition, OutputOffset)>> + Send + use<> {
        let frames = std::mem::take(&mut self.unwritten);
        write_all(Arc::clone(&self.log), self.handle.clone(), self.id, frames)
    }

    /// Records the result of a write, and starts the next one.
    async fn written(&mut self, written: Option<(LogPosition, OutputOffset)>) -> Result<(), Lost> {
        self.writing = None;
        let Some((position, end)) = written else {
            return Err(Lost::Broken("its output log has failed".into()));
        };
        self.wait_for(position, end);
        if self.is_over_cap() {
            self.drop_passed(position).await;
        }
        self.start_write();
        Ok(())
    }

    /// Waits until the log has everything that was received.
    async fn write_out(&mut self) -> Result<(), Lost> {
        self.start_write();
        while let Some(writing) = &mut self.writing {
            let written = writing.await.unwrap_or_default();
            self.written(written).await?;
        }
        Ok(())
    }

    /// Drops the log's files that the slowest client has passed and that hold neither beginning nor end of any task, once
    /// for each file that it passes.
    async fn drop_passed(&mut self, position: LogPosition) {
        let slowest = self.slowest.borrow().unwrap_or(position);
        let file = slowest.0 / FILE_SIZE;
        if file == self.passed {
            return;
        }
        self.passed = file;
        let beginning = self.cap.beginning;
        let log = Arc::clone(&self.log);
        // All tasks of a job have the same cap.
        let is_spare = move |(from, to): (OutputOffset, OutputOffset), end: OutputOffset| {
            from >= OutputOffset(beginning) && to + beginning <= end
        };
        let dropped = tokio::task::spawn_blocking(move || log.drop_spare(slowest, is_spare)).await;
        if let Err(error) = dropped.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(%error, task = %self.id, "cannot drop output over the cap");
        }
    }

    fn wait_for(&mut self, position: LogPosition, end: OutputOffset) {
        match self.waiting.back_mut() {
            // Small frames share an entry: otherwise a window full of them would make a long queue.
            Some(last) if position.0 / NARROW == last.0.0 / NARROW => *last = (position, end),
            _ => self.waiting.push_back((position, end)),
        }
    }

    /// Holds a frame over the cap. The output that it displaces is dropped, and counts as safe.
    async fn keep_newest(&mut self, frame: Frame) {
        self.end = self.end.max(frame.end());
        if self.newest.is_empty() {
            let text = format!(
                "its output is over the cap of {} bytes: its beginning and its end are kept",
                self.cap.bytes
            );
            self.handle.tell(Input::TaskWaits(self.id, HeldBy::Nobody, text.into())).await;
        }
        if let Some(gone) = self.newest.push(frame) {
            let position = *self.log.appended().borrow();
            self.wait_for(position, gone);
        }
    }

    async fn write_newest(&mut self) -> Result<(), Lost> {
        let frames = self.newest.take();
        self.write(frames.into()).await
    }

    /// Returns what is safe now and how much further the agent may send, if this has changed.
    pub(super) fn progress(&mut self) -> Progress {
        let mut progress = Progress::default();
        let synced = *self.synced.borrow_and_update();
        let before = self.safe;
        while let Some((_, end)) = self.waiting.pop_front_if(|(position, _)| *position <= synced) {
            self.safe = self.safe.max(end);
        }
        if self.safe > before {
            progress.acknowledged = Some(self.safe);
        }
        let ahead = *self.log.appended().borrow();
        let slowest = *self.slowest.borrow_and_update();
        let to_offset = match slowest.filter(|_| self.follows_client()) {
            // The client receives every byte, so the command runs no faster than the client reads.
            Some(slowest) if self.is_over_cap() && ahead.bytes_since(slowest) >= PACE_WINDOW => self.granted,
            _ if !self.newest.is_empty() => self.end + self.share.bytes(),
            Some(slowest) => {
                let room = self.pace.room(ahead, slowest, Instant::now());
                (self.end + room).min(self.safe + self.share.bytes())
            }
            None => self.safe + self.share.bytes(),
        };
        // A small step is only reported to an agent that waits for it.
        let step = if self.granted <= self.end { 1 } else { self.share.bytes() / 16 };
        if to_offset >= self.granted + step {
            self.granted = to_offset;
            progress.granted = Some(to_offset);
        }
        progress
    }

    /// Waits until the log is synced up to a position.
    async fn wait_synced(&mut self, position: LogPosition) -> Result<(), Lost> {
        let mut synced = self.log.synced();
        loop {
            tokio::select! {
                () = async { drop(synced.wait_for(|synced| *synced >= position).await) } => return Ok(()),
                _ = self.trouble.changed() => self.report_trouble().await?,
            }
        }
    }

    /// Reports to the core why the log cannot be written to the disk, or that it can. Fails if the log has
    /// failed.
    async fn report_trouble(&mut self) -> Result<(), Lost> {
        let trouble = self.trouble.borrow_and_update().clone();
        let text = trouble.as_ref().map_or_else(String::new, |trouble| trouble.text().to_owned());
        let has_failed = trouble.is_some_and(|trouble| trouble.is_failure());
        self.handle.tell(Input::TaskWaits(self.id, HeldBy::Master, text.clone().into())).await;
        if has_failed { Err(Lost::Broken(text)) } else { Ok(()) }
    }
}

/// Appends frames to a log, and retries while the disk fails. Returns the end of the last frame in the log
/// and in the output of the task; `None` if the log has failed.
async fn write_all(
    log: Arc<JobLog>,
    handle: Handle,
    id: TaskId,
    frames: Vec<Frame>,
) -> Option<(LogPosition, OutputOffset)> {
    let end = frames.last().map(Frame::end)?;
    let mut said = false;
    let position = loop {
        match log.append(id.index, &frames).await {
            Ok(position) => break position,
            Err(_) if log.is_failed() => return None,
            Err(error) => {
                // Until this succeeds, the agent keeps its output and the command waits.
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, task = %id, "cannot write output; trying again");
                    let text = format!("the master cannot write its output: {error}; trying again");
                    handle.tell(Input::TaskWaits(id, HeldBy::Master, text.into())).await;
                }
                tokio::time::sleep(DISK_RETRY).await;
            }
        }
    };
    if said {
        handle.tell(Input::TaskWaits(id, HeldBy::Master, String::new().into())).await;
    }
    Some((position, end))
}

#[cfg(test)]
mod tests;
