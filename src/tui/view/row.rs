//! The parts of a row of a job: its sign, its agents, its state, and the title of its preview.

use super::paint::{Piece, piece};
use crate::{
    domain::{name::AgentName, outcome::Outcome, sign::Sign, target::fold::fold, time::short_age},
    tui::{
        model::{
            Model,
            job::JobScreen,
            rows::{Need, Row, divergence_text},
        },
        theme::Tone,
    },
};

/// Returns the sign of a row.
pub(super) fn row_sign(row: &Row) -> Sign {
    match (&row.outcome, row.need) {
        (Some(outcome), _) => outcome.sign(),
        (None, Need::NoContact) => Sign::NO_CONTACT,
        (None, _) => Sign::RUNNING,
    }
}

/// Returns the names of a row's agents as a folded expression.
pub(super) fn names(open: &JobScreen, row: &Row) -> String {
    fold(row.tasks.iter().filter_map(|task| open.agent(*task)).map(AgentName::as_str))
}

/// Returns the state of a row, with its running time.
pub(super) fn state(model: &Model, row: &Row) -> String {
    match row.since_ms {
        Some(since) => format!("{} {}", row.state, short_age(model.now.unix_ms.since(since))),
        None => row.state.clone(),
    }
}

/// Returns the title of the preview.
pub(super) fn preview_title(model: &Model, open: &JobScreen, row: &Row) -> Vec<Piece> {
    let mut title = vec![piece(names(open, row), Tone::Strong)];
    let outcome = row.outcome.as_ref().map(Outcome::brief);
    match (outcome, row.parting) {
        _ if row.outputs > 1 => {
            title.push(piece(format!("  {} outputs; one of them:", row.outputs), Tone::Dim));
        }
        (_, Some(parting)) if row.lines > 1 => {
            let count = open.largest().map_or(0, |(_, count)| count);
            title.push(piece(format!("  {} ({count})", divergence_text(parting)), Tone::Waiting));
        }
        (Some(outcome), _) => title.push(piece(format!("  {outcome}"), Tone::Plain)),
        (None, _) => title.push(piece(format!("  {}", state(model, row)), Tone::Plain)),
    }
    if row.tasks.len() > 1 && row.outputs == 1 {
        let example = open.agent(row.example).map(ToString::to_string).unwrap_or_default();
        title.push(piece(format!("  shown: {example}"), Tone::Dim));
    }
    title
}
