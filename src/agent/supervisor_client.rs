//! The connector's client of the supervisor and of the shims. Does not depend on the master.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{Semaphore, mpsc},
};

use super::{
    layout::Layout,
    supervisor::{
        client,
        protocol::{Lines, StartTask, SupervisorReply, SupervisorRequest, TaskReply, TaskRequest, line},
    },
    task_process::TaskProcess,
    troubles::{Trouble, Troubles},
};
use crate::domain::SOFTWARE_VERSION;

/// Maximum number of orders to the supervisor that wait.
const MAX_QUEUED_ORDERS: usize = 64;
/// The number of new shims that may fail during the start of a task before the start fails.
const MAX_START_ATTEMPTS: usize = 3;
/// The problem that lists show when the machine has no free process ids.
const NO_PROCESSES: &str =
    "no further process could be started; commands use the process ids that were reserved for them";
/// The minimum time between two attempts to start a supervisor.
const SUPERVISOR_RETRY: Duration = Duration::from_secs(1);

/// A connection to a supervisor, and the supervisor's process where this process has started it.
type Connected = (std::os::unix::net::UnixStream, Option<std::process::Child>);

enum Order {
    Prepare,
    End,
}

/// The connection to a shim that waits for a task; `None` if the shim ended before the connection was made.
/// An error is the reason why a requested shim could not be prepared.
type Ready = Result<Option<TaskProcess>, String>;

/// The shims that wait for tasks. A shim may have ended, or may be listed twice: this is detected when it is used.
#[derive(Debug)]
struct Shims {
    ready: Mutex<VecDeque<Ready>>,
    /// One permit for each entry of `ready`. Closed when no more entries will be added.
    count: Semaphore,
}

impl Shims {
    fn ready(&self) -> MutexGuard<'_, VecDeque<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, shim: Ready) {
        self.ready().push_back(shim);
        self.count.add_permits(1);
    }

    /// Takes the shim that became ready last, since its memory is most likely still in the caches.
    fn take(&self) -> Option<Ready> {
        self.count.try_acquire().ok()?.forget();
        self.ready().pop_back()
    }
}

/// A handle to the supervisor, which is started again when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    orders: mpsc::Sender<Order>,
    shims: Arc<Shims>,
}

impl Supervisor {
    /// Returns a handle that starts nothing.
    #[cfg(test)]
    pub(super) fn disconnected() -> Self {
        let shims = Arc::new(Shims { ready: Mutex::default(), count: Semaphore::new(0) });
        Self { orders: mpsc::channel(1).0, shims }
    }

    /// Connects to the supervisor, or starts it. The second value runs until the handle is dropped or the
    /// supervisor was ordered to end. `stop_ordered` gets the grace, in milliseconds, when a user of this
    /// machine orders the agent to stop.
    ///
    /// # Errors
    /// When there is no supervisor and none can be started.
    pub(crate) fn connect(
        layout: &Layout,
        stop_ordered: mpsc::Sender<u32>,
        troubles: Troubles,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let supervisor = client::connect_or_start(layout)?;
        let (orders, inbox) = mpsc::channel(MAX_QUEUED_ORDERS);
        let shims = Arc::new(Shims { ready: Mutex::default(), count: Semaphore::new(0) });
        let pump = SupervisorLink {
            layout: layout.clone(),
            wanted: 0,
            shims: Arc::clone(&shims),
            stop_ordered,
            troubles,
        };
        let pumping = async move {
            let _closed_at_the_end = CloseShimsOnDrop(Arc::clone(&pump.shims));
            pump.run(supervisor, inbox).await;
        };
        Ok((Self { orders, shims }, pumping))
    }

    /// Starts a task, and returns the connection to its process.
    ///
    /// # Errors
    /// The reason as text, when no process has confirmed the start. The task may have begun nevertheless:
    /// look for its directory.
    pub(crate) async fn start(&self, start: StartTask) -> Result<StartResult, String> {
        let order = TaskRequest::Start(Box::new(start));
        let mut tries = 0;
        while tries < MAX_START_ATTEMPTS {
            let (shim, is_new) = match self.shims.take() {
                Some(shim) => (shim?, false),
                None => (self.next_shim().await?, true),
            };
            // A shim from the list may have ended a long time ago, so only new ones count.
            tries += usize::from(is_new);
            let Some(mut process) = shim else { continue };
            if process.send(&order).await.is_err() {
                continue;
            }
            match process.next().await {
                Some(TaskReply::Started) => return Ok(StartResult::Started(process)),
                Some(TaskReply::Known) => return Ok(StartResult::Known),
                Some(TaskReply::Expired) => return Ok(StartResult::Expired),
                Some(TaskReply::Failed { reason }) => return Err(reason),
                // The shim has ended, or runs another task. If it has begun this task, the next shim reports
                // that.
                _ => {}
            }
        }
        Err("no process was available for it".to_owned())
    }

    /// Requests a shim from the supervisor, and waits for it or for another shim that is ready first.
    async fn next_shim(&self) -> Result<Option<TaskProcess>, String> {
        let ending = || "the agent is ending".to_owned();
        self.orders.send(Order::Prepare).await.map_err(|_| ending())?;
        self.shims.count.acquire().await.map_err(|_| ending())?.forget();
        self.shims.ready().pop_back().ok_or_else(ending)?
    }

    /// Orders the supervisor to end, and waits until the order was sent.
    pub(crate) async fn end(&self) {
        let _ = self.orders.send(Order::End).await;
        self.orders.closed().await;
    }
}

/// The result of starting a task.
#[derive(Debug)]
pub(crate) enum StartResult {
    /// The task was started. The value is the connection to its process.
    Started(TaskProcess),
    /// The task was already known, and nothing was started.
    Known,
    /// The permission expired before a process could begin, and nothing was started.
    Expired,
}

/// Wakes the callers that wait for shims when it is dropped.
struct CloseShimsOnDrop(Arc<Shims>);

impl Drop for CloseShimsOnDrop {
    fn drop(&mut self) {
        self.0.count.close();
    }
}

/// Forwards orders and answers, and reconnects when a supervisor ends.
struct SupervisorLink {
    layout: Layout,
    /// The number of shims that were requested and are not ready yet.
    wanted: usize,
    shims: Arc<Shims>,
    stop_ordered: mpsc::Sender<u32>,
    troubles: Troubles,
}

impl SupervisorLink {
    async fn run(mut self, mut supervisor: Connected, mut inbox: mpsc::Receiver<Order>) {
        loop {
            let (socket, child) = supervisor;
            let begun = Instant::now();
            match self.serve(socket, &mut inbox).await {
                Ok(Served::End) => return,
                Ok(Served::SupervisorGone) => tracing::warn!("the supervisor is gone; its tasks continue"),
                Err(error) => tracing::warn!(%error, "lost the supervisor; its tasks continue"),
            }
            let mut pause = SUPERVISOR_RETRY.saturating_sub(begun.elapsed());
            supervisor = loop {
                if let Some(Served::End) = self.wait_without_supervisor(pause, &mut inbox).await {
                    return;
                }
                let layout = self.layout.clone();
                match tokio::task::spawn_blocking(move || client::connect_or_start(&layout)).await {
                    Ok(Ok(supervisor)) => break supervisor,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "cannot start a supervisor; trying again");
                        for _ in 0..std::mem::take(&mut self.wanted) {
                            self.shims.add(Err(format!("no supervisor can be started: {error}")));
                        }
                    }
                    Err(_) => return,
                }
                pause = SUPERVISOR_RETRY;
            };
            // Reaps the old supervisor if it has ended. If it is alive, another one has replaced it.
            if let Some(mut child) = child {
                let _ = child.try_wait();
            }
            tracing::info!("connected to a supervisor again");
        }
    }

    /// Receives orders while there is no supervisor, and notes how many shims are requested from the next
    /// one. Returns after `pause`, or when the supervisor has to end.
    async fn wait_without_supervisor(
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
        write.write_all(&line(&SupervisorRequest::Connector { version })).await?;
        // Repeats the requests that the last supervisor did not fulfil.
        for _ in 0..self.wanted {
            write.write_all(&line(&SupervisorRequest::Prepare)).await?;
        }
        let mut lines = Lines::default();
        let mut chunk = vec![0; 4096];
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(Order::Prepare) => {
                        self.wanted += 1;
                        write.write_all(&line(&SupervisorRequest::Prepare)).await?;
                    }
                    Some(Order::End) => {
                        write.write_all(&line(&SupervisorRequest::End)).await?;
                        return Ok(Served::End);
                    }
                    None => return Ok(Served::End),
                },
                count = read.read(&mut chunk) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(Served::SupervisorGone);
                    }
                    lines.push(&chunk[..count])?;
                    while let Some(reply) = lines.take()? {
                        self.handle_reply(reply).await;
                    }
                }
            }
        }
    }

    async fn handle_reply(&mut self, reply: SupervisorReply) {
        match reply {
            SupervisorReply::Ready { shim } => {
                self.wanted = self.wanted.saturating_sub(1);
                // Connects now, so that a task does not have to wait for the connection.
                self.shims.add(Ok(TaskProcess::connect(&self.layout.spare(shim))));
            }
            SupervisorReply::Failed { reason } if self.wanted > 0 => {
                self.wanted -= 1;
                self.shims.add(Err(reason));
            }
            // No caller waits for this shim, or the message is not for the connector.
            SupervisorReply::Failed { .. }
            | SupervisorReply::Stopping { .. }
            | SupervisorReply::Stopped { .. } => {}
            SupervisorReply::ProcessShortage { is_short } => {
                let text = is_short.then(|| NO_PROCESSES.to_owned());
                if self.troubles.note(Trouble::Processes, text) && is_short {
                    tracing::error!("{NO_PROCESSES}");
                }
            }
            SupervisorReply::StopOrdered { grace_ms } => {
                let _ = self.stop_ordered.send(grace_ms).await;
            }
        }
    }
}

enum Served {
    End,
    SupervisorGone,
}
