//! The connector's client of the supervisor and of the shims. Knows nothing of the master.

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

/// Orders to the supervisor that may wait at once.
const ORDERS: usize = 64;
/// How many shims may be gone in the middle of a start before that is no accident any more.
const TRIES: usize = 3;
/// The trouble that lists show when the machine has no free process ids.
const NO_PROCESSES: &str =
    "no further process could be started; commands run in the room that was reserved for them";
/// How often it is tried to start another supervisor.
const SUPERVISOR_RETRY: Duration = Duration::from_secs(1);

/// A connection to a supervisor, and the supervisor's process where this process has started it.
type Connected = (std::os::unix::net::UnixStream, Option<std::process::Child>);

enum Order {
    Prepare,
    End,
}

/// A shim that waits for a task, `None` for one that was gone before it could be connected to, or why one that was
/// wanted does not wait.
type Ready = Result<Option<TaskProcess>, String>;

/// The shims that wait for tasks. A shim may have ended, or may be listed twice: this is detected when it is used.
#[derive(Debug)]
struct Shims {
    ready: Mutex<VecDeque<Ready>>,
    /// As many permits as there are entries, closed when there will be no more.
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

    /// The one that became ready last: its memory is the warmest.
    fn take(&self) -> Option<Ready> {
        self.count.try_acquire().ok()?.forget();
        self.ready().pop_back()
    }
}

/// A handle to the supervisor; it is started again when it is gone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    layout: Layout,
    orders: mpsc::Sender<Order>,
    shims: Arc<Shims>,
}

impl Supervisor {
    /// One that starts nothing.
    #[cfg(test)]
    pub(super) fn nobody(layout: &Layout) -> Self {
        let shims = Arc::new(Shims { ready: Mutex::default(), count: Semaphore::new(0) });
        Self { layout: layout.clone(), orders: mpsc::channel(1).0, shims }
    }

    /// Connects to the supervisor, or starts it. The second value runs until the handle is dropped or the supervisor was
    /// told to end; `stop_ordered` gets the grace, in milliseconds, when somebody on the machine wants the agent ended.
    ///
    /// # Errors
    /// When there is no supervisor and none can be started.
    pub fn connect(
        layout: &Layout,
        stop_ordered: mpsc::Sender<u32>,
        troubles: Troubles,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let supervisor = client::connect_or_start(layout)?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let shims = Arc::new(Shims { ready: Mutex::default(), count: Semaphore::new(0) });
        let pump =
            Pump { layout: layout.clone(), wanted: 0, shims: Arc::clone(&shims), stop_ordered, troubles };
        let pumping = async move {
            let _closed_at_the_end = ClosesShims(Arc::clone(&pump.shims));
            pump.run(supervisor, inbox).await;
        };
        Ok((Self { layout: layout.clone(), orders, shims }, pumping))
    }

    /// Starts a task, and returns the connection to its process.
    ///
    /// # Errors
    /// In words, when nothing was started.
    pub async fn start(&self, start: StartTask) -> Result<StartResult, String> {
        let id = start.id;
        let order = TaskRequest::Start(Box::new(start));
        let mut tries = 0;
        while tries < TRIES {
            let (shim, is_new) = match self.shims.take() {
                Some(shim) => (shim?, false),
                None => (self.next_shim().await?, true),
            };
            // One that was known may be gone long since.
            tries += usize::from(is_new);
            let Some(mut process) = shim else { continue };
            if process.say(&order).await.is_err() {
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

    /// Requests a shim from the supervisor, and waits for it or for another shim that is ready before.
    async fn next_shim(&self) -> Result<Option<TaskProcess>, String> {
        let ending = || "the agent is ending".to_owned();
        self.orders.send(Order::Prepare).await.map_err(|_| ending())?;
        self.shims.count.acquire().await.map_err(|_| ending())?.forget();
        self.shims.ready().pop_back().ok_or_else(ending)?
    }

    /// Tells the supervisor to end.
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
}

/// Lets nobody wait for shims when this is gone.
struct ClosesShims(Arc<Shims>);

impl Drop for ClosesShims {
    fn drop(&mut self) {
        self.0.count.close();
    }
}

/// Carries orders and answers, over as many supervisors as it takes.
struct Pump {
    layout: Layout,
    /// Shims that were asked for and did not come yet.
    wanted: usize,
    shims: Arc<Shims>,
    stop_ordered: mpsc::Sender<u32>,
    troubles: Troubles,
}

impl Pump {
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
            // One that is gone must not stay as a zombie; one that lives has lost its place to another.
            if let Some(mut child) = child {
                let _ = child.try_wait();
            }
            tracing::info!("a supervisor is there again");
        }
    }

    /// Takes orders while there is no supervisor that could be given them: who waits for a shim has to wait for a supervisor.
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
        // What the last supervisor did not give is asked for again.
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
                        self.answered(reply).await;
                    }
                }
            }
        }
    }

    async fn answered(&mut self, reply: SupervisorReply) {
        match reply {
            SupervisorReply::Ready { shim } => {
                self.wanted = self.wanted.saturating_sub(1);
                // Connected to now, so that a task does not have to wait for that.
                self.shims.add(Ok(TaskProcess::connect(&self.layout.spare(shim))));
            }
            SupervisorReply::Failed { reason } if self.wanted > 0 => {
                self.wanted -= 1;
                self.shims.add(Err(reason));
            }
            // Nobody waits for that one.
            SupervisorReply::Failed { .. }
            | SupervisorReply::Stopping { .. }
            | SupervisorReply::Stopped { .. } => {}
            SupervisorReply::ProcessesShort { is_short } => {
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
