//! Outcomes on the wire.

use super::{InvalidMessage, proto};
use crate::domain::outcome::{Ending, KillProof, Outcome, Survivor};

impl From<KillProof> for proto::KillProof {
    fn from(proof: KillProof) -> Self {
        let survivor = |left: Survivor| proto::Survivor { pid: left.pid, state: left.state };
        Self { ended: proof.ended, left: proof.left.into_iter().map(survivor).collect() }
    }
}

impl From<proto::KillProof> for KillProof {
    fn from(proof: proto::KillProof) -> Self {
        let survivor = |left: proto::Survivor| Survivor { pid: left.pid, state: left.state };
        Self { ended: proof.ended, left: proof.left.into_iter().map(survivor).collect() }
    }
}

impl From<Outcome> for proto::Outcome {
    fn from(outcome: Outcome) -> Self {
        use proto::outcome::Kind;
        let kind = match outcome.ending {
            Ending::Exited(code) => Kind::Exited(proto::Exited { code: code.into() }),
            Ending::Signaled(signal) => Kind::Signaled(proto::Signaled { signal: signal.unsigned_abs() }),
            Ending::TimedOut(proof) => Kind::TimedOut(proto::TimedOut { proof: Some(proof.into()) }),
            Ending::Cancelled { proof, by } => {
                Kind::Cancelled(proto::Cancelled { proof: proof.map(Into::into), by })
            }
            Ending::Refused(reason) => Kind::Refused(proto::Refused { reason }),
            Ending::Undeliverable(reason) => Kind::Undeliverable(proto::Undeliverable { reason }),
            Ending::Lost(reason) => Kind::Lost(proto::Lost { reason }),
            Ending::Skipped(reason) => Kind::Skipped(proto::Skipped { reason }),
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
                Ending::Signaled(i32::try_from(signaled.signal).map_err(InvalidMessage::because)?)
            }
            Kind::TimedOut(ended) => Ending::TimedOut(ended.proof.unwrap_or_default().into()),
            Kind::Cancelled(ended) => Ending::Cancelled { proof: ended.proof.map(Into::into), by: ended.by },
            Kind::Refused(ended) => Ending::Refused(ended.reason),
            Kind::Undeliverable(ended) => Ending::Undeliverable(ended.reason),
            Kind::Lost(ended) => Ending::Lost(ended.reason),
            Kind::Skipped(ended) => Ending::Skipped(ended.reason),
        };
        Ok(Self { ending, background: outcome.background })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_the_wire() {
        let proof = KillProof { ended: 2, left: vec![Survivor { pid: 7, state: "x".into() }] };
        for ending in [
            Ending::Exited(255),
            Ending::Signaled(9),
            Ending::TimedOut(proof.clone()),
            Ending::Cancelled { proof: Some(proof), by: "ana".into() },
            Ending::Cancelled { proof: None, by: "ana".into() },
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
