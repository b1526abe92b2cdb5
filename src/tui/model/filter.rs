//! The filter of the fleet: words that all have to match. Independent of the screen.

use std::collections::BTreeSet;

use crate::domain::{
    agent::AgentView,
    name::AgentName,
    target::{Candidate, Target},
};

/// What a word of a filter means.
#[derive(Debug)]
enum Meaning {
    /// A target expression, or a label, state or link as `key:value`.
    Target(Box<Target>),
    /// A text that one of the columns contains, in lower case.
    Text(String),
}

/// A word of a filter.
#[derive(Debug)]
struct Word {
    /// Whether the rows that it does not match are shown.
    is_negated: bool,
    meaning: Meaning,
}

/// An agent, and whether this is a pending key under its name.
pub(super) type FilteredRow<'a> = (&'a AgentView, bool);

/// Returns for each row whether a filter matches it; `None` if it has no words.
///
/// Words are separated by spaces, and all of them have to match; `!` before a word excludes what it matches. A word that is a
/// target is one, and `state:late` and `role:web` are short for `@state:late` and `@role:web`. Any other word is searched for in the
/// text of all columns.
pub(super) fn matching(filter: &str, rows: &[FilteredRow<'_>]) -> Option<Vec<bool>> {
    let is_key = |key: &str| {
        ["state", "link"].contains(&key)
            || rows.iter().any(|(agent, _)| agent.labels.keys().any(|known| known.as_str() == key))
    };
    let words: Vec<Word> = filter.split_whitespace().filter_map(|word| read(word, is_key)).collect();
    if words.is_empty() {
        return None;
    }
    let mut matches = vec![true; rows.len()];
    for word in words {
        match word.meaning {
            Meaning::Text(text) => {
                for ((agent, _), matches) in rows.iter().zip(&mut matches) {
                    *matches = *matches && contains(agent, &text) != word.is_negated;
                }
            }
            Meaning::Target(target) => {
                // A pending key may have the name of an agent, but it has a state and labels of its own.
                let names = |pending: bool| -> BTreeSet<AgentName> {
                    let of = rows.iter().filter(|(_, is_pending)| *is_pending == pending);
                    let candidates: Vec<Candidate<'_>> =
                        of.map(|(agent, _)| Candidate::from(*agent)).collect();
                    target.evaluate(&candidates).agents.into_iter().collect()
                };
                let (known, pending) = (names(false), names(true));
                for ((agent, is_pending), matches) in rows.iter().zip(&mut matches) {
                    let names = if *is_pending { &pending } else { &known };
                    *matches = *matches && names.contains(&agent.name) != word.is_negated;
                }
            }
        }
    }
    Some(matches)
}

/// Reads a word. A `!` alone is being typed and excludes nothing.
fn read(word: &str, is_key: impl Fn(&str) -> bool) -> Option<Word> {
    let (word, is_negated) = word.strip_prefix('!').map_or((word, false), |rest| (rest, true));
    if word.is_empty() {
        return None;
    }
    let expression = match word.split_once(':') {
        Some((key, value)) if !word.contains('@') && is_key(key) && !value.is_empty() => {
            Some(format!("@{word}"))
        }
        _ if word.contains(['@', '*', '[', '!', '&', '^', ',']) => Some(word.to_owned()),
        _ => None,
    };
    let meaning = match expression.and_then(|text| text.parse::<Target>().ok()) {
        Some(target) => Meaning::Target(Box::new(target)),
        None => Meaning::Text(word.to_lowercase()),
    };
    Some(Word { is_negated, meaning })
}

/// Reports whether a column of an agent contains a text.
fn contains(agent: &AgentView, text: &str) -> bool {
    let has = |field: &str| field.to_lowercase().contains(text);
    has(agent.name.as_str())
        || has(agent.state.word())
        || has(agent.link_word())
        || has(&agent.address)
        || agent.direct_address.as_ref().is_some_and(|address| has(&address.to_string()))
        || has(agent.version.as_str())
        || agent.facts.as_ref().is_some_and(|facts| has(&facts.os))
        || agent.labels.iter().any(|(key, value)| has(&format!("{}={}", key.as_str(), value.as_str())))
        || agent
            .last_job
            .as_ref()
            .and_then(|last| last.state.outcome())
            .is_some_and(|outcome| has(&outcome.brief()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::agent::AgentState, tui::tests::agent};

    #[test]
    fn words_all_have_to_match_and_may_exclude() {
        let agents: Vec<AgentView> = [
            ("web-1", AgentState::Active, "10.0.0.7:40512"),
            ("web-2", AgentState::Late, "10.0.0.8:40513"),
            ("db-1", AgentState::Late, "10.0.0.9:40514"),
            ("web-1", AgentState::Pending, "10.0.0.9:40515"),
        ]
        .map(|(name, state, address)| AgentView { state, address: address.to_owned(), ..agent(name) })
        .into();
        let rows: Vec<FilteredRow<'_>> =
            agents.iter().map(|agent| (agent, agent.state == AgentState::Pending)).collect();
        let shown = |filter: &str| {
            let found = matching(filter, &rows)?;
            let shown =
                rows.iter().zip(found).filter(|(_, matches)| *matches).map(|((agent, is_pending), _)| {
                    format!("{}{}", agent.name, if *is_pending { " (pending)" } else { "" })
                });
            Some(shown.collect::<Vec<_>>().join(","))
        };
        for (filter, expected) in [
            ("", None),
            ("  ! ", None),
            ("web-", Some("web-1,web-2,web-1 (pending)")),
            ("web- state:late", Some("web-2")),
            ("web- !state:late", Some("web-1,web-1 (pending)")),
            ("state:pending", Some("web-1 (pending)")),
            ("state:active", Some("web-1")),
            ("10.0.0.8:40513", Some("web-2")),
            ("role:web !web-", Some("db-1")),
            ("@state:late!db-1", Some("web-2")),
            ("web-[1-2] late", Some("web-2")),
            ("nothing", Some("")),
        ] {
            assert_eq!(shown(filter).as_deref(), expected, "{filter:?}");
        }
    }
}
