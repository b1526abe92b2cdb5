//! Attaches that are opened before there is a task for them: opening one is a good part of what a short command takes.
//!
//! Nothing is said on them before a task is on the disk. Without one a task opens its own.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::links::Links;
use crate::sys::shutdown::Shutdown;

/// For how long no task begins or ends before Attaches are opened: those that are under way come first.
const QUIET: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Wanted {
    /// When a task began or ended last.
    touched: Instant,
    /// The links on which one is wanted, each once.
    links: Vec<Weak<Links>>,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// Links are wanted.
    news: Notify,
}

/// A handle to what opens them.
#[derive(Clone, Debug)]
pub struct Ahead(Arc<Shared>);

impl Ahead {
    /// Opens Attaches until the master ends.
    #[must_use]
    pub fn start(shutdown: &Shutdown) -> Self {
        let wanted = Wanted { touched: Instant::now(), links: Vec::new() };
        let ahead = Self(Arc::new(Shared { wanted: Mutex::new(wanted), news: Notify::new() }));
        let (opening, stop) = (ahead.clone(), shutdown.stop.clone());
        shutdown.tracker.spawn(async move {
            tokio::select! {
                () = opening.open() => {}
                () = stop.cancelled() => {}
            }
        });
        ahead
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a task begins.
    pub fn begins(&self) {
        self.wanted().touched = Instant::now();
    }

    /// Notes that a task has ended, after which another one is likely on the same links.
    pub fn ended(&self, links: &Arc<Links>) {
        let mut wanted = self.wanted();
        wanted.touched = Instant::now();
        if !links.want_ahead() {
            return;
        }
        if wanted.links.len() == wanted.links.capacity() {
            // A master that is never quiet must not keep those of connections that are gone.
            wanted.links.retain(|links| links.strong_count() > 0);
        }
        wanted.links.push(Arc::downgrade(links));
        drop(wanted);
        self.0.news.notify_one();
    }

    async fn open(self) {
        loop {
            self.0.news.notified().await;
            loop {
                let until = self.wanted().touched + QUIET;
                if until <= Instant::now() {
                    break;
                }
                sleep_until(until).await;
            }
            let links = mem::take(&mut self.wanted().links);
            for links in links.iter().filter_map(Weak::upgrade).filter(|links| links.begin_ahead()) {
                // Ends with the connection, if nobody answers.
                tokio::spawn(async move { links.open_ahead().await });
            }
        }
    }
}
