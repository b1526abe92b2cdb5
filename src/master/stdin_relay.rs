//! Relays standard input from the operator who sends it to the Attach of the task.
//!
//! Nothing is stored here: whoever feeds keeps what the command has not taken, and sends it again when the agent was
//! reached anew. Knows no policy.

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

/// A command that somebody fed, and that nobody has fed for so long, is hung up on: its terminal is gone.
pub const HANG_UP_AFTER: Duration = Duration::from_mins(1);

/// How a command's input stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputState {
    /// Counts the Attach calls that reached the command; 0 before the first.
    pub attached: u64,
    /// How far the command has read.
    pub taken: u64,
    /// Nothing more is wanted.
    pub is_over: bool,
}

type ToAgent = mpsc::Sender<AttachRequest>;

/// One command's input.
#[derive(Debug)]
pub struct StdinRelay {
    state: watch::Sender<InputState>,
    link: Mutex<Link>,
}

#[derive(Debug)]
struct Link {
    agent: Option<ToAgent>,
    /// Who feeds; of two the later one.
    feeder: u64,
    is_fed: bool,
    /// Since when nobody feeds.
    unfed_since: Instant,
    /// The terminal's last size, for an agent that is reached anew.
    size: Option<WindowSize>,
}

/// The inputs of all commands that are fed. As long as somebody holds one, it is the same for everybody.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    roads: Arc<Mutex<HashMap<TaskId, Weak<StdinRelay>>>>,
}

impl Inputs {
    /// The input of a task.
    #[must_use]
    pub fn of(&self, id: TaskId) -> Arc<StdinRelay> {
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

    /// Wakes when the command's input stands differently.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<InputState> {
        self.state.subscribe()
    }

    /// The command was reached: what is fed goes there from now on.
    pub fn attach(&self, agent: ToAgent) {
        let mut link = self.link();
        if let Some(size) = link.size {
            // A full queue is that of a terminal whose size is about to be told again.
            let _ = agent.try_send(AttachRequest::WindowSize(size));
        }
        link.agent = Some(agent);
    }

    /// The agent says how far the command has read; `is_first` for the first word of an Attach.
    pub fn taken(&self, taken: InputTaken, is_first: bool) {
        self.state.send_modify(|state| {
            state.attached += u64::from(is_first);
            state.taken = taken.offset;
            state.is_over = taken.is_over;
        });
    }

    /// Whether nobody has fed the command for too long, although it wants more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let link = self.link();
        !link.is_fed && link.unfed_since.elapsed() >= HANG_UP_AFTER && !self.state.borrow().is_over
    }

    /// Somebody feeds the command from now on, in the place of whoever did.
    #[must_use]
    pub fn feed(self: &Arc<Self>) -> StdinSource {
        let mut link = self.link();
        link.feeder += 1;
        link.is_fed = true;
        let number = link.feeder;
        drop(link);
        StdinSource { road: Arc::clone(self), number }
    }
}

/// Somebody who feeds a command, until this is dropped.
#[derive(Debug)]
pub struct StdinSource {
    road: Arc<StdinRelay>,
    number: u64,
}

impl StdinSource {
    /// Sends something to the command, at its agent's pace. False when somebody else feeds it by now. What finds no
    /// agent is gone: it is asked for again.
    pub async fn send(&self, request: AttachRequest) -> bool {
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
