//! Signals of the control center. A separate thread handles them: when the terminal has closed, reading from it may spin,
//! and writing to it may block.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use tokio::{signal::unix::SignalKind, sync::mpsc};

use super::connection::News;
use crate::{
    sys::shutdown::is_ignored,
    tui::{msg::Msg, terminal},
};

/// How long the event loop may take to store the unfinished line.
const GRACE: Duration = Duration::from_secs(1);
/// No program uses the terminal in place of the control center.
const NONE: i32 = 0;
/// A program is about to use it.
const STARTING: i32 = -1;

/// The process id of the program that uses the terminal in place of the control center.
static IN_FRONT: AtomicI32 = AtomicI32::new(NONE);

/// Says that another program uses the terminal, until it is dropped: an editor, a pager, a shell. The keys ^C, ^\\ and ^Z are
/// for that program then.
#[derive(Debug)]
pub(super) struct InFront;

impl InFront {
    /// Says that a program is about to use the terminal.
    pub(super) fn new() -> Self {
        IN_FRONT.store(STARTING, Ordering::Relaxed);
        Self
    }

    /// Says which process it is. It is ended with the control center.
    pub(super) fn is(self, process: Option<u32>) -> Self {
        if let Some(id) = process.and_then(|id| i32::try_from(id).ok()) {
            IN_FRONT.store(id, Ordering::Relaxed);
        }
        self
    }
}

impl Drop for InFront {
    fn drop(&mut self) {
        IN_FRONT.store(NONE, Ordering::Relaxed);
    }
}

/// Handles signals from now on. `is_over` is set when the caller ends the program itself.
///
/// # Errors
/// When the handlers or the thread cannot be created.
pub(super) fn watch(news: mpsc::Sender<News>, is_over: Arc<AtomicBool>) -> io::Result<()> {
    let caught = [SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGTSTP, SIGCONT]
        .into_iter()
        .filter(|signal| !is_ignored(SignalKind::from_raw(*signal)));
    let mut signals = Signals::new(caught)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let in_front = IN_FRONT.load(Ordering::Relaxed);
            match signal {
                SIGINT | SIGQUIT | SIGCONT if in_front != NONE => {}
                SIGTSTP if in_front != NONE => {
                    let _ = emulate_default_handler(SIGTSTP);
                }
                SIGTSTP => drop(news.try_send(News::Told(Msg::Suspended))),
                SIGCONT => drop(news.try_send(News::Told(Msg::Continued))),
                _ => return end(signal, in_front, &news, &is_over),
            }
        }
    })?;
    Ok(())
}

/// Ends the program, and the one in front of it.
fn end(signal: i32, in_front: i32, news: &mpsc::Sender<News>, is_over: &AtomicBool) {
    let _ = news.try_send(News::Told(Msg::HangUp));
    if in_front > 0 {
        // It would keep reading the keys that are meant for the shell behind.
        let _ = kill(Pid::from_raw(in_front), Signal::SIGTERM);
    }
    thread::sleep(GRACE);
    // The caller may have to clean up after the screen. Only a hanging program is ended here.
    if !is_over.load(Ordering::Relaxed) {
        terminal::restore();
        std::process::exit(128 + signal);
    }
}
