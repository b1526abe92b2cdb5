//! The network half's hold on the keeper and on the tasks' processes. Knows nothing of the master.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
};

use super::{
    keeper::{
        client,
        protocol::{
            KeeperReply, KeeperRequest, Lines, StartTask, TaskEnding, TaskRecord, TaskReply, TaskRequest,
            line,
        },
        server::is_live,
    },
    layout::{Layout, TaskLayout},
    spool,
};
use crate::{
    domain::{
        SOFTWARE_VERSION,
        ids::TaskId,
        outcome::{Ending, Outcome},
    },
    sys::{disk::Disk, paths::read_optional, process::boot_id, socket},
};

/// Orders to the keeper that may wait at once.
const ORDERS: usize = 64;
/// How many workers may be gone in the middle of a start before that is no accident any more.
const TRIES: usize = 3;
/// How often it is tried to start another keeper.
const KEEPER_RETRY: Duration = Duration::from_secs(1);

/// A connection to a keeper, and the keeper's process where this process has started it.
type Connected = (std::os::unix::net::UnixStream, Option<std::process::Child>);

enum Order {
    Prepare,
    End,
}

/// A worker that waits for a task, `None` for one that was gone before it could be connected to, or why one that was
/// wanted does not wait.
type Ready = Result<Option<TaskProcess>, String>;

/// The workers that wait for tasks. One of them may be gone, or be in here twice: whoever takes it finds out.
#[derive(Debug)]
struct Workers {
    ready: Mutex<VecDeque<Ready>>,
    /// As many permits as there are entries, closed when there will be no more.
    count: Semaphore,
}

impl Workers {
    fn ready(&self) -> MutexGuard<'_, VecDeque<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, worker: Ready) {
        self.ready().push_back(worker);
        self.count.add_permits(1);
    }

    /// The one that became ready last: its memory is the warmest.
    fn take(&self) -> Option<Ready> {
        self.count.try_acquire().ok()?.forget();
        self.ready().pop_back()
    }
}

/// A handle to the keeper; it is started again when it is gone.
#[derive(Clone, Debug)]
pub struct Keeper {
    layout: Layout,
    orders: mpsc::Sender<Order>,
    workers: Arc<Workers>,
}

impl Keeper {
    /// One that starts nothing.
    #[cfg(test)]
    pub(super) fn nobody(layout: &Layout) -> Self {
        let workers = Arc::new(Workers { ready: Mutex::default(), count: Semaphore::new(0) });
        Self { layout: layout.clone(), orders: mpsc::channel(1).0, workers }
    }

    /// Connects to the keeper, or starts it. The second value runs until the handle is dropped or the keeper was
    /// told to end; `stop_ordered` gets the grace, in milliseconds, when somebody on the machine wants the agent ended.
    ///
    /// # Errors
    /// When there is no keeper and none can be started.
    pub fn connect(
        layout: &Layout,
        stop_ordered: mpsc::Sender<u32>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let keeper = client::connect_or_start(layout)?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let workers = Arc::new(Workers { ready: Mutex::default(), count: Semaphore::new(0) });
        let pump = Pump { layout: layout.clone(), wanted: 0, workers: Arc::clone(&workers), stop_ordered };
        let pumping = async move {
            let _closed_at_the_end = ClosesWorkers(Arc::clone(&pump.workers));
            pump.run(keeper, inbox).await;
        };
        Ok((Self { layout: layout.clone(), orders, workers }, pumping))
    }

    /// Starts a task, and returns the connection to its process.
    ///
    /// # Errors
    /// In words, when nothing was started.
    pub async fn start(&self, start: StartTask) -> Result<StartResult, String> {
        let id = start.id;
        let order = line(&TaskRequest::Start(Box::new(start)));
        let mut tries = 0;
        while tries < TRIES {
            let (worker, is_new) = match self.workers.take() {
                Some(worker) => (worker?, false),
                None => (self.next_worker().await?, true),
            };
            // One that was known may be gone long since.
            tries += usize::from(is_new);
            let Some(mut process) = worker else { continue };
            if process.write.write_all(&order).await.is_err() {
                continue;
            }
            match process.next().await {
                Some(TaskReply::Started) => return Ok(StartResult::Started(process)),
                Some(TaskReply::Known) => return Ok(StartResult::Known),
                Some(TaskReply::Expired) => return Ok(StartResult::Expired),
                Some(TaskReply::Failed { reason }) => return Err(reason),
                // Gone, or it has another task: should it have begun this one, the next one knows it.
                _ => {}
            }
        }
        match self.layout.task(id).root().try_exists() {
            Ok(true) => Ok(StartResult::Known),
            Ok(false) => Err("no process could be given it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has the keeper make a worker ready and waits for it, or for another one that comes first.
    async fn next_worker(&self) -> Result<Option<TaskProcess>, String> {
        let ending = || "the agent is ending".to_owned();
        self.orders.send(Order::Prepare).await.map_err(|_| ending())?;
        self.workers.count.acquire().await.map_err(|_| ending())?.forget();
        self.workers.ready().pop_back().ok_or_else(ending)?
    }

    /// Tells the keeper to end.
    pub async fn end(&self) {
        let _ = self.orders.send(Order::End).await;
        self.orders.closed().await;
    }
}

/// What became of a task that was to be started.
#[derive(Debug)]
pub enum StartResult {
    /// It was started; the connection to its process.
    Started(TaskProcess),
    /// It was known, and nothing was started.
    Known,
    /// The permission expired before a process could begin, and nothing was started.
    Expired,
    /// The agent's memory of tasks was removed before a process could begin, and nothing was started.
    MemoryGone,
}

/// Lets nobody wait for workers when this is gone.
struct ClosesWorkers(Arc<Workers>);

impl Drop for ClosesWorkers {
    fn drop(&mut self) {
        self.0.count.close();
    }
}

/// Carries orders and answers, over as many keepers as it takes.
struct Pump {
    layout: Layout,
    /// Workers that were asked for and did not come yet.
    wanted: usize,
    workers: Arc<Workers>,
    stop_ordered: mpsc::Sender<u32>,
}

impl Pump {
    async fn run(mut self, mut keeper: Connected, mut inbox: mpsc::Receiver<Order>) {
        loop {
            let (socket, child) = keeper;
            let begun = Instant::now();
            match self.serve(socket, &mut inbox).await {
                Ok(Served::End) => return,
                Ok(Served::KeeperGone) => tracing::warn!("the keeper is gone; its tasks go on"),
                Err(error) => tracing::warn!(%error, "lost the keeper; its tasks go on"),
            }
            let mut pause = KEEPER_RETRY.saturating_sub(begun.elapsed());
            keeper = loop {
                if let Some(Served::End) = self.wait_without_keeper(pause, &mut inbox).await {
                    return;
                }
                let layout = self.layout.clone();
                match tokio::task::spawn_blocking(move || client::connect_or_start(&layout)).await {
                    Ok(Ok(keeper)) => break keeper,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "cannot start a keeper; trying again");
                        for _ in 0..std::mem::take(&mut self.wanted) {
                            self.workers.add(Err(format!("no keeper can be started: {error}")));
                        }
                    }
                    Err(_) => return,
                }
                pause = KEEPER_RETRY;
            };
            // One that is gone must not stay as a zombie; one that lives has lost its place to another.
            if let Some(mut child) = child {
                let _ = child.try_wait();
            }
            tracing::info!("a keeper is there again");
        }
    }

    /// Takes orders while there is no keeper that could be given them: who waits for a worker has to wait for a keeper.
    async fn wait_without_keeper(
        &mut self,
        pause: Duration,
        inbox: &mut mpsc::Receiver<Order>,
    ) -> Option<Served> {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return None,
                order = inbox.recv() => match order {
                    Some(Order::Prepare) => self.wanted += 1,
                    Some(Order::End) | None => return Some(Served::End),
                },
            }
        }
    }

    async fn serve(
        &mut self,
        socket: std::os::unix::net::UnixStream,
        inbox: &mut mpsc::Receiver<Order>,
    ) -> io::Result<Served> {
        socket.set_nonblocking(true)?;
        let (mut read, mut write) = UnixStream::from_std(socket)?.into_split();
        let version = SOFTWARE_VERSION.to_owned();
        write.write_all(&line(&KeeperRequest::NetworkHalf { version })).await?;
        // What the last keeper did not give is asked for again.
        for _ in 0..self.wanted {
            write.write_all(&line(&KeeperRequest::Prepare)).await?;
        }
        let mut lines = Lines::default();
        let mut chunk = vec![0; 4096];
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(Order::Prepare) => {
                        self.wanted += 1;
                        write.write_all(&line(&KeeperRequest::Prepare)).await?;
                    }
                    Some(Order::End) => {
                        write.write_all(&line(&KeeperRequest::End)).await?;
                        return Ok(Served::End);
                    }
                    None => return Ok(Served::End),
                },
                count = read.read(&mut chunk) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(Served::KeeperGone);
                    }
                    lines.push(&chunk[..count])?;
                    while let Some(reply) = lines.take()? {
                        self.answered(reply).await;
                    }
                }
            }
        }
    }

    async fn answered(&mut self, reply: KeeperReply) {
        match reply {
            KeeperReply::Ready { worker } => {
                self.wanted = self.wanted.saturating_sub(1);
                // Connected to now, so that a task does not have to wait for that.
                self.workers.add(Ok(TaskProcess::connect(&self.layout.spare(worker))));
            }
            KeeperReply::Failed { reason } if self.wanted > 0 => {
                self.wanted -= 1;
                self.workers.add(Err(reason));
            }
            // Nobody waits for that one.
            KeeperReply::Failed { .. } | KeeperReply::Stopping { .. } | KeeperReply::Stopped { .. } => {}
            KeeperReply::StopOrdered { grace_ms } => {
                let _ = self.stop_ordered.send(grace_ms).await;
            }
        }
    }
}

enum Served {
    End,
    KeeperGone,
}

/// A connection to the process of one task, or to a worker that waits for one.
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

/// How a task ended, where that was written down.
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
    let outcome = Outcome::from(Ending::Lost(reason.to_owned()));
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
/// When it lives and could not be told: it has to be told again.
pub async fn kill(layout: &Layout, id: TaskId, by: String, grace_ms: u32) -> io::Result<()> {
    let is_told = match TaskProcess::connect(&layout.task(id)) {
        Some(mut process) => process.say(&TaskRequest::Kill { by, grace_ms }).await.is_ok(),
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
        domain::{
            command::{Command, TaskSpec},
            ids::RunId,
            input::StandardInput,
        },
        sys::lock::Lock,
    };

    fn task() -> (tempfile::TempDir, Layout, TaskId) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id = TaskId { run: RunId::from_parts(1, 1), index: 0 };
        fs::create_dir_all(layout.task(id).root()).unwrap();
        (dir, layout, id)
    }

    fn write_record(layout: &Layout, id: TaskId, boot: &str) {
        let spec = TaskSpec {
            run_number: 1,
            operator: "ana".into(),
            target: "web".into(),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            environment: Vec::new(),
            working_directory: None,
            timeout_ms: None,
            kill_grace_ms: 1,
            input: StandardInput::Nothing,
        };
        let record = TaskRecord {
            id,
            spec,
            agent: "web-1".into(),
            boot: boot.into(),
            started_unix_ms: 1,
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
        kill(&layout, id, "ana".into(), 1).await.expect("there is nothing to kill");
        let lock = Lock::try_take(&layout.task(id).lock()).unwrap().unwrap();
        assert!(matches!(find(&layout, id), Ok(Found::Live)));
        assert!(kill(&layout, id, "ana".into(), 1).await.is_err(), "it lives, and was not told");
        let socket = socket::listen(&layout.task(id).socket(), 0o600).unwrap();
        kill(&layout, id, "ana".into(), 1).await.expect("it was told");
        drop((lock, socket));
    }
}
