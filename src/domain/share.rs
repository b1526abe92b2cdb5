//! A number or a percentage, as people write it: `5` or `10%`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number, or a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Share {
    /// A number.
    Count(u32),
    /// A percentage, 0 to 100.
    Percent(u32),
}

/// The error for text that is neither a number nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a number nor a percentage: write 5 or 10%")]
pub struct InvalidShare(String);

impl Share {
    /// Returns the number of items out of `total`. Percentages are rounded up, so that more than 0% of
    /// something is never zero.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).min(total),
            Self::Percent(percent) => (total * percent as usize).div_ceil(100).min(total),
        }
    }
}

impl FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let invalid = || InvalidShare(text.to_owned());
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: u32 = percent.parse().map_err(|_| invalid())?;
                if percent > 100 { Err(invalid()) } else { Ok(Self::Percent(percent)) }
            }
            None => text.parse().map(Self::Count).map_err(|_| invalid()),
        }
    }
}

impl TryFrom<String> for Share {
    type Error = InvalidShare;

    fn try_from(text: String) -> Result<Self, InvalidShare> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up_and_never_more_than_there_is() {
        for (text, total, expected) in [
            ("10%", 14, 2),
            ("0%", 14, 0),
            ("1%", 3, 1),
            ("100%", 7, 7),
            ("5", 14, 5),
            ("50", 14, 14),
            ("0", 3, 0),
        ] {
            assert_eq!(text.parse::<Share>().unwrap().of(total), expected, "{text} of {total}");
        }
        for bad in ["", "%", "101%", "-1", "1.5", "ten"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
