//! Draws output: previews, differences, the grid, the stream and an output in full view. Touches only visible
//! lines.

use std::time::Duration;

use super::{
    paint::{LineLook, Painter, Piece, first_visible, piece},
    row,
};
use crate::{
    domain::{
        job::Task,
        offset::OutputOffset,
        text::spoken_bytes,
        time::{short_duration, stopwatch},
    },
    tui::{
        model::{
            Area, Focus, Layout, Model,
            job::{JobScreen, Output, Streams},
            rows::task_words,
        },
        output::{line::Line, window::Window},
        theme::{Tone, name_tone},
    },
};

/// The minimum width and height of a pane in the grid.
const MIN_PANE_SIZE: (u16, u16) = (60, 8);
/// The maximum number of lines of two compared outputs.
const MAX_COMPARED_LINES: usize = 5_000;

fn line_look(model: &Model, left: usize) -> LineLook {
    LineLook { left, marks_stderr: model.look.streams == Streams::Both, has_times: model.look.has_times }
}

/// Returns the number of rows of a line.
fn height(line: &Line, room: usize, wraps: bool) -> usize {
    if wraps { crate::domain::text::width(&line.text).div_ceil(room.max(1)).max(1) } else { 1 }
}

/// Returns the note that output is scrolled horizontally, if so.
pub(super) fn sideways(model: &Model, open: &JobScreen) -> Option<Piece> {
    let text = format!("from column {}", open.left + 1);
    (open.left > 0 && !model.look.wraps).then(|| piece(text, Tone::Waiting))
}

/// Appends a gap to a piece that other pieces follow.
fn apart(piece: Option<Piece>) -> Option<Piece> {
    piece.map(|(text, tone)| (text + "  ", tone))
}

/// Draws the end of a window.
fn tail(painter: &mut Painter<'_>, model: &Model, window: &Window, left: usize, area: Area) {
    let room = usize::from(area.width.saturating_sub(2));
    let count = window.len();
    let mut chosen: Vec<_> = Vec::new();
    let mut rows = 0;
    let from = count.saturating_sub(area.rows() * 4);
    let candidates: Vec<_> =
        window.lines(from, count - from).filter(|line| model.look.streams.shows(line.source)).collect();
    for line in candidates.into_iter().rev() {
        let tall = height(&line, room, model.look.wraps);
        if rows + tall > area.rows() && !chosen.is_empty() {
            break;
        }
        rows += tall;
        chosen.push(line);
        if rows >= area.rows() {
            break;
        }
    }
    let mut y = area.y;
    for line in chosen.iter().rev() {
        let room = area.y + area.height - y;
        y += painter.line(Area { y, height: room, ..area }, line, line_look(model, left), model.look.wraps);
        if y >= area.y + area.height {
            break;
        }
    }
}

/// Draws the lines of a window, starting at an index.
fn from(painter: &mut Painter<'_>, model: &Model, window: &Window, top: usize, left: usize, area: Area) {
    let look = line_look(model, left);
    let mut y = area.y;
    for line in window.lines(top, usize::MAX).filter(|line| model.look.streams.shows(line.source)) {
        if y >= area.y + area.height {
            return;
        }
        let room = area.y + area.height - y;
        y += painter.line(Area { y, height: room, ..area }, &line, look, model.look.wraps);
    }
}

fn inside(area: Area) -> Area {
    Area {
        x: area.x + 1,
        y: area.y + 1,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(1),
    }
}

/// Draws the preview below the rows: the output of the row under the cursor, or its difference from the
/// largest group.
pub(super) fn preview(
    painter: &mut Painter<'_>,
    model: &Model,
    open: &JobScreen,
    area: Area,
    layout: &mut Layout,
) {
    let Some(row) = open.rows.current() else { return };
    layout.shows_preview = true;
    let body = inside(area);
    layout.preview = body;
    let window = open.windows.get(&row.example);
    let mut right = Vec::new();
    if open.is_diff {
        right.push(piece("difference to the largest  d ends it", Tone::Dim));
    } else if let Some(window) = window {
        right.extend(apart(sideways(model, open)));
        right.push(piece(spoken_bytes(window.next().0), Tone::Dim));
        if window.skipped() > 0 {
            right.insert(0, piece(format!("{} left out  ", spoken_bytes(window.skipped())), Tone::Waiting));
        }
    }
    painter.rule(area, &row::preview_title(model, open, row), &right, false);
    if open.is_diff {
        return difference(painter, open, row.example, body);
    }
    let Some(window) = window.filter(|window| !window.is_empty()) else {
        let task = open.job.task(row.example);
        let text = match task {
            Some(task) if task.state.outcome().is_none() => {
                "No output yet. x cancels it; Enter shows it in full."
            }
            _ => "It printed nothing.",
        };
        painter.text(body.x + 1, body.y, body.width, text, Tone::Dim);
        return;
    };
    match (open.preview_top, row.parting) {
        (Some(top), _) => from(painter, model, window, top, open.left, body),
        // Start two lines before the first one that differs from the largest group.
        (None, Some(parting)) if window.from() == OutputOffset::START && row.lines > 1 => {
            let line = usize::try_from(parting.line).unwrap_or(0);
            let last = window.len().saturating_sub(body.rows());
            from(painter, model, window, line.saturating_sub(3).min(last), open.left, body);
        }
        (None, _) => tail(painter, model, window, open.left, body),
    }
}

/// Draws the lines in which a task's output differs from the largest group.
fn difference(painter: &mut Painter<'_>, open: &JobScreen, task: u32, area: Area) {
    let Some((largest, _)) = open.largest() else { return };
    let texts = |task: u32| -> Option<Vec<String>> {
        let window = open.windows.get(&task)?;
        Some(window.lines(0, MAX_COMPARED_LINES).map(|line| line.text.clone()).collect())
    };
    if task == largest {
        painter.text(
            area.x + 1,
            area.y,
            area.width,
            "This is the largest group; the others differ from it.",
            Tone::Dim,
        );
        return;
    }
    let (Some(before), Some(after)) = (texts(largest), texts(task)) else { return };
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.iter().map(String::as_str).collect(), after.iter().map(String::as_str).collect());
    let diff = similar::TextDiff::from_slices(&before, &after);
    let mut lines: Vec<(&str, String, Tone)> = Vec::new();
    for group in diff.grouped_ops(2) {
        if !lines.is_empty() {
            lines.push(("", "…".to_owned(), Tone::Dim));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, tone) = match change.tag() {
                similar::ChangeTag::Delete => ("- ", Tone::Bad),
                similar::ChangeTag::Insert => ("+ ", Tone::Good),
                similar::ChangeTag::Equal => ("  ", Tone::Dim),
            };
            lines.push((sign, change.value().to_owned(), tone));
        }
    }
    if lines.is_empty() {
        let text = "The loaded parts are equal; the tasks end differently, or differ later.";
        painter.text(area.x + 1, area.y, area.width, text, Tone::Dim);
    }
    let top = open.preview_top.unwrap_or(0).min(lines.len().saturating_sub(area.rows()));
    for (y, (sign, text, tone)) in (area.y..area.y + area.height).zip(lines.iter().skip(top)) {
        let text: String = text.chars().skip(open.left).collect();
        painter.pieces(area.x, y, area.width, &[piece(*sign, *tone), piece(text, *tone)]);
    }
}

fn task_title(model: &Model, task: &Task) -> Vec<Piece> {
    let sign = task.sign();
    let now = model.now.unix_ms;
    let took = match (task.state.outcome(), task.started_ms) {
        (Some(_), _) if task.duration_ns > 0 => {
            format!("  {}", short_duration(Duration::from_nanos(task.duration_ns)))
        }
        (None, Some(started)) => {
            format!("  {}", stopwatch(now.since(started)))
        }
        _ => String::new(),
    };
    vec![
        piece(format!("{sign} "), sign.into()),
        piece(task.agent.as_str(), Tone::Strong),
        piece(format!("  {}", task_words(task)), sign.into()),
        piece(took, Tone::Plain),
    ]
}

fn missing(window: &Window) -> Vec<Piece> {
    if window.skipped() == 0 {
        return Vec::new();
    }
    vec![piece(format!("{} left out  ", spoken_bytes(window.skipped())), Tone::Waiting)]
}

/// Draws the grid. Its panes have fixed places, in the order in which they first needed attention.
pub(super) fn grid(
    painter: &mut Painter<'_>,
    model: &Model,
    open: &JobScreen,
    area: Area,
    layout: &mut Layout,
) {
    let columns = (area.width / MIN_PANE_SIZE.0).max(1);
    let rows = (area.height / MIN_PANE_SIZE.1).max(1);
    let shown = usize::from(columns * rows);
    let first = first_visible(
        open.first_pane / usize::from(columns),
        open.pane / usize::from(columns),
        usize::from(rows),
        open.places.len().div_ceil(usize::from(columns)),
    ) * usize::from(columns);
    layout.first_pane = first;
    layout.pane_columns = usize::from(columns);
    let needed = u16::try_from(open.places.len().saturating_sub(first)).unwrap_or(u16::MAX);
    let rows = rows.min(needed.div_ceil(columns)).max(1);
    let (wide, tall) = (area.width / columns, area.height / rows);
    for (at, task) in open.places.iter().skip(first).take(shown).enumerate() {
        let Some(task) = open.job.task(*task) else { continue };
        let at = u16::try_from(at).unwrap_or(0);
        let (column, row) = (at % columns, at / columns);
        let is_last = column + 1 == columns;
        let pane = Area {
            x: area.x + column * wide,
            y: area.y + row * tall,
            width: if is_last { area.width - column * wide } else { wide },
            height: if row + 1 == rows { area.height - row * tall } else { tall },
        };
        let is_focused = model.focus == Focus::Job && open.places.get(open.pane) == Some(&task.index);
        let window = open.windows.get(&task.index);
        let mut right = window.map(missing).unwrap_or_default();
        right.push(piece(spoken_bytes(window.map_or(task.end_offset, Window::next).0), Tone::Dim));
        let inner = Area { width: pane.width.saturating_sub(u16::from(!is_last)), ..pane };
        painter.rule(inner, &task_title(model, task), &right, is_focused && model.overlays.is_empty());
        if is_focused {
            layout.point = Some((inner.x + 2, inner.y));
        }
        if !is_last {
            for y in pane.y..pane.y + pane.height {
                painter.text(pane.x + pane.width - 1, y, 1, "│", Tone::Dim);
            }
        }
        let body = inside(inner);
        match window {
            Some(window) if !window.is_empty() => tail(painter, model, window, 0, body),
            _ => painter.text(body.x, body.y, body.width, "no output", Tone::Dim),
        }
        layout.panes.push((task.index, pane));
    }
    if layout.job.height == 0 {
        layout.job = area;
    }
}

/// Draws the output of all agents in one stream.
pub(super) fn stream(
    painter: &mut Painter<'_>,
    model: &Model,
    open: &JobScreen,
    area: Area,
    layout: &mut Layout,
) {
    layout.job = area;
    let lines = &open.stream.lines;
    let end = lines.len().saturating_sub(open.stream.above);
    let names = open.job.tasks.iter().map(|task| task.agent.as_str().len()).max().unwrap_or(0).min(24);
    let prefix = u16::try_from(names + 2).unwrap_or(2);
    let from = end.saturating_sub(area.rows());
    let shown = lines.iter().enumerate().skip(from).take(end - from);
    let shown = shown.filter(|(_, (_, line))| model.look.streams.shows(line.source));
    let found = open.stream.found_at();
    for (y, (at, (task, line))) in (area.y..).zip(shown) {
        let name = open.agent(*task).map(ToString::to_string).unwrap_or_default();
        painter.text(area.x + 1, y, prefix, &name, name_tone(&name));
        let x = area.x + 1 + prefix;
        let body = Area { x, y, width: area.width.saturating_sub(prefix + 1), height: 1 };
        painter.line(body, line, line_look(model, open.left), false);
        if found.is_some_and(|found| found == at) {
            painter.highlight(area.x, y, area.width);
        }
    }
    if lines.is_empty() {
        painter.text(area.x + 1, area.y, area.width, "no output", Tone::Dim);
    }
    if open.stream.above > 0 {
        let text = format!(" {} newer lines below; f follows ", open.stream.above);
        let wide = u16::try_from(text.len()).unwrap_or(0);
        painter.text(
            (area.x + area.width).saturating_sub(wide),
            area.y + area.height - 1,
            wide,
            &text,
            Tone::Waiting,
        );
    }
}

/// Draws an output in full view.
pub(super) fn output(
    painter: &mut Painter<'_>,
    model: &Model,
    open: &JobScreen,
    output: &Output,
    area: Area,
    layout: &mut Layout,
) {
    let Some(task) = open.job.task(output.task) else { return };
    let is_focused = model.focus == Focus::Job && model.overlays.is_empty();
    let mut title = vec![piece(format!("Job {}  ", open.job.number), Tone::Plain)];
    title.extend(task_title(model, task));
    let mut right = missing(&output.window);
    let mut say = |is_said: bool, text: &str| {
        if is_said {
            right.push(piece(format!("{text}  "), Tone::Waiting));
        }
    };
    say(output.follows && task.state.outcome().is_none(), "follows");
    say(output.is_loading, "loading");
    say(model.look.wraps, "wrapped");
    say(model.look.streams != Streams::Both, model.look.streams.word());
    say(!open.search.is_empty(), &format!("/{}", open.search));
    right.extend(apart(sideways(model, open)));
    right.push(piece(spoken_bytes(output.window.next().max(task.end_offset).0), Tone::Dim));
    painter.rule(area, &title, &right, is_focused);
    let mut body = inside(area);
    layout.job = body;
    layout.point = Some((body.x, body.y));
    if let Some(outcome) = task.state.outcome()
        && body.height > 2
    {
        let y = body.y + body.height - 1;
        let text = format!("{} {}", outcome.sign(), crate::domain::text::strip_control(&outcome.to_string()));
        painter.text(body.x, y, body.width, &text, outcome.sign().into());
        body.height -= 1;
        layout.job.height -= 1;
    }
    if output.window.is_empty() {
        let text = if task.state.outcome().is_some() { "It printed nothing." } else { "No output yet." };
        painter.text(body.x, body.y, body.width, text, Tone::Dim);
        return;
    }
    if output.follows {
        tail(painter, model, &output.window, open.left, body);
    } else {
        from(painter, model, &output.window, output.top, open.left, body);
        if let Some(found) = output.found {
            let at = output.window.place_of(found);
            if let Some(row) = at.checked_sub(output.top).and_then(|row| u16::try_from(row).ok())
                && row < body.height
                && !model.look.wraps
            {
                painter.highlight(body.x, body.y + row, body.width);
            }
        }
    }
}
