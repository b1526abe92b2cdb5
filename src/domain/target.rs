//! Target expressions: which agents an operator means. Knows no registry; the caller passes the names there are.

use std::{fmt, str::FromStr};

use super::name::{AgentName, InvalidName};

/// A target: names, globs and `@all`, joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Name(AgentName),
    Glob(String),
    All,
}

/// Text that is no target expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// There is nothing, or nothing between two commas.
    #[error("the target {0:?} is empty or has an empty part: name agents as web-1,web-2 or web-*")]
    Empty(String),
    /// A name that no agent can have.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// An operator or a source of the whole language that this version does not have.
    #[error("the target {text:?} has {sign:?}: this version takes names, globs (* and ?), commas and @all")]
    Unsupported {
        /// The whole target.
        text: String,
        /// What is not understood.
        sign: char,
    },
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let parse = |part: &str| match part.trim() {
            "" => Err(InvalidTarget::Empty(text.to_owned())),
            "@all" => Ok(Term::All),
            part => {
                if let Some(sign) = part.chars().find(|c| "!&^[]@".contains(*c)) {
                    return Err(InvalidTarget::Unsupported { text: text.to_owned(), sign });
                }
                if part.contains(['*', '?']) {
                    // Checked as a name with its wild cards filled in, so that typing errors show.
                    part.replace(['*', '?'], "x").parse::<AgentName>()?;
                    return Ok(Term::Glob(part.to_owned()));
                }
                Ok(Term::Name(part.parse()?))
            }
        };
        let terms = text.split(',').map(parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), terms })
    }
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
        match self.terms.as_slice() {
            [Term::Name(name)] => Some(name),
            _ => None,
        }
    }

    /// Names that stand in it plainly; an operator who wrote one wants to hear when it is unknown.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.terms.iter().filter_map(|term| match term {
            Term::Name(name) => Some(name),
            Term::Glob(_) | Term::All => None,
        })
    }

    /// Whether an agent of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &AgentName) -> bool {
        self.terms.iter().any(|term| match term {
            Term::Name(wanted) => wanted == name,
            Term::Glob(pattern) => glob(pattern.as_bytes(), name.as_str().as_bytes()),
            Term::All => true,
        })
    }
}

/// `*` is any number of bytes, `?` one. Linear in time but for one backtracking point.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
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
mod tests {
    use super::*;

    fn matched(target: &str) -> Vec<&'static str> {
        let target: Target = target.parse().unwrap();
        ["web-1", "web-2", "web-10", "db-1"]
            .into_iter()
            .filter(|name| target.matches(&name.parse().unwrap()))
            .collect()
    }

    #[test]
    fn names_globs_and_commas_pick_agents() {
        assert_eq!(matched("web-1"), ["web-1"]);
        assert_eq!(matched("web-*"), ["web-1", "web-2", "web-10"]);
        assert_eq!(matched("web-?"), ["web-1", "web-2"]);
        assert_eq!(matched("*-1,web-10"), ["web-1", "web-10", "db-1"]);
        assert_eq!(matched("@all").len(), 4);
        assert!(matched("w*x").is_empty());
    }

    #[test]
    fn only_one_bare_name_is_plain() {
        let plain = |text: &str| text.parse::<Target>().unwrap().plain_name().is_some();
        assert!(plain("web-1"));
        assert!(!plain("web-1,web-2"));
        assert!(!plain("web-*"));
    }

    #[test]
    fn what_is_no_target_says_why() {
        for bad in ["", "a,,b", "a b", "web-[1-2]", "@role:web", "a!b", "-x*"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
