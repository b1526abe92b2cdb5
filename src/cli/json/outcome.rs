//! Outcomes of tasks.

use serde::Serialize;

use crate::domain::outcome::{Ending, KillProof, Outcome};

/// How a task ended.
#[derive(Debug, Serialize)]
pub(super) struct OutcomeObject<'a> {
    /// The name of the ending: `exited`, `signaled`, `timed_out`, `cancelled`, `refused`, `undeliverable`,
    /// `lost` or `skipped`.
    ending: &'static str,
    exit_code: Option<u8>,
    signal: Option<i32>,
    cancelled_by: Option<&'a str>,
    reason: Option<&'a str>,
    killed: Option<KillObject<'a>>,
    /// Number of processes that still held the command's pipes when it ended.
    background: u32,
}

/// The result of killing a command's processes.
#[derive(Debug, Serialize)]
struct KillObject<'a> {
    ended: u32,
    /// Number of processes that survived.
    left_count: u64,
    /// The first survivors.
    left: Vec<SurvivorObject<'a>>,
}

#[derive(Debug, Serialize)]
struct SurvivorObject<'a> {
    pid: u32,
    state: &'a str,
}

impl<'a> KillObject<'a> {
    fn new(proof: &'a KillProof) -> Self {
        let left = proof.left.iter();
        let left = left.map(|survivor| SurvivorObject { pid: survivor.pid, state: survivor.state.as_str() });
        Self { ended: proof.ended, left_count: proof.left_count(), left: left.collect() }
    }
}

impl<'a> OutcomeObject<'a> {
    pub(super) fn new(outcome: &'a Outcome) -> Self {
        let of = |ending| Self {
            ending,
            exit_code: None,
            signal: None,
            cancelled_by: None,
            reason: None,
            killed: outcome.proof().map(KillObject::new),
            background: outcome.background,
        };
        match &outcome.ending {
            Ending::Exited(code) => Self { exit_code: Some(*code), ..of("exited") },
            Ending::Signaled(signal) => Self { signal: Some(*signal), ..of("signaled") },
            Ending::TimedOut(_) => of("timed_out"),
            Ending::Cancelled { by, .. } => Self { cancelled_by: Some(by.as_str()), ..of("cancelled") },
            Ending::Refused(reason) => Self { reason: Some(reason.as_str()), ..of("refused") },
            Ending::Undeliverable(reason) => Self { reason: Some(reason.as_str()), ..of("undeliverable") },
            Ending::Lost(reason) => Self { reason: Some(reason.as_str()), ..of("lost") },
            Ending::Skipped(reason) => Self { reason: Some(reason.as_str()), ..of("skipped") },
        }
    }
}
