//! A target: a parsed expression that names agents, and the agents that it selects.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

use super::pattern::Pattern;
use crate::domain::{
    agent::{AgentState, AgentView, LinkKind},
    name::{AgentName, Labels},
};

/// Maximum number of names that one expression can list. A range counts as all of its names.
pub const MOST_NAMES: u64 = 100_000;
/// Maximum number of bytes of an expression: Linux' limit for one argument.
pub const MOST_TEXT: usize = 128 * 1024;
/// Maximum number of globs, groups, ranges and operators in an expression. Each agent is compared with each
/// of them.
pub const MOST_WEIGHT: u64 = 1_000;
/// Maximum product of the names that are listed and the globs, groups and ranges that each is compared with.
pub(super) const MOST_COMPARISONS: u64 = 2_000_000;
/// Maximum number of unknown names that are reported: enough to find a mistyped one.
pub const UNKNOWN_SHOWN: usize = 12;

/// A target expression: names, ranges and patterns of names, labels and states, joined from left to right.
///
/// ```
/// use sloth_runner::domain::{agent::AgentState, name::Labels, target::{Candidate, Target}};
///
/// let names = ["web-1".parse().unwrap(), "web-2".parse().unwrap(), "db-1".parse().unwrap()];
/// let labels = Labels::new();
/// let agents: Vec<Candidate> = names
///     .iter()
///     .map(|name| Candidate { name, labels: &labels, state: AgentState::Active, link: None })
///     .collect();
/// let target: Target = "web-[1-9]!web-2,db-*".parse().unwrap();
/// let matched: Vec<String> = target.evaluate(&agents).agents.iter().map(ToString::to_string).collect();
/// assert_eq!(matched, ["db-1", "web-1"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) text: String,
    /// The steps, which are evaluated strictly from left to right.
    pub(super) steps: Vec<Step>,
    pub(super) plain_name: Option<AgentName>,
}

/// Consecutive operands with the same operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) operator: Operator,
    pub(super) operands: Operands,
}

/// Operands of one step. Together they select every agent that one of them selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operands {
    /// Names without ranges.
    pub(super) names: HashSet<AgentName>,
    /// Names with ranges.
    pub(super) patterns: Vec<Pattern>,
    /// Globs against the registry.
    pub(super) globs: Vec<String>,
    pub(super) groups: Vec<Group>,
}

/// The operator between an operand and the expression before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Union,
    Difference,
    Intersection,
    SymmetricDifference,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Group {
    All,
    State(AgentState),
    /// Agents that are connected over this link.
    Link(LinkKind),
    /// A label's key, and a glob for its value.
    Label(String, String),
}

/// The error for text that is not a target expression, with the position of the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTarget {
    /// The whole text.
    pub text: String,
    /// The index of the wrong character, from 0.
    pub at: usize,
    /// The message for people.
    pub problem: String,
}

/// Maximum number of characters that are shown before the wrong one.
const SHOWN_BEFORE: usize = 100;

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a long expression, only the part around the error is shown.
        let from = self.at.saturating_sub(SHOWN_BEFORE);
        let before = if from > 0 { "…" } else { "" };
        let around: String = self.text.chars().skip(from).take(2 * SHOWN_BEFORE).collect();
        let behind = if self.text.chars().nth(from + 2 * SHOWN_BEFORE).is_some() { "…" } else { "" };
        let at = self.at - from + before.chars().count();
        write!(f, "{}\n{before}{around}{behind}\n{}^", self.problem, " ".repeat(at))
    }
}

impl std::error::Error for InvalidTarget {}

/// The properties of an agent that an expression can select by.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a AgentName,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its state.
    pub state: AgentState,
    /// Its link; `None` when it is not connected.
    pub link: Option<LinkKind>,
}

impl<'a> From<&'a AgentView> for Candidate<'a> {
    fn from(agent: &'a AgentView) -> Self {
        Self { name: &agent.name, labels: &agent.labels, state: agent.state, link: agent.link }
    }
}

/// The agents that an expression selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// The selected agents.
    pub agents: BTreeSet<AgentName>,
    /// Explicit names that no agent has, up to a limit. They are the names in the result of the expression,
    /// and all names after a `!`: a mistyped exception would let the command run on an agent that was to be
    /// left out.
    pub unknown: BTreeSet<AgentName>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Target {
    /// Returns the agent if the target is one plain name. Its output is printed as bytes, not as lines.
    #[must_use]
    pub fn plain_name(&self) -> Option<&AgentName> {
        self.plain_name.as_ref()
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.steps.iter().flat_map(|step| &step.operands.groups)
    }

    /// Reports whether the target selects by states or links, which are not known just after a master's
    /// start.
    #[must_use]
    pub fn asks_for_state(&self) -> bool {
        self.groups().any(|group| match group {
            Group::All | Group::Label(..) => false,
            Group::State(_) | Group::Link(_) => true,
        })
    }

    /// Returns the labels that the target selects by, as `KEY:VALUE`.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.groups().filter_map(|group| match group {
            Group::Label(key, value) => Some(format!("{key}:{value}")),
            Group::All | Group::State(_) | Group::Link(_) => None,
        })
    }

    /// Returns the keys of the labels that the target selects by.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.groups().filter_map(|group| match group {
            Group::Label(key, _) => Some(key.as_str()),
            Group::All | Group::State(_) | Group::Link(_) => None,
        })
    }

    /// Returns the selected agents. Reports at most [`UNKNOWN_SHOWN`] unknown names.
    #[must_use]
    pub fn evaluate(&self, candidates: &[Candidate<'_>]) -> Matched {
        self.evaluate_with(candidates, UNKNOWN_SHOWN)
    }

    /// Returns the selected agents. Reports at most `most_unknown` unknown names.
    #[must_use]
    pub fn evaluate_with(&self, candidates: &[Candidate<'_>], most_unknown: usize) -> Matched {
        let means = |candidate: &&Candidate<'_>| self.means(|operands| operands.mean(candidate));
        let agents = candidates.iter().filter(means).map(|candidate| candidate.name.clone()).collect();
        Matched { agents, unknown: self.unknown(candidates, most_unknown) }
    }

    /// Reports whether the target contains a name, also within a range, outside of exceptions.
    #[must_use]
    pub fn spells(&self, name: &AgentName) -> bool {
        let is_asked_for = |step: &&Step| step.operator != Operator::Difference;
        self.steps.iter().filter(is_asked_for).any(|step| step.operands.spell(name))
    }

    /// Evaluates the steps for one agent. `mean` reports whether operands select it.
    pub(super) fn means(&self, mean: impl Fn(&Operands) -> bool) -> bool {
        self.steps.iter().fold(false, |is_in, step| match step.operator {
            Operator::Union => is_in || mean(&step.operands),
            Operator::Difference => is_in && !mean(&step.operands),
            Operator::Intersection => is_in && mean(&step.operands),
            Operator::SymmetricDifference => is_in != mean(&step.operands),
        })
    }

    fn unknown(&self, candidates: &[Candidate<'_>], most: usize) -> BTreeSet<AgentName> {
        let known: HashSet<&AgentName> = candidates.iter().map(|candidate| candidate.name).collect();
        let mut unknown = BTreeSet::new();
        for step in &self.steps {
            for name in step.operands.spelled_out().filter(|name| !known.contains(name)) {
                if unknown.len() >= most {
                    return unknown;
                }
                let is_left_out = step.operator == Operator::Difference;
                if is_left_out || self.means(|operands| operands.spell(&name)) {
                    unknown.insert(name);
                }
            }
        }
        unknown
    }
}

impl Operands {
    /// Reports whether the operands select an agent.
    fn mean(&self, candidate: &Candidate<'_>) -> bool {
        self.spell(candidate.name)
            || self.globs.iter().any(|pattern| glob(pattern, candidate.name.as_str()))
            || self.groups.iter().any(|group| group.has(candidate))
    }

    /// Reports whether the operands contain a name, also within a range.
    pub(super) fn spell(&self, name: &AgentName) -> bool {
        self.names.contains(name) || self.patterns.iter().any(|pattern| pattern.matches(name.as_str()))
    }

    /// Returns the names that the operands contain: first those of ranges, as they are written, then the
    /// others.
    fn spelled_out(&self) -> impl Iterator<Item = AgentName> {
        let words = self.patterns.iter().flat_map(Pattern::words);
        // The longest word was checked to be a name, so all are names.
        words.filter_map(|word| AgentName::try_from(word).ok()).chain(self.names.iter().cloned())
    }
}

impl Group {
    fn has(&self, candidate: &Candidate<'_>) -> bool {
        match self {
            Self::All => true,
            Self::State(state) => candidate.state == *state,
            Self::Link(link) => candidate.link == Some(*link),
            Self::Label(key, value) => {
                candidate.labels.get(key.as_str()).is_some_and(|has| glob(value, has.as_str()))
            }
        }
    }
}

/// Returns the names of a name with ranges, in the order in which they are written.
///
/// # Errors
/// When the text is anything else.
pub fn spelled_out(text: &str) -> Result<Vec<AgentName>, InvalidTarget> {
    if let [Step { operator: Operator::Union, operands }] = text.parse::<Target>()?.steps.as_slice()
        && operands.globs.is_empty()
        && operands.groups.is_empty()
    {
        return Ok(operands.spelled_out().collect());
    }
    let problem = "only names and ranges are allowed here".to_owned();
    Err(InvalidTarget { text: text.to_owned(), at: 0, problem })
}

/// Reports whether a text matches a glob: `*` is any number of bytes, `?` is one byte. Backtracks only to the
/// last `*`.
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
