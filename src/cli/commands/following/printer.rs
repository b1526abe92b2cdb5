//! Printing what tasks print: exact bytes for one plain name, whole lines with names for everything else.

use std::{collections::HashMap, io};

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
        run::{Run, Task},
    },
    sys::{clock::clock_time, file::widen_pipe},
};

/// A line without an end is printed in pieces of this many bytes.
const LONGEST_LINE: usize = 1024 * 1024;
/// Who prints so many bytes at once prints more of them …
const FLOOD: usize = 32 * 1024;
/// … and a pipe takes them better when all that a message brings has room in it: its reader and this program wake each
/// other less often, which is a tenth of a flood's time.
const PIPE: usize = 256 * 1024;
/// Lines are written together up to so many bytes: what a pipe takes as one (`PIPE_BUF`), so that the lines of two programs
/// that print into one pipe do not tear each other.
const TOGETHER: usize = 4096;
/// Marks a piece whose line goes on.
const PIECE: &str = " …(line goes on)";

/// One stream of one task.
#[derive(Debug, Default)]
struct Line {
    pending: Vec<u8>,
    sanitizer: Sanitizer,
    /// The next byte begins a line on the terminal.
    mid_line: bool,
}

#[derive(Debug)]
struct TaskLines {
    prefix: String,
    /// When the task began, where lines begin with their times.
    began_ms: Option<u64>,
    stdout: Line,
    stderr: Line,
}

/// Where output goes, and how it looks there.
#[derive(Debug)]
pub(super) struct Printer {
    bytes: bool,
    stdout: Sink,
    stderr: Sink,
    tasks: HashMap<u32, TaskLines>,
}

#[derive(Debug)]
struct Sink {
    // Unbuffered: what came is shown at once, and large pieces are not copied.
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
        if bytes.len() >= FLOOD && !self.was_widened {
            widen_pipe(self.out.file(), PIPE);
            self.was_widened = true;
        }
        self.out.write(bytes)
    }
}

impl Printer {
    /// A printer for a run.
    pub(super) fn new(run: &Run, args: &PrintArgs, timestamps: bool) -> io::Result<Self> {
        let stdout = Sink::new(Stdio::out()?, stdout_is_terminal(), args);
        let stderr = Sink::new(Stdio::err()?, stderr_is_terminal(), args);
        let width = run.tasks.iter().map(|task| task.agent.as_str().width()).max().unwrap_or(0);
        let no_prefix = args.no_prefix || run.plain_name;
        let lines = |place: usize, task: &Task| TaskLines {
            began_ms: timestamps.then(|| task.started_ms.unwrap_or(run.created_ms)),
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
            stdout: Line::default(),
            stderr: Line::default(),
        };
        let named = run.tasks.iter().enumerate();
        let tasks = named.map(|(place, task)| (task.index, lines(place, task))).collect();
        Ok(Self { bytes: run.plain_name && !timestamps, stdout, stderr, tasks })
    }

    /// Whether a reader has not taken what was printed.
    pub(super) fn is_held(&self) -> bool {
        self.stdout.out.has_backlog() || self.stderr.out.has_backlog()
    }

    /// Waits until the readers have taken what was printed. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        self.stdout.out.drain().await?;
        self.stderr.out.drain().await
    }

    /// Whether there is a person at standard error.
    pub(super) fn has_person(&self) -> bool {
        self.stderr.is_terminal
    }

    /// How standard error is painted.
    pub(super) fn paint(&self) -> Paint {
        self.stderr.paint
    }

    /// Prints a frame.
    ///
    /// # Errors
    /// When standard output or error does not take it, as when its reader is gone.
    pub(super) fn frame(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        let Some(lines) = self.tasks.get_mut(&task) else { return Ok(()) };
        let (sink, line) = match frame.stream {
            Stream::Stdout => (&mut self.stdout, &mut lines.stdout),
            Stream::Stderr => (&mut self.stderr, &mut lines.stderr),
        };
        if !self.bytes {
            let prefix = match lines.began_ms {
                Some(began_ms) => {
                    let at = clock_time(began_ms + frame.time_ns / 1_000_000);
                    format!("{} {}", sink.paint.paint(Tone::Dim, &at), lines.prefix)
                }
                None => lines.prefix.clone(),
            };
            return print_lines(sink, line, &prefix, frame);
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

    /// Prints what is left of lines without an end, and ends colours that were left on.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for lines in self.tasks.values_mut() {
            for (sink, line) in [(&mut self.stdout, &mut lines.stdout), (&mut self.stderr, &mut lines.stderr)]
            {
                if !line.pending.is_empty() {
                    let rest = std::mem::take(&mut line.pending);
                    let mut out = Vec::new();
                    add_line(&mut out, sink, line, &lines.prefix, &rest, "");
                    sink.write(&out)?;
                }
                if sink.sanitize {
                    let reset = line.sanitizer.reset();
                    sink.write(reset)?;
                    if line.mid_line && sink.is_terminal {
                        // The next line, a prompt perhaps, must not hang on this one.
                        sink.write(b"\n")?;
                        line.mid_line = false;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Standard error on a terminal: each line marked, so that it is told apart without colour too.
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

fn print_lines(sink: &mut Sink, line: &mut Line, prefix: &str, frame: &Frame) -> io::Result<()> {
    // Written together: a call of the system for each line would take longer than all else that is done with it.
    let mut out = Vec::new();
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
            let rest = line.pending.split_off(LONGEST_LINE);
            let piece = std::mem::replace(&mut line.pending, rest);
            print_line(&mut out, sink, line, prefix, &piece, PIECE)?;
        }
    }
    sink.write(&out)
}

/// What of a line comes behind its last return to the beginning, but for one at its end.
fn last_written(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let from = line.iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    &line[from..]
}

/// Adds a line to those that are written together, and writes those before it when they are enough.
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
    if out.len() > TOGETHER {
        sink.write(&out[..before])?;
        out.drain(..before);
    }
    Ok(())
}

fn add_line(out: &mut Vec<u8>, sink: &Sink, line: &mut Line, prefix: &str, text: &[u8], end: &str) {
    out.extend_from_slice(prefix.as_bytes());
    if sink.sanitize {
        // As a terminal would show it in the end: a return to the line's beginning would write over the agent's name.
        out.extend_from_slice(&line.sanitizer.clean(last_written(text)));
        // Colours end with their line, or the next agent's name would have them.
        out.extend_from_slice(line.sanitizer.reset());
    } else {
        out.extend_from_slice(text);
    }
    out.extend_from_slice(end.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cli::args::Colour;

    fn sink(stream: std::os::fd::OwnedFd) -> Sink {
        let paint = Paint::new(Colour::Never, false);
        let out = Stdio::new(Stream::Stdout, &stream).unwrap();
        Sink { out, was_widened: false, is_terminal: false, sanitize: false, paint }
    }

    #[test]
    fn a_flood_widens_its_pipe_and_nothing_else_does() {
        let (read, write) = io::pipe().unwrap();
        let (other, _write) = io::pipe().unwrap();
        let size = || rustix::pipe::fcntl_getpipe_size(&read).unwrap();
        let before = size();
        // As far as the system lets it.
        let most = rustix::pipe::fcntl_setpipe_size(&other, PIPE).map_or(before, |_| PIPE);
        let mut sink = sink(write.into());
        sink.write(&vec![b'x'; FLOOD - 1]).unwrap();
        assert_eq!(size(), before);
        sink.write(&vec![b'x'; FLOOD]).unwrap();
        assert_eq!(size(), most);
    }

    #[test]
    fn lines_come_together_as_far_as_a_pipe_takes_them_as_one() {
        let (reader, writer) = std::os::unix::net::UnixDatagram::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let mut sink = sink(writer.into());
        let mut line = Line::default();
        let data = [b'x'; 7_920];
        let data: Vec<u8> = data.chunks(97).flat_map(|line| [line, b"\n"].concat()).collect();
        let long = [vec![b'z'; 5_000], b"\n".to_vec()].concat();
        let data = Bytes::from([data, long, b"end\n".to_vec()].concat());
        let frame = Frame { stream: Stream::Stdout, offset: 0, time_ns: 0, data: data.clone() };
        print_lines(&mut sink, &mut line, "", &frame).unwrap();
        let mut found = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(count) = reader.recv(&mut buffer) {
            found.push(buffer[..count].to_vec());
        }
        assert_eq!(found.concat(), data);
        for piece in &found {
            let lines = piece.split_inclusive(|byte| *byte == b'\n').count();
            assert!(piece.ends_with(b"\n") && (piece.len() <= TOGETHER || lines == 1), "{lines} lines");
        }
        assert_eq!(found.len(), 4, "two of many lines, the long one, and the last");
    }

    #[test]
    fn lines_are_told_by_their_prefix_however_they_come() {
        let (mut read, write) = io::pipe().unwrap();
        let mut sink = sink(write.into());
        let mut line = Line::default();
        for data in ["one\ntw", "o\n\nthr", "", "ee"] {
            let data = Bytes::from_static(data.as_bytes());
            let frame = Frame { stream: Stream::Stdout, offset: 0, time_ns: 0, data };
            print_lines(&mut sink, &mut line, "a: ", &frame).unwrap();
        }
        drop(sink);
        let mut printed = String::new();
        io::Read::read_to_string(&mut read, &mut printed).unwrap();
        assert_eq!(printed, "a: one\na: two\na: \n");
        assert_eq!(line.pending, b"three");
    }

    #[test]
    fn no_line_writes_over_the_name_before_it() {
        let table: [(&[u8], &[u8]); 4] = [
            (b"plain", b"plain"),
            (b"windows\r", b"windows"),
            (b"10 %\r20 %\r30 %", b"30 %"),
            (b"\rweb-2: backup ok", b"web-2: backup ok"),
        ];
        for (line, shown) in table {
            assert_eq!(last_written(line), shown, "{line:?}");
        }
    }
}
