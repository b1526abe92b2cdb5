//! Opens Attach streams before there is a task for them, since opening one takes a large part of a short command's time.
//!
//! Nothing is sent on such a stream before a task is on the disk. A task without one opens its own.

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

/// How long no task must begin or end before Attaches are opened: current tasks have priority.
const QUIET_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Wanted {
    /// When a task last began or ended.
    touched: Instant,
    /// The links that need an Attach, each once.
    links: Vec<Weak<Links>>,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// Notified when `wanted.links` has grown.
    news: Notify,
}

/// A handle to the async task that opens the streams.
#[derive(Clone, Debug)]
pub(crate) struct Prefetcher(Arc<Shared>);

impl Prefetcher {
    /// Starts this task, which runs until the master ends.
    #[must_use]
    pub(crate) fn start(shutdown: &Shutdown) -> Self {
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

    /// Records that a task begins.
    pub(crate) fn begins(&self) {
        self.wanted().touched = Instant::now();
    }

    /// Records that a task has ended, and requests an Attach for these links: another task is likely to
    /// follow on them.
    pub(crate) fn ended(&self, links: &Arc<Links>) {
        let mut wanted = self.wanted();
        wanted.touched = Instant::now();
        if !links.request_prefetch() {
            return;
        }
        if wanted.links.len() == wanted.links.capacity() {
            // A master that is never quiet must not keep the links of closed connections.
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
                let until = self.wanted().touched + QUIET_INTERVAL;
                if until <= Instant::now() {
                    break;
                }
                sleep_until(until).await;
            }
            let links = mem::take(&mut self.wanted().links);
            for links in links.iter().filter_map(Weak::upgrade).filter(|links| links.begin_prefetch()) {
                // If the agent does not answer, this ends with the connection.
                tokio::spawn(async move { links.open_ahead().await });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use http_body_util::combinators::BoxBody;
    use hyper::{body::Incoming, server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{
        domain::{agent::LinkPreference, attach::AttachRequest},
        wire::channel::Channel,
    };

    /// Links to an agent that answers each Attach with nothing, and counts them.
    async fn links() -> (Arc<Links>, Arc<AtomicUsize>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let opened = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&opened);
        let agent = service_fn(move |request: http::Request<Incoming>| {
            counted.fetch_add(1, Ordering::SeqCst);
            // The request stays unread and the response open until the connection ends.
            let (parts, body) = request.into_parts();
            drop(parts);
            let answer = http::Response::builder().header("content-type", "application/grpc");
            async move { Ok::<_, Infallible>(answer.body(BoxBody::new(body)).expect("an answer")) }
        });
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(theirs), agent));
        let (channel, connection) = Channel::handshake(ours).await.unwrap();
        tokio::spawn(connection);
        (Arc::new(Links::new(channel, LinkPreference::Auto)), opened)
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_opened_when_there_is_time_and_taken_by_the_next_task() {
        let shutdown = Shutdown::default();
        let ahead = Prefetcher::start(&shutdown);
        let (links, opened) = links().await;
        let count = || opened.load(Ordering::SeqCst);
        ahead.ended(&links);
        for _ in 0..5 {
            sleep(QUIET_INTERVAL / 2).await;
            ahead.begins();
            assert_eq!(count(), 0, "current tasks have priority");
        }
        let quiet = Instant::now();
        ahead.ended(&links);
        while count() == 0 {
            sleep(QUIET_INTERVAL / 10).await;
        }
        assert!(quiet.elapsed() >= QUIET_INTERVAL);
        sleep(QUIET_INTERVAL * 10).await;
        assert_eq!(count(), 1, "wanted twice, and opened once");

        let first = || AttachRequest::OutcomeStored;
        let _taken = links.attach(false, first).await.unwrap();
        assert_eq!(count(), 1, "the next task has it");
        let _own = links.attach(false, first).await.unwrap();
        assert_eq!(count(), 2, "and the one after that its own");
    }
}
