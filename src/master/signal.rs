//! Stops a task on its agent: repeats the order until the agent has answered.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{core::messages::Input, handle::Handle, links::Links};
use crate::{
    domain::{
        attach::{SignalTask, Signalled},
        ids::TaskId,
    },
    trust::sealer::Sealer,
};

/// How long to wait before an unanswered order is sent again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Stops a task. Returns when the agent has answered, and then reports this to the core, or when the
/// connection ends: the core repeats the order when the agent has reconnected.
pub(crate) async fn signal(
    handle: Handle,
    links: Arc<Links>,
    close: CancellationToken,
    sealer: &Sealer,
    (id, by): (TaskId, String),
    grace_ms: u32,
) {
    let seal = Some(sealer.seal_cancel(id, &by));
    let request = SignalTask { id, by, grace_ms, seal };
    let answered = async {
        loop {
            if let Some(answer) = links.signal(&request).await {
                return answer;
            }
            tracing::warn!(task = %id, "an order to stop a task was not answered; sending it again");
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    };
    let answer = tokio::select! {
        answer = answered => answer,
        () = close.cancelled() => return,
    };
    let Signalled { known, incarnation } = answer;
    handle.tell(Input::SignalAnswered { id, known, incarnation }).await;
}
