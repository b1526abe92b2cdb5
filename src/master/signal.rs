//! Stopping a task on its agent, beside its Attach.

use std::{sync::Arc, time::Duration};

use super::links::Links;
use crate::{domain::ids::TaskId, wire::proto};

/// How long an agent may take to answer a signal.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(10);

/// Stops a task. Where that does not arrive, the core says it again when the task is attached again.
pub async fn signal(links: Arc<Links>, id: TaskId, by: String, grace_ms: u32) {
    let request = proto::SignalRequest {
        run_id: id.run.to_bytes().to_vec().into(),
        task_index: id.index,
        by,
        grace_ms,
    };
    let call = async { links.client().await.signal(request).await };
    match tokio::time::timeout(SIGNAL_DEADLINE, call).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => tracing::warn!(task = %id, message = status.message(), "a signal did not arrive"),
        Err(_) => tracing::warn!(task = %id, "a signal was not answered"),
    }
}
