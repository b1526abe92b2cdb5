//! The events that a following client handles beside the job: signals, keys and the clock.

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

use super::asking::{Asking, Wish};
use crate::{
    cli::exit,
    sys::shutdown::{EndSignal, EndSignals, is_ignored},
};

/// How often what stands at the bottom of a terminal is drawn, when it has changed.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A signal came.
    Signalled(Wish),
    /// A line was typed, and the terminal has echoed it.
    Typed(Wish),
    /// It is time to draw.
    Draw,
    /// A second has passed.
    Second,
}

/// Where it comes from.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) asking: Asking,
    pub(super) signals: EndSignals,
    second: Interval,
    frame: Interval,
    /// ^C came and was not heard yet, since this client writes to somebody who does not read. The next one ends it.
    unheard: Arc<AtomicBool>,
}

impl Attention {
    pub(super) fn new(asking: Asking) -> io::Result<Self> {
        let mut frame = interval(DRAW_INTERVAL);
        frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let unheard = Arc::new(AtomicBool::new(false));
        if !is_ignored(SignalKind::interrupt()) {
            // In this order: the first ^C finds nothing unheard.
            flag::register_conditional_shutdown(SIGINT, exit::INTERRUPTED.0.into(), Arc::clone(&unheard))?;
            flag::register(SIGINT, Arc::clone(&unheard))?;
        }
        let second = interval(Duration::from_secs(1));
        Ok(Self { asking, signals: EndSignals::new()?, second, frame, unheard })
    }

    /// What the next signal asks for. May be dropped and called again.
    pub(super) async fn signalled(&mut self) -> Wish {
        let signal = self.signals.next().await;
        self.heard(signal)
    }

    fn heard(&mut self, signal: EndSignal) -> Wish {
        self.unheard.store(false, Ordering::SeqCst);
        self.asking.signalled(signal)
    }

    /// The next thing that happens; drawing only where there is something to draw. May be dropped and called again.
    pub(super) async fn next(&mut self, draws: bool) -> Happening {
        tokio::select! {
            signal = self.signals.next() => Happening::Signalled(self.heard(signal)),
            wish = self.asking.typed() => Happening::Typed(wish),
            _ = self.frame.tick(), if draws => Happening::Draw,
            _ = self.second.tick() => Happening::Second,
        }
    }
}
