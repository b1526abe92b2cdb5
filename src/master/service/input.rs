//! Receives standard input and terminal sizes for a command from an operator, and reports what was read.

use tonic::Status;

use super::{Master, invalid};
use crate::{
    domain::{
        attach::AttachRequest,
        control::{InputProgress, InputRequest, InputTaken},
        ids::{JobReference, TaskId},
        input::{CHUNK, WINDOW},
        job::Job,
    },
    master::stdin_relay::StdinSource,
    wire::{budget::Budget, incoming::Incoming, outbox::Outbox},
};

type Answers = Outbox<InputProgress>;

impl Master {
    /// Returns the task of a job, to which an operator may send input.
    pub(super) async fn task_for_input(
        &self,
        job: JobReference,
        by: &str,
        budget: &Budget,
    ) -> Result<TaskId, Status> {
        let (job, _): (Job, _) = self.find(job, budget).await?;
        if job.operator != by {
            let text = format!("job {0} is {1}'s: only {1} can send input to it", job.number, job.operator);
            return Err(Status::permission_denied(text));
        }
        match job.tasks.as_slice() {
            [task] => Ok(TaskId { job: job.id, index: task.index }),
            _ => Err(Status::failed_precondition(format!("job {} has more than one task", job.number))),
        }
    }
}

/// Returns the job that the first message names.
pub(super) async fn opened(requests: &mut Incoming<InputRequest>) -> Result<JobReference, Status> {
    match requests.message().await? {
        Some(InputRequest::Job(job)) => Ok(job),
        _ => Err(invalid("the first message must name a job")),
    }
}

/// Relays input to a task until the client ends the stream, another client replaces it, or the master ends.
pub(super) async fn serve(
    master: Master,
    id: TaskId,
    mut requests: Incoming<InputRequest>,
    answers: Answers,
) {
    let road = master.inputs.of(id);
    let feeder = road.feed();
    let mut state = road.state();
    let mut attached = 0;
    loop {
        let now = *state.borrow_and_update();
        // There is nothing to report before the command was reached.
        if now.attached > 0 {
            let is_start = std::mem::replace(&mut attached, now.attached) != now.attached;
            let taken = InputProgress::Taken(InputTaken { offset: now.taken, is_over: now.is_over });
            let progress = if is_start { InputProgress::SendFrom(now.taken) } else { taken };
            if answers.send(Ok(progress)).await.is_err() {
                return;
            }
            if is_start && now.is_over {
                let _ = answers.send(Ok(taken)).await;
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
                            let text = "another client sends the input of this job now";
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

/// Relays one message. Returns false if another client sends the input now.
async fn feed(feeder: &StdinSource, request: InputRequest, taken: u64) -> Result<bool, Status> {
    match request {
        InputRequest::Stdin(stdin) => {
            let end = stdin.offset.saturating_add(stdin.data.len() as u64);
            // `taken` may be out of date, so up to twice the window is accepted.
            if stdin.data.len() > CHUNK || end > taken.saturating_add(2 * WINDOW) {
                return Err(invalid("more input than the command may have left unread"));
            }
            Ok(feeder.send(AttachRequest::Stdin(stdin)).await)
        }
        InputRequest::WindowSize(size) => Ok(feeder.send(AttachRequest::WindowSize(size)).await),
        InputRequest::Job(_) => Err(invalid("the job is already named")),
    }
}
