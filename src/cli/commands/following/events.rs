//! A job as a stream of JSON objects, one on each line (`cli/json/event`). A long line is printed in pieces.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::printer::Printer;
use crate::{
    cli::{
        json::{EndedFields, Event, Fields, GapFields, GateFields, JobObject, LineFields, TaskObject},
        output::sanitize_json,
        stdio::Stdio,
    },
    domain::{
        frame::{Frame, Stream},
        job::{Job, Task},
        name::AgentName,
        offset::OutputOffset,
        plan::{Gate, GateState},
    },
};

/// Maximum length of a line without an end, in bytes. A longer line is printed in pieces.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A line whose end has not arrived yet: its bytes, and the offset of its first byte.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    offset: OutputOffset,
    is_after_gap: bool,
}

fn say(out: &mut Stdio, fields: impl Fields) -> io::Result<()> {
    let line = serde_json::to_string(&Event::new(fields))? + "\n";
    out.write(sanitize_json(&line).as_bytes())
}

/// The events of one job.
#[derive(Debug)]
pub(super) struct Events {
    out: Stdio,
    agents: HashMap<u32, AgentName>,
    pending: HashMap<(u32, Stream), Pending>,
    /// Streams that have printed nothing since a gap in their task's output.
    behind_gap: HashSet<(u32, Stream)>,
}

fn word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

impl Events {
    pub(super) fn new(job: &Job) -> io::Result<Self> {
        let agents = job.tasks.iter().map(|task| (task.index, task.agent.clone()));
        let out = Stdio::out()?;
        Ok(Self { out, agents: agents.collect(), pending: HashMap::new(), behind_gap: HashSet::new() })
    }

    /// Prints the job, which is the first object.
    pub(super) fn begin(&mut self, job: &Job) -> io::Result<()> {
        say(&mut self.out, JobObject::new(job))
    }

    /// Whether the reader has not read all output yet.
    pub(super) fn is_held(&self) -> bool {
        self.out.has_backlog()
    }

    /// Waits until the reader has read all output. May be dropped and called again.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        self.out.drain().await
    }

    /// Prints the state of a task. If it has ended, its last lines without an end come first.
    pub(super) fn task(&mut self, task: &Task) -> io::Result<()> {
        if task.state.outcome().is_some() {
            self.last_lines(task.index)?;
        }
        say(&mut self.out, TaskObject::new(task))
    }

    /// Prints a task's last lines without an end.
    pub(super) fn last_lines(&mut self, task: u32) -> io::Result<()> {
        [Stream::Stdout, Stream::Stderr].into_iter().try_for_each(|stream| self.flush(task, stream, false))
    }

    pub(super) fn gate(&mut self, gate: &Gate) -> io::Result<()> {
        let (state, reason) = match &gate.state {
            GateState::Open => ("open", None),
            GateState::Held(reason) => ("held", Some(reason.as_str())),
            GateState::Stopped(reason) => ("stopped", Some(reason.as_str())),
        };
        say(&mut self.out, GateFields { state, reason, batch: gate.open_batch + 1 })
    }

    pub(super) fn gap(
        &mut self,
        task: u32,
        from: OutputOffset,
        to: OutputOffset,
        reason: &str,
    ) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.flush(task, stream, false)?;
            self.behind_gap.insert((task, stream));
        }
        let agent = self.agents.get(&task);
        say(&mut self.out, GapFields { index: task, agent, from, to, reason })
    }

    pub(super) fn frame(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        let mut offset = frame.offset;
        for piece in frame.data.split_inclusive(|byte| *byte == b'\n') {
            let pending = self.pending.entry((task, frame.stream)).or_default();
            if pending.bytes.is_empty() {
                pending.offset = offset;
                pending.is_after_gap = self.behind_gap.remove(&(task, frame.stream));
            }
            offset += piece.len() as u64;
            pending.bytes.extend_from_slice(piece);
            let is_whole = piece.ends_with(b"\n");
            if is_whole || pending.bytes.len() >= MAX_LINE_BYTES {
                self.flush(task, frame.stream, is_whole)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, task: u32, stream: Stream, newline: bool) -> io::Result<()> {
        let Some(pending) = self.pending.remove(&(task, stream)) else { return Ok(()) };
        let bytes = if newline { &pending.bytes[..pending.bytes.len() - 1] } else { &pending.bytes[..] };
        let text = std::str::from_utf8(bytes).ok();
        let line = LineFields {
            index: task,
            agent: self.agents.get(&task),
            stream: word(stream),
            offset: pending.offset,
            newline,
            after_gap: pending.is_after_gap,
            text,
            base64: text.is_none().then(|| STANDARD.encode(bytes)),
        };
        say(&mut self.out, line)
    }

    /// Prints all lines without an end, when no more output follows.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut left: Vec<(u32, Stream)> = self.pending.keys().copied().collect();
        left.sort_by_key(|(task, stream)| (*task, word(*stream)));
        left.into_iter().try_for_each(|(task, stream)| self.flush(task, stream, false))
    }

    pub(super) fn ended(&mut self, job: &Job, status: u8) -> io::Result<()> {
        let ended = EndedFields {
            number: job.number,
            ended_ms: job.ended_ms,
            succeeded: job.tasks.iter().filter(|task| task.has_succeeded()).count(),
            task_count: job.tasks.len(),
            exit_status: status,
        };
        say(&mut self.out, ended)
    }
}

/// Waits until the readers have read all output. May be dropped and called again.
pub(super) async fn drain(printer: &mut Printer, events: Option<&mut Events>) -> io::Result<()> {
    printer.drain().await?;
    match events {
        Some(events) => events.drain().await,
        None => Ok(()),
    }
}
