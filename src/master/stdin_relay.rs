//! Relays standard input from an operator's client to the Attach of the task.
//!
//! Nothing is stored here: the client keeps what the command has not read, and sends it again when the agent
//! is reached by a new Attach.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use crate::domain::{
    attach::AttachRequest,
    control::{InputTaken, WindowSize},
    ids::TaskId,
};

/// A command whose input no client sends for this long is hung up, as if its terminal were closed.
pub(crate) const HANG_UP_AFTER: Duration = Duration::from_mins(1);

/// The state of a command's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputState {
    /// Counts the Attach calls that reached the command; 0 before the first.
    pub attached: u64,
    /// The offset up to which the command has read.
    pub taken: u64,
    /// Whether the command accepts no more input.
    pub is_over: bool,
}

type ToAgent = mpsc::Sender<AttachRequest>;

/// The relay of one command's input.
#[derive(Debug)]
pub(crate) struct StdinRelay {
    state: watch::Sender<InputState>,
    link: Mutex<Link>,
}

#[derive(Debug)]
struct Link {
    agent: Option<ToAgent>,
    /// The number of the current source; the newest one wins.
    feeder: u64,
    is_fed: bool,
    /// Since when there is no source.
    unfed_since: Instant,
    /// The last size of the terminal, for the next Attach.
    size: Option<WindowSize>,
}

/// The relays of all commands with input. A relay is shared by all callers while anyone holds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StdinRelays {
    roads: Arc<Mutex<HashMap<TaskId, Weak<StdinRelay>>>>,
}

impl StdinRelays {
    /// Returns the relay of a task.
    #[must_use]
    pub(crate) fn of(&self, id: TaskId) -> Arc<StdinRelay> {
        let mut roads = self.roads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(road) = roads.get(&id).and_then(Weak::upgrade) {
            return road;
        }
        roads.retain(|_, road| road.strong_count() > 0);
        let link = Link { agent: None, feeder: 0, is_fed: false, unfed_since: Instant::now(), size: None };
        let road = Arc::new(StdinRelay { state: watch::Sender::default(), link: Mutex::new(link) });
        roads.insert(id, Arc::downgrade(&road));
        road
    }
}

impl StdinRelay {
    fn link(&self) -> std::sync::MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of the command's input, as it changes.
    #[must_use]
    pub(crate) fn state(&self) -> watch::Receiver<InputState> {
        self.state.subscribe()
    }

    /// Sets the Attach that receives the input from now on.
    pub(crate) fn attach(&self, agent: ToAgent) {
        let mut link = self.link();
        if let Some(size) = link.size {
            // If the queue is full, the size is dropped: it is about to be sent again.
            let _ = agent.try_send(AttachRequest::WindowSize(size));
        }
        link.agent = Some(agent);
    }

    /// Records how far the command has read. `is_first` marks the first report of an Attach.
    pub(crate) fn taken(&self, taken: InputTaken, is_first: bool) {
        self.state.send_modify(|state| {
            state.attached += u64::from(is_first);
            state.taken = taken.offset;
            state.is_over = taken.is_over;
        });
    }

    /// Reports whether the command accepts input, but has had no source for [`HANG_UP_AFTER`].
    #[must_use]
    pub(crate) fn is_abandoned(&self) -> bool {
        let link = self.link();
        !link.is_fed && link.unfed_since.elapsed() >= HANG_UP_AFTER && !self.state.borrow().is_over
    }

    /// Returns a new source of input, which replaces the current one.
    #[must_use]
    pub(crate) fn feed(self: &Arc<Self>) -> StdinSource {
        let mut link = self.link();
        link.feeder += 1;
        link.is_fed = true;
        let number = link.feeder;
        drop(link);
        StdinSource { road: Arc::clone(self), number }
    }
}

/// A source of input for a command, until it is dropped.
#[derive(Debug)]
pub(crate) struct StdinSource {
    road: Arc<StdinRelay>,
    number: u64,
}

impl StdinSource {
    /// Sends a request to the command, at the speed of its agent. Returns false if a newer source has
    /// replaced this one. Without an Attach the request is dropped: the input is requested again later.
    pub(crate) async fn send(&self, request: AttachRequest) -> bool {
        let agent = {
            let mut link = self.road.link();
            if link.feeder != self.number {
                return false;
            }
            if let AttachRequest::WindowSize(size) = request {
                link.size = Some(size);
            }
            link.agent.clone()
        };
        if let Some(agent) = agent {
            let _ = agent.send(request).await;
        }
        true
    }
}

impl Drop for StdinSource {
    fn drop(&mut self) {
        let mut link = self.road.link();
        if link.feeder == self.number {
            link.is_fed = false;
            link.unfed_since = Instant::now();
        }
    }
}
