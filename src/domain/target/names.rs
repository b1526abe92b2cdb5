//! Patterns of names, as in `db-[1-9],cache-*`. They can match names of agents that do not exist yet.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidTarget, Target, glob};
use crate::domain::name::AgentName;

/// A target without groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Names(Target);

impl FromStr for Names {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let target: Target = text.parse()?;
        if target.groups().next().is_none() {
            return Ok(Self(target));
        }
        let problem = "only names can stand here, as in db-[1-9],cache-*".to_owned();
        let at = text.chars().position(|sign| sign == '@').unwrap_or(0);
        Err(InvalidTarget { text: text.to_owned(), at, problem })
    }
}

impl TryFrom<String> for Names {
    type Error = InvalidTarget;

    fn try_from(text: String) -> Result<Self, InvalidTarget> {
        text.parse()
    }
}

impl From<Names> for String {
    fn from(names: Names) -> Self {
        names.to_string()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Names {
    /// Reports whether the patterns match a name.
    #[must_use]
    pub fn mean(&self, name: &AgentName) -> bool {
        self.0.means(|operands| {
            operands.spell(name) || operands.globs.iter().any(|pattern| glob(pattern, name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_a_target_would() {
        let mean = |names: &str, name: &str| names.parse::<Names>().unwrap().mean(&name.parse().unwrap());
        assert!(mean("db-[1-3]!db-2", "db-1"));
        assert!(!mean("db-[1-3]!db-2", "db-2"));
        assert!(mean("cache-*,db-1", "cache-x"));
        assert!(!mean("cache-*", "db-1"));
    }

    #[test]
    fn groups_are_refused() {
        let error = "db-1,@role:web".parse::<Names>().unwrap_err();
        assert_eq!(
            (error.at, error.problem.as_str()),
            (5, "only names can stand here, as in db-[1-9],cache-*")
        );
    }
}
