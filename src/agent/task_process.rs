//! The connection to a task's shim, and the state of the task on the disk if the shim does not answer.
//! Depends neither on the supervisor nor on the master.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    layout::{Layout, TaskLayout},
    spool,
    supervisor::{
        protocol::{Lines, TaskRecord, TaskReply, TaskRequest, line},
        server::is_live,
    },
};
use crate::{
    domain::{
        ids::TaskId,
        outcome::{Ending, Outcome, TaskEnding},
        seal::Seal,
    },
    sys::{disk::Disk, paths::read_optional, process::boot_id, socket},
};

/// A connection to the process of one task, or to a shim that waits for one.
#[derive(Debug)]
pub(crate) struct TaskProcess {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    lines: Lines,
}

impl TaskProcess {
    /// Connects to a task's process; `None` if the task has no process, or its process does not accept.
    #[must_use]
    pub(crate) fn connect(task: &TaskLayout) -> Option<Self> {
        let socket = socket::connect(&task.socket()).ok()?;
        socket.set_nonblocking(true).ok()?;
        let (read, write) = UnixStream::from_std(socket).ok()?.into_split();
        Some(Self { read, write, lines: Lines::default() })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) async fn send(&mut self, request: &TaskRequest) -> io::Result<()> {
        self.write.write_all(&line(request)).await
    }

    /// Sends bytes for the command's standard input.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) async fn send_input(&mut self, offset: u64, data: &[u8], is_last: bool) -> io::Result<()> {
        let request = TaskRequest::Input { offset, length: data.len(), is_last };
        self.write.write_all(&line(&request)).await?;
        self.write.write_all(data).await
    }

    /// Receives the next reply; `None` when the process is gone. Cancel safe: no reply is lost if the future
    /// is dropped.
    pub(crate) async fn next(&mut self) -> Option<TaskReply> {
        let mut chunk = [0; 1024];
        loop {
            match self.lines.take() {
                Ok(Some(reply)) => return Some(reply),
                Ok(None) => {}
                Err(_) => return None,
            }
            let count = self.read.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
            self.lines.push(&chunk[..count]).ok()?;
        }
    }
}

/// The state of a task whose process does not answer, according to the disk.
#[derive(Debug)]
pub(crate) enum TaskOnDisk {
    /// The task's process is alive.
    Live,
    /// The task ended in this way.
    Ended(TaskEnding),
    /// The task ended without a record of its ending, for this reason. [`ending_of_lost`] determines how much
    /// of its output is left.
    Lost(&'static str),
}

/// Returns the state of a task whose process does not answer, according to the disk.
///
/// # Errors
/// When the disk cannot be read, or the ending was written by another version (`InvalidData`).
pub(crate) fn find(layout: &Layout, id: TaskId) -> io::Result<TaskOnDisk> {
    let task = layout.task(id);
    if let Some(ending) = read_ending(&task)? {
        return Ok(TaskOnDisk::Ended(ending));
    }
    if is_live(layout, id)? {
        return Ok(TaskOnDisk::Live);
    }
    // It may have written its ending between the two checks.
    if let Some(ending) = read_ending(&task)? {
        return Ok(TaskOnDisk::Ended(ending));
    }
    Ok(TaskOnDisk::Lost(match record_of(&task)? {
        Some(record) if record.boot != boot_id()? => "the machine was rebooted while it ran",
        Some(_) => "its process on the agent was killed",
        None => "its record on the agent did not survive",
    }))
}

/// Returns how a task ended, if that was recorded.
fn read_ending(task: &TaskLayout) -> io::Result<Option<TaskEnding>> {
    let Some(json) = read_optional(&task.ending())? else { return Ok(None) };
    match serde_json::from_slice(&json) {
        Ok(ending) => Ok(Some(ending)),
        // The file is renamed when it is complete, but not synced before: after a power failure it may exist
        // without its contents.
        Err(error) if !error.is_data() && !is_of_this_boot(task)? => Ok(None),
        Err(error) => {
            let text = format!("how the task ended was written by another version of the agent: {error}");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

fn is_of_this_boot(task: &TaskLayout) -> io::Result<bool> {
    Ok(match record_of(task)? {
        Some(record) => record.boot == boot_id()?,
        None => false,
    })
}

/// Returns the ending of a lost task, with the end of the output that has survived. Reads all of the output.
///
/// # Errors
/// When the disk cannot be read.
pub(crate) fn ending_of_lost(layout: &Layout, id: TaskId, reason: &str) -> io::Result<TaskEnding> {
    let end_offset = spool::intact_end(&Disk::default(), &layout.task(id).spool())?;
    let outcome = Outcome::from(Ending::Lost(reason.into()));
    Ok(TaskEnding { outcome, end_offset, duration_ns: 0 })
}

/// Returns the record in a task's directory; `None` if it is missing or damaged.
///
/// # Errors
/// When the disk cannot be read.
pub(crate) fn record_of(task: &TaskLayout) -> io::Result<Option<TaskRecord>> {
    Ok(read_optional(&task.record())?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Orders a task's process to kill the task. Does nothing if the task has no process.
///
/// # Errors
/// When the process is alive and could not be reached. The caller should retry.
pub(crate) async fn kill(
    layout: &Layout,
    id: TaskId,
    by: String,
    seal: Option<Seal>,
    grace_ms: u32,
) -> io::Result<()> {
    let is_told = match TaskProcess::connect(&layout.task(id)) {
        Some(mut process) => process.send(&TaskRequest::Kill { by, seal, grace_ms }).await.is_ok(),
        None => false,
    };
    if !is_told && is_live(layout, id)? {
        return Err(io::Error::other("the task's process does not accept a connection at the moment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        domain::{command::TaskSpec, ids::JobId, offset::OutputOffset, time::UnixMs},
        sys::lock::Lock,
    };

    fn task() -> (tempfile::TempDir, Layout, TaskId) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id = TaskId { job: JobId::from_parts(1, 1), index: 0 };
        fs::create_dir_all(layout.task(id).root()).unwrap();
        (dir, layout, id)
    }

    fn write_record(layout: &Layout, id: TaskId, boot: &str) {
        let record = TaskRecord {
            id,
            spec: TaskSpec::example(),
            agent: "web-1".into(),
            boot: boot.into(),
            started_unix_ms: UnixMs(1),
            started_boottime_ns: 1,
        };
        fs::write(layout.task(id).record(), line(&record)).unwrap();
    }

    #[test]
    fn an_empty_ending_after_a_power_failure_is_ignored() {
        let (_dir, layout, id) = task();
        let ending =
            TaskEnding { outcome: Ending::Exited(3).into(), end_offset: OutputOffset(5), duration_ns: 1 };
        let whole = line(&ending);
        let unknown =
            br#"{"outcome":{"ending":{"vanished":1},"background":0},"end_offset":5,"duration_ns":1}"#;
        let this_boot = boot_id().unwrap();
        for (boot, written, is_lost) in [
            ("another", &b""[..], true),
            ("another", &[0; 40], true),
            ("another", &whole[..whole.len() - 10], true),
            // In the same boot the file is always complete, so this is another version's.
            (&this_boot, &b""[..], false),
            // The ending of a later version.
            ("another", &unknown[..], false),
        ] {
            write_record(&layout, id, boot);
            fs::write(layout.task(id).ending(), written).unwrap();
            let text = String::from_utf8_lossy(written);
            match find(&layout, id) {
                Ok(TaskOnDisk::Lost(reason)) => {
                    assert!(is_lost, "{text}");
                    assert_eq!(reason, "the machine was rebooted while it ran");
                    let ending = ending_of_lost(&layout, id, reason).unwrap();
                    assert!(
                        matches!(ending.outcome.ending, Ending::Lost(_))
                            && ending.end_offset == OutputOffset::START
                    );
                }
                Err(error) => {
                    assert!(!is_lost && error.kind() == io::ErrorKind::InvalidData, "{text}: {error}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        fs::write(layout.task(id).ending(), whole).unwrap();
        assert!(matches!(find(&layout, id), Ok(TaskOnDisk::Ended(found)) if found == ending));
    }

    #[tokio::test]
    async fn a_kill_of_a_live_task_that_cannot_be_reached_is_an_error() {
        let (_dir, layout, id) = task();
        kill(&layout, id, "ana".into(), None, 1).await.expect("there is nothing to kill");
        let lock = Lock::try_take(&layout.task(id).lock()).unwrap().unwrap();
        assert!(matches!(find(&layout, id), Ok(TaskOnDisk::Live)));
        assert!(kill(&layout, id, "ana".into(), None, 1).await.is_err(), "it lives, and was not told");
        let socket = socket::listen(&layout.task(id).socket(), 0o600).unwrap();
        kill(&layout, id, "ana".into(), None, 1).await.expect("it was told");
        drop((lock, socket));
    }
}
