//! A job that is followed, and the actions of the person at this client. Does not know how the output is shown.

use tokio::time::Instant;

use super::{
    End, Following,
    asking::{Asking, Wish},
    attention::{Attention, Happening},
    cancel,
    patience::{Patience, given_up},
    question, reconnect, tally,
};
use crate::{
    cli::{
        exit::{self, Failure},
        output::{Paint, note},
        region::Region,
    },
    domain::{job::Job, plan::GateState},
    wire::{client::ControlClient, status::CallError},
};

/// The job, and the client's side of it.
pub(super) struct Followed {
    pub(super) following: Following,
    pub(super) client: ControlClient,
    pub(super) job: Job,
    pub(super) attention: Attention,
    patience: Patience,
    began: Instant,
    /// The lines at the bottom of a terminal that are drawn again and again.
    region: Option<Region>,
    /// They are no longer true.
    is_stale: bool,
}

impl Followed {
    /// # Errors
    /// When signals cannot be heard.
    pub(super) fn new(
        following: Following,
        client: ControlClient,
        job: Job,
        has_person: bool,
        wants_region: bool,
    ) -> Result<Self, Failure> {
        Ok(Self {
            attention: Attention::new(Asking::new(following.owns(), job.plain_name, has_person))?,
            region: wants_region.then(Region::new).flatten(),
            patience: Patience::default(),
            began: Instant::now(),
            is_stale: true,
            following,
            client,
            job,
        })
    }

    pub(super) fn has_region(&self) -> bool {
        self.region.is_some()
    }

    /// What is drawn is no longer true.
    pub(super) fn outdated(&mut self) {
        self.is_stale = true;
    }

    /// Whether something is to be drawn.
    pub(super) fn is_to_draw(&self) -> bool {
        self.region.is_some() && self.is_stale
    }

    pub(super) fn erase(&mut self) {
        if let Some(region) = &mut self.region {
            region.erase();
        }
        self.is_stale = true;
    }

    /// Draws these lines, and below them how far the job is, or what is asked.
    pub(super) fn draw(&mut self, mut lines: Vec<String>, paint: Paint) {
        self.is_stale = false;
        let Some(region) = &mut self.region else { return };
        lines.push(if self.attention.asking.is_asked() {
            question(&self.job)
        } else {
            let keys = if self.following.owns() { "Enter who   ^C stop" } else { "Enter who   ^C leave" };
            tally::progress(&self.job, self.began.elapsed(), keys, paint)
        });
        region.draw(&lines);
    }

    pub(super) fn note(&mut self, text: &str) {
        self.erase();
        note(text);
    }

    /// A person may promote a held job from another terminal; a script must not wait for that.
    pub(super) fn is_held_for_nobody(&self) -> bool {
        let is_held = matches!(self.job.gate.state, GateState::Held(_));
        is_held && self.following.owns() && !self.attention.asking.has_person()
    }

    /// Does what somebody wants, and looks once a second how patient to be. `tells_held`: nothing else shows which tasks are
    /// held back.
    pub(super) async fn happened(
        &mut self,
        happening: Happening,
        tells_held: bool,
    ) -> Result<Option<End>, Failure> {
        match happening {
            Happening::Signalled(wish) => return self.perform(wish).await,
            Happening::Typed(wish) => {
                if let Some(region) = &mut self.region {
                    region.newline_typed();
                }
                return self.perform(wish).await;
            }
            Happening::Draw => {}
            Happening::Second => {
                self.is_stale = true;
                if self.patience.is_over(&self.job, &self.following) {
                    self.erase();
                    return Ok(Some(given_up(&self.following)));
                }
                for line in self.patience.held_back(&self.job) {
                    if tells_held && !self.following.print.quiet {
                        self.note(&line);
                    }
                }
                if self.attention.asking.has_cancelled() && self.patience.is_hopeless(&self.job) {
                    return Ok(Some(End::Detached(exit::INTERRUPTED)));
                }
            }
        }
        Ok(None)
    }

    pub(super) async fn perform(&mut self, wish: Wish) -> Result<Option<End>, Failure> {
        match wish {
            Wish::Nothing => {}
            Wish::Ask if self.region.is_some() => {}
            // The terminal has echoed ^C at the beginning of this line.
            Wish::Ask => note(&format!("\n{}", question(&self.job))),
            Wish::ShowRunning => {
                let text = tally::unfinished(&self.job);
                self.note(&text);
            }
            Wish::Cancel => {
                if let Some(end) = cancel(&self.client, &self.job, &mut self.attention).await? {
                    return Ok(Some(end));
                }
            }
            Wish::Detach(status) => return Ok(Some(End::Detached(status))),
        }
        self.is_stale = true;
        Ok(None)
    }

    /// Finds the job again after the connection broke, and asks for what was wanted meanwhile.
    pub(super) async fn reconnect<T>(
        &mut self,
        say: impl Fn(&str),
        again: impl AsyncFn(&ControlClient) -> Result<T, CallError>,
    ) -> Result<Result<T, End>, Failure> {
        self.erase();
        let found = reconnect(&self.following, &mut self.attention, say, again).await;
        let (client, again) = match found {
            Ok(found) => found,
            Err(status) => return Ok(Err(End::Detached(status))),
        };
        self.client = client;
        let owed = self.attention.asking.owed();
        Ok(self.perform(owed).await?.map_or(Ok(again), Err))
    }
}
