//! Names and labels: their characters, their order, and suggestions for mistyped ones.

use std::{
    borrow::Borrow, cmp::Ordering, collections::BTreeMap, fmt, marker::PhantomData, str::FromStr, sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Maximum length of a name, or of a label's key or value, in characters.
pub const MAX_LENGTH: usize = 63;

/// The kind of thing that a name belongs to.
pub trait Named: Clone {
    /// The noun in error messages, with its article.
    const NOUN: &'static str;
}

/// Marks names of agents.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfAgent {}

/// Marks names of operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfOperator {}

/// Marks names under which a client knows masters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfMaster {}

impl Named for OfAgent {
    const NOUN: &'static str = "an agent's";
}

impl Named for OfOperator {
    const NOUN: &'static str = "an operator's";
}

impl Named for OfMaster {
    const NOUN: &'static str = "a master's";
}

/// A name: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. Sorts naturally: `web-2` before `web-10`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String", bound = "K: Named")]
pub struct Name<K>(Arc<str>, PhantomData<fn() -> K>);

/// The name of an agent.
pub type AgentName = Name<OfAgent>;
/// The name of an operator.
pub type OperatorName = Name<OfOperator>;
/// The name under which a client knows a master.
pub type MasterName = Name<OfMaster>;

/// The error for text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be {noun} name: use 1 to 63 letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
)]
pub struct InvalidName {
    text: String,
    noun: &'static str,
}

fn is_word(text: &str, also: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.len() <= MAX_LENGTH
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || also.contains(byte))
}

impl<K> Name<K> {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<K: Named> FromStr for Name<K> {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_from(text.to_owned())
    }
}

impl<K: Named> TryFrom<String> for Name<K> {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        if is_word(&text, b"._-") {
            Ok(Self(text.into(), PhantomData))
        } else {
            Err(InvalidName { text, noun: K::NOUN })
        }
    }
}

impl<K> From<Name<K>> for String {
    fn from(name: Name<K>) -> Self {
        name.as_str().to_owned()
    }
}

impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: Eq> Ord for Name<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        natural_order(&self.0, &other.0)
    }
}

impl<K: Eq> PartialOrd for Name<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares digit runs by their value and everything else by bytes; a total order on distinct strings.
#[must_use]
pub fn natural_order(left: &str, right: &str) -> Ordering {
    let (mut a, mut b) = (left.as_bytes(), right.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (number_a, rest_a) = split_digits(a);
                let (number_b, rest_b) = split_digits(b);
                let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            // Names that are equal by value can differ in zero padding, and must not compare as equal.
            (None, None) => return left.cmp(right),
            (x, y) => return x.cmp(&y),
        }
    }
}

/// Returns the leading number without its leading zeros, and the rest.
fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let zeros = bytes[..end].iter().position(|byte| *byte != b'0').unwrap_or(end);
    (&bytes[zeros..end], &bytes[end..])
}

/// Maximum number of labels of one agent of each kind: labels that it reports, and labels that operators set.
pub const MAX_LABELS: usize = 64;

/// Labels of an agent, by key.
pub type Labels = BTreeMap<LabelWord, LabelWord>;

/// A label's key or value: `[A-Za-z0-9][A-Za-z0-9._/-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LabelWord(String);

/// The error for text that cannot be a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a label: write KEY=VALUE, each of 1 to 63 letters, digits, `.`, `_`, `/` and `-`, beginning with a letter or digit"
)]
pub struct InvalidLabel(String);

impl TryFrom<String> for LabelWord {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        if is_word(&text, b"._/-") { Ok(Self(text)) } else { Err(InvalidLabel(text)) }
    }
}

impl From<LabelWord> for String {
    fn from(word: LabelWord) -> Self {
        word.0
    }
}

impl LabelWord {
    /// Returns the word as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for LabelWord {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabelWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The key.
    pub key: LabelWord,
    /// The value.
    pub value: LabelWord,
}

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let whole = |_| InvalidLabel(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(|| InvalidLabel(text.to_owned()))?;
        Ok(Self {
            key: LabelWord::try_from(key.to_owned()).map_err(whole)?,
            value: LabelWord::try_from(value.to_owned()).map_err(whole)?,
        })
    }
}

/// A change to one label: `KEY=VALUE` or `KEY-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// Sets the key to this value.
    Set(Label),
    /// Removes the key.
    Remove(LabelWord),
}

impl FromStr for LabelChange {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let key = text.strip_suffix('-').filter(|key| !key.contains('='));
        match key {
            Some(key) => LabelWord::try_from(key.to_owned()).map(Self::Remove),
            None => text.parse().map(Self::Set),
        }
        .map_err(|_| InvalidLabel(text.to_owned()))
    }
}

impl LabelChange {
    /// Applies the change to labels.
    pub fn apply(&self, labels: &mut Labels) {
        match self {
            Self::Set(label) => {
                labels.insert(label.key.clone(), label.value.clone());
            }
            Self::Remove(key) => {
                labels.remove(key);
            }
        }
    }
}

impl fmt::Display for LabelChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(label) => write!(f, "{}={}", label.key, label.value),
            Self::Remove(key) => write!(f, "{key}-"),
        }
    }
}

/// Returns the known names that are most similar to `wanted`, at most three.
#[must_use]
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = wanted.chars().count().div_ceil(3).max(1);
    let distance =
        |name: &str| strsim::damerau_levenshtein(&wanted.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let mut scored: Vec<(usize, &str)> = known
        .map(|name| (if name.starts_with(wanted) { 0 } else { distance(name) }, name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    scored.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| natural_order(a.1, b.1)));
    let best = scored.first().map_or(0, |(distance, _)| *distance);
    scored.into_iter().take_while(|(distance, _)| *distance == best).take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_letters_digits_and_three_signs() {
        let longest = "a".repeat(63);
        for good in ["a", "web-1", "A.b_c-9", "0", longest.as_str()] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", ".a", "a b", "a/b", "a\n", "ä", "../x", too_long.as_str()] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_two_words() {
        assert!("role=web".parse::<Label>().is_ok());
        assert!("example.org/role=eu/ams".parse::<Label>().is_ok());
        for bad in ["role", "=web", "role=", "ro le=web", "role=a=b"] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_in_names_sort_by_value() {
        let mut names = ["web-10", "web-2", "web-02", "db-1", "web", "web-2a"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["db-1", "web", "web-02", "web-2", "web-2a", "web-10"]);
    }

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["web-1", "web-2", "db-1", "cache"];
        assert_eq!(nearest("wbe-1", known.into_iter()), ["web-1"]);
        assert_eq!(nearest("web", known.into_iter()), ["web-1", "web-2"]);
        assert!(nearest("zzzzz", known.into_iter()).is_empty());
    }

    proptest! {
        #[test]
        fn natural_order_is_total(a in "[a-c0-2]{0,6}", b in "[a-c0-2]{0,6}", c in "[a-c0-2]{0,6}") {
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            prop_assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
            if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
                prop_assert!(natural_order(&a, &c).is_le());
            }
        }
    }
}
