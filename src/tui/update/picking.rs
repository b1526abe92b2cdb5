//! Picks agents in the fleet and from the rows of a job.

use super::super::model::{Focus, Model, fleet::RowKey};
use crate::domain::{name::AgentName, text::plural};

/// Toggles the picks under the cursor. In the fleet, also moves the cursor down.
pub(super) fn pick(model: &mut Model) {
    let now_ms = model.now.unix_ms;
    if model.focus == Focus::Job {
        let Some(open) = &model.open else { return };
        let names: Vec<AgentName> =
            open.current_tasks().iter().filter_map(|task| open.agent(*task).cloned()).collect();
        let row = |name: &AgentName| RowKey { name: name.clone(), waiting: None };
        let all_picked = names.iter().all(|name| model.fleet.is_picked(&row(name)));
        for name in &names {
            model.fleet.pick(&row(name), !all_picked, now_ms);
        }
        let known = names.iter().filter(|name| model.fleet.agent(name).is_some()).count();
        let verb = if all_picked { "unpicked" } else { "picked" };
        return model.say(format!("{known} {} {verb}", plural("agent", known)));
    }
    let Some(row) = model.fleet.cursor.clone() else { return };
    if row.waiting.is_some() {
        return model.complain("a pending key cannot be picked; Enter shows it");
    }
    let is_picked = model.fleet.is_picked(&row);
    model.fleet.pick(&row, !is_picked, now_ms);
    model.fleet.move_cursor(1);
}

/// Begins a range of picks, or ends it at the cursor.
pub(super) fn range(model: &mut Model) {
    let Some(from) = model.fleet.range_from.take() else {
        model.fleet.range_from.clone_from(&model.fleet.cursor);
        return model.say("V again picks all rows from here to the cursor");
    };
    let shown = model.fleet.shown();
    let begin = shown.iter().position(|row| *row == from);
    let (Some(begin), Some(end)) = (begin, model.fleet.cursor_place()) else { return };
    let rows = shown[begin.min(end)..=begin.max(end)].to_vec();
    let now_ms = model.now.unix_ms;
    for row in rows {
        model.fleet.pick(&row, true, now_ms);
    }
}

/// Picks and unpicks rows, as it was asked about.
pub(super) fn set(model: &mut Model, picks: Vec<(RowKey, bool)>) {
    let now_ms = model.now.unix_ms;
    for (row, is_picked) in picks {
        model.fleet.pick(&row, is_picked, now_ms);
    }
}

/// Removes all picks, or restores them if there are none.
pub(super) fn unpick(model: &mut Model) {
    if model.fleet.picks.agents.is_empty() {
        if let Some(picks) = model.fleet.unpicked.take() {
            model.fleet.picks = picks;
        }
    } else {
        model.fleet.unpicked = Some(std::mem::take(&mut model.fleet.picks));
    }
}
