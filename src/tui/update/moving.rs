//! Cursors, scrolling and searching, with keys and mouse.

use super::{
    super::{
        keymap::Action,
        model::{
            Focus, Model, Overlay,
            job::{Output, StreamLines, Streams, View},
        },
        msg::Cmd,
    },
    focusing, picking,
};
use crate::domain::offset::OutputOffset;

/// The number of bytes of earlier output that are read at once.
const EARLIER_OUTPUT_BYTES: u64 = 64 * 1024;
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
    let page = model.layout.overlay.rows();
    let count = match model.overlays.last() {
        Some(Overlay::History { filter, .. }) => model.history_rows(filter).len(),
        _ => 0,
    };
    if let Some(overlay) = model.overlays.last_mut() {
        let by = distance(action, page);
        match overlay {
            Overlay::Help(top) | Overlay::Details { top, .. } => *top = top.saturating_add_signed(by),
            Overlay::History { cursor, .. } => {
                *cursor = cursor.saturating_add_signed(by).min(count.saturating_sub(1));
            }
            Overlay::Prompt(_) | Overlay::Question(_) | Overlay::Notice { .. } => {}
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
    if let Some(output) = &mut open.output {
        scroll_output(output, by, page);
        return read_earlier(model, cmds);
    }
    match open.view {
        View::Groups => match action {
            Action::PageDown | Action::PageUp => scroll_job(model, action == Action::PageDown, cmds),
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
            if let Some(task) = open.places.get(open.pane) {
                open.rows.move_to_task(*task);
            }
        }
        View::Stream => scroll_stream(&mut open.stream.above, open.stream.lines.len(), by),
    }
}

fn scroll_stream(above: &mut usize, lines: usize, by: isize) {
    *above = above.saturating_add_signed(by.saturating_neg()).min(lines.saturating_sub(1));
}

fn scroll_output(output: &mut Output, by: isize, page: usize) {
    let last = output.window.len().saturating_sub(page);
    let from = if output.follows { last } else { output.top };
    output.top = from.saturating_add_signed(by).min(last);
    // At the end, following starts again only on request: `f` or `G`.
    output.follows = by == isize::MAX || (output.follows && by >= 0);
}

/// Requests the output before the window when the beginning of the window is near the screen.
fn read_earlier(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let is_up = model.is_up();
    let Some(open) = &mut model.open else { return };
    let job = open.job.id;
    let Some(output) = &mut open.output else { return };
    let from = output.window.from();
    let is_near = !output.follows && output.top < 20;
    if !is_near || from == OutputOffset::START || output.is_loading || !is_up {
        return;
    }
    let task = output.task;
    let Some(agent) = open.job.task(task).map(|task| task.agent.clone()) else { return };
    output.is_loading = true;
    cmds.push(Cmd::ReadEarlier { job, task, agent, from: from - EARLIER_OUTPUT_BYTES, until: from });
}

/// Scrolls the output, stream, preview or grid of the job, whichever pane has the focus.
pub(super) fn scroll_job(model: &mut Model, down: bool, cmds: &mut Vec<Cmd>) {
    let page = model.layout.job.rows();
    let preview = model.layout.preview.rows();
    let Some(open) = &mut model.open else { return };
    let step = |rows: usize| {
        let rows = isize::try_from(rows.saturating_sub(1).max(1)).unwrap_or(1);
        if down { rows } else { -rows }
    };
    if let Some(output) = &mut open.output {
        scroll_output(output, step(page), page);
        return read_earlier(model, cmds);
    }
    match open.view {
        View::Stream => scroll_stream(&mut open.stream.above, open.stream.lines.len(), step(page)),
        View::Groups => {
            let lines = open.rows.current().and_then(|row| open.windows.get(&row.example));
            let last = lines.map_or(0, |window| window.len().saturating_sub(preview));
            let from = open.preview_top.unwrap_or(last);
            let top = from.saturating_add_signed(step(preview)).min(last);
            open.preview_top = (top < last || !down).then_some(top);
        }
        View::Grid => {
            let last = open.places.len().saturating_sub(1);
            let by = isize::try_from(model.layout.panes.len().max(1)).unwrap_or(1);
            open.pane = open.pane.saturating_add_signed(if down { by } else { -by }).min(last);
        }
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
    }
    if let (Some(output), Some(task)) = (&open.output, task)
        && output.task != task
    {
        let end = open.job.task(task).map_or(OutputOffset::START, |task| task.end_offset);
        open.output = Some(Output::new(task, super::loading::tail_offset(end)));
    }
}

/// Toggles whether the view follows the end.
pub(super) fn follow(model: &mut Model) {
    let page = model.layout.job.rows();
    let Some(open) = &mut model.open else { return };
    if let Some(output) = &mut open.output {
        output.follows = !output.follows;
        output.top = output.window.len().saturating_sub(page);
    } else {
        open.stream.above = 0;
    }
}

/// Moves to the next or previous line that contains the searched text; in the fleet, to the next or previous
/// row.
pub(super) fn next_match(model: &mut Model, forwards: bool, cmds: &mut Vec<Cmd>) {
    if model.focus == Focus::Fleet {
        model.fleet.move_cursor(if forwards { 1 } else { -1 });
        return;
    }
    let page = model.layout.job.rows();
    let is_up = model.is_up();
    let Some(open) = &mut model.open else { return };
    let job = open.job.id;
    if open.search.is_empty() {
        return model.say("/ searches");
    }
    let text = open.search.to_lowercase();
    let Some(output) = &mut open.output else {
        if !next_in_stream(&mut open.stream, model.look.streams, &text, forwards, page) {
            let text = format!("no {:?} {} here", open.search, if forwards { "after" } else { "before" });
            model.say(text);
        }
        return;
    };
    let last = output.window.len();
    let here = match output.found {
        Some(offset) => output.window.place_of(offset),
        None if forwards => 0,
        None => last,
    };
    let has =
        |at: &usize| output.window.line(*at).is_some_and(|line| line.text.to_lowercase().contains(&text));
    let skip = usize::from(output.found.is_some());
    let found = if forwards { (here + skip..last).find(has) } else { (0..here.min(last)).rev().find(has) };
    if let Some(at) = found {
        show_line(output, at, page);
        return;
    }
    let task = output.task;
    let (from, search) =
        (if forwards { output.window.next() } else { output.window.from() }, open.search.clone());
    let has_more = if forwards { !output.follows } else { from > OutputOffset::START };
    let agent = open.job.task(task).map(|task| task.agent.clone());
    match agent.filter(|_| has_more && is_up) {
        Some(agent) => {
            model.say(format!("searching for {search:?} …"));
            cmds.push(Cmd::Search { job, task, agent, text: search, from, forwards });
        }
        None => model.say(format!("no {search:?} {} here", if forwards { "after" } else { "before" })),
    }
}

/// Searches in the stream, which holds only its newest lines. Reports whether a line was found.
fn next_in_stream(
    stream: &mut StreamLines,
    streams: Streams,
    text: &str,
    forwards: bool,
    page: usize,
) -> bool {
    let count = stream.lines.len();
    let has = |at: &usize| {
        let line = &stream.lines[*at].1;
        streams.shows(line.source) && line.text.to_lowercase().contains(text)
    };
    let found = match (stream.found_at(), forwards) {
        (Some(here), true) => (here + 1..count).find(has),
        (None, true) => (0..count).find(has),
        (here, false) => (0..here.unwrap_or(count)).rev().find(has),
    };
    if let Some(at) = found {
        stream.show(at, page);
    }
    found.is_some()
}

/// Scrolls a line of the window to the middle of the screen.
fn show_line(output: &mut Output, at: usize, page: usize) {
    output.found = output.window.line(at).map(|line| line.offset);
    output.follows = false;
    output.top = at.saturating_sub(page / 2).min(output.window.len().saturating_sub(page));
}

/// Handles the result of a search outside the window.
pub(super) fn found(model: &mut Model, task: u32, offset: Option<OutputOffset>) {
    let Some(open) = &mut model.open else { return };
    if open.output.as_ref().is_none_or(|output| output.task != task) {
        return;
    }
    let Some(offset) = offset else {
        let text = format!("{:?} was not found", open.search);
        return model.say(text);
    };
    // The window is read again around the found line.
    let mut anew = Output::new(task, offset - EARLIER_OUTPUT_BYTES);
    anew.found = Some(offset);
    anew.follows = false;
    open.output = Some(anew);
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
    let page = model.layout.job.rows();
    if model.layout.fleet.has(x, y) {
        model.fleet.move_cursor(by);
        return;
    }
    let Some(open) = &mut model.open else { return };
    if let Some(output) = &mut open.output {
        scroll_output(output, by, page);
        read_earlier(model, cmds);
    } else if open.view == View::Stream {
        scroll_stream(&mut open.stream.above, open.stream.lines.len(), by);
    } else {
        open.rows.move_cursor(by.signum());
    }
}
