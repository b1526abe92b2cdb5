//! Label selectors as in kubectl: `role=web,env!=test,dc in (ams,fra),!legacy`. All parts must match.

use std::{fmt, str::FromStr};

use crate::domain::name::{LabelWord, Labels};

/// A label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    /// As in kubectl, agents without the label pass.
    NotIn(Vec<String>),
}

/// Maximum number of bytes of a selector. Each agent's labels are compared with all of it.
const MOST_TEXT: usize = 4 * 1024;

/// The error for text that is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// A part of the selector is not valid: the selector, and the part.
    #[error(
        "invalid label selector {0:?} at {1:?}: write -l role=web,env!=test, -l 'dc in (ams,fra)', -l key or -l '!key'"
    )]
    At(String, String),
    /// The selector is too long: its length in bytes.
    #[error("the selector has {0} bytes; at most {MOST_TEXT} are allowed")]
    TooLong(usize),
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        if text.len() > MOST_TEXT {
            return Err(InvalidSelector::TooLong(text.len()));
        }
        let parts = split(text);
        let parse = |part: &&str| {
            requirement(part.trim())
                .ok_or_else(|| InvalidSelector::At(text.to_owned(), part.trim().to_owned()))
        };
        Ok(Self { text: text.to_owned(), requirements: parts.iter().map(parse).collect::<Result<_, _>>()? })
    }
}

/// Splits a selector at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let is_border = |sign: char| {
        match sign {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        sign == ',' && depth == 0
    };
    text.split(is_border).collect()
}

fn word(text: &str) -> Option<String> {
    LabelWord::try_from(text.trim().to_owned()).ok().map(String::from)
}

fn requirement(part: &str) -> Option<Requirement> {
    if let Some(key) = part.strip_prefix('!') {
        return Some(Requirement { key: word(key)?, test: Test::Missing });
    }
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(sign) {
            let values = vec![word(value)?];
            let test = if equal { Test::In(values) } else { Test::NotIn(values) };
            return Some(Requirement { key: word(key)?, test });
        }
    }
    let Some(list) = part.strip_suffix(')') else {
        return Some(Requirement { key: word(part)?, test: Test::Exists });
    };
    let (head, list) = list.split_once('(')?;
    let values = list.split(',').map(word).collect::<Option<Vec<_>>>()?;
    let (key, operator) = head.trim().split_once(char::is_whitespace)?;
    let test = match operator.trim() {
        "in" => Test::In(values),
        "notin" => Test::NotIn(values),
        _ => return None,
    };
    Some(Requirement { key: word(key)?, test })
}

impl Selector {
    /// Returns the keys of the labels that the selector depends on.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|requirement| requirement.key.as_str())
    }

    /// Reports whether these labels match the selector.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(requirement.key.as_str()).map(LabelWord::as_str);
            let among =
                |values: &[String]| value.is_some_and(|value| values.iter().any(|known| known == value));
            match &requirement.test {
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
                Test::In(values) => among(values),
                Test::NotIn(values) => !among(values),
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::Label;

    #[test]
    fn selectors_are_kubectls() {
        let labels: Labels = ["role=web", "dc=ams"]
            .into_iter()
            .map(|text| text.parse::<Label>().unwrap())
            .map(|label| (label.key, label.value))
            .collect();
        for (text, passes) in [
            ("role=web", true),
            ("role==web", true),
            ("role!=web", false),
            ("env!=test", true),
            ("role=web,dc=fra", false),
            ("dc in (fra, ams),role", true),
            ("dc notin (fra,ams)", false),
            ("env notin (test)", true),
            ("!env", true),
            ("!role", false),
            ("env", false),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().matches(&labels), passes, "{text}");
        }
        for bad in ["", "role=", "=web", "role in web", "role in ()", "a b", "role=web,"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
