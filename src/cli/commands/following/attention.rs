//! Everything that a client which follows a run attends to beside the run itself: signals, what is typed, and the clock.

use std::{io, time::Duration};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::asking::{Asking, Wish};
use crate::sys::shutdown::EndSignals;

/// How often what stands at the bottom of a terminal is drawn, when it has changed.
const DRAW_EVERY: Duration = Duration::from_millis(100);

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
}

impl Attention {
    pub(super) fn new(asking: Asking) -> io::Result<Self> {
        let mut frame = interval(DRAW_EVERY);
        frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { asking, signals: EndSignals::new()?, second: interval(Duration::from_secs(1)), frame })
    }

    /// The next thing that happens; drawing only where there is something to draw. May be dropped and called again.
    pub(super) async fn next(&mut self, draws: bool) -> Happening {
        tokio::select! {
            signal = self.signals.next() => Happening::Signalled(self.asking.signalled(signal)),
            wish = self.asking.typed() => Happening::Typed(wish),
            _ = self.frame.tick(), if draws => Happening::Draw,
            _ = self.second.tick() => Happening::Second,
        }
    }
}
