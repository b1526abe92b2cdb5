//! Masks: kinds of text that are ignored when output is compared. Masks are off by default, and the interface
//! always shows which ones are on.

use std::{borrow::Cow, fmt, str::FromStr, sync::LazyLock};

use regex::bytes::{NoExpand, Regex};
use serde::{Deserialize, Serialize};

/// The masks that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Masks {
    /// Whether the agent's own names and addresses are ignored.
    pub names: bool,
    /// Whether dates, times of day and durations are ignored.
    pub times: bool,
    /// Whether digits are ignored.
    pub numbers: bool,
}

/// The error for text that does not name masks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mask {0:?}: use names, times, numbers, or several separated by commas")]
pub struct InvalidMask(String);

impl Masks {
    /// Reports whether any mask is on.
    #[must_use]
    pub fn any(self) -> bool {
        self.names || self.times || self.numbers
    }
}

impl FromStr for Masks {
    type Err = InvalidMask;

    fn from_str(text: &str) -> Result<Self, InvalidMask> {
        let mut masks = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.trim() {
                "names" => masks.names = true,
                "times" => masks.times = true,
                "numbers" => masks.numbers = true,
                other => return Err(InvalidMask(other.to_owned())),
            }
        }
        Ok(masks)
    }
}

impl TryFrom<String> for Masks {
    type Error = InvalidMask;

    fn try_from(text: String) -> Result<Self, InvalidMask> {
        text.parse()
    }
}

impl From<Masks> for String {
    fn from(masks: Masks) -> Self {
        masks.to_string()
    }
}

impl fmt::Display for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.names, "names"), (self.times, "times"), (self.numbers, "numbers")];
        let on: Vec<&str> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        f.write_str(&on.join(","))
    }
}

/// One alternation for each mask, longest forms first. ASCII only, because programs write these texts.
static TIMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?x-u)
        \b\d{4}-\d{2}-\d{2}(?:[T\ ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?:Z|\ ?[+-]\d{2}:?\d{2})?\b
        | \b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\ +(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\ +\d{1,2}\b
        | \b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\ +\d{1,2}\b
        | \b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\b
        | \b\d+(?:[.,]\d+)?\ ?(?:ns|us|ms|s|sec|secs|seconds?|min|mins|minutes?|h|hours?|d|days?|weeks?)\b",
    )
    .ok()
});
static NUMBERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?-u)\d+(?:[.,]\d+)*").ok());

/// The masks for one agent's lines.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    masks: Masks,
    own: Option<Regex>,
}

impl Masker {
    /// Creates the masker of an agent with these names and addresses.
    #[must_use]
    pub fn new<'a>(masks: Masks, own: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = own.into_iter().filter(|name| !name.is_empty()).collect();
        // The longest name first: otherwise `web-1` would match in `web-1.example.org` and leave
        // `.example.org`.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let pattern = names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|");
        let own = (masks.names && !names.is_empty())
            .then(|| Regex::new(&format!(r"(?i-u)\b(?:{pattern})\b")).ok())
            .flatten();
        Self { masks, own }
    }

    /// Replaces the masked parts of a line by placeholders.
    #[must_use]
    pub fn apply<'a>(&self, line: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        let line = replace(self.own.as_ref(), line, b"<name>");
        let times = TIMES.as_ref().filter(|_| self.masks.times);
        let line = replace(times, line, b"<time>");
        let numbers = NUMBERS.as_ref().filter(|_| self.masks.numbers);
        replace(numbers, line, b"<n>")
    }
}

fn replace<'a>(pattern: Option<&Regex>, line: Cow<'a, [u8]>, by: &[u8]) -> Cow<'a, [u8]> {
    let Some(pattern) = pattern else { return line };
    match pattern.replace_all(&line, NoExpand(by)) {
        Cow::Borrowed(_) => line,
        Cow::Owned(masked) => Cow::Owned(masked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(masks: &str, line: &str) -> String {
        let masker = Masker::new(masks.parse().unwrap(), ["web-1", "10.0.0.7", "web-1.example.org"]);
        String::from_utf8_lossy(&masker.apply(Cow::Borrowed(line.as_bytes()))).into_owned()
    }

    #[test]
    fn each_mask_hides_its_own_kind_only() {
        for (masks, line, shown) in [
            ("", "web-1 at 12:30", "web-1 at 12:30"),
            (
                "names",
                "web-1 web-10 web-1.example.org 10.0.0.7 10.0.0.70",
                "<name> web-10 <name> <name> 10.0.0.70",
            ),
            (
                "times",
                "2026-11-23T21:00:35Z up 3 days, 2:04, load 0.10",
                "<time> up <time>, <time>, load 0.10",
            ),
            ("times", "Mon Nov 23 21:00:35 took 1.5s on web-1", "<time> <time> took <time> on web-1"),
            ("numbers", "kernel 5.15.0-91, 12 users", "kernel <n>-<n>, <n> users"),
            ("names,numbers", "web-1 has 3", "<name> has <n>"),
        ] {
            assert_eq!(masked(masks, line), shown, "{masks}");
        }
        assert!("words".parse::<Masks>().is_err());
        assert_eq!("numbers,names".parse::<Masks>().unwrap().to_string(), "names,numbers");
    }
}
