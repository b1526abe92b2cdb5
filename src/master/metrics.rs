//! The master's metrics for Prometheus. Reads the core's answers, and counts nothing itself.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{core::messages::Input, service::Master};
use crate::{
    domain::agent::{AgentState, LinkKind},
    sys::file::volume_used_percent,
    wire::SOFTWARE_VERSION,
};

fn gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<i64>) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

impl Master {
    /// Returns the master's metrics in the text format of Prometheus. Empty when the master is ending.
    pub(crate) async fn metrics(self) -> String {
        let mut registry = Registry::with_prefix("sloth_runner");
        registry.register("build", "The software", Info::new(vec![("version", SOFTWARE_VERSION)]));
        let (Ok(status), Ok(snapshot)) = (self.handle.ask(Input::Status).await, self.handle.snapshot().await)
        else {
            return String::new();
        };
        let by_state = Family::<Vec<(&'static str, &'static str)>, Gauge>::default();
        for state in [
            AgentState::Active,
            AgentState::Late,
            AgentState::Offline,
            AgentState::Draining,
            AgentState::Pending,
        ] {
            let count = match state {
                AgentState::Pending => status.pending as usize,
                known => snapshot.states().filter(|(state, _)| *state == known).count(),
            };
            by_state
                .get_or_create(&vec![("state", state.word())])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        registry.register("agents", "Agents and pending keys, by state", by_state);
        let direct = snapshot.states().filter(|(_, link)| *link == Some(LinkKind::Direct)).count();
        gauge(&mut registry, "agents_direct", "Agents that are reached by a direct link", direct);
        gauge(&mut registry, "jobs_active", "Jobs that have not ended", status.active_jobs);
        let takes_jobs = u32::from(status.refusing_jobs.is_empty());
        gauge(&mut registry, "takes_jobs", "1 while new jobs are accepted", takes_jobs);
        let held_back = status.held_back.map_or(0, |(count, _)| count);
        gauge(
            &mut registry,
            "tasks_held_back",
            "Running tasks whose output the master cannot write",
            held_back,
        );
        let refused = Counter::<u64>::default();
        refused.inc_by(status.refused_unauthenticated);
        let help = "Enrollments and logins that were refused since the start";
        registry.register("unauthenticated_refused", help, refused);
        let exceeded = Family::<Vec<(&'static str, &'static str)>, Counter>::default();
        for (limit, count) in self.budgets.counts() {
            exceeded.get_or_create(&vec![("limit", limit.word())]).inc_by(count);
        }
        registry.register(
            "limits_exceeded",
            "Calls and connections that exceeded a limit of their caller",
            exceeded,
        );
        let start = Gauge::<i64>::default();
        start.set(i64::try_from(self.started_ms.0 / 1000).unwrap_or(i64::MAX));
        registry.register_with_unit("start_time", "When the master started", Unit::Seconds, start);
        if let Ok(used) = volume_used_percent(self.logs.root()) {
            gauge(&mut registry, "volume_used_percent", "Used percentage of the output volume", used);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
