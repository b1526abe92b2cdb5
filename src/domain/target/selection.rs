//! A selection of agents: a target, a label selector, exceptions, and a sample of the rest.

use std::{collections::BTreeSet, fmt};

use super::{Candidate, Matched, Target, selector::Selector};
use crate::domain::{command::quoted, name::AgentName, share::Share};

/// A selection of the agents for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The target.
    pub target: Target,
    /// Only agents of the target whose labels match.
    pub selector: Option<Selector>,
    /// Agents that are left out.
    pub exclude: Option<Target>,
    /// A random sample of the remaining agents.
    pub sample: Option<Sample>,
}

/// A reproducible sample of a set. The same seed and set give the same sample, and a larger sample contains
/// the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The size of the sample.
    pub limit: Share,
    /// The seed that selects the sample.
    pub seed: u64,
}

impl From<Target> for Selection {
    fn from(target: Target) -> Self {
        Self { target, selector: None, exclude: None, sample: None }
    }
}

impl Selection {
    /// Returns the agent if the selection is only one plain name.
    #[must_use]
    pub fn plain_name(&self) -> Option<&AgentName> {
        let is_bare = self.selector.is_none() && self.exclude.is_none() && self.sample.is_none();
        self.target.plain_name().filter(|_| is_bare)
    }

    /// Reports whether the selection depends on states or links.
    #[must_use]
    pub fn asks_for_state(&self) -> bool {
        self.target.asks_for_state() || self.exclude.as_ref().is_some_and(Target::asks_for_state)
    }

    /// Returns the selected agents.
    #[must_use]
    pub fn evaluate(&self, candidates: &[Candidate<'_>]) -> Matched {
        let mut matched = self.target.evaluate(candidates);
        if let Some(selector) = &self.selector {
            let passing = candidates.iter().filter(|candidate| selector.matches(candidate.labels));
            let passing: BTreeSet<&AgentName> = passing.map(|candidate| candidate.name).collect();
            matched.agents.retain(|name| passing.contains(name));
        }
        if let Some(exclude) = &self.exclude {
            let left_out = exclude.evaluate(candidates);
            matched.agents.retain(|name| !left_out.agents.contains(name));
            matched.unknown.extend(left_out.unknown);
        }
        if let Some(sample) = self.sample {
            matched.agents = sample.of(matched.agents);
        }
        matched
    }

    /// Returns the keys of the labels that the selection depends on.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.target.label_keys().chain(self.selector.iter().flat_map(Selector::keys))
    }
}

impl Sample {
    fn of(self, agents: BTreeSet<AgentName>) -> BTreeSet<AgentName> {
        let wanted = self.limit.of(agents.len());
        let mut ranked: Vec<(u64, AgentName)> =
            agents.into_iter().map(|name| (rank(self.seed, name.as_str()), name)).collect();
        ranked.sort();
        ranked.into_iter().take(wanted).map(|(_, name)| name).collect()
    }
}

/// Hashes seed and name with FNV-1a and the finalizer of `SplitMix64`. The result must never change between
/// versions, and its order is unrelated to the order of names.
fn rank(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        if let Some(selector) = &self.selector {
            write!(f, " -l {}", quoted(selector.to_string().as_bytes()))?;
        }
        if let Some(exclude) = &self.exclude {
            write!(f, " -x {}", quoted(exclude.to_string().as_bytes()))?;
        }
        if let Some(Sample { limit, seed }) = self.sample {
            write!(f, " --limit {limit} --seed {seed}")?;
        }
        Ok(())
    }
}
