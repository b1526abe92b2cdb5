//! Converts plans and gates of jobs.

use super::{InvalidMessage, bounds::wait_ms, proto};
use crate::domain::plan::{Gate, GateState, Plan, StopIf};

impl From<Plan> for proto::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            fanout: plan.fanout.unwrap_or(0),
            canary: plan.canary.unwrap_or(0),
            batch: plan.batch.map(String::from).unwrap_or_default(),
            max_failures: plan.max_failures.map(String::from).unwrap_or_default(),
            pause_ms: plan.pause_ms.unwrap_or(0),
            stop_if_failures: plan.stop_if.failures,
            stop_if_differs: plan.stop_if.differs,
            masks: plan.masks.to_string(),
        }
    }
}

impl TryFrom<proto::Plan> for Plan {
    type Error = InvalidMessage;

    fn try_from(plan: proto::Plan) -> Result<Self, InvalidMessage> {
        let share = |text: &str| {
            let some = (!text.is_empty()).then(|| text.parse());
            some.transpose().map_err(InvalidMessage::because)
        };
        let some = |count: u32| (count > 0).then_some(count);
        Ok(Self {
            fanout: some(plan.fanout),
            canary: some(plan.canary),
            batch: share(&plan.batch)?,
            max_failures: share(&plan.max_failures)?,
            pause_ms: Some(wait_ms(plan.pause_ms, "a pause")?).filter(|ms| *ms > 0),
            stop_if: StopIf { failures: plan.stop_if_failures, differs: plan.stop_if_differs },
            masks: plan.masks.parse().map_err(InvalidMessage::because)?,
        })
    }
}

impl From<Gate> for proto::Gate {
    fn from(gate: Gate) -> Self {
        let (state, reason) = match gate.state {
            GateState::Open => (proto::GateState::Open, String::new()),
            GateState::Held(reason) => (proto::GateState::Held, reason.into()),
            GateState::Stopped(reason) => (proto::GateState::Stopped, reason.into()),
        };
        Self { state: state.into(), reason, open_batch: gate.open_batch }
    }
}

/// The gate as far as others than the master see it.
impl From<proto::Gate> for Gate {
    fn from(gate: proto::Gate) -> Self {
        let state = match gate.state() {
            proto::GateState::Unspecified | proto::GateState::Open => GateState::Open,
            proto::GateState::Held => GateState::Held(gate.reason.into()),
            proto::GateState::Stopped => GateState::Stopped(gate.reason.into()),
        };
        Self { open_batch: gate.open_batch, state, ..Self::default() }
    }
}
