//! `-b`: who printed the same, live on a terminal and in full at the end. The master works out the groups; this fetches
//! one task's output for each of them.

use tokio::time::Instant;
use tonic::Streaming;

use super::{
    End, Following,
    asking::{Asking, Wish},
    attention::{Attention, Happening},
    cancel,
    patience::{Patience, given_up},
    question, reconnect, say_attach, say_held, tally,
    telling::{Audience, say_head},
};
use crate::{
    cli::{
        exit::{self, Failure, Status},
        output::{Paint, note, stderr_is_terminal},
        region::{Region, terminal_size},
    },
    domain::{
        digest::GroupDigest,
        ids::RunReference,
        plan::GateState,
        run::{Run, Task},
    },
    sys::shutdown::EndSignals,
    wire::{
        client::ControlClient,
        proto::{self},
        status::CallError,
    },
};

mod outputs;
mod rows;

/// Rows of groups that are shown while a run goes on.
const LIVE_ROWS: usize = 12;

struct Watcher {
    following: Following,
    client: ControlClient,
    run: Run,
    groups: Vec<GroupDigest>,
    more_groups: u32,
    attention: Attention,
    patience: Patience,
    began: Instant,
    region: Option<Region>,
    stale: bool,
    paint: Paint,
    has_person: bool,
}

/// Watches a run to its end, then prints its groups.
pub(super) async fn watch(following: Following, client: ControlClient, run: Run) -> Result<Status, Failure> {
    let has_person = stderr_is_terminal();
    let quiet = following.print.quiet || !following.is_text();
    let attention = Attention::new(Asking::new(following.owns(), run.plain_name, has_person))
        .map_err(|error| following.failed(error.into(), &run))?;
    let mut watcher = Watcher {
        attention,
        region: (!quiet && following.follow).then(Region::new).flatten(),
        paint: Paint::new(following.print.color, has_person),
        groups: Vec::new(),
        more_groups: 0,
        patience: Patience::default(),
        began: Instant::now(),
        stale: true,
        has_person: has_person && !quiet,
        following,
        client,
        run,
    };
    let result = watcher.watch().await;
    watcher.erase();
    result.map_err(|failure| watcher.following.failed(failure, &watcher.run))
}

async fn watch_call(
    client: &ControlClient,
    request: proto::WatchRunRequest,
) -> Result<Streaming<proto::RunDigest>, CallError> {
    Ok(client.calls().watch_run(request).await?.into_inner())
}

impl Watcher {
    async fn watch(&mut self) -> Result<Status, Failure> {
        if self.following.is_text() {
            say_head(&self.run, self.audience());
        }
        let digests = watch_call(&self.client, self.request()).await?;
        let end = self.run_to_end(digests).await?;
        self.erase();
        match end {
            End::Shown => {
                // All is over, so that there is nothing left to cancel but the printing.
                let mut signals = EndSignals::new()?;
                tokio::select! {
                    status = self.print() => status,
                    _ = signals.next() => Ok(exit::INTERRUPTED),
                }
            }
            End::Detached(status) => {
                say_attach(&self.run);
                Ok(status)
            }
        }
    }

    fn audience(&self) -> Audience {
        Audience { has_person: self.has_person, is_quiet: self.following.print.quiet, paint: self.paint }
    }

    fn request(&self) -> proto::WatchRunRequest {
        proto::WatchRunRequest {
            run: Some(RunReference::Id(self.run.id).into()),
            masks: self.following.print.mask.to_string(),
            follow: self.following.follow,
        }
    }

    async fn run_to_end(&mut self, mut digests: Streaming<proto::RunDigest>) -> Result<End, Failure> {
        loop {
            let draws = self.region.is_some() && self.stale;
            tokio::select! {
                digest = digests.message() => match digest {
                    Ok(Some(digest)) if digest.closing.is_none() => {
                        if let Some(end) = self.take(digest)? {
                            return Ok(end);
                        }
                    }
                    Ok(_) if !self.following.follow => return Ok(End::Shown),
                    Err(status) if status.code() == tonic::Code::DataLoss => {
                        return Err(Failure::new(status.message()).with(exit::NO_STATUS));
                    }
                    Ok(_) | Err(_) => {
                        self.erase();
                        let say = |text: &str| note(text);
                        let request = self.request();
                        let again = async |client: &ControlClient| watch_call(client, request.clone()).await;
                        let attention = &mut self.attention;
                        match reconnect(&self.following, attention, say, again).await {
                            Ok((client, again)) => (self.client, digests) = (client, again),
                            Err(status) => return Ok(End::Detached(status)),
                        }
                        let owed = self.attention.asking.owed();
                        if let Some(end) = self.perform(owed).await? {
                            return Ok(end);
                        }
                    }
                },
                happening = self.attention.next(draws) => {
                    if let Some(end) = self.happened(happening).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn take(&mut self, digest: proto::RunDigest) -> Result<Option<End>, Failure> {
        if let Some(run) = digest.run {
            self.run = Run::try_from(run).map_err(Failure::new)?;
        }
        for task in digest.tasks {
            let task = Task::try_from(task).map_err(Failure::new)?;
            if let Some(known) = self.run.task_mut(task.index) {
                *known = task;
            }
        }
        let groups = digest.groups.into_iter().map(GroupDigest::try_from);
        self.groups = groups.collect::<Result<_, _>>().map_err(Failure::new)?;
        self.more_groups = digest.more_groups;
        self.stale = true;
        let gate = digest.gate.unwrap_or_default().into();
        if self.run.gate != gate {
            self.erase();
            say_held(&self.run, &gate);
            self.run.gate = gate;
        }
        if digest.ended_ms > 0 {
            self.run.ended_ms = Some(digest.ended_ms);
            return Ok(Some(End::Shown));
        }
        let is_held = matches!(self.run.gate.state, GateState::Held(_));
        let for_nobody = is_held && self.following.owns() && !self.attention.asking.has_person();
        Ok(for_nobody.then_some(End::Detached(exit::NO_STATUS)))
    }

    async fn happened(&mut self, happening: Happening) -> Result<Option<End>, Failure> {
        match happening {
            Happening::Signalled(wish) => return self.perform(wish).await,
            Happening::Typed(wish) => {
                if let Some(region) = &mut self.region {
                    region.newline_typed();
                }
                return self.perform(wish).await;
            }
            Happening::Draw => self.draw(),
            Happening::Second => {
                self.stale = true;
                if self.patience.is_over(&self.run, &self.following) {
                    self.erase();
                    return Ok(Some(given_up(&self.following)));
                }
                let held = self.patience.held_back(&self.run);
                if self.region.is_none() && !self.following.print.quiet {
                    for line in held {
                        note(&line);
                    }
                }
                if self.attention.asking.has_cancelled() && self.patience.is_hopeless(&self.run) {
                    self.erase();
                    return Ok(Some(End::Detached(exit::INTERRUPTED)));
                }
            }
        }
        Ok(None)
    }

    async fn perform(&mut self, wish: Wish) -> Result<Option<End>, Failure> {
        match wish {
            Wish::Nothing => {}
            Wish::Ask if self.region.is_some() => {}
            Wish::Ask => note(&format!("\n{}", question(&self.run))),
            Wish::ShowRunning => {
                self.erase();
                note(&tally::who_runs(&self.run));
            }
            Wish::Cancel => {
                if let Some(end) = cancel(&self.client, &self.run, &mut self.attention).await? {
                    return Ok(Some(end));
                }
            }
            Wish::Detach(status) => return Ok(Some(End::Detached(status))),
        }
        self.stale = true;
        Ok(None)
    }

    fn erase(&mut self) {
        if let Some(region) = &mut self.region {
            region.erase();
        }
        self.stale = true;
    }

    fn draw(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut lines = self.rows(LIVE_ROWS.min(terminal_size().1.saturating_sub(3)));
        if self.attention.asking.is_asked() {
            lines.push(question(&self.run));
        } else {
            let keys = if self.following.owns() { "Enter who   ^C stop" } else { "Enter who   ^C leave" };
            lines.push(tally::progress(&self.run, self.began.elapsed(), keys, self.paint));
        }
        if let Some(region) = &mut self.region {
            region.draw(&lines);
        }
    }
}
