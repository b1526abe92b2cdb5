//! Prints output: unchanged for a single agent name, as whole lines with names for any other target.

use std::{collections::BTreeMap, io, time::Duration};

use chrono::Local;
use unicode_width::UnicodeWidthStr as _;

use crate::{
    cli::{
        args::run::PrintArgs,
        output::{Paint, Tone, stderr_is_terminal, stdout_is_terminal},
        sanitize::Sanitizer,
        stdio::Stdio,
    },
    domain::{
        frame::{Frame, Stream},
        job::{Job, Task},
        seam::{CUT_BEGIN, CUT_END, Seam},
        time::{UnixMs, time_of_day},
    },
    sys::file::widen_pipe,
};

/// Maximum length of a line on a terminal, in bytes. A longer line is printed in marked pieces.
const LONGEST_LINE: usize = 1024 * 1024;
/// Maximum size of all pending lines, in bytes, if the output is not a terminal. Above it, lines over
/// [`LONGEST_LINE`] are printed in pieces there too.
const MAX_PENDING_BYTES: usize = 256 * 1024 * 1024;
/// Size of a write, in bytes, from which on a task is expected to print more. The pipe is then widened to
/// [`WIDE_PIPE_BYTES`].
const WIDEN_PIPE_FROM_BYTES: usize = 32 * 1024;
/// Size of a widened pipe, in bytes: the output of one message fits. The reader and this program wake each
/// other less often, which saves a tenth of the time.
const WIDE_PIPE_BYTES: usize = 256 * 1024;
/// Maximum size of lines that are written together, in bytes. A pipe takes this much atomically (`PIPE_BUF`),
/// so that the lines of two programs that print into one pipe stay whole.
const WRITE_BATCH_BYTES: usize = 4096;
/// Marks a piece whose line continues.
const CONTINUATION_MARK: &str = " …(line continues)";

/// The state of one stream of one task.
#[derive(Debug, Default)]
struct Line {
    pending: Vec<u8>,
    /// When `pending` was printed, in nanoseconds since the task's start.
    time_ns: u64,
    sanitizer: Sanitizer,
    /// Whether the last byte on the terminal did not end a line.
    mid_line: bool,
    /// Whether the beginning of the line is already printed.
    is_open: bool,
    /// Whether bytes before the line are missing.
    is_behind_gap: bool,
    seam: Seam,
}

#[derive(Debug)]
struct TaskLines {
    prefix: String,
    /// When the task began; `None` if lines do not begin with their times.
    began_ms: Option<UnixMs>,
    /// Standard output and error.
    streams: [Line; 2],
}

impl TaskLines {
    /// Returns the prefix of a line that was printed at this time.
    fn prefix(&self, paint: Paint, time_ns: u64) -> String {
        match self.began_ms {
            Some(began_ms) => {
                let at = time_of_day(began_ms + Duration::from_nanos(time_ns), &Local);
                format!("{} {}", paint.paint(Tone::Dim, &at), self.prefix)
            }
            None => self.prefix.clone(),
        }
    }
}

/// Prints the output of a job's tasks to standard output and standard error.
#[derive(Debug)]
pub(super) struct Printer {
    bytes: bool,
    /// Standard output and error.
    sinks: [Sink; 2],
    /// By index: at the end, the remaining lines are printed in this order.
    tasks: BTreeMap<u32, TaskLines>,
    waiting: Waiting,
}

/// Lines that wait for their end.
#[derive(Debug)]
struct Waiting {
    /// Whether only one task prints, so that a long line can be written as it arrives.
    is_alone: bool,
    /// Total size of the pending lines, in bytes.
    held: usize,
}

#[derive(Debug)]
struct Sink {
    // Unbuffered: output is shown immediately, and large pieces are not copied.
    out: Stdio,
    was_widened: bool,
    is_terminal: bool,
    sanitize: bool,
    paint: Paint,
}

impl Sink {
    fn new(out: Stdio, is_terminal: bool, args: &PrintArgs) -> Self {
        Self {
            out,
            was_widened: false,
            is_terminal,
            sanitize: is_terminal && !args.raw,
            paint: Paint::new(args.color, is_terminal),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= WIDEN_PIPE_FROM_BYTES && !self.was_widened {
            widen_pipe(self.out.file(), WIDE_PIPE_BYTES);
            self.was_widened = true;
        }
        self.out.write(bytes)
    }
}

impl Printer {
    /// Creates a printer for a job.
    pub(super) fn new(job: &Job, args: &PrintArgs, timestamps: bool) -> io::Result<Self> {
        let stdout = Sink::new(Stdio::out()?, stdout_is_terminal(), args);
        let stderr = Sink::new(Stdio::err()?, stderr_is_terminal(), args);
        let width = job.tasks.iter().map(|task| task.agent.as_str().width()).max().unwrap_or(0);
        let no_prefix = args.no_prefix || job.plain_name;
        let lines = |place: usize, task: &Task| TaskLines {
            began_ms: timestamps.then(|| task.started_ms.unwrap_or(job.created_ms)),
            prefix: if no_prefix {
                String::new()
            } else {
                let name = task.agent.as_str();
                let padding = if stdout.is_terminal { width - name.width() } else { 0 };
                format!(
                    "{}{} ",
                    stdout.paint.paint(Tone::Name(place), &format!("{name}:")),
                    " ".repeat(padding)
                )
            },
            streams: Default::default(),
        };
        let named = job.tasks.iter().enumerate();
        let tasks = named.map(|(place, task)| (task.index, lines(place, task))).collect();
        let waiting = Waiting { is_alone: job.tasks.len() == 1, held: 0 };
        Ok(Self { bytes: job.plain_name && !timestamps, sinks: [stdout, stderr], tasks, waiting })
    }

    /// Whether a reader has not read all output yet.
    pub(super) fn is_held(&self) -> bool {
        self.sinks.iter().any(|sink| sink.out.has_backlog())
    }

    /// Waits until the readers have read all output. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        for sink in &mut self.sinks {
            sink.out.drain().await?;
        }
        Ok(())
    }

    /// Whether standard error is a terminal.
    pub(super) fn has_person(&self) -> bool {
        self.sinks[1].is_terminal
    }

    /// Returns the colours of standard error.
    pub(super) fn paint(&self) -> Paint {
        self.sinks[1].paint
    }

    /// Prints a frame.
    ///
    /// # Errors
    /// If standard output or error cannot be written, for example because its reader is gone.
    pub(super) fn frame(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        let Some(lines) = self.tasks.get_mut(&task) else { return Ok(()) };
        let at = usize::from(frame.stream == Stream::Stderr);
        let sink = &mut self.sinks[at];
        if !self.bytes {
            let prefix = lines.prefix(sink.paint, frame.time_ns);
            return print_lines(sink, &mut lines.streams[at], &prefix, frame, &mut self.waiting);
        }
        let line = &mut lines.streams[at];
        let mark = line.seam.next(&frame.data);
        if !mark.is_empty() {
            sink.write(mark.as_bytes())?;
        }
        match (sink.sanitize, frame.stream) {
            (false, _) => sink.write(&frame.data),
            (true, Stream::Stdout) => {
                let clean = line.sanitizer.clean(&frame.data);
                line.mid_line = clean.last().is_some_and(|byte| *byte != b'\n');
                sink.write(&clean)
            }
            (true, Stream::Stderr) => mark_errors(sink, line, &frame.data),
        }
    }

    /// Handles a gap in a task's output. The stream is not known, so the pending lines of both streams end.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) fn gap(&mut self, task: u32) -> io::Result<()> {
        let Some(lines) = self.tasks.get_mut(&task) else { return Ok(()) };
        for at in [0, 1] {
            let sink = &mut self.sinks[at];
            if self.bytes {
                let line = &mut lines.streams[at];
                line.mid_line = false;
                sink.write(line.seam.gap().as_bytes())?;
            } else {
                flush_line(sink, lines, at, &mut self.waiting, CUT_END)?;
                lines.streams[at].is_behind_gap = true;
            }
        }
        Ok(())
    }

    /// Handles the end of a task: a last line without an end is complete.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) fn ended(&mut self, task: u32) -> io::Result<()> {
        let Some(lines) = self.tasks.get_mut(&task).filter(|_| !self.bytes) else { return Ok(()) };
        for at in [0, 1] {
            flush_line(&mut self.sinks[at], lines, at, &mut self.waiting, "")?;
        }
        Ok(())
    }

    /// Prints the rest of lines without an end, and resets colours.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for lines in self.tasks.values_mut() {
            for (at, sink) in self.sinks.iter_mut().enumerate() {
                flush_line(sink, lines, at, &mut self.waiting, "")?;
                let line = &mut lines.streams[at];
                if sink.sanitize {
                    let reset = line.sanitizer.reset();
                    sink.write(reset)?;
                    if line.mid_line && sink.is_terminal {
                        // The next line, for example a prompt, must not continue this one.
                        sink.write(b"\n")?;
                        line.mid_line = false;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Prints the pending part of a line as a line.
fn flush_line(
    sink: &mut Sink,
    lines: &mut TaskLines,
    at: usize,
    waiting: &mut Waiting,
    end: &str,
) -> io::Result<()> {
    let prefix = lines.prefix(sink.paint, lines.streams[at].time_ns);
    let line = &mut lines.streams[at];
    if line.pending.is_empty() && !line.is_open {
        return Ok(());
    }
    let rest = std::mem::take(&mut line.pending);
    waiting.held -= rest.len();
    let mut out = Vec::new();
    add_line(&mut out, sink, line, &prefix, &rest, end);
    sink.write(&out)
}

/// Prints standard error on a terminal. Each line has a mark, so that it can be recognized without colour.
fn mark_errors(sink: &mut Sink, line: &mut Line, data: &[u8]) -> io::Result<()> {
    let clean = line.sanitizer.clean(data);
    let mut marked = Vec::with_capacity(clean.len() + 16);
    let mark = sink.paint.paint(Tone::Bad, "! ");
    for piece in clean.split_inclusive(|byte| *byte == b'\n') {
        if !line.mid_line {
            marked.extend_from_slice(mark.as_bytes());
        }
        marked.extend_from_slice(piece);
        line.mid_line = !piece.ends_with(b"\n");
    }
    sink.write(&marked)
}

fn print_lines(
    sink: &mut Sink,
    line: &mut Line,
    prefix: &str,
    frame: &Frame,
    waiting: &mut Waiting,
) -> io::Result<()> {
    // Written together: a system call for each line would take longer than all other work.
    let mut out = Vec::new();
    line.time_ns = frame.time_ns;
    waiting.held -= line.pending.len();
    for piece in frame.data.split_inclusive(|byte| *byte == b'\n') {
        line.pending.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            line.pending.pop();
            let whole = std::mem::take(&mut line.pending);
            print_line(&mut out, sink, line, prefix, &whole, "")?;
            // The buffer is used again for the next line.
            line.pending = whole;
            line.pending.clear();
        }
        while line.pending.len() >= LONGEST_LINE {
            if sink.is_terminal || waiting.held + line.pending.len() > MAX_PENDING_BYTES {
                let rest = line.pending.split_off(LONGEST_LINE);
                let piece = std::mem::replace(&mut line.pending, rest);
                print_line(&mut out, sink, line, prefix, &piece, CONTINUATION_MARK)?;
            } else if waiting.is_alone {
                begin_line(&mut out, line, prefix);
                sink.write(&std::mem::take(&mut out))?;
                sink.write(&std::mem::take(&mut line.pending))?;
            } else {
                break;
            }
        }
    }
    waiting.held += line.pending.len();
    sink.write(&out)
}

/// Returns the part of a line after its last carriage return. A carriage return at the end of the line is
/// ignored.
fn last_written(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let from = line.iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    &line[from..]
}

/// Adds a line to those that are written together. If they become too large, those before it are written
/// first.
fn print_line(
    out: &mut Vec<u8>,
    sink: &mut Sink,
    line: &mut Line,
    prefix: &str,
    text: &[u8],
    end: &str,
) -> io::Result<()> {
    let before = out.len();
    add_line(out, sink, line, prefix, text, end);
    if out.len() > WRITE_BATCH_BYTES {
        sink.write(&out[..before])?;
        out.drain(..before);
    }
    Ok(())
}

fn begin_line(out: &mut Vec<u8>, line: &mut Line, prefix: &str) {
    if !std::mem::replace(&mut line.is_open, true) {
        out.extend_from_slice(prefix.as_bytes());
    }
    if std::mem::take(&mut line.is_behind_gap) {
        out.extend_from_slice(CUT_BEGIN.as_bytes());
    }
}

fn add_line(out: &mut Vec<u8>, sink: &Sink, line: &mut Line, prefix: &str, text: &[u8], end: &str) {
    begin_line(out, line, prefix);
    line.is_open = false;
    if sink.sanitize {
        // As a terminal would finally show it: a carriage return would overwrite the agent's name.
        out.extend_from_slice(&line.sanitizer.clean(last_written(text)));
        // Colours end with their line; otherwise they would apply to the next agent's name.
        out.extend_from_slice(line.sanitizer.reset());
    } else {
        out.extend_from_slice(text);
    }
    out.extend_from_slice(end.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
