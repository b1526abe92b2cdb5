//! How the fleet and the open job are looked at: order, streams, groups and differences.

use crate::tui::model::{Model, fleet::SortBy};

/// Sorts the fleet by the next column.
pub(super) fn sort(model: &mut Model) {
    let at = SortBy::ALL.iter().position(|sort| *sort == model.fleet.sort).unwrap_or(0);
    model.fleet.sort = SortBy::ALL[(at + 1) % SortBy::ALL.len()];
    model.fleet.is_stale = true;
}

/// Shows other streams of output.
pub(super) fn streams(model: &mut Model) {
    model.look.streams = model.look.streams.next();
    model.say(model.look.streams.word());
}

/// Shows a row for each task of the groups, or one for each group.
pub(super) fn unfold(model: &mut Model) {
    if let Some(open) = &mut model.open {
        open.rows.is_unfolded = !open.rows.is_unfolded;
        open.rows.update(&open.job, &open.groups, model.now.monotonic, model.now.unix_ms);
    }
}

/// Shows how outputs differ, or the outputs.
pub(super) fn difference(model: &mut Model) {
    if let Some(open) = &mut model.open {
        open.is_diff = !open.is_diff;
        open.preview_top = None;
    }
}
