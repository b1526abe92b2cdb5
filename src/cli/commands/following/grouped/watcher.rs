//! Shows the groups of a job while it runs, and prints them at its end.

use crate::{
    cli::{
        commands::following::{
            End, FollowOptions,
            attention::ClientEvent,
            followed::Followed,
            say_attach, say_held,
            telling::{Audience, say_head},
        },
        exit::{self, Failure, Status},
        output::{Paint, Tone, note, stderr_is_terminal},
        region::terminal_size,
    },
    domain::{
        control::{JobDigest, WatchJob},
        digest::GroupDigest,
        ids::JobReference,
        job::Job,
    },
    sys::shutdown::EndSignals,
    wire::{
        client::{ControlClient, Events},
        status::CallError,
    },
};

/// Maximum number of groups that are shown while a job continues.
const LIVE_ROWS: usize = 12;

pub(super) struct Watcher {
    pub(super) followed: Followed,
    pub(super) groups: Vec<GroupDigest>,
    pub(super) more_groups: u32,
    pub(super) paint: Paint,
    pub(super) has_person: bool,
}

/// Watches a job to its end, then prints its groups.
pub(in crate::cli::commands::following) async fn watch(
    following: FollowOptions,
    client: ControlClient,
    job: Job,
) -> Result<Status, Failure> {
    let has_person = stderr_is_terminal();
    let quiet = following.print.quiet || !following.is_text();
    let wants_region = !quiet && following.follow;
    let paint = Paint::new(following.print.color, has_person);
    let followed = Followed::new(following.clone(), client, job.clone(), has_person, wants_region)
        .map_err(|failure| following.failed(failure, &job))?;
    let has_person = has_person && !quiet;
    let mut watcher = Watcher { followed, paint, groups: Vec::new(), more_groups: 0, has_person };
    let result = watcher.watch().await;
    watcher.followed.erase();
    result.map_err(|failure| following.failed(failure, &watcher.followed.job))
}

impl Watcher {
    async fn watch(&mut self) -> Result<Status, Failure> {
        if self.followed.following.is_text() {
            say_head(&self.followed.job, self.audience());
        }
        let digests = self.followed.client.watch_job(self.request()).await?;
        let end = self.run_to_end(digests).await?;
        self.followed.erase();
        match end {
            End::Shown => {
                // The job is over, so a signal only ends the printing.
                let mut signals = EndSignals::new()?;
                tokio::select! {
                    status = self.print() => status,
                    _ = signals.next() => Ok(exit::INTERRUPTED),
                }
            }
            End::Detached(status) => {
                say_attach(&self.followed.job);
                Ok(status)
            }
        }
    }

    pub(super) fn audience(&self) -> Audience {
        Audience {
            has_person: self.has_person,
            is_quiet: self.followed.following.print.quiet,
            paint: self.paint,
        }
    }

    fn request(&self) -> WatchJob {
        WatchJob {
            job: JobReference::Id(self.followed.job.id),
            masks: self.followed.following.print.mask,
            follow: self.followed.following.follow,
        }
    }

    async fn run_to_end(&mut self, mut digests: Events<JobDigest>) -> Result<End, Failure> {
        loop {
            let draws = self.followed.needs_redraw();
            tokio::select! {
                digest = digests.next() => match digest {
                    Ok(Some(digest)) if digest.closing.is_none() => {
                        if let Some(end) = self.take(digest) {
                            return Ok(end);
                        }
                    }
                    Ok(_) if !self.followed.following.follow => return Ok(End::Shown),
                    // Another connection would return the same error.
                    Err(error @ (CallError::DataLoss(_) | CallError::Invalid(_))) => {
                        return Err(Failure::new(error).with(exit::NO_STATUS));
                    }
                    Ok(_) | Err(_) => {
                        let (has_person, paint) = (self.has_person, self.paint);
                        let say = |text: &str| {
                            if has_person {
                                note(&paint.paint(Tone::Waiting, text));
                            }
                        };
                        let request = self.request();
                        let again = async |client: &ControlClient| client.watch_job(request.clone()).await;
                        match self.followed.reconnect(say, again).await? {
                            Ok(again) => digests = again,
                            Err(end) => return Ok(end),
                        }
                    }
                },
                happening = self.followed.attention.next(draws) => {
                    if matches!(happening, ClientEvent::Draw) {
                        let rows = self.rows(LIVE_ROWS.min(terminal_size().1.saturating_sub(3)));
                        self.followed.draw(rows, self.paint);
                    }
                    let tells_held = !self.followed.has_region();
                    if let Some(end) = self.followed.happened(happening, tells_held).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn take(&mut self, digest: JobDigest) -> Option<End> {
        if let Some(job) = digest.job {
            self.followed.job = *job;
        }
        for task in digest.tasks {
            if let Some(known) = self.followed.job.task_mut(task.index) {
                *known = task;
            }
        }
        self.groups = digest.groups;
        self.more_groups = digest.more_groups;
        self.followed.mark_stale();
        let gate = digest.gate;
        if self.followed.job.gate != gate {
            self.followed.erase();
            say_held(&self.followed.job, &gate);
            self.followed.job.gate = gate;
        }
        if digest.ended_ms.is_some() {
            self.followed.job.ended_ms = digest.ended_ms;
            return Some(End::Shown);
        }
        self.followed.is_held_unattended().then_some(End::Detached(exit::NO_STATUS))
    }
}
