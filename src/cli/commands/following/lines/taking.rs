//! Applies the events of a job to what the client shows.

use std::io;

use super::{
    super::{
        End, say_held,
        telling::{changed, missing},
    },
    Follower,
};
use crate::{
    cli::{exit, output::complain},
    domain::{
        control::{JobEvent, TaskGap},
        frame::Frame,
        job::Task,
        plan::Gate,
    },
};

impl Follower {
    /// Handles one event. Returns how following ends, if this event ends it.
    pub(super) fn take(&mut self, event: JobEvent) -> io::Result<Option<End>> {
        match event {
            // After a reconnect: the current states.
            JobEvent::Job(job) => self.followed.job = *job,
            JobEvent::Task(task) => self.task_changed(*task)?,
            JobEvent::Output { task, frames } => {
                let fresh: Vec<Frame> =
                    frames.into_iter().filter_map(|frame| self.fresh(task, frame)).collect();
                // Files first: they are complete even if standard output fails in the middle.
                if let Some(files) = &mut self.files {
                    fresh.iter().try_for_each(|frame| files.frame(task, frame))?;
                }
                fresh.into_iter().try_for_each(|frame| self.print(task, &frame))?;
                if self.is_whole(task) {
                    self.last_line(task)?;
                }
            }
            JobEvent::Gap { task, gap } => self.gap(task, &gap)?,
            JobEvent::Gate(gate) => return self.gate_changed(gate),
            JobEvent::Ended { ended_ms } => {
                self.followed.job.ended_ms = Some(ended_ms);
                return Ok(Some(End::Shown));
            }
            JobEvent::Closing(_) | JobEvent::Refused(_) | JobEvent::TargetChanged { .. } => {}
        }
        Ok(None)
    }

    /// Returns the part of a frame that is new and requested. After a reconnect the last piece may arrive
    /// again.
    fn fresh(&mut self, task: u32, frame: Frame) -> Option<Frame> {
        let end = self.ends.entry(task).or_insert(self.followed.following.from_offset);
        let frame = frame.from_offset(*end)?;
        *end = frame.end();
        Some(frame).filter(|frame| self.followed.following.only.is_none_or(|only| only == frame.stream))
    }

    fn print(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        match &mut self.events {
            _ if self.mute => Ok(()),
            Some(events) => events.frame(task, frame),
            None if self.followed.following.is_text() => {
                self.followed.erase();
                self.printer.frame(task, frame)
            }
            None => {
                self.outputs.frame(task, frame);
                Ok(())
            }
        }
    }

    fn gap(&mut self, task: u32, lost: &TaskGap) -> io::Result<()> {
        if let Some(files) = &mut self.files {
            files.gap(task)?;
        }
        match &mut self.events {
            _ if self.mute => {}
            Some(events) => events.gap(task, lost.from, lost.to, &lost.reason)?,
            None if self.followed.following.is_text() => {
                self.followed.erase();
                self.printer.gap(task)?;
            }
            None => self.outputs.gap(task, lost),
        }
        let end = self.ends.entry(task).or_insert(lost.to);
        *end = (*end).max(lost.to);
        self.followed.erase();
        complain(&missing(&self.followed.job, task, lost));
        Ok(())
    }

    fn task_changed(&mut self, task: Task) -> io::Result<()> {
        self.followed.mark_stale();
        let (index, paint) = (task.index, self.printer.paint());
        let Some(known) = self.followed.job.task_mut(index) else { return Ok(()) };
        let news = changed(known, &task, paint);
        // Before anything is printed: the state is true even if printing fails.
        *known = task.clone();
        match &mut self.events {
            _ if self.mute => {}
            Some(events) => events.task(&task)?,
            None if task.state.outcome().is_some() => self.last_line(index)?,
            None => {}
        }
        if let Some(news) = news.filter(|_| self.wants_notes()) {
            self.followed.note(&news);
        }
        Ok(())
    }

    fn gate_changed(&mut self, gate: Gate) -> io::Result<Option<End>> {
        self.followed.erase();
        say_held(&self.followed.job, &gate);
        self.followed.job.gate = gate;
        if let Some(events) = self.events.as_mut().filter(|_| !self.mute) {
            events.gate(&self.followed.job.gate)?;
        }
        Ok(self.followed.is_held_unattended().then_some(End::Detached(exit::NO_STATUS)))
    }

    /// Whether all output of a task was received. For a task that ended before this client connected, no
    /// state change arrives.
    fn is_whole(&self, task: u32) -> bool {
        let end = self.ends.get(&task).copied().unwrap_or_default();
        self.followed
            .job
            .task(task)
            .is_some_and(|task| task.state.outcome().is_some() && end >= task.end_offset)
    }

    /// Prints a last line without an end, which is complete now.
    fn last_line(&mut self, task: u32) -> io::Result<()> {
        match &mut self.events {
            _ if self.mute => Ok(()),
            Some(events) => events.last_lines(task),
            None if self.followed.following.is_text() => {
                self.followed.erase();
                self.printer.ended(task)
            }
            None => Ok(()),
        }
    }
}
