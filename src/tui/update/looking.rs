//! Display options of the fleet and the open job: order, streams, folding and differences.

use crate::tui::model::{Model, fleet::SortBy};

/// Sorts the fleet by the next column.
pub(super) fn sort(model: &mut Model) {
    let at = SortBy::ALL.iter().position(|sort| *sort == model.fleet.sort).unwrap_or(0);
    model.fleet.sort = SortBy::ALL[(at + 1) % SortBy::ALL.len()];
    model.fleet.is_stale = true;
}

/// Selects the next setting of the shown output streams.
pub(super) fn streams(model: &mut Model) {
    model.look.streams = model.look.streams.next();
    model.say(model.look.streams.word());
}

/// Folds or unfolds the rows of the open job.
pub(super) fn unfold(model: &mut Model) {
    if let Some(open) = &mut model.open {
        open.rows.is_unfolded = !open.rows.is_unfolded;
        open.rows.update(&open.job, &open.groups, model.now.monotonic, model.now.unix_ms);
    }
}

/// Switches between the difference and the output in the preview.
pub(super) fn difference(model: &mut Model) {
    if let Some(open) = &mut model.open {
        open.is_diff = !open.is_diff;
        open.preview_top = None;
    }
}
