//! The streams that are followed until they are not needed any more: a job's groups, and outputs.

use super::perform::{Sender, tell};
use crate::{
    domain::{
        digest::GroupDigest,
        frame::Frame,
        groups::mask::Masks,
        ids::{JobId, JobReference},
        job::Job,
        name::AgentName,
    },
    tui::{
        model::job::{FollowKey, Followed},
        msg::{Digest, Msg},
    },
    wire::{
        client::ControlClient,
        proto::{self, job_event::Kind},
        status::CallError,
    },
};

/// Distance in bytes from which on a live view skips output.
const MOST_BEHIND: u64 = 1024 * 1024;

/// Tells a job's tasks and groups as they change.
pub(super) async fn watch(client: ControlClient, id: JobId, masks: Masks, news: Sender) {
    let request = proto::WatchJobRequest {
        job: Some(JobReference::Id(id).into()),
        masks: masks.to_string(),
        follow: true,
    };
    let mut digests = match client.calls().watch_job(request).await {
        Ok(digests) => digests.into_inner(),
        Err(status) => {
            let error = CallError::from(status);
            if !error.is_broken_connection() {
                tell(&news, Msg::WatchFailed(id, error.to_string())).await;
            }
            return;
        }
    };
    loop {
        match digests.message().await {
            // A master that goes away is noticed, and come back to, by the connection.
            Ok(Some(digest)) if digest.closing.is_some() => return,
            Ok(Some(digest)) => match digest_in(id, digest) {
                Ok(digest) => tell(&news, Msg::Digest(Box::new(digest))).await,
                Err(error) => return tell(&news, Msg::WatchFailed(id, error)).await,
            },
            Ok(None) => return,
            Err(status) => {
                let error = CallError::from(status);
                if !error.is_broken_connection() {
                    tell(&news, Msg::WatchFailed(id, error.to_string())).await;
                }
                return;
            }
        }
    }
}

fn digest_in(id: JobId, digest: proto::JobDigest) -> Result<Digest, String> {
    let said = |error: crate::wire::InvalidMessage| error.to_string();
    Ok(Digest {
        id,
        job: digest.job.map(Job::try_from).transpose().map_err(said)?,
        tasks: digest.tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(said)?,
        groups: digest
            .groups
            .into_iter()
            .map(GroupDigest::try_from)
            .collect::<Result<_, _>>()
            .map_err(said)?,
        more_groups: digest.more_groups,
        gate: digest.gate.unwrap_or_default().into(),
        ended_ms: Some(digest.ended_ms).filter(|ms| *ms > 0),
    })
}

/// Tells what is printed, from where it was left on.
pub(super) async fn follow(
    client: ControlClient,
    key: FollowKey,
    agent: Option<AgentName>,
    from_offset: u64,
    seen: Vec<(u32, u64)>,
    news: Sender,
) {
    let request = proto::FollowJobRequest {
        job: Some(JobReference::Id(key.job).into()),
        agents: agent.iter().map(ToString::to_string).collect(),
        seen: seen.into_iter().map(Into::into).collect(),
        from_offset,
        follow: true,
        // What is read in full leaves nothing out.
        most_behind: if matches!(key.what, Followed::Full(_)) { 0 } else { MOST_BEHIND },
        ..proto::FollowJobRequest::default()
    };
    let whose = agent.map_or_else(|| "the output".to_owned(), |agent| format!("the output of {agent}"));
    // A master that goes away is noticed, and come back to, by the connection.
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
        let event = match events.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(status) => return failed(status.into()).await,
        };
        match event.kind {
            Some(Kind::Output(output)) => {
                let frames =
                    output.frames.into_iter().filter_map(|frame| Frame::try_from(frame).ok()).collect();
                tell(&news, Msg::Output { key, task: output.task_index, frames }).await;
            }
            Some(Kind::Gap(proto::TaskGap { task_index: task, gap: Some(gap) })) => {
                tell(&news, Msg::Gap { key, task, from: gap.from, to: gap.to }).await;
            }
            Some(Kind::Task(task)) if task.outcome.is_some() => {
                tell(&news, Msg::TaskEnded(key, Some(task.index))).await;
            }
            Some(Kind::Ended(_)) => tell(&news, Msg::TaskEnded(key, None)).await,
            _ => {}
        }
    }
}
