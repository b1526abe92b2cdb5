//! The messages on the sockets of the supervisor and of the tasks: one JSON object on each line.
//!
//! Both sides may be of different versions, since the processes outlive upgrades: fields are only ever added.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::domain::{command::TaskSpec, ids::TaskId, outcome::TaskEnding, seal::Seal, time::UnixMs};

/// Longest line that is taken: a command and an environment of 1 MiB each fit, though each byte is written as six.
pub const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// What a task's directory says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Which task.
    pub id: TaskId,
    /// What to run.
    pub spec: TaskSpec,
    /// The agent's name, for the command's environment.
    pub agent: String,
    /// The kernel's boot id when it was started.
    pub boot: String,
    /// When it was started, in milliseconds since the Unix epoch, for people.
    pub started_unix_ms: UnixMs,
    /// The same moment on `CLOCK_BOOTTIME`, in nanoseconds: what elapsed times count from.
    pub started_boottime_ns: u64,
}

/// To the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorRequest {
    /// This connection is the connector's, for as long as it lasts. It is told of all shims that are ready. A supervisor
    /// of another version ends instead, and what its shims run continues; one of 0.1.0 knows this by another name.
    #[serde(rename = "network_half")]
    Connector {
        /// Its version.
        version: String,
    },
    /// One more shim is wanted, at once.
    Prepare,
    /// Ends the agent; from a person on the machine.
    Stop {
        /// How long running tasks may continue.
        grace_ms: u32,
    },
    /// The connector is done with everything; the supervisor may end.
    End,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTask {
    /// Which task.
    pub id: TaskId,
    /// What to run.
    pub spec: TaskSpec,
    /// The agent's name.
    pub agent: String,
    /// Until when it may be started, in nanoseconds on `CLOCK_BOOTTIME`. Checked where it is started, since this message
    /// may have waited.
    #[serde(default)]
    pub start_until_ns: Option<u64>,
}

/// From the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorReply {
    /// To the connector: a shim waits for a task.
    Ready {
        /// Its process id.
        #[serde(alias = "worker")]
        shim: i32,
    },
    /// To the connector: a shim that was wanted could not be made ready.
    Failed {
        /// The reason, as text for operators.
        reason: String,
    },
    /// To the connector: whether the machine has no further process ids, so that the reserve of them was given up.
    ProcessesShort {
        /// It has not.
        is_short: bool,
    },
    /// To the connector: a user of the machine ordered the agent to end.
    StopOrdered {
        /// How long running tasks may continue.
        grace_ms: u32,
    },
    /// To the person: the agent is ending.
    Stopping {
        /// Tasks that still run.
        running: u32,
    },
    /// To the person, as the last word: the agent has ended.
    Stopped {
        /// Tasks that could not be killed.
        left: u32,
    },
}

/// From the supervisor to one of its shims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimOrder {
    /// Make ready for a task.
    Prepare,
}

/// From a shim to its supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimReport {
    /// It waits for a task.
    Ready,
    /// It could not make ready, and ends.
    Failed {
        /// The reason, as text for operators.
        reason: String,
    },
    /// It cannot start its task's command: there are no further process ids.
    NoProcess,
    /// It runs a task, and that lasts.
    Busy,
    /// Its task is over, and it can make ready for another.
    Free,
}

/// To a task's process, which is a shim until it has a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskRequest {
    /// Run this task, unless its directory exists. The sender is answered as if it had also requested to read, and waits for
    /// output after offset 0.
    Start(Box<StartTask>),
    /// Answer once the spool has grown past this offset, or the task has ended.
    Wait {
        /// That offset.
        past: u64,
    },
    /// The spool is being read, and the master has everything before this offset on its disk.
    Acknowledge {
        /// That offset.
        offset: u64,
    },
    /// Bytes of standard input; they follow this line as they are.
    Input {
        /// Bytes of input before these.
        offset: u64,
        /// How many follow.
        length: usize,
        /// Whether nothing comes behind them.
        is_last: bool,
    },
    /// The operator's terminal has another size.
    Resize {
        /// Rows of cells.
        rows: u16,
        /// Columns of cells.
        columns: u16,
    },
    /// Say once how much of the input was taken, as soon as that is not what was said last on this connection.
    WatchInput,
    /// Kill the whole tree.
    Kill {
        /// Who wants it.
        by: String,
        /// The master's seal on that.
        #[serde(default)]
        seal: Option<Seal>,
        /// Time between TERM and KILL.
        grace_ms: u32,
    },
}

/// From a task's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskReply {
    /// The task is this process's.
    Started,
    /// The task was known before; nothing was started.
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
        /// To this offset.
        end: u64,
    },
    /// The command has read its input so far.
    InputTaken {
        /// To this offset.
        offset: u64,
        /// Nothing more is wanted.
        over: bool,
    },
    /// The disk holds the command back. Sent to clients that read, whenever the reason changes.
    Held {
        /// Why; empty when it does not any more.
        reason: String,
    },
    /// The task has ended.
    Ended {
        /// How; the same is in its directory.
        ending: TaskEnding,
    },
}

/// One message as a line.
///
/// # Panics
/// Never: every message can be written as JSON.
#[must_use]
pub fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    line
}

/// Collects bytes until they are lines.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// Reads once from a socket that has something to say. False at its end.
    ///
    /// # Errors
    /// When reading fails or a line is longer than [`LONGEST_LINE`].
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
    /// When a line is longer than [`LONGEST_LINE`].
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that is too long"));
        }
        Ok(())
    }

    /// Takes a number of raw bytes; `None` until all of them have arrived.
    pub fn take_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        (self.buffer.len() >= count).then(|| self.buffer.drain(..count).collect())
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When a line is none that this version understands.
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
        let messages = [TaskRequest::Wait { past: 7 }, TaskRequest::Acknowledge { offset: 9 }];
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
    fn a_socket_that_says_nothing_is_none_that_has_ended_and_a_line_has_an_end() {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut lines = Lines::default();
        assert!(lines.read_from(&here).unwrap(), "nothing yet");
        there.write_all(&line(&TaskRequest::WatchInput)).unwrap();
        assert!(lines.read_from(&here).unwrap());
        assert_eq!(lines.take().unwrap(), Some(TaskRequest::WatchInput));
        drop(there);
        assert!(!lines.read_from(&here).unwrap());
        lines.push(&vec![b' '; LONGEST_LINE]).unwrap();
        assert!(lines.push(b" ").is_err());
    }
}
