//! The links to an agent: the tunnel that the agent opened, and the direct link if there is one.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, watch},
    time::timeout,
};
use tonic::Status;

use crate::{
    domain::{
        agent::LinkPreference,
        attach::{AttachRequest, AttachResponse, SignalTask, Signalled},
    },
    wire::{agent::AgentClient, channel::Channel, incoming::Incoming},
};

/// How long an agent may take for its first word on a call.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Attaches of one agent at once that ask for what has ended. It may tell of thousands of tasks when it returns.
const MAX_RECALLS: usize = 64;

/// Requests of one Attach that may wait for the link.
const REQUESTS: usize = 8;

/// An Attach, as the master has it.
#[derive(Debug)]
pub struct AttachStream {
    /// What is said to the agent.
    pub requests: mpsc::Sender<AttachRequest>,
    /// What it answers.
    pub answers: Incoming<AttachResponse>,
}

/// An Attach that is opened ahead.
#[derive(Debug)]
enum Prepared {
    None,
    /// It will be opened when there is time for it.
    Wanted,
    Opening,
    Ready(Box<AttachStream>),
}

/// The links of one connected agent.
#[derive(Debug)]
pub struct Links {
    tunnel: Channel,
    direct: watch::Sender<Option<Channel>>,
    preference: LinkPreference,
    spoke: AtomicBool,
    ahead: Mutex<Prepared>,
    /// Turns of Attaches that ask for what has ended.
    recalls: Semaphore,
}

impl Links {
    /// Links with the tunnel alone.
    #[must_use]
    pub fn new(tunnel: Channel, preference: LinkPreference) -> Self {
        Self {
            tunnel,
            direct: watch::Sender::new(None),
            preference,
            spoke: AtomicBool::new(false),
            ahead: Mutex::new(Prepared::None),
            recalls: Semaphore::new(MAX_RECALLS),
        }
    }

    /// A turn to ask the agent for a task that has ended.
    pub async fn recall(&self) -> Option<SemaphorePermit<'_>> {
        self.recalls.acquire().await.ok()
    }

    /// The link to use now: direct where there is one, else the tunnel. Waits a while where only a direct one may be used,
    /// unless any will do.
    async fn pick(&self, any: bool) -> Result<Channel, Status> {
        if any || self.preference != LinkPreference::Direct {
            return Ok(self.usable_direct().unwrap_or_else(|| self.tunnel.clone()));
        }
        let is_usable =
            |direct: &Option<Channel>| direct.as_ref().is_some_and(|channel| !channel.is_closed());
        let mut direct = self.direct.subscribe();
        let found = timeout(ANSWER_WITHIN, direct.wait_for(is_usable)).await;
        let channel = found.ok().and_then(Result::ok).and_then(|found| found.clone());
        channel.ok_or_else(|| Status::unavailable("its agent wants a direct link, and there is none"))
    }

    /// Gives an order to stop a task over every link that there is; the first answer, or `None` when none comes in time.
    pub async fn signal(&self, request: &SignalTask) -> Option<Signalled> {
        let over = |channel: Channel| async {
            timeout(ANSWER_WITHIN, AgentClient::new(channel).signal(request.clone())).await.ok()?.ok()
        };
        let direct = async { over(self.usable_direct()?).await };
        let tunnel = over(self.tunnel.clone());
        tokio::select! {
            Some(answer) = tunnel => Some(answer),
            Some(answer) = direct => Some(answer),
            else => None,
        }
    }

    fn usable_direct(&self) -> Option<Channel> {
        self.direct.borrow().clone().filter(|channel| !channel.is_closed())
    }

    /// Opens an Attach, on the one that was opened ahead where there is one, and on `any` link where a task is only asked
    /// about. What it begins with is made when there is a link to send it on: it may be waited for, and what was true before
    /// need not be true then.
    ///
    /// # Errors
    /// When there is no link, it breaks, or nobody answers.
    pub async fn attach(&self, any: bool, first: impl Fn() -> AttachRequest) -> Result<AttachStream, Status> {
        // One whose link broke meanwhile takes nothing.
        if let Some(stream) = self.take_ahead()
            && stream.requests.try_send(first()).is_ok()
        {
            return Ok(*stream);
        }
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let channel = self.pick(any).await?;
        // On its way with the call: the queue is empty.
        let _ = requests.try_send(first());
        let call = AgentClient::new(channel).attach(outgoing);
        let answers = timeout(ANSWER_WITHIN, call)
            .await
            .map_err(|_| Status::deadline_exceeded("the agent does not answer"))??;
        Ok(AttachStream { requests, answers })
    }

    fn ahead(&self) -> MutexGuard<'_, Prepared> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_ahead(&self) -> Option<Box<AttachStream>> {
        let mut ahead = self.ahead();
        match std::mem::replace(&mut *ahead, Prepared::None) {
            Prepared::Ready(stream) => Some(stream),
            other => {
                *ahead = other;
                None
            }
        }
    }

    /// Wants an Attach to be opened ahead. True when that is new.
    pub fn want_ahead(&self) -> bool {
        let mut ahead = self.ahead();
        let is_new = matches!(*ahead, Prepared::None);
        if is_new {
            *ahead = Prepared::Wanted;
        }
        is_new
    }

    /// Whether one is wanted. Whoever is told so opens it.
    pub fn begin_ahead(&self) -> bool {
        let mut ahead = self.ahead();
        let is_wanted = matches!(*ahead, Prepared::Wanted);
        if is_wanted {
            *ahead = Prepared::Opening;
        }
        is_wanted
    }

    /// Opens an Attach ahead, on the link that is used now.
    pub async fn open_ahead(&self) {
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let channel = match self.preference {
            LinkPreference::Direct => self.usable_direct(),
            _ => Some(self.usable_direct().unwrap_or_else(|| self.tunnel.clone())),
        };
        let opened = match channel {
            Some(channel) => AgentClient::new(channel).attach(outgoing).await.ok(),
            None => None,
        };
        let mut ahead = self.ahead();
        // Meanwhile the links may be others.
        if matches!(*ahead, Prepared::Opening) {
            *ahead = opened.map_or(Prepared::None, |answers| {
                Prepared::Ready(Box::new(AttachStream { requests, answers }))
            });
        }
    }

    /// Uses another direct link from now on, or none.
    pub(super) fn change_direct(&self, channel: Option<Channel>) {
        self.direct.send_replace(channel);
        let mut ahead = self.ahead();
        if matches!(*ahead, Prepared::Opening | Prepared::Ready(_)) {
            *ahead = Prepared::None;
        }
    }

    /// Notes that something came over a link: as good as a heartbeat.
    pub fn spoke(&self) {
        self.spoke.store(true, Ordering::Relaxed);
    }

    /// Whether something came since this was asked last.
    pub fn take_spoke(&self) -> bool {
        self.spoke.swap(false, Ordering::Relaxed)
    }
}
