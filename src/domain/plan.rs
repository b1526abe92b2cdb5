//! The plan of a job: the number of tasks at once, the batches, and the conditions to stop.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{bounded::Reason, groups::mask::Masks, share::Share};

/// The default number of tasks of one job that are in progress at once.
pub const FANOUT: u32 = 512;

/// A job's plan.
///
/// ```
/// use sloth_runner::domain::plan::Plan;
///
/// // One agent first, and then two in five of all at a time: the batch of each of five tasks.
/// let plan = Plan { canary: Some(1), batch: Some("40%".parse().unwrap()), ..Plan::default() };
/// assert_eq!(plan.batches(5), [0, 1, 1, 2, 2]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Maximum number of tasks in progress at once; [`FANOUT`] if not given.
    pub fanout: Option<u32>,
    /// The number of tasks of the first batch.
    pub canary: Option<u32>,
    /// The number of tasks of each later batch; one batch if not given.
    pub batch: Option<Share>,
    /// Maximum number of failures. With more failures the job stops, and tasks that have not started are
    /// skipped.
    pub max_failures: Option<Share>,
    /// Pause between two batches, in milliseconds.
    pub pause_ms: Option<u64>,
    /// The conditions at which the job waits for an operator.
    pub stop_if: StopIf,
    /// Masks for comparing output.
    pub masks: Masks,
}

/// Conditions at which a job waits for an operator before it starts more tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopIf {
    /// A task failed.
    pub failures: bool,
    /// A task's output or end differs from the canary's.
    pub differs: bool,
}

/// The error for text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid condition {0:?}: use 'fail>0' or 'differs'")]
pub struct InvalidCondition(String);

impl FromStr for StopIf {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        let compact: String = text.chars().filter(|sign| !sign.is_whitespace()).collect();
        match compact.as_str() {
            "fail>0" => Ok(Self { failures: true, differs: false }),
            "differs" => Ok(Self { failures: false, differs: true }),
            _ => Err(InvalidCondition(text.to_owned())),
        }
    }
}

impl std::ops::BitOr for StopIf {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { failures: self.failures || other.failures, differs: self.differs || other.differs }
    }
}

impl Plan {
    /// Returns the maximum number of tasks in progress at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.fanout.unwrap_or(FANOUT).max(1) as usize
    }

    /// Returns the batch of each task, from 0, in order.
    #[must_use]
    pub fn batches(&self, tasks: usize) -> Vec<u32> {
        let canary = self.canary.map_or(0, |count| (count as usize).min(tasks));
        let size = self.batch.map_or(tasks, |share| share.of(tasks)).max(1);
        let first = u32::from(canary > 0);
        let behind = (0..tasks - canary).map(|task| first + u32::try_from(task / size).unwrap_or(u32::MAX));
        std::iter::repeat_n(0, canary).chain(behind).collect()
    }
}

/// Whether a job can start more tasks. The gate is stored, so that it stays held when the master restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gate {
    /// The last batch whose tasks can start. The earlier batches can start too.
    pub open_batch: u32,
    /// Whether tasks of the open batches can start.
    pub state: GateState,
    /// The number of failures that an operator has accepted.
    pub forgiven: u32,
    /// The tasks with which the output of others is compared: the canary, and tasks that an operator has
    /// accepted.
    pub accepted: Vec<u32>,
}

/// A gate's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// More tasks can start.
    #[default]
    Open,
    /// No task starts until an operator promotes the job, for this reason.
    Held(Reason),
    /// No task starts any more, for this reason.
    Stopped(Reason),
}

impl fmt::Display for GateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Held(reason) => write!(f, "held: {reason}"),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_begin_with_the_canary() {
        let plan = |canary, batch: Option<&str>| Plan {
            canary,
            batch: batch.map(|text| text.parse().unwrap()),
            ..Plan::default()
        };
        for (plan, tasks, batches) in [
            (plan(None, None), 4, vec![0, 0, 0, 0]),
            (plan(Some(1), None), 4, vec![0, 1, 1, 1]),
            (plan(None, Some("2")), 5, vec![0, 0, 1, 1, 2]),
            (plan(Some(1), Some("50%")), 5, vec![0, 1, 1, 1, 2]),
            (plan(Some(9), Some("0")), 2, vec![0, 0]),
            (plan(None, Some("0")), 2, vec![0, 1]),
            (plan(Some(1), None), 0, vec![]),
        ] {
            assert_eq!(plan.batches(tasks), batches, "{plan:?}");
        }
    }

    #[test]
    fn conditions_are_two_words() {
        assert_eq!("fail > 0".parse(), Ok(StopIf { failures: true, differs: false }));
        assert_eq!("differs".parse(), Ok(StopIf { failures: false, differs: true }));
        assert!("fail>1".parse::<StopIf>().is_err());
    }
}
