//! Arranges the panes on the screen and paints them.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{chrome, fleet, job, overlays, paint::Painter};
use crate::tui::{
    model::{Area, Asked, Connection, Focus, Layout, Model, Overlay},
    theme::Theme,
};

/// The width in columns from which on the fleet and the job are shown side by side.
const MIN_WIDTH_SIDE_BY_SIDE: u16 = 120;
/// The width in columns from which on the fleet also shows metrics beside the job.
const MIN_WIDTH_WITH_METRICS: u16 = 180;
/// The width and height below which only one pane is shown.
const MIN_SIZE: (u16, u16) = (60, 15);

/// Draws the model into a buffer, and returns the layout.
#[must_use]
pub fn view(model: &Model, buffer: &mut Buffer) -> Layout {
    let Rect { width, height, .. } = *buffer.area();
    let mut layout = Layout { size: (width, height), ..Layout::default() };
    if width == 0 || height == 0 {
        return layout;
    }
    let theme = Theme {
        depth: model.settings.depth,
        palette: model.settings.palette,
        ascii: model.settings.ascii,
        is_utf8: model.settings.is_utf8,
        is_stale: matches!(model.connection, Connection::Down { .. }),
    };
    let all = *buffer.area();
    buffer.set_style(all, theme.base());
    let mut painter = Painter { buffer, theme };
    let row = |y: u16| Area { x: 0, y, width, height: 1 };
    if width < MIN_SIZE.0 || height < MIN_SIZE.1 {
        small(&mut painter, model, Area { x: 0, y: 0, width, height }, &mut layout);
        return layout;
    }
    chrome::header(&mut painter, model, row(0));
    chrome::footer(&mut painter, model, row(height - 1));
    let mut main = Area { x: 0, y: 1, width, height: height - 2 };
    let bottom = |main: &mut Area, rows: u16| {
        let rows = rows.min(main.height);
        main.height -= rows;
        Area { y: main.y + main.height, height: rows, ..*main }
    };
    let question = match model.overlays.last() {
        Some(Overlay::Question(question)) => Some(question),
        _ => None,
    };
    // A question takes the place of the footer and, unless it is about the command, of the command line, so that the panes stay as
    // they are.
    let mut asks = question.map_or(0, |question| chrome::question_rows(question, width).saturating_sub(1));
    match model.overlays.last() {
        Some(Overlay::Question(question)) if question.asked == Asked::Run => {
            bottom(&mut main, std::mem::take(&mut asks));
        }
        Some(Overlay::Prompt(prompt)) => {
            let area = bottom(&mut main, chrome::prompt_rows(model, prompt));
            chrome::prompt(&mut painter, model, prompt, area, &mut layout);
        }
        _ => {}
    }
    if !model.settings.read_only {
        let rows = u16::try_from(model.command.rows().clamp(1, chrome::COMMAND_ROWS)).unwrap_or(1);
        let area = bottom(&mut main, rows + 1);
        asks = asks.saturating_sub(rows + 1);
        let cursor = layout.cursor;
        chrome::command(&mut painter, model, area, &mut layout);
        layout.cursor = cursor.or(layout.cursor);
    }
    bottom(&mut main, asks);
    if let Some(question) = question {
        let rows = chrome::question_rows(question, width).min(height);
        let area = Area { x: 0, y: height - rows, width, height: rows };
        chrome::question(&mut painter, question, area, &mut layout);
    }
    let lines = chrome::banner_lines(model, width);
    if !lines.is_empty() {
        let area = bottom(&mut main, u16::try_from(lines.len()).unwrap_or(u16::MAX));
        chrome::banner(&mut painter, &lines, area);
    }
    // A prompt shows its effect in the panes above it; other layers cover the panes.
    let covering = model
        .overlays
        .iter()
        .rev()
        .find(|overlay| !matches!(overlay, Overlay::Prompt(_) | Overlay::Question(_)));
    match covering {
        Some(Overlay::Help(top)) => overlays::help(&mut painter, model, main, *top, &mut layout),
        Some(Overlay::Details { row, top }) => {
            overlays::details(&mut painter, model, main, row, *top, &mut layout);
        }
        Some(Overlay::History { cursor, filter }) => {
            overlays::history(&mut painter, model, main, *cursor, filter, &mut layout);
        }
        Some(Overlay::Notice { title, lines, top, .. }) => {
            overlays::notice(&mut painter, main, title, (lines, *top), &mut layout);
        }
        Some(Overlay::Prompt(_) | Overlay::Question(_)) | None => {
            panes(&mut painter, model, main, &mut layout);
        }
    }
    layout
}

/// Draws the fleet and the job, depending on the available space.
pub(super) fn panes(painter: &mut Painter<'_>, model: &Model, main: Area, layout: &mut Layout) {
    let fleet = |painter: &mut Painter<'_>, area: Area, layout: &mut Layout| {
        fleet::draw(painter, model, area, layout);
    };
    let Some(open) = &model.open else { return fleet(painter, main, layout) };
    let job_has_room = model.room != Focus::Fleet;
    // An output has the whole width: that is what it was opened for.
    if job_has_room && open.output.is_some() {
        return job::draw(painter, model, main, layout);
    }
    if model.is_zoomed {
        if job_has_room {
            return job::draw(painter, model, main, layout);
        }
        return fleet(painter, main, layout);
    }
    if main.width >= MIN_WIDTH_SIDE_BY_SIDE {
        let wide = if main.width >= MIN_WIDTH_WITH_METRICS { 76 } else { 51 };
        fleet(painter, Area { width: wide, ..main }, layout);
        for y in main.y..main.y + main.height {
            painter.text(
                main.x + wide,
                y,
                1,
                if y == main.y { "┬" } else { "│" },
                crate::tui::theme::Tone::Dim,
            );
        }
        let x = main.x + wide + 1;
        return job::draw(painter, model, Area { x, width: main.width - wide - 1, ..main }, layout);
    }
    if main.height < 12 {
        if job_has_room {
            return job::draw(painter, model, main, layout);
        }
        return fleet(painter, main, layout);
    }
    // One above the other: the pane that had the focus last gets most of the rows.
    let other = 6;
    let fleet_rows = if job_has_room {
        other
    } else {
        let rows = u16::try_from(open.rows.all().len()).unwrap_or(u16::MAX);
        main.height - rows.saturating_add(1).clamp(2, other)
    };
    fleet(painter, Area { height: fleet_rows, ..main }, layout);
    let below = Area { y: main.y + fleet_rows, height: main.height - fleet_rows, ..main };
    job::draw(painter, model, below, layout);
}

/// Draws one pane, and a line for the command or the last message.
fn small(painter: &mut Painter<'_>, model: &Model, area: Area, layout: &mut Layout) {
    let last = Area { y: area.y + area.height - 1, height: 1, ..area };
    let main = Area { height: area.height - 1, ..area };
    if let Some(Overlay::Question(question)) = model.overlays.last()
        && area.height >= 3
    {
        let at = Area { y: area.y + area.height - 3, height: 3, ..area };
        chrome::question(painter, question, at, layout);
    } else if let Some(Overlay::Prompt(prompt)) = model.overlays.last()
        && area.height >= 2
    {
        let at = Area { y: area.y + area.height - 2, height: 2, ..area };
        chrome::prompt(painter, model, prompt, at, layout);
    } else if model.focus == Focus::Command && area.height >= 2 {
        let at = Area { y: area.y + area.height - 2, height: 2, ..area };
        chrome::command(painter, model, at, layout);
    } else {
        chrome::footer(painter, model, last);
    }
    let taken = if model.focus == Focus::Command || !model.overlays.is_empty() { 2 } else { 0 };
    let main = Area { height: main.height.saturating_sub(taken), ..main };
    if main.height < 2 {
        return;
    }
    match model.overlays.last() {
        Some(Overlay::Help(top)) => overlays::help(painter, model, main, *top, layout),
        Some(Overlay::Details { row, top }) => overlays::details(painter, model, main, row, *top, layout),
        Some(Overlay::History { cursor, filter }) => {
            overlays::history(painter, model, main, *cursor, filter, layout);
        }
        Some(Overlay::Notice { title, lines, top, .. }) => {
            overlays::notice(painter, main, title, (lines, *top), layout);
        }
        Some(Overlay::Prompt(_) | Overlay::Question(_)) | None => {
            if model.open.is_some() && model.room != Focus::Fleet {
                job::draw(painter, model, main, layout);
            } else {
                fleet::draw(painter, model, main, layout);
            }
        }
    }
}
