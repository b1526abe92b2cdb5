//! Prints the output of each group once, or as a diff against the largest group.

use std::io::{self};

use super::{
    super::{READER_GONE, tally::names, telling::say_end},
    Watcher,
};
use crate::{
    cli::{
        exit::{self, Failure, Status},
        json::{Document, GroupedJob},
        output::{Paint, Tone, note, pass_on, print_json, print_line, stdout_is_terminal},
        sanitize::{Clean, Sanitizer},
        stdio::stdout_is_stderr,
    },
    domain::{
        control::{FollowJob, JobEvent, TaskGap},
        digest::{GroupDigest, detail},
        frame::Stream,
        groups::{PREVIEW, line::shown_line},
        ids::JobReference,
        outcome::Outcome,
        seam::Seam,
        text::{spoken_bytes, strip_control},
    },
    wire::{client::JobEvents, status::CallError},
};

/// Maximum size of each stream of a group that is held for comparison, in bytes.
const MAX_DIFF_BYTES: usize = 8 * 1024 * 1024;

/// Why the groups were not printed.
enum PrintError {
    Io(io::Error),
    Call(Failure),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<CallError> for PrintError {
    fn from(error: CallError) -> Self {
        Self::Call(error.into())
    }
}

impl Watcher {
    /// Prints the groups in full; those that need attention come last.
    pub(super) async fn print(&mut self) -> Result<Status, Failure> {
        let status = if self.followed.attention.asking.has_cancelled() {
            exit::INTERRUPTED
        } else if self.followed.following.reports_outcome() {
            exit::of_job(&self.followed.job)
        } else {
            exit::OK
        };
        if !self.followed.following.is_text() {
            return match self.print_json() {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(READER_GONE),
                printed => printed.map(|()| status).map_err(Into::into),
            };
        }
        let printed = if self.followed.following.print.diff {
            self.print_diff().await
        } else if stdout_is_terminal() {
            self.print_rows().await
        } else {
            self.print_blocks().await
        };
        match printed {
            // A reader that is gone needs no more output.
            Err(PrintError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(READER_GONE);
            }
            Err(PrintError::Io(error)) => return Err(error.into()),
            Err(PrintError::Call(failure)) => return Err(failure),
            Ok(()) => {
                // On a terminal and in a diff, the rows already show how the tasks ended.
                let are_shown = self.followed.following.print.diff || stdout_is_terminal();
                say_end(&self.followed.job, Some(self.outputs()), are_shown, self.audience());
                let masks = self.followed.following.print.mask;
                if masks.any() && self.has_person {
                    note(&self.paint.paint(Tone::Dim, &format!("compared without {masks}")));
                }
            }
        }
        Ok(status)
    }

    /// Returns the number of different outputs among the tasks that exited with 0.
    fn outputs(&self) -> usize {
        let good = |group: &&GroupDigest| group.outcome.as_ref().is_some_and(Outcome::is_success);
        self.groups.iter().filter(good).count()
    }

    fn print_json(&self) -> io::Result<()> {
        let print = &self.followed.following.print;
        let job = GroupedJob::new(&self.followed.job, &self.groups, print.mask);
        print_json(print.output, &Document::new(job))
    }

    /// Prints one row per group, for a terminal. Longer outputs come below their rows.
    async fn print_rows(&self) -> Result<(), PrintError> {
        let rows = self.rows(usize::MAX - 1);
        let skip = rows.len() - self.ordered().len();
        for row in &rows[..skip] {
            print_line(row)?;
        }
        for (group, row) in self.ordered().into_iter().zip(&rows[skip..]) {
            print_line(row)?;
            // The row may not show the whole line.
            if group.line_count() > 1 || group.first_line.len() >= PREVIEW {
                self.stream_output(group, true).await?;
            }
        }
        Ok(())
    }

    /// Prints the groups in the layout of clush, for a pipe.
    async fn print_blocks(&self) -> Result<(), PrintError> {
        let line = "-".repeat(15);
        for group in self.ordered() {
            let count = group.tasks.len();
            let folded = names(group.tasks_of(&self.followed.job));
            let counted = if count > 1 { format!(" ({count})") } else { String::new() };
            print_line(&format!("{line}\n{folded}{counted}\n{line}"))?;
            self.stream_output(group, false).await?;
        }
        Ok(())
    }

    /// Prints the output of a group's example while it arrives from the master.
    async fn stream_output(&self, group: &GroupDigest, for_person: bool) -> Result<(), PrintError> {
        let mut cleaners = [Sanitizer::default(), Sanitizer::default()];
        let mut ends = [true, true];
        let mut seams = [Seam::default(); 2];
        let raw = self.followed.following.print.raw || !for_person;
        // Standard error has no headers. If it goes to another place than standard output, each line names
        // its agents.
        let whose = (!stdout_is_stderr()).then(|| format!("{}: ", names(group.tasks_of(&self.followed.job))));
        let mut events = self.output_of(group).await?;
        while let Some(event) = events.next().await? {
            let frames = match event {
                JobEvent::Output { frames, .. } => frames,
                JobEvent::Gap { gap, .. } => {
                    for (at, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                        pass_on(stream, &Clean::raw(seams[at].gap().into_bytes()))?;
                        ends[at] = true;
                    }
                    note(&missing(&gap));
                    continue;
                }
                _ => continue,
            };
            for frame in frames {
                let at = usize::from(frame.stream == Stream::Stderr);
                let bytes = if raw {
                    Clean::raw(frame.data.to_vec())
                } else {
                    cleaners[at].clean_output(&frame.data)
                };
                let mark = seams[at].next(&frame.data);
                let whose = whose.as_deref().filter(|_| frame.stream == Stream::Stderr).unwrap_or_default();
                ends[at] = print_named(frame.stream, &bytes, mark, whose, ends[at])?;
            }
        }
        for (stream, has_end) in [Stream::Stdout, Stream::Stderr].into_iter().zip(ends) {
            if !has_end {
                pass_on(stream, &Clean::raw(b"\n".to_vec()))?;
            }
        }
        Ok(())
    }

    async fn output_of(&self, group: &GroupDigest) -> Result<JobEvents, CallError> {
        let agent = self.followed.job.task(group.example).map(|task| task.agent.clone());
        let all = FollowJob::new(JobReference::Id(self.followed.job.id));
        self.followed.client.follow_job(FollowJob { agents: agent.into_iter().collect(), ..all }).await
    }

    /// Returns a group's output as displayed lines, stdout before stderr, up to [`MAX_DIFF_BYTES`] per stream. If
    /// that is not the whole output, the second value describes the part.
    async fn lines_of(&self, group: &GroupDigest) -> Result<(Vec<String>, Option<String>), CallError> {
        let mut streams = [Vec::new(), Vec::new()];
        let mut seams = [Seam::default(); 2];
        let mut partly = None;
        let mut events = self.output_of(group).await?;
        while let Some(event) = events.next().await? {
            let frames = match event {
                JobEvent::Output { frames, .. } => frames,
                JobEvent::Gap { gap, .. } => {
                    for (kept, seam) in streams.iter_mut().zip(&mut seams) {
                        kept.extend_from_slice(seam.gap().as_bytes());
                    }
                    note(&missing(&gap));
                    partly.get_or_insert_with(|| "the available output".to_owned());
                    continue;
                }
                _ => continue,
            };
            for frame in frames {
                let at = usize::from(frame.stream == Stream::Stderr);
                let kept: &mut Vec<u8> = &mut streams[at];
                kept.extend_from_slice(seams[at].next(&frame.data).as_bytes());
                let room = MAX_DIFF_BYTES.saturating_sub(kept.len());
                if frame.data.len() > room {
                    partly =
                        Some(format!("the first {} of each stream", spoken_bytes(MAX_DIFF_BYTES as u64)));
                }
                kept.extend_from_slice(&frame.data[..frame.data.len().min(room)]);
            }
        }
        let mut lines = Vec::new();
        for (stream, mark) in streams.iter().zip(["", "! "]) {
            let text = stream.strip_suffix(b"\n").unwrap_or(stream);
            if !stream.is_empty() {
                let shown = |line: &[u8]| strip_control(&String::from_utf8_lossy(&shown_line(line)));
                lines.extend(text.split(|byte| *byte == b'\n').map(|line| format!("{mark}{}", shown(line))));
            }
        }
        Ok((lines, partly))
    }

    /// Prints the largest group in full, and a diff of every other group against it.
    async fn print_diff(&self) -> Result<(), PrintError> {
        let Some(largest) = self.groups.first() else { return Ok(()) };
        let (base, base_partly) = self.lines_of(largest).await?;
        print_line(&self.title(largest))?;
        for line in &base {
            print_line(line)?;
        }
        for group in self.ordered().into_iter().filter(|group| group.tasks != largest.tasks) {
            print_line(&format!("\n{}", self.title(group)))?;
            let (lines, partly) = self.lines_of(group).await?;
            let (old, new) = (base.join("\n") + "\n", lines.join("\n") + "\n");
            let diff = similar::TextDiff::from_lines(&old, &new);
            let partly = base_partly.as_ref().or(partly.as_ref());
            if let Some(partly) = partly {
                print_line(&self.paint_out(Tone::Dim, &format!("  compared: {partly}")))?;
            } else if diff.ratio() >= 1.0 {
                print_line(&self.paint_out(Tone::Dim, "  the same output"))?;
            }
            let unified = diff.unified_diff().context_radius(2).to_string();
            for line in unified.lines() {
                let tone = match line.as_bytes().first() {
                    Some(b'-') => Some(Tone::Bad),
                    Some(b'+') => Some(Tone::Good),
                    Some(b'@') => Some(Tone::Dim),
                    _ => None,
                };
                let shown = tone.map_or_else(|| line.to_owned(), |tone| self.paint_out(tone, line));
                print_line(&shown)?;
            }
        }
        Ok(())
    }

    fn paint_out(&self, tone: Tone, text: &str) -> String {
        Paint::new(self.followed.following.print.color, stdout_is_terminal()).paint(tone, text)
    }

    fn title(&self, group: &GroupDigest) -> String {
        let [count, agents, state, _] = self.cells(group);
        let outcome = group.outcome.as_ref();
        let tone = outcome.map_or(Tone::Running, |outcome| outcome.sign().into());
        let detail = outcome.and_then(detail).map_or_else(String::new, |detail| format!("  {detail}"));
        format!("{}  {agents}  {state}{detail}", self.paint_out(tone, &count))
    }
}

/// Prints bytes of a stream, with `whose` before each line. Returns whether the bytes end a line.
fn print_named(
    stream: Stream,
    bytes: &Clean,
    mark: &str,
    whose: &str,
    mut is_at_start: bool,
) -> io::Result<bool> {
    let mut named = Vec::with_capacity(bytes.as_bytes().len() + mark.len());
    let mut mark = mark;
    for line in bytes.as_bytes().split_inclusive(|byte| *byte == b'\n') {
        if is_at_start {
            named.extend_from_slice(whose.as_bytes());
        }
        named.extend_from_slice(std::mem::take(&mut mark).as_bytes());
        named.extend_from_slice(line);
        is_at_start = line.ends_with(b"\n");
    }
    pass_on(stream, &Clean::raw(named))?;
    Ok(is_at_start)
}

/// Describes missing output.
fn missing(gap: &TaskGap) -> String {
    let bytes = gap.to.since(gap.from);
    format!("{bytes} bytes of output are missing at offset {}: {}", gap.from, strip_control(&gap.reason))
}
