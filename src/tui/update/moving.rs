//! Cursors, with keys and mouse.

use super::{
    super::{
        keymap::Action,
        model::{
            Focus, Model, Overlay,
            job::{Output, View},
        },
        msg::Cmd,
    },
    focusing, picking, scrolling,
};
use crate::domain::offset::OutputOffset;

/// The number of columns of a step to the left or right.
const HORIZONTAL_STEP: usize = 16;
/// The maximum horizontal scroll position. Lines are split into pieces that are not much longer.
const MAX_HORIZONTAL_SCROLL: usize = 64 * 1024;
/// The number of lines that one turn of the wheel scrolls.
const LINES_PER_WHEEL_STEP: isize = 3;

/// Returns how many rows an action moves; `isize::MIN` and `isize::MAX` for the ends.
fn distance(action: Action, page: usize) -> isize {
    let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
    match action {
        Action::Down => 1,
        Action::Up => -1,
        Action::HalfDown => (page / 2).max(1),
        Action::HalfUp => -(page / 2).max(1),
        Action::PageDown => page,
        Action::PageUp => -page,
        Action::First => isize::MIN,
        Action::Last => isize::MAX,
        _ => 0,
    }
}

/// Moves the cursor or scrolls in the topmost layer or the focused pane.
pub(super) fn go(model: &mut Model, action: Action, cmds: &mut Vec<Cmd>) {
    let (page, shown) = (model.layout.overlay.rows(), model.layout.overlay_top);
    let count = match model.overlays.last() {
        Some(Overlay::History { filter, .. }) => model.history_rows(filter).len(),
        _ => 0,
    };
    if let Some(overlay) = model.overlays.last_mut() {
        let by = distance(action, page);
        match overlay {
            // From what was on the screen: the end is only known there.
            Overlay::Help(top) | Overlay::Details { top, .. } | Overlay::Notice { top, .. } => {
                *top = shown.saturating_add_signed(by);
            }
            Overlay::History { cursor, .. } => {
                *cursor = cursor.saturating_add_signed(by).min(count.saturating_sub(1));
            }
            Overlay::Prompt(_) | Overlay::Question(_) => {}
        }
        return;
    }
    match model.focus {
        Focus::Fleet => model.fleet.move_cursor(distance(action, model.layout.fleet.rows())),
        Focus::Job => go_in_job(model, action, cmds),
        Focus::Command => {}
    }
}

fn go_in_job(model: &mut Model, action: Action, cmds: &mut Vec<Cmd>) {
    let page = model.layout.job.rows();
    let columns = model.layout.pane_columns.max(1);
    let panes_shown = model.layout.panes.len().max(1);
    let Some(open) = &mut model.open else { return };
    let by = distance(action, page);
    if !open.shows_grid() && matches!(action, Action::Left | Action::Right) {
        let left = if action == Action::Left {
            open.left.saturating_sub(HORIZONTAL_STEP)
        } else {
            open.left + HORIZONTAL_STEP
        };
        open.left = left.min(MAX_HORIZONTAL_SCROLL);
        return;
    }
    if open.output.is_some() {
        return scrolling::output(model, by, cmds);
    }
    match open.view {
        View::Groups => match action {
            Action::PageDown | Action::PageUp => scrolling::job(model, action == Action::PageDown, cmds),
            _ => {
                open.rows.move_cursor(by);
                open.preview_top = None;
            }
        },
        View::Grid => {
            let columns = isize::try_from(columns).unwrap_or(1);
            let by = match action {
                Action::Left => -1,
                Action::Right => 1,
                Action::Down | Action::Up => by * columns,
                Action::First | Action::Last => by,
                _ => by.signum() * isize::try_from(panes_shown).unwrap_or(1),
            };
            let last = open.places.len().saturating_sub(1);
            open.pane = open.pane.saturating_add_signed(by).min(last);
            open.has_moved = true;
            if let Some(task) = open.places.get(open.pane) {
                open.rows.move_to_task(*task);
            }
        }
        View::Stream => scrolling::stream(&mut open.stream, by),
    }
}

/// Moves to the next or previous row or agent that needs attention.
pub(super) fn attention(model: &mut Model, forwards: bool) {
    if model.focus == Focus::Fleet {
        if !model.fleet.move_to_attention(forwards) {
            model.say("no shown agent needs attention");
        }
        return;
    }
    let Some(open) = &mut model.open else { return };
    open.preview_top = None;
    if !open.rows.move_to_attention(forwards) {
        return model.say("no row of this job needs attention");
    }
    let task = open.rows.current().map(|row| row.example);
    if let Some(place) = task.and_then(|task| open.places.iter().position(|place| *place == task)) {
        open.pane = place;
        open.has_moved = true;
    }
    if let (Some(output), Some(task)) = (&open.output, task)
        && output.task != task
    {
        let end = open.job.task(task).map_or(OutputOffset::START, |task| task.end_offset);
        open.output = Some(Output::new(task, super::loading::tail_offset(end)));
    }
}

/// Handles a click: selects a row, picks the selected agent, or moves the focus.
pub(super) fn click(model: &mut Model, x: u16, y: u16) {
    if !model.overlays.is_empty() {
        return;
    }
    let layout = model.layout.clone();
    if layout.fleet.has(x, y) {
        focusing::focus(model, Focus::Fleet);
        let place = model.fleet.top + usize::from(y - layout.fleet.y);
        if let Some(row) = model.fleet.shown().get(place).cloned() {
            if model.fleet.cursor.as_ref() == Some(&row) {
                picking::pick(model);
                model.fleet.cursor = Some(row);
            } else {
                model.fleet.cursor = Some(row);
            }
        }
    } else if let Some((task, _)) = layout.panes.iter().find(|(_, area)| area.has(x, y)) {
        focusing::focus(model, Focus::Job);
        if let Some(open) = &mut model.open {
            open.rows.move_to_task(*task);
            open.pane = open.places.iter().position(|place| place == task).unwrap_or(open.pane);
            open.has_moved = true;
        }
    } else if layout.job.has(x, y) {
        focusing::focus(model, Focus::Job);
        if let Some(open) = &mut model.open
            && open.output.is_none()
            && open.view == View::Groups
        {
            open.rows.move_to(open.rows.top + usize::from(y - layout.job.y));
        }
    } else if layout.command.has(x, y) && !model.settings.read_only {
        focusing::enter_command(model);
    }
}

/// Scrolls the pane under the mouse.
pub(super) fn wheel(model: &mut Model, x: u16, y: u16, up: bool, cmds: &mut Vec<Cmd>) {
    let by = if up { -LINES_PER_WHEEL_STEP } else { LINES_PER_WHEEL_STEP };
    let action = if up { Action::Up } else { Action::Down };
    if !model.overlays.is_empty() {
        return go(model, action, cmds);
    }
    if model.layout.fleet.has(x, y) {
        model.fleet.move_cursor(by);
        return;
    }
    let Some(open) = &mut model.open else { return };
    if open.output.is_some() {
        scrolling::output(model, by, cmds);
    } else if open.view == View::Stream {
        scrolling::stream(&mut open.stream, by);
    } else if model.layout.preview.has(x, y) {
        scrolling::preview(model, by);
    } else {
        open.rows.move_cursor(by.signum());
    }
}
