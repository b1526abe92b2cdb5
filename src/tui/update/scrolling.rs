//! Scrolling of outputs: by rows of the screen, from what was on the screen last.

use super::super::{
    model::{
        Model,
        job::{StreamLines, View},
    },
    msg::Cmd,
    output::{
        rows::{Position, Rows},
        window::Window,
    },
};
use crate::{
    domain::offset::OutputOffset,
    tui::{model::Area, output::look::DisplayOptions},
};

/// The number of bytes of earlier output that are read at once.
pub(super) const EARLIER_OUTPUT_BYTES: u64 = 64 * 1024;
/// The number of lines above the screen below which earlier output is read.
const MIN_LINES_ABOVE: usize = 20;

/// Returns the rows of a window in an area of the screen.
pub(super) fn rows(window: &Window, look: DisplayOptions, area: Area) -> Rows<'_> {
    Rows { window, look, columns: usize::from(area.width), page: area.rows() }
}

/// Scrolls the output in full view.
pub(super) fn output(model: &mut Model, by: isize, cmds: &mut Vec<Cmd>) {
    let (look, area) = (model.look, model.layout.job);
    let Some(output) = model.open.as_mut().and_then(|open| open.output.as_mut()) else { return };
    let rows = rows(&output.window, look, area);
    let from = if output.follows { Position::END } else { output.top };
    output.top = rows.moved(from, by);
    // At the end, following starts again only on request: `f` or `G`.
    output.follows = by == isize::MAX || (output.follows && by >= 0);
    read_earlier(model, cmds);
}

/// Requests the output before the window when the beginning of the window is near the screen.
pub(super) fn read_earlier(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let is_up = model.is_up();
    let Some(open) = &mut model.open else { return };
    let job = open.job.id;
    let Some(output) = &mut open.output else { return };
    let from = output.window.from();
    let is_near = !output.follows && output.top.line < MIN_LINES_ABOVE;
    if !is_near || from == OutputOffset::START || output.is_loading || !is_up {
        return;
    }
    let task = output.task;
    let Some(agent) = open.job.task(task).map(|task| task.agent.clone()) else { return };
    output.is_loading = true;
    cmds.push(Cmd::ReadEarlier { job, task, agent, from: from - EARLIER_OUTPUT_BYTES, until: from });
}

/// Scrolls the stream.
pub(super) fn stream(stream: &mut StreamLines, by: isize) {
    let last = stream.lines.len().saturating_sub(1);
    stream.above = stream.above.saturating_add_signed(by.saturating_neg()).min(last);
}

/// Scrolls the output or the difference below the rows.
pub(super) fn preview(model: &mut Model, by: isize) {
    let (look, area, shown) = (model.look, model.layout.preview, model.layout.preview_top);
    let Some(open) = &mut model.open else { return };
    if let Some(comparison) = &mut open.comparison {
        let last = comparison.lines.len().saturating_sub(area.rows());
        comparison.top = comparison.top.saturating_add_signed(by).min(last);
        return;
    }
    let Some(window) = open.rows.current().and_then(|row| open.windows.get(&row.example)) else { return };
    let rows = rows(window, look, area);
    let top = rows.moved(open.preview_top.unwrap_or(shown), by);
    // At the end, new output moves it on.
    open.preview_top = (by < 0 || top < rows.last_top()).then_some(top);
}

/// Scrolls the output, stream, preview or grid of the job by a page.
pub(super) fn job(model: &mut Model, down: bool, cmds: &mut Vec<Cmd>) {
    let panes = isize::try_from(model.layout.panes.len().max(1)).unwrap_or(1);
    let step = |rows: usize| {
        let rows = isize::try_from(rows.saturating_sub(1).max(1)).unwrap_or(1);
        if down { rows } else { -rows }
    };
    let (page, preview_page) = (model.layout.job.rows(), model.layout.preview.rows());
    let Some(open) = &mut model.open else { return };
    if open.output.is_some() {
        return output(model, step(page), cmds);
    }
    match open.view {
        View::Stream => stream(&mut open.stream, step(page)),
        View::Groups => preview(model, step(preview_page)),
        View::Grid => {
            let last = open.places.len().saturating_sub(1);
            open.pane = open.pane.saturating_add_signed(if down { panes } else { -panes }).min(last);
            open.has_moved = true;
        }
    }
}

/// Toggles whether the view follows the end.
pub(super) fn follow(model: &mut Model) {
    let (look, area) = (model.look, model.layout.job);
    let Some(open) = &mut model.open else { return };
    if let Some(output) = &mut open.output {
        output.follows = !output.follows;
        output.top = rows(&output.window, look, area).last_top();
    } else {
        open.stream.above = 0;
    }
}
