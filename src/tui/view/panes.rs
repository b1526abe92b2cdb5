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
        text::{beginning, middle_clipped, spoken_bytes, strip_control, wrapped},
        time::{short_duration, stopwatch},
    },
    tui::{
        model::{
            Area, Focus, Layout, Model,
            difference::Change,
            job::{JobScreen, Output},
            rows::{Row, task_words},
        },
        output::{
            look::Streams,
            matching::Needle,
            rows::{Position, Rows},
            window::Window,
        },
        theme::{Tone, name_tone},
    },
};

/// The minimum width and height of a pane in the grid.
const MIN_PANE_SIZE: (u16, u16) = (60, 8);

fn line_look(model: &Model, open: &JobScreen, left: usize) -> LineLook {
    LineLook { options: model.look, left, needle: Needle::new(&open.search) }
}

/// Returns the rows of a window in an area.
fn rows_in<'a>(model: &Model, window: &'a Window, area: Area) -> Rows<'a> {
    Rows { window, look: model.look, columns: usize::from(area.width), page: area.rows() }
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

/// Draws the rows of a window from a position. Returns the position.
fn draw_from(
    painter: &mut Painter<'_>,
    rows: &Rows<'_>,
    at: Position,
    look: &LineLook,
    area: Area,
) -> Position {
    let at = rows.clamped(at);
    let (mut y, mut skipped) = (area.y, at.row);
    for line in rows.window.lines(at.line, usize::MAX).filter(|line| look.options.streams.shows(line.source))
    {
        if y >= area.y + area.height {
            break;
        }
        let rest = Area { y, height: area.y + area.height - y, ..area };
        y += painter.line(rest, &line, look, std::mem::take(&mut skipped));
    }
    at
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
    if open.comparison.is_some() {
        return difference(painter, model, open, area, body);
    }
    let window = open.windows.get(&row.example);
    let mut right = Vec::new();
    if let Some(window) = window {
        right.extend(apart(sideways(model, open)));
        right.push(piece(spoken_bytes(window.next().0), Tone::Dim));
        if window.skipped() > 0 {
            right.insert(0, piece(format!("{} left out  ", spoken_bytes(window.skipped())), Tone::Waiting));
        }
    }
    painter.rule(area, &row::preview_title(model, open, row), &right, false);
    let Some(window) = window.filter(|window| !window.is_empty()) else {
        let task = open.job.task(row.example);
        let text = match task {
            Some(task) if task.state.outcome().is_none() => {
                "No output yet. x cancels it; Enter shows it in full."
            }
            _ => "It printed nothing.",
        };
        painter.text(body.x + 1, body.y, body.width, text, Tone::Dim);
        // What the outcome advises may be longer than its row.
        let outcome = task.and_then(|task| task.state.outcome()).map(ToString::to_string).unwrap_or_default();
        let lines = wrapped(&strip_control(&outcome), usize::from(body.width.saturating_sub(1)));
        for (y, line) in (body.y + 1..body.y + body.height).zip(lines) {
            painter.text(body.x + 1, y, body.width.saturating_sub(1), &line, Tone::Plain);
        }
        return;
    };
    let rows = rows_in(model, window, body);
    let at = match (open.preview_top, row.parting) {
        (Some(top), _) => top,
        // Start two lines before the first one that differs from the largest group.
        (None, Some(parting)) if window.from() == OutputOffset::START && row.lines > 1 => {
            let line = usize::try_from(parting.line).unwrap_or(0);
            Position::of_line(line.saturating_sub(3))
        }
        (None, _) => Position::END,
    };
    layout.preview_top = draw_from(painter, &rows, at, &line_look(model, open, open.left), body);
}

/// Draws the lines in which two outputs differ.
fn difference(painter: &mut Painter<'_>, model: &Model, open: &JobScreen, area: Area, body: Area) {
    let Some(comparison) = &open.comparison else { return };
    let name = |task: u32| open.agent(task).map(ToString::to_string).unwrap_or_default();
    let Some((before, after)) = open.compared() else {
        let title = [piece("Difference", Tone::Strong)];
        painter.rule(area, &title, &[piece("d ends it", Tone::Dim)], false);
        let text = "This is the largest group. Go to another row: its difference is shown; d there compares the two rows.";
        for (y, line) in (body.y..body.y + body.height).zip(wrapped(text, usize::from(body.width))) {
            painter.text(body.x, y, body.width, &line, Tone::Dim);
        }
        return;
    };
    let largest = open.largest().filter(|(task, _)| *task == before).map(|(_, count)| count);
    let of_largest = largest.map_or_else(String::new, |count| format!(" (the largest group, {count})"));
    let title = [
        piece("- ", Tone::Bad),
        piece(name(before), Tone::Strong),
        piece(of_largest, Tone::Dim),
        piece("  + ", Tone::Good),
        piece(name(after), Tone::Strong),
    ];
    let lines = &comparison.lines;
    let top = comparison.top.min(lines.len().saturating_sub(body.rows()));
    let below = lines.len().saturating_sub(top + body.rows());
    let mut right = Vec::new();
    right.extend(apart(sideways(model, open)));
    if below > 0 {
        right.push(piece(format!("{below} below  "), Tone::Dim));
    }
    right.push(piece("d ends it", Tone::Dim));
    painter.rule(area, &title, &right, false);
    if lines.is_empty() {
        let text = "The loaded parts are equal; the tasks end differently, or differ elsewhere.";
        painter.text(body.x, body.y, body.width, text, Tone::Dim);
    }
    for (y, line) in (body.y..body.y + body.height).zip(lines.iter().skip(top)) {
        let (sign, tone) = match line.change {
            Change::Same => ("  ", Tone::Dim),
            Change::Removed => ("- ", Tone::Bad),
            Change::Added => ("+ ", Tone::Good),
            Change::LeftOut => ("…", Tone::Dim),
        };
        let mut skip = open.left;
        let mut pieces = vec![piece(sign, tone)];
        for (text, is_changed) in &line.parts {
            let (hidden, cells) = beginning(text, skip);
            skip -= cells.min(skip);
            let tone = if *is_changed && line.parts.len() > 1 { Tone::Match } else { tone };
            pieces.push(piece(&text[hidden.len()..], tone));
        }
        painter.pieces(body.x, y, body.width, &pieces);
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

/// Returns the title of a pane that shows the output of a group.
fn group_title(model: &Model, open: &JobScreen, row: &Row) -> Vec<Piece> {
    let sign = row::row_sign(row);
    let count = row.tasks.len();
    let mut title = vec![
        piece(format!("{sign} "), sign.into()),
        piece(format!("{count} "), Tone::Plain),
        piece(row::names(open, row), Tone::Strong),
        piece(format!("  {}", row::state(model, row)), sign.into()),
    ];
    if row.outputs > 1 {
        title.push(piece(format!("  {} outputs", row.outputs), Tone::Dim));
    }
    title
}

fn missing(window: &Window) -> Vec<Piece> {
    if window.skipped() == 0 {
        return Vec::new();
    }
    vec![piece(format!("{} left out  ", spoken_bytes(window.skipped())), Tone::Waiting)]
}

/// Draws the grid: a pane for each group, or for each task if the rows are unfolded.
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
        let title = match open.row_of_pane(task.index).filter(|row| row.tasks.len() > 1) {
            Some(row) => group_title(model, open, row),
            None => task_title(model, task),
        };
        painter.rule(inner, &title, &right, is_focused && model.overlays.is_empty());
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
            Some(window) if !window.is_empty() => {
                let (rows, look) = (rows_in(model, window, body), line_look(model, open, 0));
                draw_from(painter, &rows, Position::END, &look, body);
            }
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
    let mut look = line_look(model, open, open.left);
    look.options.wraps = false;
    for (y, (at, (task, line))) in (area.y..).zip(shown) {
        let name = open.agent(*task).map(ToString::to_string).unwrap_or_default();
        let shown = middle_clipped(&name, names, painter.theme.mark());
        painter.text(area.x + 1, y, prefix, &shown, name_tone(&name));
        let x = area.x + 1 + prefix;
        let body = Area { x, y, width: area.width.saturating_sub(prefix + 1), height: 1 };
        painter.line(body, line, &look, 0);
        if found.is_some_and(|found| found == at) {
            painter.text(area.x, y, 1, "▌", Tone::Key);
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
    let ending = task.state.outcome().map(|outcome| {
        let text = format!("{} {}", outcome.sign(), strip_control(&outcome.to_string()));
        (wrapped(&text, usize::from(body.width)), outcome.sign().into())
    });
    if let Some((lines, tone)) = ending
        && body.height > 2
    {
        // Under the last line, or at the bottom.
        let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(body.height - 1);
        body.height -= rows;
        layout.job.height -= rows;
        let full = rows_in(model, &output.window, body).rows_up_to(body.rows());
        let y = body.y + u16::try_from(full).unwrap_or(0).max(u16::from(output.window.is_empty()));
        for (y, line) in (y..y + rows).zip(lines) {
            painter.text(body.x, y, body.width, &line, tone);
        }
    }
    if output.window.is_empty() {
        let text = if task.state.outcome().is_some() { "It printed nothing." } else { "No output yet." };
        painter.text(body.x, body.y, body.width, text, Tone::Dim);
        return;
    }
    let (rows, look) = (rows_in(model, &output.window, body), line_look(model, open, open.left));
    let at = if output.follows { Position::END } else { output.top };
    let top = draw_from(painter, &rows, at, &look, body);
    let found = output.found.filter(|_| !output.follows).map(|found| output.window.place_of(found));
    if let Some(found) = found {
        let mut y = usize::from(body.y);
        for line in top.line..=found {
            let skipped = if line == top.line { top.row } else { 0 };
            let tall = rows.height_at(line).saturating_sub(skipped);
            for row in y..(y + tall).min(usize::from(body.y + body.height)) {
                if line == found {
                    let y = u16::try_from(row).unwrap_or(u16::MAX);
                    painter.text(body.x.saturating_sub(1), y, 1, "▌", Tone::Key);
                }
            }
            y += tall;
        }
    }
}
