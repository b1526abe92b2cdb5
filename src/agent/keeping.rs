//! The network half's hold on the keeper and on the tasks' processes. Knows nothing of the master.

use std::{collections::HashMap, io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
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
        ids::TaskId,
        outcome::{Ending, Outcome},
    },
    sys::{paths::read_optional, process::boot_id, socket},
};

/// Orders to the keeper that may wait for their answer at once.
const ORDERS: usize = 64;

enum Order {
    Start(Box<StartTask>, oneshot::Sender<Result<(), String>>),
    End,
}

/// A handle to the keeper; it is started again when it is gone.
#[derive(Clone, Debug)]
pub struct Keeper {
    orders: mpsc::Sender<Order>,
}

impl Keeper {
    /// Connects to the keeper, or starts it. The second value runs until the handle is dropped or the keeper was
    /// told to end; `stop_ordered` gets the grace, in milliseconds, when somebody on the machine wants the agent ended.
    ///
    /// # Errors
    /// When there is no keeper and none can be started.
    pub fn connect(
        layout: &Layout,
        stop_ordered: mpsc::Sender<u32>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let socket = client::connect_or_start(layout)?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let pump = Pump { layout: layout.clone(), waiting: HashMap::new(), stop_ordered };
        Ok((Self { orders }, pump.run(socket, inbox)))
    }

    /// Starts a task; one that is known already is no error.
    ///
    /// # Errors
    /// In words, when nothing was started.
    pub async fn start(&self, start: StartTask) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the agent is ending".to_owned();
        self.orders.send(Order::Start(Box::new(start), reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Tells the keeper to end.
    pub async fn end(&self) {
        let _ = self.orders.send(Order::End).await;
        self.orders.closed().await;
    }
}

/// Carries orders and answers, over as many keepers as it takes.
struct Pump {
    layout: Layout,
    waiting: HashMap<TaskId, (StartTask, oneshot::Sender<Result<(), String>>)>,
    stop_ordered: mpsc::Sender<u32>,
}

impl Pump {
    async fn run(mut self, mut socket: std::os::unix::net::UnixStream, mut inbox: mpsc::Receiver<Order>) {
        loop {
            match self.serve(socket, &mut inbox).await {
                Ok(Served::End) => return,
                Ok(Served::KeeperGone) => tracing::warn!("the keeper is gone; its tasks go on"),
                Err(error) => tracing::warn!(%error, "lost the keeper; its tasks go on"),
            }
            let layout = self.layout.clone();
            socket = loop {
                let layout = layout.clone();
                match tokio::task::spawn_blocking(move || client::connect_or_start(&layout)).await {
                    Ok(Ok(socket)) => break socket,
                    Ok(Err(error)) => tracing::error!(%error, "cannot start a keeper; trying again"),
                    Err(_) => return,
                }
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            };
            tracing::info!("a keeper is there again");
        }
    }

    async fn serve(
        &mut self,
        socket: std::os::unix::net::UnixStream,
        inbox: &mut mpsc::Receiver<Order>,
    ) -> io::Result<Served> {
        socket.set_nonblocking(true)?;
        let (mut read, mut write) = UnixStream::from_std(socket)?.into_split();
        write.write_all(&line(&KeeperRequest::NetworkHalf)).await?;
        // What the last keeper did not answer is asked again; a directory that exists answers `known`.
        for (start, _) in self.waiting.values() {
            write.write_all(&line(&KeeperRequest::Start(Box::new(start.clone())))).await?;
        }
        let mut lines = Lines::default();
        let mut chunk = vec![0; 4096];
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(Order::Start(start, reply)) => {
                        let id = start.id;
                        self.waiting.insert(id, ((*start).clone(), reply));
                        write.write_all(&line(&KeeperRequest::Start(start))).await?;
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
        let (id, result) = match reply {
            KeeperReply::Started(id) | KeeperReply::Known(id) => (id, Ok(())),
            KeeperReply::Failed { id, reason } => (id, Err(reason)),
            KeeperReply::StopOrdered { grace_ms } => {
                let _ = self.stop_ordered.send(grace_ms).await;
                return;
            }
            KeeperReply::Stopping { .. } => return,
        };
        if let Some((_, reply)) = self.waiting.remove(&id) {
            let _ = reply.send(result);
        }
    }
}

enum Served {
    End,
    KeeperGone,
}

/// A connection to the process of one task.
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
///
/// # Errors
/// When the disk cannot be read.
pub fn ending_of(layout: &Layout, id: TaskId) -> io::Result<Option<TaskEnding>> {
    let task = layout.task(id);
    let read = || -> io::Result<Option<TaskEnding>> {
        Ok(read_optional(&task.ending())?.and_then(|json| serde_json::from_slice(&json).ok()))
    };
    if let Some(ending) = read()? {
        return Ok(Some(ending));
    }
    if is_live(layout, id)? {
        return Ok(None);
    }
    // It may have written its ending between the two looks.
    if let Some(ending) = read()? {
        return Ok(Some(ending));
    }
    let reason = match record_of(&task)? {
        Some(record) if record.boot != boot_id()? => "the machine was rebooted while it ran",
        Some(_) => "its process on the agent was killed",
        None => "its process on the agent was killed before it began",
    };
    let end_offset = spool::whole_end(&task.spool())?;
    let outcome = Outcome::from(Ending::Lost(reason.to_owned()));
    Ok(Some(TaskEnding { outcome, end_offset, duration_ns: 0 }))
}

/// What a task's directory says about it.
///
/// # Errors
/// When the disk cannot be read.
pub fn record_of(task: &TaskLayout) -> io::Result<Option<TaskRecord>> {
    Ok(read_optional(&task.record())?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Tells a task's process to kill its tree. False when there is no such process.
pub async fn kill(layout: &Arc<Layout>, id: TaskId, by: String, grace_ms: u32) -> bool {
    match TaskProcess::connect(&layout.task(id)) {
        Some(mut process) => process.say(&TaskRequest::Kill { by, grace_ms }).await.is_ok(),
        None => false,
    }
}
