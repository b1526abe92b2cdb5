//! Outcomes of tasks, and kill proofs.

use super::seal::{seal_in, seal_out};
use crate::{
    domain::outcome::{Ending, KillProof, Outcome, Survivor},
    wire::proto::{self, outcome::Kind},
};

/// The highest number of a signal on Linux (`SIGRTMAX`).
const MAX_SIGNAL: u32 = 64;

/// The error for an outcome that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOutcome {
    /// The outcome's kind is missing, or this version does not know it.
    #[error("an outcome of a kind that this version does not know")]
    Kind,
    /// The exit status is over 255.
    #[error("exit status {0}; the maximum is 255")]
    ExitStatus(u32),
    /// The signal does not exist.
    #[error("signal {0}; the maximum is {MAX_SIGNAL}")]
    Signal(u32),
}

impl From<KillProof> for proto::KillProof {
    fn from(proof: KillProof) -> Self {
        let survivor = |left: Survivor| proto::Survivor { pid: left.pid, state: left.state.into() };
        let left = proof.left.into_iter().map(survivor).collect();
        Self { ended: proof.ended, left, more_left: proof.more_left }
    }
}

impl From<proto::KillProof> for KillProof {
    fn from(proof: proto::KillProof) -> Self {
        let survivor = |left: proto::Survivor| Survivor { pid: left.pid, state: left.state.into() };
        Self::new(proof.ended, proof.left.into_iter().map(survivor).collect(), proof.more_left)
    }
}

impl From<Outcome> for proto::Outcome {
    fn from(outcome: Outcome) -> Self {
        let kind = match outcome.ending {
            Ending::Exited(code) => Kind::Exited(proto::Exited { code: code.into() }),
            Ending::Signaled(signal) => Kind::Signaled(proto::Signaled { signal: signal.unsigned_abs() }),
            Ending::TimedOut(proof) => Kind::TimedOut(proto::TimedOut { proof: Some(proof.into()) }),
            Ending::Cancelled { proof, by, seal } => {
                let seal = seal_out(seal);
                Kind::Cancelled(proto::Cancelled { proof: proof.map(Into::into), by: by.into(), seal })
            }
            Ending::Refused(reason) => Kind::Refused(proto::Refused { reason: reason.into() }),
            Ending::Undeliverable(reason) => {
                Kind::Undeliverable(proto::Undeliverable { reason: reason.into() })
            }
            Ending::Lost(reason) => Kind::Lost(proto::Lost { reason: reason.into() }),
            Ending::Skipped(reason) => Kind::Skipped(proto::Skipped { reason: reason.into() }),
        };
        Self { kind: Some(kind), background: outcome.background }
    }
}

impl TryFrom<proto::Outcome> for Outcome {
    type Error = InvalidOutcome;

    fn try_from(outcome: proto::Outcome) -> Result<Self, InvalidOutcome> {
        let ending = match outcome.kind.ok_or(InvalidOutcome::Kind)? {
            Kind::Exited(proto::Exited { code }) => {
                Ending::Exited(u8::try_from(code).map_err(|_| InvalidOutcome::ExitStatus(code))?)
            }
            Kind::Signaled(proto::Signaled { signal }) => {
                let known = Some(signal).filter(|signal| (1..=MAX_SIGNAL).contains(signal));
                let known = known.and_then(|signal| i32::try_from(signal).ok());
                Ending::Signaled(known.ok_or(InvalidOutcome::Signal(signal))?)
            }
            Kind::TimedOut(ended) => Ending::TimedOut(ended.proof.unwrap_or_default().into()),
            Kind::Cancelled(ended) => {
                let seal = seal_in(ended.seal.as_ref());
                Ending::Cancelled { proof: ended.proof.map(Into::into), by: ended.by.into(), seal }
            }
            Kind::Refused(ended) => Ending::Refused(ended.reason.into()),
            Kind::Undeliverable(ended) => Ending::Undeliverable(ended.reason.into()),
            Kind::Lost(ended) => Ending::Lost(ended.reason.into()),
            Kind::Skipped(ended) => Ending::Skipped(ended.reason.into()),
        };
        Ok(Self { ending, background: outcome.background })
    }
}
