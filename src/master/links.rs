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

/// How long to wait for the first response of an agent to a call.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of concurrent Attaches of one agent for tasks that have ended. A returning agent may report
/// thousands of tasks.
const MAX_RECALLS: usize = 64;

/// Maximum number of requests of one Attach that wait for the link.
const MAX_QUEUED_REQUESTS: usize = 8;

/// The master's side of an Attach.
#[derive(Debug)]
pub(crate) struct AttachStream {
    /// Requests to the agent.
    pub requests: mpsc::Sender<AttachRequest>,
    /// Responses of the agent.
    pub answers: Incoming<AttachResponse>,
}

/// The state of an Attach that is opened in advance.
#[derive(Debug)]
enum Prefetched {
    None,
    /// It is opened when the master is not busy with tasks.
    Wanted,
    Opening,
    Ready(Box<AttachStream>),
}

/// The links of one connected agent.
#[derive(Debug)]
pub(crate) struct Links {
    tunnel: Channel,
    direct: watch::Sender<Option<Channel>>,
    preference: LinkPreference,
    spoke: AtomicBool,
    ahead: Mutex<Prefetched>,
    /// Permits for Attaches of tasks that have ended.
    recalls: Semaphore,
}

impl Links {
    /// Returns links with the tunnel only.
    #[must_use]
    pub(crate) fn new(tunnel: Channel, preference: LinkPreference) -> Self {
        Self {
            tunnel,
            direct: watch::Sender::new(None),
            preference,
            spoke: AtomicBool::new(false),
            ahead: Mutex::new(Prefetched::None),
            recalls: Semaphore::new(MAX_RECALLS),
        }
    }

    /// Waits for a permit to attach a task that has ended.
    pub(crate) async fn recall(&self) -> Option<SemaphorePermit<'_>> {
        self.recalls.acquire().await.ok()
    }

    /// Returns the link to use now: the direct link if there is one, else the tunnel. If the agent wants only
    /// a direct link, waits for it up to [`ANSWER_TIMEOUT`], unless `any` link may be used.
    async fn pick(&self, any: bool) -> Result<Channel, Status> {
        if any || self.preference != LinkPreference::Direct {
            return Ok(self.usable_direct().unwrap_or_else(|| self.tunnel.clone()));
        }
        let is_usable =
            |direct: &Option<Channel>| direct.as_ref().is_some_and(|channel| !channel.is_closed());
        let mut direct = self.direct.subscribe();
        let found = timeout(ANSWER_TIMEOUT, direct.wait_for(is_usable)).await;
        let channel = found.ok().and_then(Result::ok).and_then(|found| found.clone());
        channel.ok_or_else(|| Status::unavailable("its agent wants a direct link, and there is none"))
    }

    /// Sends an order to stop a task over all links. Returns the first answer, or `None` if none arrives in
    /// time.
    pub(crate) async fn signal(&self, request: &SignalTask) -> Option<Signalled> {
        let over = |channel: Channel| async {
            timeout(ANSWER_TIMEOUT, AgentClient::new(channel).signal(request.clone())).await.ok()?.ok()
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

    /// Opens an Attach, or takes the one that was opened in advance. With `any` the tunnel may be used even
    /// if the agent wants only a direct link, for a task that is only queried. `first` makes the first
    /// request when there is a link to send it on: after the wait for a link, an earlier request could be out
    /// of date.
    ///
    /// # Errors
    /// When there is no link, it breaks, or the agent does not answer.
    pub(crate) async fn attach(
        &self,
        any: bool,
        first: impl Fn() -> AttachRequest,
    ) -> Result<AttachStream, Status> {
        // If the link has broken in the meantime, sending fails.
        if let Some(stream) = self.take_prefetched()
            && stream.requests.try_send(first()).is_ok()
        {
            return Ok(*stream);
        }
        let (requests, outgoing) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let channel = self.pick(any).await?;
        // Sent together with the call. The queue is empty, so this succeeds.
        let _ = requests.try_send(first());
        let call = AgentClient::new(channel).attach(outgoing);
        let answers = timeout(ANSWER_TIMEOUT, call)
            .await
            .map_err(|_| Status::deadline_exceeded("the agent does not answer"))??;
        Ok(AttachStream { requests, answers })
    }

    fn ahead(&self) -> MutexGuard<'_, Prefetched> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_prefetched(&self) -> Option<Box<AttachStream>> {
        let mut ahead = self.ahead();
        match std::mem::replace(&mut *ahead, Prefetched::None) {
            Prefetched::Ready(stream) => Some(stream),
            other => {
                *ahead = other;
                None
            }
        }
    }

    /// Requests that an Attach is opened in advance. Returns true if this is a new request.
    pub(crate) fn request_prefetch(&self) -> bool {
        let mut ahead = self.ahead();
        let is_new = matches!(*ahead, Prefetched::None);
        if is_new {
            *ahead = Prefetched::Wanted;
        }
        is_new
    }

    /// Reports whether an Attach was requested. After true, the caller must call [`Self::open_ahead`].
    pub(crate) fn begin_prefetch(&self) -> bool {
        let mut ahead = self.ahead();
        let is_wanted = matches!(*ahead, Prefetched::Wanted);
        if is_wanted {
            *ahead = Prefetched::Opening;
        }
        is_wanted
    }

    /// Opens the requested Attach, on the link that is used now.
    pub(crate) async fn open_ahead(&self) {
        let (requests, outgoing) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let channel = match self.preference {
            LinkPreference::Direct => self.usable_direct(),
            _ => Some(self.usable_direct().unwrap_or_else(|| self.tunnel.clone())),
        };
        let opened = match channel {
            Some(channel) => AgentClient::new(channel).attach(outgoing).await.ok(),
            None => None,
        };
        let mut ahead = self.ahead();
        // If the direct link has changed in the meantime, the Attach is discarded.
        if matches!(*ahead, Prefetched::Opening) {
            *ahead = opened.map_or(Prefetched::None, |answers| {
                Prefetched::Ready(Box::new(AttachStream { requests, answers }))
            });
        }
    }

    /// Replaces or removes the direct link, and discards an Attach that was opened in advance.
    pub(super) fn change_direct(&self, channel: Option<Channel>) {
        self.direct.send_replace(channel);
        let mut ahead = self.ahead();
        if matches!(*ahead, Prefetched::Opening | Prefetched::Ready(_)) {
            *ahead = Prefetched::None;
        }
    }

    /// Records that a message was received over a link, which counts as a heartbeat.
    pub(crate) fn spoke(&self) {
        self.spoke.store(true, Ordering::Relaxed);
    }

    /// Reports whether a message was received since the last call.
    pub(crate) fn take_contact(&self) -> bool {
        self.spoke.swap(false, Ordering::Relaxed)
    }
}
