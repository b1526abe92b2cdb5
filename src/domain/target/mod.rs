//! Target expressions: which agents an operator means, in ClusterShell's NodeSet language. Knows no registry; the
//! caller passes the agents there are.
//!
//! Operands are joined strictly from left to right: `,` union, `!` difference, `&` intersection, `^` symmetric
//! difference. An operand is a name, a name with ranges (`web[01-20/2,7]`), a glob against the registry, or a group:
//! `@all`, `@KEY:VALUE` for labels, `@state:WORD`, `@link:WORD`.

pub mod fold;
mod parse;
mod pattern;
pub mod selection;
pub mod selector;

use std::{collections::BTreeSet, fmt};

use super::{
    agent::AgentState,
    name::{AgentName, Labels},
};

/// Most names that one expression may spell out.
pub const MOST_NAMES: usize = 100_000;

/// A target expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    operands: Vec<(Operator, Operand)>,
    plain_name: Option<AgentName>,
}

/// How an operand is joined to what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Union,
    Difference,
    Intersection,
    SymmetricDifference,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    /// Names that are spelled out, ranges expanded.
    Names(Vec<AgentName>),
    /// Globs against the registry.
    Globs(Vec<String>),
    Groups(Vec<Group>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    All,
    State(AgentState),
    /// True for direct, false for the tunnel.
    Link(bool),
    /// A label's key, and a glob for its value.
    Label(String, String),
}

/// Text that is no target expression, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTarget {
    /// The whole text.
    pub text: String,
    /// The character at fault, counted from 0.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}^", self.problem, self.text, " ".repeat(self.at))
    }
}

impl std::error::Error for InvalidTarget {}

/// What an expression may ask of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a AgentName,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its state.
    pub state: AgentState,
    /// True for a direct link, false for the tunnel, `None` when it is not connected.
    pub direct: Option<bool>,
}

/// The agents that an expression means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Those that there are.
    pub agents: BTreeSet<AgentName>,
    /// Names that were spelled out and that no agent has: what is left of them at the end, and all that were to be
    /// left out, since a mistyped exception runs where it must not.
    pub unknown: BTreeSet<AgentName>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Target {
    /// The agent that is meant when the target is one plain name, which prints bytes and not lines.
    #[must_use]
    pub fn plain_name(&self) -> Option<&AgentName> {
        self.plain_name.as_ref()
    }

    /// Whether it asks for agents' states or links, which are not known just after a master's start.
    #[must_use]
    pub fn asks_for_state(&self) -> bool {
        self.operands.iter().any(|(_, operand)| match operand {
            Operand::Names(_) | Operand::Globs(_) => false,
            Operand::Groups(groups) => groups.iter().any(|group| match group {
                Group::All | Group::Label(..) => false,
                Group::State(_) | Group::Link(_) => true,
            }),
        })
    }

    /// The labels that it asks for, as `KEY:VALUE`.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.operands.iter().flat_map(|(_, operand)| match operand {
            Operand::Names(_) | Operand::Globs(_) => Vec::new(),
            Operand::Groups(groups) => groups
                .iter()
                .filter_map(|group| match group {
                    Group::Label(key, value) => Some(format!("{key}:{value}")),
                    Group::All | Group::State(_) | Group::Link(_) => None,
                })
                .collect(),
        })
    }

    /// The agents that are meant, among those there are.
    #[must_use]
    pub fn evaluate(&self, candidates: &[Candidate<'_>]) -> Matched {
        let known: BTreeSet<&AgentName> = candidates.iter().map(|candidate| candidate.name).collect();
        let mut set: BTreeSet<AgentName> = BTreeSet::new();
        let mut unknown: BTreeSet<AgentName> = BTreeSet::new();
        for (operator, operand) in &self.operands {
            let named = operand.names(candidates);
            match operator {
                Operator::Union => set.extend(named),
                Operator::Difference => {
                    for name in named {
                        set.remove(&name);
                        if !known.contains(&name) {
                            unknown.insert(name);
                        }
                    }
                }
                Operator::Intersection => set.retain(|name| named.contains(name)),
                Operator::SymmetricDifference => {
                    for name in named {
                        if !set.remove(&name) {
                            set.insert(name);
                        }
                    }
                }
            }
        }
        let (agents, missing): (BTreeSet<_>, BTreeSet<_>) =
            set.into_iter().partition(|name| known.contains(name));
        unknown.extend(missing);
        Matched { agents, unknown }
    }
}

impl Operand {
    fn names(&self, candidates: &[Candidate<'_>]) -> BTreeSet<AgentName> {
        let matching = |wanted: &dyn Fn(&Candidate<'_>) -> bool| {
            candidates.iter().filter(|candidate| wanted(candidate)).map(|one| one.name.clone()).collect()
        };
        match self {
            Self::Names(names) => names.iter().cloned().collect(),
            Self::Globs(globs) => {
                matching(&|candidate| globs.iter().any(|pattern| glob(pattern, candidate.name.as_str())))
            }
            Self::Groups(groups) => matching(&|candidate| groups.iter().any(|group| group.has(candidate))),
        }
    }
}

impl Group {
    fn has(&self, candidate: &Candidate<'_>) -> bool {
        match self {
            Self::All => true,
            Self::State(state) => candidate.state == *state,
            Self::Link(direct) => candidate.direct == Some(*direct),
            Self::Label(key, value) => {
                candidate.labels.get(key.as_str()).is_some_and(|has| glob(value, has.as_str()))
            }
        }
    }
}

/// The names that a name with ranges spells out, in the order in which they are written.
///
/// # Errors
/// When it is anything else.
pub fn spelled_out(text: &str) -> Result<Vec<AgentName>, InvalidTarget> {
    if let [(_, Operand::Names(names))] = text.parse::<Target>()?.operands.as_slice() {
        return Ok(names.clone());
    }
    let problem = "only names and ranges can stand here".to_owned();
    Err(InvalidTarget { text: text.to_owned(), at: 0, problem })
}

/// Whether a text matches a glob: `*` is any number of bytes, `?` one. Linear in time but for one backtracking point.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(sign) if *sign == b'?' || *sign == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|sign| *sign == b'*')
}

#[cfg(test)]
mod tests;
