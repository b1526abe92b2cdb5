//! Labels and changes of labels.

use crate::{
    domain::name::{InvalidLabel, Label, LabelChange, LabelWord, Labels, MAX_LABELS},
    wire::{
        bounds::{OutOfBounds, list_of},
        proto,
    },
};

/// The error for labels, or changes of labels, that are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabels {
    /// The key or the value of a label is not valid.
    #[error(transparent)]
    Word(#[from] InvalidLabel),
    /// The message contains too many changes of labels.
    #[error(transparent)]
    TooMany(#[from] OutOfBounds),
}

pub(super) fn labels_out(labels: Labels) -> Vec<proto::Label> {
    let label = |(key, value): (LabelWord, LabelWord)| proto::Label { key: key.into(), value: value.into() };
    labels.into_iter().map(label).collect()
}

/// Returns the valid labels of an agent: the first [`MAX_LABELS`] in order of their keys. Invalid labels are
/// dropped, because no target can name them.
pub(super) fn labels_in(labels: Vec<proto::Label>) -> Labels {
    let word = |text: String| LabelWord::try_from(text).ok();
    let label = |label: proto::Label| Some((word(label.key)?, word(label.value)?));
    let mut labels: Labels = labels.into_iter().filter_map(label).collect();
    while labels.len() > MAX_LABELS {
        labels.pop_last();
    }
    labels
}

impl From<LabelChange> for proto::LabelChange {
    fn from(change: LabelChange) -> Self {
        match change {
            LabelChange::Set(label) => Self { key: label.key.into(), value: Some(label.value.into()) },
            LabelChange::Remove(key) => Self { key: key.into(), value: None },
        }
    }
}

impl TryFrom<proto::LabelChange> for LabelChange {
    type Error = InvalidLabel;

    fn try_from(change: proto::LabelChange) -> Result<Self, InvalidLabel> {
        let key = LabelWord::try_from(change.key)?;
        Ok(match change.value {
            Some(value) => Self::Set(Label { key, value: value.try_into()? }),
            None => Self::Remove(key),
        })
    }
}

pub(super) fn changes_in(changes: Vec<proto::LabelChange>) -> Result<Vec<LabelChange>, InvalidLabels> {
    let changes = list_of(changes, 2 * MAX_LABELS, "changes of labels")?;
    Ok(changes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
}
