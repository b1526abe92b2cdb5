//! Draws the job: its title, its rows, its gate, and the preview below them.

use std::ops::Range;

use super::{
    paint::{Painter, Piece, first_visible, piece},
    panes,
    row::{names, row_sign, state},
};
use crate::{
    domain::{
        plan::GateState,
        text::{middle_clipped, plural, spoken_bytes, strip_control, width, wrapped},
        time::stopwatch,
    },
    tui::{
        model::{
            Area, Focus, Layout, Model,
            job::{JobScreen, View},
            rows::{Need, counts},
        },
        theme::Tone,
    },
};

/// The width in columns below which the command gets a row of its own.
const MIN_WIDTH_FOR_COMMAND: u16 = 80;
/// The width of the screen in columns from which on rows and grid are shown together.
const MIN_WIDTH_FOR_GRID: u16 = 180;

/// Draws the job below its rule.
pub(super) fn draw(painter: &mut Painter<'_>, model: &Model, area: Area, layout: &mut Layout) {
    let Some(open) = &model.open else { return };
    let is_focused = model.focus == Focus::Job && model.overlays.is_empty();
    if let Some(output) = &open.output {
        return panes::output(painter, model, open, output, area, layout);
    }
    title(painter, model, open, area, is_focused);
    let mut body = Area { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if area.width < MIN_WIDTH_FOR_COMMAND && body.height > 6 {
        let command = format!("$ {}", first_line(open));
        painter.text(body.x + 1, body.y, body.width.saturating_sub(2), &command, Tone::Dim);
        body = Area { y: body.y + 1, height: body.height - 1, ..body };
    }
    if let GateState::Held(reason) = &open.job.gate.state
        && body.height > 2
    {
        let waits = open.job.tasks.iter().filter(|task| task.state.outcome().is_none()).count();
        let lines = gate_lines(model, &strip_control(reason), waits, body.width);
        let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(body.height - 1);
        body.height -= rows;
        for (y, line) in (body.y + body.height..body.y + body.height + rows).zip(lines) {
            painter.pieces(body.x + 1, y, body.width.saturating_sub(1), &line);
        }
    }
    if body.height == 0 {
        return;
    }
    if !open.is_loaded {
        painter.text(body.x + 1, body.y, body.width, "loading the job …", Tone::Dim);
        return;
    }
    let together = layout.size.0 >= MIN_WIDTH_FOR_GRID && open.view != View::Stream;
    match open.view {
        View::Stream => panes::stream(painter, model, open, body, layout),
        _ if together && body.height >= 16 => {
            layout.shows_both = true;
            let most = usize::from(body.height / 3);
            let rows = u16::try_from(open.rows.all().len().min(most)).unwrap_or(1).max(1);
            self::rows(painter, model, open, Area { height: rows, ..body }, is_focused, layout);
            let below = Area { y: body.y + rows, height: body.height - rows, ..body };
            if open.comparison.is_some() {
                panes::preview(painter, model, open, below, layout);
            } else {
                panes::grid(painter, model, open, below, layout);
            }
        }
        View::Grid => panes::grid(painter, model, open, body, layout),
        View::Groups => {
            let count = open.rows.all().len();
            // The rows get up to half of the space; the preview below them gets the rest.
            let most = if body.height < 8 { body.height } else { body.height.div_ceil(2) };
            let rows = u16::try_from(count).unwrap_or(u16::MAX).clamp(1, most);
            self::rows(painter, model, open, Area { height: rows, ..body }, is_focused, layout);
            let below = Area { y: body.y + rows, height: body.height - rows, ..body };
            if below.height >= 2 {
                panes::preview(painter, model, open, below, layout);
            }
        }
    }
}

/// Returns the lines about a gate: first the keys that leave it, where they work, then why the job waits.
fn gate_lines(model: &Model, reason: &str, waits: usize, width: u16) -> Vec<Vec<Piece>> {
    let in_job = model.focus == Focus::Job && model.overlays.is_empty();
    let keys = match (model.settings.read_only, in_job) {
        (true, _) => Vec::new(),
        (false, true) => {
            vec![
                piece("P", Tone::Key),
                piece(" promote  ", Tone::Plain),
                piece("S", Tone::Key),
                piece(" stop  ", Tone::Plain),
            ]
        }
        (false, false) => vec![piece("Waits at a gate: go to the job to promote or stop it.  ", Tone::Plain)],
    };
    let reason = format!("{reason}, {waits} wait");
    let room = usize::from(width.saturating_sub(2));
    let used: usize = keys.iter().map(|(text, _)| crate::domain::text::width(text)).sum();
    if used + crate::domain::text::width(&reason) <= room {
        return vec![[keys, vec![piece(reason, Tone::Waiting)]].concat()];
    }
    let reason = wrapped(&reason, room).into_iter().map(|line| vec![piece(line, Tone::Waiting)]);
    std::iter::once(keys).filter(|keys| !keys.is_empty()).chain(reason).collect()
}

fn first_line(open: &JobScreen) -> String {
    let shown = open.job.command.words().first().map(|word| String::from_utf8_lossy(&word.0).into_owned());
    let shown = if open.job.command.words().len() == 1 {
        shown.unwrap_or_default()
    } else {
        open.job.command.shown()
    };
    let mut lines = shown.lines();
    let first = strip_control(lines.next().unwrap_or_default());
    let more = lines.count();
    if more > 0 { format!("{first} … +{more} {}", plural("line", more)) } else { first }
}

fn title(painter: &mut Painter<'_>, model: &Model, open: &JobScreen, area: Area, is_focused: bool) {
    let job = &open.job;
    let strong = if is_focused { Tone::Strong } else { Tone::Plain };
    let mut left = vec![piece(format!("Job {}", job.number), strong)];
    let is_own = model.own_jobs.contains(&job.id) || job.operator == model.status.operator;
    if !is_own && !job.operator.is_empty() {
        left.push(piece(format!(" of {}", strip_control(&job.operator)), Tone::Waiting));
    }
    let mut rest = vec![piece(
        format!("  {} {}", job.task_count, plural("agent", job.task_count as usize)),
        Tone::Plain,
    )];
    for (sign, count) in counts(job).into_iter().filter(|(_, count)| *count > 0) {
        rest.push(piece(format!("  {sign} {count}"), sign.into()));
    }
    let until = job.ended_ms.unwrap_or(model.now.unix_ms);
    let took = stopwatch(until.since(job.created_ms));
    rest.push(piece(format!("  {took}"), Tone::Plain));
    let (shown, panes) = (model.layout.panes.len(), open.places.len());
    if shown > 0 && shown < panes {
        rest.push(piece(format!("  {shown} of {panes} panes"), Tone::Waiting));
    }
    if open.masks.any() {
        rest.push(piece(format!("  masked: {}", open.masks), Tone::Waiting));
    }
    if open.view == View::Stream {
        if open.stream.skipped > 0 {
            rest.push(piece(format!("  {} left out", spoken_bytes(open.stream.skipped)), Tone::Waiting));
        }
        rest.extend(panes::sideways(model, open).map(|(text, tone)| piece(format!("  {text}"), tone)));
        if !open.search.is_empty() {
            rest.push(piece(format!("  /{}", strip_control(&open.search)), Tone::Waiting));
        }
    }
    let words: Vec<Piece> = if area.width >= 120 {
        View::ALL
            .iter()
            .map(|view| {
                let is_shown = *view == open.view;
                let text = if is_shown { format!("[{}]", view.word()) } else { format!(" {} ", view.word()) };
                piece(text, if is_shown { Tone::Strong } else { Tone::Dim })
            })
            .collect()
    } else {
        vec![piece(open.view.word(), Tone::Dim)]
    };
    if area.width >= MIN_WIDTH_FOR_COMMAND {
        // The name of the view is never dropped.
        let used = painter.width_of(&left) + painter.width_of(&rest) + painter.width_of(&words) + 10;
        let room = usize::from(area.width.saturating_sub(used));
        let command = crate::domain::text::clipped(&first_line(open), room.min(60), painter.theme.mark());
        left.push(piece(format!("  {command}"), Tone::Dim));
    }
    left.extend(rest);
    painter.rule(area, &left, &words, is_focused);
}

/// Draws the rows of the groups.
fn rows(
    painter: &mut Painter<'_>,
    model: &Model,
    open: &JobScreen,
    area: Area,
    is_focused: bool,
    layout: &mut Layout,
) {
    layout.job = area;
    let all = open.rows.all();
    if all.is_empty() {
        painter.text(area.x + 1, area.y, area.width, "nothing has been printed yet", Tone::Dim);
        return;
    }
    let top = first_visible(open.rows.top, open.rows.cursor(), area.rows(), all.len());
    layout.rows_top = top;
    let visible = &all[top..(top + area.rows()).min(all.len())];
    let names: Vec<String> = visible.iter().map(|row| names(open, row)).collect();
    let widest = names.iter().map(|names| width(names)).max().unwrap_or(0);
    let name_room = widest.clamp(8, if area.width < 100 { 20 } else { 30 });
    let states: Vec<String> = visible.iter().map(|row| state(model, row)).collect();
    let state_room = states.iter().map(|state| width(state)).max().unwrap_or(0).clamp(10, 18);
    for (at, row) in visible.iter().enumerate() {
        let y = area.y + u16::try_from(at).unwrap_or(0);
        let is_cursor = top + at == open.rows.cursor();
        let sign = row_sign(row);
        let tone = sign.into();
        let mut text_tone = Tone::Plain;
        if row.need == Need::Ended && row.parting.is_none() {
            text_tone = Tone::Dim;
        }
        let mark = painter.theme.mark();
        let text = |range: Range<usize>| row.text.get(range).unwrap_or_default().to_owned();
        let Range { start, end } = row.differing.clone();
        let pieces = [
            piece(painter.pad_to_width(&sign.to_string(), 2), tone),
            piece(format!("{:>4}  ", row.tasks.len()), Tone::Plain),
            piece(
                painter.pad_to_width(&middle_clipped(&names[at], name_room, mark), name_room),
                Tone::Strong,
            ),
            piece("  ", Tone::Plain),
            piece(painter.pad_to_width(&states[at], state_room), tone),
            piece("  ", Tone::Plain),
            piece(text(0..start), text_tone),
            piece(text(start..end), Tone::Match),
            piece(text(end..row.text.len()), text_tone),
        ];
        if is_cursor {
            painter.text(area.x, y, 1, "▌", Tone::Key);
        }
        painter.pieces(area.x + 1, y, area.width.saturating_sub(1), &pieces);
        if is_cursor && is_focused {
            painter.highlight(area.x + 1, y, area.width.saturating_sub(1));
            layout.point = Some((area.x + 1, y));
        }
    }
    let hidden = all.len().saturating_sub(top + visible.len()) + open.more_groups as usize;
    if hidden > 0 && area.height > 1 {
        let text = format!(" and {hidden} more ");
        let wide = u16::try_from(text.len()).unwrap_or(0);
        let x = (area.x + area.width).saturating_sub(wide + 1);
        painter.text(x, area.y + area.height - 1, wide, &text, Tone::Dim);
    }
}
