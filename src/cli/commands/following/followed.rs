//! A followed job, and the actions of the user of this client. Independent of how the output is shown.

use tokio::time::Instant;

use super::{
    End, FollowOptions,
    asking::{InterruptDialog, UserAction},
    attention::{Attention, ClientEvent},
    cancel,
    patience::{WaitTimeouts, given_up},
    question, reconnect, tally,
};
use crate::{
    cli::{
        exit::{self, Failure},
        output::{Paint, note},
        region::StatusLines,
    },
    domain::{job::Job, plan::GateState},
    wire::{client::ControlClient, status::CallError},
};

/// A followed job, and the state of the client.
pub(super) struct Followed {
    pub(super) following: FollowOptions,
    pub(super) client: ControlClient,
    pub(super) job: Job,
    pub(super) attention: Attention,
    patience: WaitTimeouts,
    began: Instant,
    /// The status lines at the bottom of a terminal.
    region: Option<StatusLines>,
    /// Whether the status lines are out of date.
    is_stale: bool,
}

impl Followed {
    /// # Errors
    /// If signal handlers cannot be installed.
    pub(super) fn new(
        following: FollowOptions,
        client: ControlClient,
        job: Job,
        has_person: bool,
        wants_region: bool,
    ) -> Result<Self, Failure> {
        Ok(Self {
            attention: Attention::new(InterruptDialog::new(following.owns(), job.plain_name, has_person))?,
            region: wants_region.then(StatusLines::new).flatten(),
            patience: WaitTimeouts::default(),
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

    /// Marks the status lines as out of date.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether the status lines have to be redrawn.
    pub(super) fn needs_redraw(&self) -> bool {
        self.region.is_some() && self.is_stale
    }

    pub(super) fn erase(&mut self) {
        if let Some(region) = &mut self.region {
            region.erase();
        }
        self.is_stale = true;
    }

    /// Draws these lines, and below them the progress of the job, or the question after ^C.
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

    /// Whether the job is held and no person is there. A person may promote it from another terminal; a
    /// script must not wait for that.
    pub(super) fn is_held_unattended(&self) -> bool {
        let is_held = matches!(self.job.gate.state, GateState::Held(_));
        is_held && self.following.owns() && !self.attention.asking.has_person()
    }

    /// Handles an event, and checks the timeouts once a second. With `tells_held`, reports tasks that are
    /// held back, because nothing else shows them.
    pub(super) async fn happened(
        &mut self,
        happening: ClientEvent,
        tells_held: bool,
    ) -> Result<Option<End>, Failure> {
        match happening {
            ClientEvent::Signalled(wish) => return self.perform(wish).await,
            ClientEvent::Typed(wish) => {
                if let Some(region) = &mut self.region {
                    region.account_for_newline();
                }
                return self.perform(wish).await;
            }
            ClientEvent::Draw => {}
            ClientEvent::Second => {
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
                if self.attention.asking.has_cancelled() && self.patience.has_cancel_timed_out(&self.job) {
                    return Ok(Some(End::Detached(exit::INTERRUPTED)));
                }
            }
        }
        Ok(None)
    }

    pub(super) async fn perform(&mut self, wish: UserAction) -> Result<Option<End>, Failure> {
        match wish {
            UserAction::Nothing => {}
            UserAction::Ask if self.region.is_some() => {}
            // The terminal has echoed ^C at the beginning of this line.
            UserAction::Ask => note(&format!("\n{}", question(&self.job))),
            UserAction::ShowRunning => {
                let text = tally::unfinished(&self.job);
                self.note(&text);
            }
            UserAction::Cancel => {
                if let Some(end) = cancel(&self.client, &self.job, &mut self.attention).await? {
                    return Ok(Some(end));
                }
            }
            UserAction::Detach(status) => return Ok(Some(End::Detached(status))),
        }
        self.is_stale = true;
        Ok(None)
    }

    /// Finds the job again after the connection broke, and repeats a cancel request that the master did not
    /// receive.
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
