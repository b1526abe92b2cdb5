//! The connection to a task's shim, and what the disk says about the task if the shim does not answer. Knows neither the
//! supervisor nor the master.

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
pub struct TaskProcess {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    lines: Lines,
}

impl TaskProcess {
    /// Connects to a task's process; `None` when it has none, or no more.
    #[must_use]
    pub fn connect(task: &TaskLayout) -> Option<Self> {
        let socket = socket::connect(&task.socket()).ok()?;
        socket.set_nonblocking(true).ok()?;
        let (read, write) = UnixStream::from_std(socket).ok()?.into_split();
        Some(Self { read, write, lines: Lines::default() })
    }

    /// Says something to it.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn say(&mut self, request: &TaskRequest) -> io::Result<()> {
        self.write.write_all(&line(request)).await
    }

    /// Gives it bytes for the command's standard input.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn feed(&mut self, offset: u64, data: &[u8], is_last: bool) -> io::Result<()> {
        let request = TaskRequest::Input { offset, length: data.len(), is_last };
        self.write.write_all(&line(&request)).await?;
        self.write.write_all(data).await
    }

    /// The next thing it says; `None` when it is gone. May be dropped and called again.
    pub async fn next(&mut self) -> Option<TaskReply> {
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

/// What the disk says of a task whose process does not answer.
#[derive(Debug)]
pub enum Found {
    /// Its process lives.
    Live,
    /// How it ended.
    Ended(TaskEnding),
    /// It ended and nobody wrote down how, for this reason. [`ending_of_lost`] tells how much of its output there is.
    Lost(&'static str),
}

/// What the disk says of a task whose process does not answer.
///
/// # Errors
/// When the disk cannot be read, or what is there was written by another version (`InvalidData`).
pub fn find(layout: &Layout, id: TaskId) -> io::Result<Found> {
    let task = layout.task(id);
    if let Some(ending) = read_ending(&task)? {
        return Ok(Found::Ended(ending));
    }
    if is_live(layout, id)? {
        return Ok(Found::Live);
    }
    // It may have written its ending between the two looks.
    if let Some(ending) = read_ending(&task)? {
        return Ok(Found::Ended(ending));
    }
    Ok(Found::Lost(match record_of(&task)? {
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
        // It is renamed into place when it is whole, but not brought to the disk before: a machine that loses its power
        // just then may keep the name alone.
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

/// How a lost task ended: with the output that survived. Reads all of that.
///
/// # Errors
/// When the disk cannot be read.
pub fn ending_of_lost(layout: &Layout, id: TaskId, reason: &str) -> io::Result<TaskEnding> {
    let end_offset = spool::whole_end(&Disk::default(), &layout.task(id).spool())?;
    let outcome = Outcome::from(Ending::Lost(reason.into()));
    Ok(TaskEnding { outcome, end_offset, duration_ns: 0 })
}

/// What a task's directory says about it.
///
/// # Errors
/// When the disk cannot be read.
pub fn record_of(task: &TaskLayout) -> io::Result<Option<TaskRecord>> {
    Ok(read_optional(&task.record())?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Tells a task's process to kill its tree, where there is one.
///
/// # Errors
/// When it lives and could not be reached: retry.
pub async fn kill(
    layout: &Layout,
    id: TaskId,
    by: String,
    seal: Option<Seal>,
    grace_ms: u32,
) -> io::Result<()> {
    let is_told = match TaskProcess::connect(&layout.task(id)) {
        Some(mut process) => process.say(&TaskRequest::Kill { by, seal, grace_ms }).await.is_ok(),
        None => false,
    };
    if !is_told && is_live(layout, id)? {
        return Err(io::Error::other("the task's process takes no connection just now"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        domain::{command::TaskSpec, ids::JobId, time::UnixMs},
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
    fn an_ending_of_which_a_power_failure_kept_the_name_alone_is_none() {
        let (_dir, layout, id) = task();
        let ending = TaskEnding { outcome: Ending::Exited(3).into(), end_offset: 5, duration_ns: 1 };
        let whole = line(&ending);
        let unknown =
            br#"{"outcome":{"ending":{"vanished":1},"background":0},"end_offset":5,"duration_ns":1}"#;
        let this_boot = boot_id().unwrap();
        for (boot, written, is_lost) in [
            ("another", &b""[..], true),
            ("another", &[0; 40], true),
            ("another", &whole[..whole.len() - 10], true),
            // Renamed into place when it is whole: nobody has written a part of it in this boot.
            (&this_boot, &b""[..], false),
            // A later version's.
            ("another", &unknown[..], false),
        ] {
            write_record(&layout, id, boot);
            fs::write(layout.task(id).ending(), written).unwrap();
            let text = String::from_utf8_lossy(written);
            match find(&layout, id) {
                Ok(Found::Lost(reason)) => {
                    assert!(is_lost, "{text}");
                    assert_eq!(reason, "the machine was rebooted while it ran");
                    let ending = ending_of_lost(&layout, id, reason).unwrap();
                    assert!(matches!(ending.outcome.ending, Ending::Lost(_)) && ending.end_offset == 0);
                }
                Err(error) => {
                    assert!(!is_lost && error.kind() == io::ErrorKind::InvalidData, "{text}: {error}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        fs::write(layout.task(id).ending(), whole).unwrap();
        assert!(matches!(find(&layout, id), Ok(Found::Ended(found)) if found == ending));
    }

    #[tokio::test]
    async fn a_task_that_lives_and_cannot_be_told_to_stop_is_told_again() {
        let (_dir, layout, id) = task();
        kill(&layout, id, "ana".into(), None, 1).await.expect("there is nothing to kill");
        let lock = Lock::try_take(&layout.task(id).lock()).unwrap().unwrap();
        assert!(matches!(find(&layout, id), Ok(Found::Live)));
        assert!(kill(&layout, id, "ana".into(), None, 1).await.is_err(), "it lives, and was not told");
        let socket = socket::listen(&layout.task(id).socket(), 0o600).unwrap();
        kill(&layout, id, "ana".into(), None, 1).await.expect("it was told");
        drop((lock, socket));
    }
}
