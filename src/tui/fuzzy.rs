//! Fuzzy search with the best matches first. Works for items of any type.

use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{CaseMatching, Normalization, Pattern},
};

/// The maximum number of results.
const MAX_RESULTS: usize = 200;

/// Returns the items whose names match, best first. Without letters it returns the first items in their own
/// order.
#[must_use]
pub(crate) fn best<T>(letters: &str, named: Vec<(String, T)>) -> Vec<T> {
    if letters.is_empty() {
        return named.into_iter().take(MAX_RESULTS).map(|(_, thing)| thing).collect();
    }
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(letters, CaseMatching::Smart, Normalization::Smart);
    let mut buffer = Vec::new();
    let mut scored: Vec<(u32, usize, T)> = named
        .into_iter()
        .enumerate()
        .filter_map(|(place, (name, thing))| {
            let score = pattern.score(Utf32Str::new(&name, &mut buffer), &mut matcher)?;
            Some((score, place, thing))
        })
        .collect();
    scored.sort_by_key(|(score, place, _)| (std::cmp::Reverse(*score), *place));
    scored.into_iter().take(MAX_RESULTS).map(|(.., thing)| thing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_match_comes_first() {
        let named = ["cancel the job", "quit", "copy"].map(|name| (name.to_owned(), name)).to_vec();
        assert_eq!(best("q", named.clone()), ["quit"]);
        assert_eq!(best("", named.clone()).len(), 3);
        assert_eq!(best("cop", named), ["copy"]);
    }
}
