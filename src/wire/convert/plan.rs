//! Plans, gates, masks and shares.

use crate::{
    domain::{
        groups::mask::Masks,
        plan::{Gate, GateState, Plan, StopIf},
        share::Share,
    },
    wire::{
        bounds::{OutOfBounds, wait_ms},
        proto::{self, share::Kind},
    },
};

/// The error for a plan, or a share of agents, that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// A share is neither a number nor a percentage.
    #[error("a share that is neither a number nor a percentage")]
    Share,
    /// A share is over 100 percent.
    #[error("{0} percent: a share is at most 100 percent")]
    Percent(u32),
    /// The pause is too long.
    #[error("a pause of over a hundred years")]
    Pause,
}

impl From<Share> for proto::Share {
    fn from(share: Share) -> Self {
        let kind = match share {
            Share::Count(count) => Kind::Count(count),
            Share::Percent(percent) => Kind::Percent(percent),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Share> for Share {
    type Error = InvalidPlan;

    fn try_from(share: proto::Share) -> Result<Self, InvalidPlan> {
        match share.kind {
            Some(Kind::Count(count)) => Ok(Self::Count(count)),
            Some(Kind::Percent(percent)) if percent <= 100 => Ok(Self::Percent(percent)),
            Some(Kind::Percent(percent)) => Err(InvalidPlan::Percent(percent)),
            None => Err(InvalidPlan::Share),
        }
    }
}

impl From<Masks> for proto::Masks {
    fn from(Masks { names, times, numbers }: Masks) -> Self {
        Self { names, times, numbers }
    }
}

impl From<proto::Masks> for Masks {
    fn from(masks: proto::Masks) -> Self {
        Self { names: masks.names, times: masks.times, numbers: masks.numbers }
    }
}

impl From<Plan> for proto::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            fanout: plan.fanout,
            canary: plan.canary,
            batch: plan.batch.map(Into::into),
            max_failures: plan.max_failures.map(Into::into),
            pause_ms: plan.pause_ms,
            stop_if_failures: plan.stop_if.failures,
            stop_if_differs: plan.stop_if.differs,
            masks: Some(plan.masks.into()),
        }
    }
}

impl TryFrom<proto::Plan> for Plan {
    type Error = InvalidPlan;

    fn try_from(plan: proto::Plan) -> Result<Self, InvalidPlan> {
        let share = |share: Option<proto::Share>| share.map(Share::try_from).transpose();
        // None of these numbers can be zero, so zero means unset.
        let some = |count: Option<u32>| count.filter(|count| *count > 0);
        let pause_ms = plan.pause_ms.map(|ms| wait_ms(ms, "a pause")).transpose();
        Ok(Self {
            fanout: some(plan.fanout),
            canary: some(plan.canary),
            batch: share(plan.batch)?,
            max_failures: share(plan.max_failures)?,
            pause_ms: pause_ms.map_err(|_: OutOfBounds| InvalidPlan::Pause)?.filter(|ms| *ms > 0),
            stop_if: StopIf { failures: plan.stop_if_failures, differs: plan.stop_if_differs },
            masks: plan.masks.unwrap_or_default().into(),
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

/// Converts a gate, as clients see it. The failures and tasks that an operator has accepted are not in the
/// message.
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
