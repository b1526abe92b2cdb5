//! The streams that stay open while they are needed: the groups of a job, and outputs.

use super::connection::{Sender, tell};
use crate::{
    domain::{
        control::{FollowJob, JobEvent, TaskOffset, WatchJob},
        groups::mask::Masks,
        ids::{JobId, JobReference},
        name::AgentName,
        offset::OutputOffset,
    },
    tui::{
        model::job::{FollowKey, Followed},
        msg::Msg,
    },
    wire::{client::ControlClient, status::CallError},
};

/// The distance from the end, in bytes, from which on a live view skips output.
const MAX_BYTES_BEHIND: u64 = 1024 * 1024;

/// Sends the tasks and groups of a job whenever they change.
pub(super) async fn watch(client: ControlClient, id: JobId, masks: Masks, news: Sender) {
    // The connection reports and recovers from the loss of the master.
    let failed = async |error: CallError| {
        if !error.is_broken_connection() {
            tell(&news, Msg::WatchFailed(id, error.to_string())).await;
        }
    };
    let request = WatchJob { job: JobReference::Id(id), masks, follow: true };
    let mut digests = match client.watch_job(request).await {
        Ok(digests) => digests,
        Err(error) => return failed(error).await,
    };
    loop {
        match digests.next().await {
            Ok(Some(digest)) if digest.closing.is_some() => return,
            Ok(Some(digest)) => tell(&news, Msg::Digest(id, Box::new(digest))).await,
            Ok(None) => return,
            Err(error) => return failed(error).await,
        }
    }
}

/// Sends the output of a job from the given offsets on.
pub(super) async fn follow(
    client: ControlClient,
    key: FollowKey,
    agent: Option<AgentName>,
    from_offset: OutputOffset,
    seen: Vec<(u32, OutputOffset)>,
    news: Sender,
) {
    let request = FollowJob {
        agents: agent.iter().cloned().collect(),
        seen: seen.into_iter().map(|(task, offset)| TaskOffset { task, offset }).collect(),
        from_offset,
        follow: true,
        // The full view skips nothing.
        most_behind: (!matches!(key.what, Followed::Full(_))).then_some(MAX_BYTES_BEHIND),
        ..FollowJob::new(JobReference::Id(key.job))
    };
    let whose = agent.map_or_else(|| "the output".to_owned(), |agent| format!("the output of {agent}"));
    // The connection reports and recovers from the loss of the master.
    let failed = async |error: CallError| {
        if !error.is_broken_connection() {
            tell(&news, Msg::Failed(format!("cannot read {whose}: {error}"))).await;
        }
    };
    let mut events = match client.follow_job(request).await {
        Ok(events) => events,
        Err(error) => return failed(error).await,
    };
    loop {
        match events.next().await {
            Ok(Some(JobEvent::Output { task, frames })) => {
                tell(&news, Msg::Output { key, task, frames }).await;
            }
            Ok(Some(JobEvent::Gap { task, gap })) => {
                tell(&news, Msg::Gap { key, task, from: gap.from, to: gap.to }).await;
            }
            Ok(Some(JobEvent::Task(task))) if task.state.outcome().is_some() => {
                tell(&news, Msg::TaskEnded(key, Some(task.index))).await;
            }
            Ok(Some(JobEvent::Ended { .. })) => tell(&news, Msg::TaskEnded(key, None)).await,
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => return failed(error).await,
        }
    }
}
