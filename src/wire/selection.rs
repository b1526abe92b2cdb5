//! Converts selections of agents.

use super::{InvalidMessage, proto};
use crate::domain::target::selection::{Sample, Selection};

impl From<Selection> for proto::Selection {
    fn from(selection: Selection) -> Self {
        let text = |part: Option<String>| part.unwrap_or_default();
        Self {
            target: selection.target.to_string(),
            selector: text(selection.selector.map(|selector| selector.to_string())),
            exclude: text(selection.exclude.map(|exclude| exclude.to_string())),
            limit: text(selection.sample.map(|sample| sample.limit.to_string())),
            seed: selection.sample.map_or(0, |sample| sample.seed),
        }
    }
}

impl TryFrom<proto::Selection> for Selection {
    type Error = InvalidMessage;

    fn try_from(selection: proto::Selection) -> Result<Self, InvalidMessage> {
        fn part<T: std::str::FromStr>(text: &str) -> Result<Option<T>, InvalidMessage>
        where
            T::Err: std::fmt::Display,
        {
            (!text.is_empty()).then(|| text.parse()).transpose().map_err(InvalidMessage::because)
        }
        let limit = part(&selection.limit)?;
        Ok(Self {
            target: selection.target.parse().map_err(InvalidMessage::because)?,
            selector: part(&selection.selector)?,
            exclude: part(&selection.exclude)?,
            sample: limit.map(|limit| Sample { limit, seed: selection.seed }),
        })
    }
}
