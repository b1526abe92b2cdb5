//! The messages on the sockets of the supervisor and of the tasks: one JSON object on each line.
//!
//! The two sides can have different versions, since the processes outlive upgrades: fields may be added, but
//! never removed.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::domain::{
    command::TaskSpec, ids::TaskId, offset::OutputOffset, outcome::TaskEnding, seal::Seal, time::UnixMs,
};

/// Maximum length of a line, in bytes. A command and an environment of 1 MiB each fit, even if JSON needs six
/// bytes for each byte of them.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The record of a task in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The id of the task.
    pub id: TaskId,
    /// The command and its options.
    pub spec: TaskSpec,
    /// The agent's name, for the command's environment.
    pub agent: String,
    /// The kernel's boot id when the task was started.
    pub boot: String,
    /// When the task was started, in milliseconds since the Unix epoch. Only for display.
    pub started_unix_ms: UnixMs,
    /// The same moment on `CLOCK_BOOTTIME`, in nanoseconds. Elapsed times are computed from this.
    pub started_boottime_ns: u64,
}

/// A message to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorRequest {
    /// The connector has opened this connection. The supervisor reports all shims that are ready. A
    /// supervisor of another version ends instead; the tasks of its shims continue. Version 0.1.0 has another
    /// name for this message.
    #[serde(rename = "network_half")]
    Connector {
        /// The connector's version.
        version: String,
    },
    /// Prepare another shim immediately.
    Prepare,
    /// Stop the agent. Sent by `agent stop` on this machine.
    Stop {
        /// How long running tasks may continue.
        grace_ms: u32,
    },
    /// End the supervisor: the connector has finished.
    End,
}

/// A task to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTask {
    /// The id of the task.
    pub id: TaskId,
    /// The command and its options.
    pub spec: TaskSpec,
    /// The agent's name.
    pub agent: String,
    /// The latest moment at which the task may be started, in nanoseconds on `CLOCK_BOOTTIME`. The shim
    /// checks it, since this message may have been delayed.
    #[serde(default)]
    pub start_until_ns: Option<u64>,
}

/// A message from the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorReply {
    /// To the connector: a shim waits for a task.
    Ready {
        /// The process id of the shim.
        #[serde(alias = "worker")]
        shim: i32,
    },
    /// To the connector: a shim could not be prepared.
    Failed {
        /// The reason, as text for operators.
        reason: String,
    },
    /// To the connector: the machine has run out of process ids, so that the reserve was released, or the
    /// shortage is over.
    #[serde(rename = "processes_short")]
    ProcessShortage {
        /// Whether there is a shortage.
        is_short: bool,
    },
    /// To the connector: a user of the machine ordered the agent to stop.
    StopOrdered {
        /// How long running tasks may continue.
        grace_ms: u32,
    },
    /// To `agent stop`: the agent is stopping.
    Stopping {
        /// The number of running tasks.
        running: u32,
    },
    /// To `agent stop`, as the last message: the agent has stopped.
    Stopped {
        /// The number of tasks that could not be killed.
        left: u32,
    },
}

/// A message from the supervisor to one of its shims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimOrder {
    /// Prepare for a task.
    Prepare,
}

/// A message from a shim to its supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimReport {
    /// The shim waits for a task.
    Ready,
    /// The shim could not prepare for a task, and ends.
    Failed {
        /// The reason, as text for operators.
        reason: String,
    },
    /// The shim cannot start its task's command: there are no free process ids.
    NoProcess,
    /// The shim runs a task that takes long.
    Busy,
    /// The task has ended, and the shim can prepare for another.
    Free,
}

/// A message to a shim, before it has a task or while it runs one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskRequest {
    /// Run this task, unless its directory exists. The sender then counts as a reader that waits for output
    /// after offset 0.
    Start(Box<StartTask>),
    /// Answer when the spool has grown past this offset, or the task has ended.
    Wait {
        /// The offset.
        past: OutputOffset,
    },
    /// The sender reads the spool, and the master has stored everything before this offset.
    Acknowledge {
        /// The offset.
        offset: OutputOffset,
    },
    /// Bytes of standard input. They follow this line unencoded.
    Input {
        /// The offset of these bytes in the input.
        offset: u64,
        /// The number of bytes that follow.
        length: usize,
        /// Whether these are the last bytes of the input.
        is_last: bool,
    },
    /// The operator's terminal has a new size.
    Resize {
        /// The number of rows.
        rows: u16,
        /// The number of columns.
        columns: u16,
    },
    /// Report once how much input the command has read, as soon as this differs from the last report on this
    /// connection.
    WatchInput,
    /// Kill the task's whole process tree.
    Kill {
        /// The name of the operator who ordered it.
        by: String,
        /// The master's seal on the order.
        #[serde(default)]
        seal: Option<Seal>,
        /// Time between TERM and KILL.
        grace_ms: u32,
    },
}

/// A message from a shim to a client of its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskReply {
    /// This process runs the task.
    Started,
    /// The task was already known; nothing was started.
    Known,
    /// Nothing was started.
    Failed {
        /// The reason, as text for operators.
        reason: String,
    },
    /// Nothing was started: the permission had expired.
    Expired,
    /// The spool has grown.
    Spooled {
        /// The offset of the spool's end.
        end: OutputOffset,
    },
    /// The command has read input.
    InputTaken {
        /// The offset up to which the command has read.
        offset: u64,
        /// Whether the command needs no more input: it has read everything, or does not read any more.
        over: bool,
    },
    /// The disk holds the command back. Sent to clients that read, whenever the reason changes.
    Held {
        /// The reason; empty if the command is not held back any more.
        reason: String,
    },
    /// The task has ended.
    Ended {
        /// The ending, as in the task's directory.
        ending: TaskEnding,
    },
}

/// Returns a message as a line.
///
/// # Panics
/// Never: every message can be written as JSON.
#[must_use]
pub fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    line
}

/// Collects bytes until they form lines.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// Reads once from a socket. Returns false at the end of the stream.
    ///
    /// # Errors
    /// When reading fails or a line is longer than [`MAX_LINE_BYTES`].
    pub fn read_from(&mut self, mut socket: &UnixStream) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let count = match socket.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        self.push(&chunk[..count])?;
        Ok(count > 0)
    }

    /// Adds bytes that were read elsewhere.
    ///
    /// # Errors
    /// When a line is longer than [`MAX_LINE_BYTES`].
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > MAX_LINE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that is too long"));
        }
        Ok(())
    }

    /// Takes a number of raw bytes; `None` until all of them have arrived.
    pub fn take_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        (self.buffer.len() >= count).then(|| self.buffer.drain(..count).collect())
    }

    /// Takes the next message; `None` until its line is complete.
    ///
    /// # Errors
    /// When the line is not a message that this version knows.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_record_of_a_task_that_0_1_0_started_is_read() {
        let text = r#"{"id":{"run":"01M8PX70EMZ7PEKWE66K949V1Z","index":0},"spec":{"run_number":1,"operator":"root","target":"web-1","command":["echo hi; sleep 40"],"environment":[{"name":"A","value":"b"}],"working_directory":null,"timeout_ms":60000,"kill_grace_ms":5000,"input":"nothing"},"agent":"web-1","boot":"f86c46d5-4650-4aa9-b803-23dd26fbb731","started_unix_ms":1796065165783,"started_boottime_ns":73327661080478}"#;
        let record: TaskRecord = serde_json::from_str(text).unwrap();
        assert_eq!(
            (record.id.to_string().as_str(), record.spec.job_number),
            ("01M8PX70EMZ7PEKWE66K949V1Z-0", 1)
        );
        let written = serde_json::to_string(&record).unwrap();
        assert!(written.contains("\"job_number\":1"), "{written}");
        assert_eq!(serde_json::from_str::<TaskRecord>(&written).unwrap(), record);
    }

    #[test]
    fn lines_come_back_however_they_were_cut() {
        let messages = [
            TaskRequest::Wait { past: OutputOffset(7) },
            TaskRequest::Acknowledge { offset: OutputOffset(9) },
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(line).collect();
        let mut lines = Lines::default();
        let mut read = Vec::new();
        for byte in bytes {
            lines.push(&[byte]).unwrap();
            read.extend(lines.take::<TaskRequest>().unwrap());
        }
        assert_eq!(read, messages);
        lines.push(b"{\"unheard_of\":1}\n").unwrap();
        assert!(lines.take::<TaskRequest>().is_err());
    }

    #[test]
    fn an_idle_socket_is_not_closed_and_a_line_has_a_maximum_length() {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut lines = Lines::default();
        assert!(lines.read_from(&here).unwrap(), "nothing yet");
        there.write_all(&line(&TaskRequest::WatchInput)).unwrap();
        assert!(lines.read_from(&here).unwrap());
        assert_eq!(lines.take().unwrap(), Some(TaskRequest::WatchInput));
        drop(there);
        assert!(!lines.read_from(&here).unwrap());
        lines.push(&vec![b' '; MAX_LINE_BYTES]).unwrap();
        assert!(lines.push(b" ").is_err());
    }
}
