//! A job as one JSON object with the output of its tasks, up to a limit.

use std::{collections::HashMap, io};

use crate::{
    cli::{
        args::Format,
        json::{Document, Gap, JobObject, Output},
        output::print_json,
    },
    domain::{
        control::TaskGap,
        frame::{Frame, Stream},
        job::{Job, Task},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Maximum size of each stream of a task, in bytes.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// The output of one task on one stream.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// Positions at which a gap has cut a line.
    cuts: Vec<usize>,
    /// Whether there was more output.
    is_cut: bool,
}

impl Text {
    const EMPTY: Self = Self { bytes: Vec::new(), cuts: Vec::new(), is_cut: false };

    /// Returns the exact bytes in Base64, if they are not UTF-8.
    fn exact(&self) -> Option<String> {
        std::str::from_utf8(&self.bytes).is_err().then(|| STANDARD.encode(&self.bytes))
    }

    fn take(&mut self, data: &[u8]) {
        let fits = data.len().min(MAX_OUTPUT_BYTES - self.bytes.len());
        self.is_cut |= fits < data.len();
        self.bytes.extend_from_slice(&data[..fits]);
    }

    fn gap(&mut self) {
        if self.bytes.last().is_some_and(|byte| *byte != b'\n') {
            self.cuts.push(self.bytes.len());
        }
    }

    /// Returns the output as text, with replacement characters for invalid UTF-8. A line that a gap has cut
    /// ends there: joined to the output after the gap, it would be a line that the task did not print.
    fn text(&self) -> String {
        let (mut text, mut from) = (String::new(), 0);
        for cut in self.cuts.iter().copied() {
            text += &String::from_utf8_lossy(&self.bytes[from..cut]);
            text.push('\n');
            from = cut;
        }
        text + &String::from_utf8_lossy(&self.bytes[from..])
    }
}

/// The output of one task, and the gaps in it.
#[derive(Debug, Default)]
struct Printed {
    streams: [Text; 2],
    gaps: Vec<Gap>,
}

impl Printed {
    fn output(&self) -> Output<'_> {
        let [stdout, stderr] = &self.streams;
        let is_truncated = |text: &Text| text.is_cut || !self.gaps.is_empty();
        Output {
            stdout: stdout.text(),
            stdout_base64: stdout.exact(),
            stdout_truncated: is_truncated(stdout),
            stderr: stderr.text(),
            stderr_base64: stderr.exact(),
            stderr_truncated: is_truncated(stderr),
            gaps: &self.gaps,
        }
    }
}

/// The outputs of all tasks.
#[derive(Debug, Default)]
pub(super) struct Outputs(HashMap<u32, Printed>);

impl Outputs {
    pub(super) fn frame(&mut self, task: u32, frame: &Frame) {
        let printed = self.0.entry(task).or_default();
        printed.streams[usize::from(frame.stream == Stream::Stderr)].take(&frame.data);
    }

    pub(super) fn gap(&mut self, task: u32, lost: &TaskGap) {
        let printed = self.0.entry(task).or_default();
        printed.streams.iter_mut().for_each(Text::gap);
        printed.gaps.push(Gap {
            from: lost.from,
            to: lost.to,
            reason: lost.reason.clone(),
            stdout_at: printed.streams[0].bytes.len(),
            stderr_at: printed.streams[1].bytes.len(),
        });
    }

    /// Prints the job, with the output of each task.
    pub(super) fn print(&self, job: &Job) -> io::Result<()> {
        print_json(Format::Json, &self.document(job))
    }

    fn document<'a>(&'a self, job: &'a Job) -> Document<JobObject<'a>> {
        const NOTHING: &Printed = &Printed { streams: [Text::EMPTY, Text::EMPTY], gaps: Vec::new() };
        let output = |task: &Task| Some(self.0.get(&task.index).unwrap_or(NOTHING).output());
        Document::new(JobObject::with_outputs(job, output))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::offset::OutputOffset;

    fn printed(pieces: &[(Stream, &'static [u8])], gap_behind: usize) -> Value {
        let mut outputs = Outputs::default();
        for (place, (stream, data)) in pieces.iter().enumerate() {
            let data = Bytes::from_static(data);
            outputs.frame(0, &Frame { stream: *stream, offset: OutputOffset::START, time_ns: 0, data });
            if place + 1 == gap_behind {
                outputs
                    .gap(0, &TaskGap { from: OutputOffset(9), to: OutputOffset(99), reason: "lost".into() });
            }
        }
        let job = Job::for_tests(vec![Task::queued(0, "a".parse().unwrap())]);
        serde_json::to_value(outputs.document(&job)).unwrap()["tasks"][0].clone()
    }

    #[test]
    fn bytes_that_are_no_text_are_there_exactly() {
        let task = printed(&[(Stream::Stdout, b"caf\xe9"), (Stream::Stderr, b"plain")], 0);
        assert_eq!((&task["stdout"], &task["stdout_base64"]), (&"caf\u{fffd}".into(), &"Y2Fm6Q==".into()));
        assert_eq!((&task["stderr"], task.get("stderr_base64")), (&"plain".into(), None));
        assert_eq!((&task["stdout_truncated"], &task["gaps"]), (&false.into(), &json!([])));
    }

    #[test]
    fn a_gap_is_told_and_joins_no_lines() {
        let task = printed(&[(Stream::Stdout, b"1\n2"), (Stream::Stdout, b"7\n8\n")], 1);
        assert_eq!(task["stdout"], "1\n2\n7\n8\n");
        assert_eq!((&task["stdout_truncated"], &task["stderr_truncated"]), (&true.into(), &true.into()));
        let gap = json!({ "from": 9, "to": 99, "reason": "lost", "stdout_at": 3, "stderr_at": 0 });
        assert_eq!(task["gaps"], json!([gap]));
    }

    #[test]
    fn what_fits_exactly_is_not_cut() {
        let most: &'static [u8] = vec![b'x'; MAX_OUTPUT_BYTES].leak();
        assert_eq!(printed(&[(Stream::Stdout, most)], 0)["stdout_truncated"], false);
        let task = printed(&[(Stream::Stdout, most), (Stream::Stdout, b"y")], 0);
        assert_eq!(task["stdout_truncated"], true);
        assert_eq!(task["stdout"].as_str().unwrap().len(), MAX_OUTPUT_BYTES);
    }
}
