//! Selections of agents.

use super::InvalidPlan;
use crate::{
    domain::target::{
        InvalidTarget,
        selection::{Sample, Selection},
        selector::InvalidSelector,
    },
    wire::proto,
};

/// The error for a selection that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelection {
    /// The target is missing.
    #[error("a target is missing")]
    Missing,
    /// The target, or the expression of the agents to exclude, is not valid.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The label selector is not valid.
    #[error(transparent)]
    Selector(#[from] InvalidSelector),
    /// The size of the sample is not valid.
    #[error("the sample: {0}")]
    Sample(#[from] InvalidPlan),
}

impl From<Selection> for proto::Selection {
    fn from(selection: Selection) -> Self {
        Self {
            target: selection.target.to_string(),
            selector: selection.selector.map(|selector| selector.to_string()),
            exclude: selection.exclude.map(|exclude| exclude.to_string()),
            sample: selection
                .sample
                .map(|sample| proto::Sample { limit: Some(sample.limit.into()), seed: sample.seed }),
        }
    }
}

impl TryFrom<proto::Selection> for Selection {
    type Error = InvalidSelection;

    fn try_from(selection: proto::Selection) -> Result<Self, InvalidSelection> {
        let sample = |sample: proto::Sample| -> Result<Sample, InvalidSelection> {
            Ok(Sample { limit: sample.limit.ok_or(InvalidPlan::Share)?.try_into()?, seed: sample.seed })
        };
        Ok(Self {
            target: selection.target.parse()?,
            selector: selection.selector.map(|text| text.parse()).transpose()?,
            exclude: selection.exclude.map(|text| text.parse()).transpose()?,
            sample: selection.sample.map(sample).transpose()?,
        })
    }
}

pub(super) fn selection_in(selection: Option<proto::Selection>) -> Result<Selection, InvalidSelection> {
    selection.ok_or(InvalidSelection::Missing)?.try_into()
}
