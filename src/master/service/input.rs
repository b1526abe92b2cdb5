//! Receives standard input and terminal sizes from an operator for a command, and reports what was read.

use tonic::{Status, Streaming};

use super::{Master, control::reference, outbox::Outbox};
use crate::{
    domain::{
        ids::{JobReference, TaskId},
        input::{CHUNK, WINDOW},
        job::Job,
    },
    master::stdin_relay::StdinSource,
    wire::{
        InvalidMessage,
        budget::Budget,
        proto::{self, attach_request, send_input_request, send_input_response::Kind},
    },
};

type Answers = Outbox<proto::SendInputResponse>;

impl Master {
    /// The task that an operator may feed.
    pub(super) async fn task_to_feed(
        &self,
        job: JobReference,
        by: &str,
        budget: &Budget,
    ) -> Result<TaskId, Status> {
        let (job, _): (Job, _) = self.find(job, budget).await?;
        if job.operator != by {
            let text = format!("job {} is {}'s: only who started a job feeds it", job.number, job.operator);
            return Err(Status::permission_denied(text));
        }
        match job.tasks.as_slice() {
            [task] => Ok(TaskId { job: job.id, index: task.index }),
            _ => Err(Status::failed_precondition(format!("job {} has more than one task", job.number))),
        }
    }
}

/// The job that the first message names.
pub(super) async fn opened(
    requests: &mut Streaming<proto::SendInputRequest>,
) -> Result<JobReference, Status> {
    match requests.message().await?.and_then(|request| request.kind) {
        Some(send_input_request::Kind::Job(job)) => reference(Some(job)),
        _ => Err(InvalidMessage("feeding begins with a job".to_owned()).into()),
    }
}

/// Feeds a task until the operator ends it, or it wants nothing more.
pub(super) async fn serve(
    master: Master,
    id: TaskId,
    mut requests: Streaming<proto::SendInputRequest>,
    answers: Answers,
) {
    let road = master.inputs.of(id);
    let feeder = road.feed();
    let mut state = road.state();
    let mut attached = 0;
    loop {
        let now = *state.borrow_and_update();
        // Before the command was reached there is nothing to say.
        let kind = (now.attached > 0).then(|| {
            if std::mem::replace(&mut attached, now.attached) == now.attached {
                Kind::Taken(proto::InputTaken { offset: now.taken, over: now.is_over })
            } else {
                Kind::SendFrom(now.taken)
            }
        });
        if let Some(kind) = kind {
            let is_start = matches!(kind, Kind::SendFrom(_));
            if answers.send(Ok(proto::SendInputResponse { kind: Some(kind) })).await.is_err() {
                return;
            }
            if is_start && now.is_over {
                let over = proto::InputTaken { offset: now.taken, over: true };
                let _ = answers.send(Ok(proto::SendInputResponse { kind: Some(Kind::Taken(over)) })).await;
            }
        }
        loop {
            tokio::select! {
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    match feed(&feeder, request, now.taken).await {
                        Ok(true) => {}
                        Ok(false) => {
                            let text = "another client feeds this job now";
                            let _ = answers.send(Err(Status::aborted(text))).await;
                            return;
                        }
                        Err(status) => {
                            let _ = answers.send(Err(status)).await;
                            return;
                        }
                    }
                }
                () = master.shutdown.stop.cancelled() => return,
            }
        }
    }
}

/// Passes one message on. False when somebody else feeds the task.
async fn feed(feeder: &StdinSource, request: proto::SendInputRequest, taken: u64) -> Result<bool, Status> {
    match request.kind {
        Some(send_input_request::Kind::Stdin(stdin)) => {
            let end = stdin.offset.saturating_add(stdin.data.len() as u64);
            // What was taken since is not known here yet, so twice the window is not too much.
            if stdin.data.len() > CHUNK || end > taken.saturating_add(2 * WINDOW) {
                return Err(InvalidMessage("more input than may be under way".to_owned()).into());
            }
            Ok(feeder.send(attach_request::Kind::Stdin(stdin)).await)
        }
        Some(send_input_request::Kind::WindowSize(size)) => {
            Ok(feeder.send(attach_request::Kind::WindowSize(size)).await)
        }
        Some(send_input_request::Kind::Job(_)) | None => Err(InvalidMessage::missing("input").into()),
    }
}
