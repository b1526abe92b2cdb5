//! Converts outcomes.

use super::{
    InvalidMessage,
    command::{seal_in, seal_out},
    proto,
};
use crate::domain::outcome::{Ending, KillProof, Outcome, Survivor};

/// The highest number of a signal on Linux (`SIGRTMAX`).
const MAX_SIGNAL: u32 = 64;

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
        use proto::outcome::Kind;
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
    type Error = InvalidMessage;

    fn try_from(outcome: proto::Outcome) -> Result<Self, InvalidMessage> {
        use proto::outcome::Kind;
        let ending = match outcome.kind.ok_or_else(|| InvalidMessage::missing("outcome"))? {
            Kind::Exited(exited) => {
                Ending::Exited(u8::try_from(exited.code).map_err(InvalidMessage::because)?)
            }
            Kind::Signaled(signaled) => {
                let signal = Some(signaled.signal).filter(|signal| (1..=MAX_SIGNAL).contains(signal));
                let signal = signal.and_then(|signal| i32::try_from(signal).ok());
                Ending::Signaled(signal.ok_or_else(|| {
                    InvalidMessage(format!("signal {}, where the last is {MAX_SIGNAL}", signaled.signal))
                })?)
            }
            Kind::TimedOut(ended) => Ending::TimedOut(ended.proof.unwrap_or_default().into()),
            Kind::Cancelled(ended) => {
                let seal = seal_in(&ended.seal);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_the_wire() {
        let proof = KillProof::new(2, vec![Survivor { pid: 7, state: "x".into() }], 5);
        for ending in [
            Ending::Exited(255),
            Ending::Signaled(9),
            Ending::TimedOut(proof.clone()),
            Ending::Cancelled { proof: Some(proof), by: "ana".into(), seal: Some([7; 32].into()) },
            Ending::Cancelled { proof: None, by: "ana".into(), seal: None },
            Ending::Refused("r".into()),
            Ending::Undeliverable("u".into()),
            Ending::Lost("l".into()),
            Ending::Skipped("s".into()),
        ] {
            let outcome = Outcome { ending, background: 3 };
            assert_eq!(Outcome::try_from(proto::Outcome::from(outcome.clone())), Ok(outcome));
        }
        assert!(Outcome::try_from(proto::Outcome::default()).is_err());
    }
}
