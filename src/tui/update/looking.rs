//! Display options of the fleet and the open job: order, streams, folding and differences.

use crate::{
    domain::{name::AgentName, text::plural},
    tui::{
        model::{Model, difference::Comparison, fleet::SortBy},
        settings::ColorDepth,
    },
};

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
        open.assign_panes();
        let text = if open.rows.is_unfolded { "one pane for each agent" } else { "one pane for each group" };
        if open.shows_grid() {
            model.say(text);
        }
    }
}

/// Selects the next palette, until the program ends.
pub(super) fn next_theme(model: &mut Model) {
    model.settings.palette = model.settings.palette.next();
    let word = model.settings.palette.word();
    let few = matches!(model.settings.depth, ColorDepth::None | ColorDepth::Sixteen);
    let note = if few { "; this terminal reports too few colours for it" } else { "" };
    model.say(format!("theme {word}{note}; theme = \"{word}\" in [tui] of the settings keeps it"));
}

/// Lets the last failures of the picked agents, or of the one under the cursor, need no more attention.
pub(super) fn acknowledge(model: &mut Model) {
    let names: Vec<AgentName> = model.recipients().agents.into_iter().map(|(name, _)| name).collect();
    let count = model.fleet.acknowledge(&names);
    let failures = plural("failure", count);
    model.say(match count {
        0 => "there is no failure to acknowledge".to_owned(),
        count => format!("{count} {failures} acknowledged"),
    });
}

/// Shows the difference of the row under the cursor to the largest group. On another row, shows the difference of the two
/// rows; on one of them again, ends the comparison.
pub(super) fn difference(model: &mut Model) {
    let Some(open) = &mut model.open else { return };
    let Some(current) = open.rows.current().map(|row| row.example) else { return };
    match &mut open.comparison {
        None => open.comparison = Some(Comparison::of(current)),
        Some(known) if known.marked == Some(current) || known.second == Some(current) => {
            open.comparison = None;
        }
        Some(known) => known.second = Some(current),
    }
}

/// Compares the outputs again, if they have changed.
pub(super) fn compare(model: &mut Model) {
    let streams = model.look.streams;
    let Some(open) = &mut model.open else { return };
    let tasks = open.compared();
    let Some(comparison) = &mut open.comparison else { return };
    let windows =
        tasks.and_then(|(before, after)| Some((open.windows.get(&before)?, open.windows.get(&after)?)));
    match (tasks, windows) {
        (Some(tasks), Some((before, after))) => comparison.update(tasks, before, after, streams),
        _ => comparison.clear(),
    }
}
