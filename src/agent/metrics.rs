//! The agent's metrics for Prometheus.

use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::handle::{Agent, ConnectionState};
use crate::wire::SOFTWARE_VERSION;

/// Returns the agent's metrics in the text format of Prometheus. `started_s` is the start time of the
/// connector, in seconds since the Unix epoch.
#[must_use]
pub(crate) async fn metrics(agent: &Agent, started_s: u64) -> String {
    let mut registry = Registry::with_prefix("sloth_runner_agent");
    registry.register("build", "The software", Info::new(vec![("version", SOFTWARE_VERSION)]));
    let is_connected = matches!(*agent.standing.borrow(), ConnectionState::Active(_));
    let connected = Gauge::<i64>::default();
    connected.set(i64::from(is_connected));
    registry.register("connected", "1 while this agent is connected to the master", connected);
    let running = Gauge::<i64>::default();
    running.set(agent.running_count().await.into());
    registry.register("tasks_running", "Commands that run now", running);
    let start = Gauge::<i64>::default();
    start.set(i64::try_from(started_s).unwrap_or(i64::MAX));
    registry.register_with_unit("start_time", "When the agent's connector started", Unit::Seconds, start);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
