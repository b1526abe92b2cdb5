//! The event loop of the control center: keys, frames and the results of calls.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use crossterm::event::{Event, EventStream, MouseButton, MouseEventKind};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};
use tokio_stream::Stream;

use super::{
    connection::{self, News},
    files, signals,
};
use crate::{
    domain::time::UnixMs,
    sys::clock,
    tui::{
        keymap::Key,
        model::{Model, Now, job::FollowKey},
        msg::{Cmd, Msg},
        terminal::{self, Screen},
        update::update,
    },
    wire::client::{ControlClient, MasterAddress},
};

/// The maximum number of queued updates. Senders wait when the queue is full.
const MAX_QUEUED_UPDATES: usize = 256;
/// The minimum time between frames after a key.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(16);
/// The minimum time between frames after other updates. Terminals drop or delay output that comes faster.
const UPDATE_FRAME_INTERVAL: Duration = Duration::from_millis(50);
/// The maximum time for processing updates before keys are read again.
const MAX_UPDATE_TIME: Duration = Duration::from_millis(4);
/// The maximum number of events that are read at once.
const MAX_EVENTS_PER_READ: usize = 4_096;

/// The options with which the control center starts.
#[derive(Debug)]
pub struct Options {
    /// The master to connect to.
    pub master: MasterAddress,
    /// The name of the master, for the screen.
    pub name: String,
    /// The settings.
    pub settings: crate::tui::settings::Settings,
    /// The number of the job to open; 0 opens the newest.
    pub open: Option<u64>,
    /// The directory for the history and the unfinished line; `None` stores neither.
    pub state: Option<PathBuf>,
}

/// The source of keys, and the screen.
pub struct Console<E, W: Write> {
    /// Opens the source of keys. It is called again each time the program resumes.
    pub open: Box<dyn FnMut() -> E>,
    /// The screen.
    pub screen: Screen<W>,
    /// Returns the current size of the screen.
    pub size: fn() -> (u16, u16),
    /// Whether the mouse is used.
    pub mouse: bool,
}

impl<E, W: Write> std::fmt::Debug for Console<E, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("mouse", &self.mouse).finish_non_exhaustive()
    }
}

/// Runs the control center on the terminal until it ends. Returns the lines to print then.
///
/// # Errors
/// If there is no terminal, or it has closed.
pub async fn run(options: Options) -> io::Result<Vec<String>> {
    // One thread is enough for one screen, and its tasks do not have to be `Send`.
    tokio::task::LocalSet::new().run_until(Box::pin(run_here(options))).await
}

async fn run_here(options: Options) -> io::Result<Vec<String>> {
    terminal::restore_on_panic();
    let (news, inbox) = mpsc::channel(MAX_QUEUED_UPDATES);
    let is_over = Arc::new(AtomicBool::new(false));
    signals::watch(news.clone(), Arc::clone(&is_over))?;
    let mouse = options.settings.mouse;
    terminal::take(mouse)?;
    let mut model = Model::new(options.settings, options.name);
    model.seed = u64::from_le_bytes(crate::sys::random::bytes());
    model.wanted_job = options.open;
    let connection = tokio::task::spawn_local(connection::keep(options.master, news.clone()));
    let console = Console {
        open: Box::new(EventStream::new),
        screen: Screen::from_stdout(),
        size: Screen::size,
        mouse,
    };
    let result = Box::pin(drive(model, console, news, inbox, options.state)).await;
    is_over.store(true, Ordering::Relaxed);
    connection.abort();
    terminal::restore();
    result
}

/// Runs the event loop on a console. Returns the lines to print at the end.
///
/// # Errors
/// If the console has closed.
pub async fn drive<E, W>(
    model: Model,
    console: Console<E, W>,
    news: mpsc::Sender<News>,
    inbox: mpsc::Receiver<News>,
    state: Option<PathBuf>,
) -> io::Result<Vec<String>>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    let mut runtime = Runtime {
        model,
        console,
        events: None,
        inbox,
        news,
        client: None,
        started: Instant::now(),
        following: HashMap::new(),
        watching: None,
        drawn: None,
        due: None,
        files: files::Files::new(state),
    };
    runtime.serve().await?;
    Ok(runtime.model.quits.unwrap_or_default())
}

pub(super) struct Runtime<E, W: Write> {
    pub(super) model: Model,
    pub(super) console: Console<E, W>,
    /// `None` while the program is suspended.
    pub(super) events: Option<E>,
    inbox: mpsc::Receiver<News>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) client: Option<ControlClient>,
    started: Instant,
    pub(super) following: HashMap<FollowKey, AbortHandle>,
    pub(super) watching: Option<AbortHandle>,
    drawn: Option<Instant>,
    /// When the next frame is due; `None` if nothing has changed.
    due: Option<Instant>,
    files: files::Files,
}

/// The reason why the loop woke up.
enum Wakeup {
    Keys(Vec<Event>),
    /// No key has arrived until the moment that the model waited for.
    Quiet,
    News(Option<News>),
    Frame,
    Second,
    TerminalGone,
}

impl<E, W> Runtime<E, W>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    fn now(&self) -> Now {
        Now { monotonic: self.started.elapsed(), unix_ms: UnixMs(clock::unix_ms()), zone: clock::zone() }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let (past, draft) = self.files.read();
        self.put(Msg::Past(past)).await?;
        if let Some(draft) = draft {
            self.put(Msg::Draft(draft)).await?;
        }
        self.due_after(Duration::ZERO);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while self.model.quits.is_none() {
            let due = self.due;
            let quiet = self.model.burst.due().map(|due| self.started + due);
            let events = self.events.get_or_insert_with(&mut self.console.open);
            let woken = tokio::select! {
                biased;
                events = burst(events) => match events {
                    Some(events) => Wakeup::Keys(events),
                    None => Wakeup::TerminalGone,
                },
                () = at(quiet) => Wakeup::Quiet,
                () = at(due) => Wakeup::Frame,
                news = self.inbox.recv() => Wakeup::News(news),
                _ = second.tick() => Wakeup::Second,
            };
            match woken {
                Wakeup::Keys(events) => self.take_events(events).await?,
                Wakeup::News(Some(news)) => self.take_news(news).await?,
                Wakeup::Second => {
                    self.put(Msg::Tick).await?;
                    self.due_after(UPDATE_FRAME_INTERVAL);
                }
                Wakeup::Quiet => {
                    self.put(Msg::Quiet).await?;
                    self.due_after(KEY_FRAME_INTERVAL);
                }
                Wakeup::Frame => {}
                Wakeup::News(None) | Wakeup::TerminalGone => return Ok(()),
            }
            if self.due.is_some_and(|due| due <= Instant::now()) && self.model.quits.is_none() {
                self.draw().await?;
            }
        }
        Ok(())
    }

    /// Schedules a frame, at least `pace` after the last one.
    pub(super) fn due_after(&mut self, pace: Duration) {
        let now = Instant::now();
        let due = self.drawn.map_or(now, |drawn| (drawn + pace).max(now));
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    async fn draw(&mut self) -> io::Result<()> {
        self.due = None;
        let layout = self.console.screen.draw(&self.model, (self.console.size)())?;
        self.drawn = Some(Instant::now());
        if layout != self.model.layout {
            // The layout determines what is followed, and how far a page is scrolled.
            self.put(Msg::Drawn(layout)).await?;
        }
        Ok(())
    }

    pub(super) async fn put(&mut self, msg: Msg) -> io::Result<()> {
        let now = self.now();
        for cmd in update(&mut self.model, msg, now) {
            self.perform(cmd).await?;
        }
        Ok(())
    }

    async fn take_events(&mut self, events: Vec<Event>) -> io::Result<()> {
        for event in events {
            match event {
                Event::Key(key) => {
                    if let Some(key) = Key::of_event(key) {
                        self.put(Msg::Key(key)).await?;
                    }
                }
                Event::Paste(text) => self.put(Msg::Paste(text)).await?,
                Event::Resize(..) => self.put(Msg::Resized).await?,
                Event::Mouse(mouse) => match mouse.kind {
                    MouseEventKind::Down(MouseButton::Left) => {
                        self.put(Msg::Click(mouse.column, mouse.row)).await?;
                    }
                    MouseEventKind::ScrollUp => self.put(Msg::Wheel(mouse.column, mouse.row, true)).await?,
                    MouseEventKind::ScrollDown => {
                        self.put(Msg::Wheel(mouse.column, mouse.row, false)).await?;
                    }
                    _ => {}
                },
                Event::FocusGained | Event::FocusLost => {}
            }
            if self.model.quits.is_some() {
                return Ok(());
            }
        }
        self.due_after(KEY_FRAME_INTERVAL);
        Ok(())
    }

    async fn take_news(&mut self, first: News) -> io::Result<()> {
        let until = Instant::now() + MAX_UPDATE_TIME;
        let mut next = Some(first);
        while let Some(news) = next {
            match news {
                News::Up(client, status) => {
                    self.client = Some(client);
                    self.put(Msg::Connected(status)).await?;
                }
                News::Down { reason, retry_ms } => {
                    self.client = None;
                    self.following.drain().for_each(|(_, task)| task.abort());
                    self.watching.take().inspect(AbortHandle::abort);
                    self.put(Msg::Disconnected { reason, retry_ms }).await?;
                }
                News::Told(msg) => self.put(msg).await?,
            }
            if Instant::now() >= until {
                break;
            }
            next = self.inbox.try_recv().ok();
        }
        self.due_after(UPDATE_FRAME_INTERVAL);
        Ok(())
    }

    async fn perform(&mut self, cmd: Cmd) -> io::Result<()> {
        match cmd {
            Cmd::Quit => {}
            Cmd::Bell => self.console.screen.write(b"\x07")?,
            Cmd::Redraw => {
                self.console.screen.forget();
                self.due_after(Duration::ZERO);
            }
            Cmd::Retake => self.come_back()?,
            Cmd::Suspend => self.suspend()?,
            Cmd::Shell(agent) => self.shell(agent).await?,
            Cmd::Edit(text) => self.edit(text).await?,
            Cmd::Pager(job, agent, look) => self.page(job, agent, look).await?,
            Cmd::Copy(text, what) => self.copy(&text, &what).await?,
            Cmd::Remember(command) => self.files.remember(&command),
            Cmd::KeepDraft(text) => self.files.keep_draft(&text),
            Cmd::Unfollow(key) => {
                if let Some(task) = self.following.remove(&key) {
                    task.abort();
                }
            }
            other => self.call(other),
        }
        Ok(())
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Returns all events that can be read at once. Events that arrive together were pasted or typed ahead.
async fn burst(events: &mut (impl Stream<Item = io::Result<Event>> + Unpin)) -> Option<Vec<Event>> {
    let mut found = Vec::new();
    std::future::poll_fn(|context| {
        while found.len() < MAX_EVENTS_PER_READ {
            match Pin::new(&mut *events).poll_next(context) {
                Poll::Ready(Some(Ok(event))) => found.push(event),
                Poll::Ready(Some(Err(_)) | None) if found.is_empty() => return Poll::Ready(None),
                Poll::Pending if found.is_empty() => return Poll::Pending,
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(std::mem::take(&mut found)))
    })
    .await
}
