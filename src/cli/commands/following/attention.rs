//! The events that a following client handles besides those of the job: signals, keys and the clock.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::{consts::SIGINT, flag};
use tokio::{
    signal::unix::SignalKind,
    time::{Interval, MissedTickBehavior, interval},
};

use super::asking::{InterruptDialog, UserAction};
use crate::{
    cli::exit,
    sys::shutdown::{EndSignal, EndSignals, is_ignored},
};

/// Interval at which the status lines at the bottom of a terminal are redrawn, if they have changed.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// A signal, a typed line, or a tick of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientEvent {
    /// A signal was received.
    Signalled(UserAction),
    /// A line was typed, and the terminal has echoed it.
    Typed(UserAction),
    /// It is time to draw.
    Draw,
    /// A second has passed.
    Second,
}

/// The source of these events, and the state of the dialogue with the user.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) asking: InterruptDialog,
    pub(super) signals: EndSignals,
    second: Interval,
    frame: Interval,
    /// Set from a ^C until this client handles it. A second ^C before that ends the process: this client may
    /// be blocked by a reader that does not read.
    unheard: Arc<AtomicBool>,
}

impl Attention {
    pub(super) fn new(asking: InterruptDialog) -> io::Result<Self> {
        let mut frame = interval(DRAW_INTERVAL);
        frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let unheard = Arc::new(AtomicBool::new(false));
        if !is_ignored(SignalKind::interrupt()) {
            // The order matters: at the first ^C the flag is not set yet.
            flag::register_conditional_shutdown(SIGINT, exit::INTERRUPTED.0.into(), Arc::clone(&unheard))?;
            flag::register(SIGINT, Arc::clone(&unheard))?;
        }
        let second = interval(Duration::from_secs(1));
        Ok(Self { asking, signals: EndSignals::new()?, second, frame, unheard })
    }

    /// Returns the action of the next signal. May be dropped and called again.
    pub(super) async fn signalled(&mut self) -> UserAction {
        let signal = self.signals.next().await;
        self.heard(signal)
    }

    fn heard(&mut self, signal: EndSignal) -> UserAction {
        self.unheard.store(false, Ordering::SeqCst);
        self.asking.signalled(signal)
    }

    /// Returns the next event; `Draw` only if `draws`. May be dropped and called again.
    pub(super) async fn next(&mut self, draws: bool) -> ClientEvent {
        tokio::select! {
            signal = self.signals.next() => ClientEvent::Signalled(self.heard(signal)),
            wish = self.asking.typed() => ClientEvent::Typed(wish),
            _ = self.frame.tick(), if draws => ClientEvent::Draw,
            _ = self.second.tick() => ClientEvent::Second,
        }
    }
}
