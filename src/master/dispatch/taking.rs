//! Writes a task's output into the job's log: tracks what was received, what is in the log, what is on the disk, and so how much
//! more the agent may send.
//!
//! Knows the log, and nothing of the stream that the output comes by.

use std::{collections::VecDeque, io, sync::Arc, time::Instant};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{DISK_RETRY, Lost, within};
use crate::{
    domain::{
        frame::{Frame, HEADER, joined},
        ids::TaskId,
        job::Overflow,
    },
    master::{
        cap::{Cap, Newest},
        core::messages::{HeldBy, Input},
        flow_control::{FlowControl, WATCHED},
        handle::Handle,
        output_log::{
            FILE_SIZE, JobLog, Trouble,
            budget::{Budget, NARROW, Share},
            writer::SHORT,
        },
    },
};

/// How far the log of a job may be ahead of a client at whose pace its commands go; within what the log keeps cached.
const PACE_WINDOW: u64 = 16 * 1024 * 1024;

/// The output of one task.
pub(super) struct Taking {
    id: TaskId,
    handle: Handle,
    log: Arc<JobLog>,
    synced: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<Trouble>>,
    share: Share,
    /// Bytes of the task before this are on the disk.
    safe: u64,
    /// Bytes of the task before this were taken.
    end: u64,
    /// The agent may send bytes before this.
    granted: u64,
    cap: Cap,
    /// Bytes that the log has, or will have, of the task.
    written: u64,
    /// The newest output over the cap, which is only written when the task ends.
    newest: Newest,
    /// Where the client is at whose pace the command goes.
    slowest: watch::Receiver<Option<u64>>,
    pace: FlowControl,
    /// How many files' worth of the log that client had passed when files were dropped last.
    passed: u64,
    /// Taken, and not given to the log yet.
    unwritten: Vec<Frame>,
    /// Writes what was taken before that.
    writing: Option<AbortOnDropHandle<Option<(u64, u64)>>>,
    /// Positions in the log, and the task's offsets that are safe once they are synced.
    waiting: VecDeque<(u64, u64)>,
}

/// What has changed for a task's output.
#[derive(Debug)]
pub(super) enum Change {
    /// The log has what it was given: where that ends, in the log and in the task's output; `None` when it failed.
    Written(Option<(u64, u64)>),
    /// The disk takes the output, or no longer does.
    Trouble,
    /// More is on the disk, or was read.
    Room,
    /// The log is closed.
    Closed,
}

/// What the agent is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything before this is safe.
    pub acknowledged: Option<u64>,
    /// It may send what comes before this.
    pub granted: Option<u64>,
}

impl Taking {
    /// Takes what follows `from`.
    pub(super) fn new(
        id: TaskId,
        handle: Handle,
        log: Arc<JobLog>,
        from: u64,
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

    /// Where the output ends that was taken.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The agent may send what comes before this.
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// Waits for the next change. Given up and called again it misses none.
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
            () = tokio::time::sleep(WATCHED), if self.pace.waits() => Change::Room,
        }
    }

    /// Does what a change calls for, and says what the agent is to be told then.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn take_note(&mut self, change: Change) -> Result<Progress, Lost> {
        match change {
            Change::Written(written) => self.written(written).await.map(|()| Progress::default()),
            Change::Trouble => self.tell_trouble().await.map(|()| Progress::default()),
            Change::Room => Ok(self.progress()),
            Change::Closed => Err(Lost::Broken("the log is closed".into())),
        }
    }

    /// Whether the task has printed more than its beginning that is always kept.
    fn is_over_cap(&self) -> bool {
        self.end >= self.cap.beginning
    }

    /// Whether the agent has sent nearly all that it may.
    fn is_near_grant(&self) -> bool {
        self.granted <= self.end + self.share.bytes() / 4
    }

    /// Whether what comes now goes into the log, at the pace of a client that reads along.
    fn is_paced(&self) -> bool {
        self.cap.overflow == Overflow::Block && self.slowest.borrow().is_some()
    }

    /// What the agent no longer has: the output continues at `to`, and so does what may be sent, once what lies before is on the
    /// disk.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn skip_to(&mut self, to: u64) -> Result<Progress, Lost> {
        within(to, "a gap")?;
        self.write_out().await?;
        self.end = self.end.max(to);
        let position = *self.log.appended().borrow();
        self.wait_for(position, to);
        Ok(self.progress())
    }

    /// Whether output is held that is only written when the task ends, so that no sync will tell of what it pushes out.
    pub(super) fn holds_newest(&self) -> bool {
        !self.newest.is_empty()
    }

    /// Gives the log everything that was taken. What followers hear of the task's end must be in it before.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn finish(&mut self) -> Result<(), Lost> {
        self.write_newest().await?;
        self.write_out().await
    }

    /// Waits until everything is on the disk that the log had of the task before: an agent that is asked for what follows
    /// takes that for acknowledged.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn wait_until_begin_is_safe(&mut self) -> Result<(), Lost> {
        let appended = *self.log.appended().borrow();
        if self.end == 0 || *self.log.synced().borrow() >= appended {
            return Ok(());
        }
        self.log.flush();
        self.wait_synced(appended).await
    }

    /// Waits until everything that was taken is on the disk.
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

    /// Takes what the agent has sent.
    ///
    /// # Errors
    /// When it is not what it may be, or the log has failed.
    pub(super) async fn append(&mut self, frames: Vec<Frame>) -> Result<(), Lost> {
        let mut kept = Vec::with_capacity(frames.len());
        for frame in joined(frames) {
            if frame.end() > self.granted {
                return Err(Lost::Broken("the agent sent more than it was granted".into()));
            }
            let beginning = self.beginning();
            self.written += (HEADER + frame.data.len()) as u64;
            if self.is_paced() {
                self.write_newest().await?;
                kept.push(frame);
                continue;
            }
            // A frame that reaches over the end of the beginning is two.
            if frame.offset < beginning {
                kept.push(frame.clone().before_offset(beginning));
            }
            if let Some(frame) = frame.from_offset(beginning) {
                self.write(std::mem::take(&mut kept)).await?;
                // What is told as gone is told with what lies before it.
                self.write_out().await?;
                self.keep_newest(frame).await;
            }
        }
        self.write(kept).await?;
        if self.end - self.safe >= NARROW / 2 {
            self.share.widen();
        }
        if self.end - self.safe >= self.share.bytes() / 2 {
            self.log.flush();
        }
        Ok(())
    }

    /// Up to which offset output belongs to the beginning, which is kept.
    fn beginning(&self) -> u64 {
        if self.written > self.cap.most_written { 0 } else { self.cap.beginning }
    }

    /// Takes frames for the log. Long ones are written beside the stream: while the disk takes some, the next are read.
    async fn write(&mut self, frames: Vec<Frame>) -> Result<(), Lost> {
        let Some(end) = frames.last().map(Frame::end) else { return Ok(()) };
        self.end = self.end.max(end);
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        self.unwritten.extend(frames);
        if self.writing.is_none() && bytes < SHORT {
            let written = self.writing().await;
            return self.written(written).await;
        }
        self.write_beside();
        Ok(())
    }

    /// Begins to write what was taken, unless something is being written.
    fn write_beside(&mut self) {
        if self.writing.is_none() && !self.unwritten.is_empty() {
            self.writing = Some(AbortOnDropHandle::new(tokio::spawn(self.writing())));
        }
    }

    /// Writes what was taken. Ends when the log has it.
    fn writing(&mut self) -> impl Future<Output = Option<(u64, u64)>> + Send + use<> {
        let frames = std::mem::take(&mut self.unwritten);
        write_all(Arc::clone(&self.log), self.handle.clone(), self.id, frames)
    }

    /// Notes what the log has now, and continues with what was taken meanwhile.
    async fn written(&mut self, written: Option<(u64, u64)>) -> Result<(), Lost> {
        self.writing = None;
        let Some((position, end)) = written else {
            return Err(Lost::Broken("its output log has failed".into()));
        };
        self.wait_for(position, end);
        if self.is_over_cap() {
            self.drop_passed(position).await;
        }
        self.write_beside();
        Ok(())
    }

    /// Waits until the log has everything that was taken.
    async fn write_out(&mut self) -> Result<(), Lost> {
        self.write_beside();
        while let Some(writing) = &mut self.writing {
            let written = writing.await.unwrap_or_default();
            self.written(written).await?;
        }
        Ok(())
    }

    /// Drops the log's files that the slowest client has passed and that hold neither beginning nor end of any task, once
    /// for each file that it passes.
    async fn drop_passed(&mut self, position: u64) {
        let slowest = self.slowest.borrow().unwrap_or(position);
        if slowest / FILE_SIZE == self.passed {
            return;
        }
        self.passed = slowest / FILE_SIZE;
        let beginning = self.cap.beginning;
        let log = Arc::clone(&self.log);
        // All tasks of a job have the same cap.
        let is_spare = move |(from, to): (u64, u64), end: u64| from >= beginning && to + beginning <= end;
        let dropped = tokio::task::spawn_blocking(move || log.drop_spare(slowest, is_spare)).await;
        if let Err(error) = dropped.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(%error, task = %self.id, "cannot drop output over the cap");
        }
    }

    fn wait_for(&mut self, position: u64, end: u64) {
        match self.waiting.back_mut() {
            // Small frames share an entry, or a window full of them would be a long queue.
            Some(last) if position / NARROW == last.0 / NARROW => *last = (position, end),
            _ => self.waiting.push_back((position, end)),
        }
    }

    /// Holds a frame over the cap; what it pushes out is gone, and counts as safe.
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

    /// What is safe now, and how much further the agent may send, where that is news to it.
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
        let to_offset = match slowest.filter(|_| self.is_paced()) {
            // The client gets every byte, so the command goes no faster than it reads.
            Some(slowest) if self.is_over_cap() && ahead - slowest.min(ahead) >= PACE_WINDOW => self.granted,
            _ if !self.newest.is_empty() => self.end + self.share.bytes(),
            Some(slowest) => {
                let room = self.pace.room(ahead, slowest, Instant::now());
                self.end.saturating_add(room).min(self.safe + self.share.bytes())
            }
            None => self.safe + self.share.bytes(),
        };
        // Small steps are worth a message only to an agent that waits for one.
        let step = if self.granted <= self.end { 1 } else { self.share.bytes() / 16 };
        if to_offset >= self.granted + step {
            self.granted = to_offset;
            progress.granted = Some(to_offset);
        }
        progress
    }

    /// Waits until the log is on the disk up to a position.
    async fn wait_synced(&mut self, position: u64) -> Result<(), Lost> {
        let mut synced = self.log.synced();
        loop {
            tokio::select! {
                () = async { drop(synced.wait_for(|synced| *synced >= position).await) } => return Ok(()),
                _ = self.trouble.changed() => self.tell_trouble().await?,
            }
        }
    }

    /// Shows what keeps the disk from taking the output. A log that has failed is left.
    async fn tell_trouble(&mut self) -> Result<(), Lost> {
        let trouble = self.trouble.borrow_and_update().clone();
        let text = trouble.as_ref().map_or_else(String::new, |trouble| trouble.text().to_owned());
        let has_failed = trouble.is_some_and(|trouble| trouble.is_failure());
        self.handle.tell(Input::TaskWaits(self.id, HeldBy::Master, text.clone().into())).await;
        if has_failed { Err(Lost::Broken(text)) } else { Ok(()) }
    }
}

/// Appends frames to a log, however long the disk takes for them. Where the last one ends, in the log and in the task's
/// output; `None` when the log has failed.
async fn write_all(log: Arc<JobLog>, handle: Handle, id: TaskId, frames: Vec<Frame>) -> Option<(u64, u64)> {
    let end = frames.last().map(Frame::end)?;
    let mut said = false;
    let position = loop {
        match log.append(id.index, &frames).await {
            Ok(position) => break position,
            Err(_) if log.is_failed() => return None,
            Err(error) => {
                // Held back here, the agent keeps what it has, and its command waits.
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
