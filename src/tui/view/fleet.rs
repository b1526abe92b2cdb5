//! Draws the fleet table.

use std::time::Duration;

use super::paint::{Painter, Piece, first_visible, piece};
use crate::{
    domain::{
        agent::{AgentState, AgentView},
        sign::Sign,
        text::{middle_clipped, width, wrapped},
        time::{UnixMs, short_age},
    },
    tui::{
        model::{
            Area, Focus, Layout, Model,
            fleet::{RowKey, SortBy, memory_percent},
        },
        theme::Tone,
    },
};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Link,
    Cpu,
    Memory,
    Load,
    Uptime,
    Version,
    Labels,
    LastJob,
}

/// The columns by importance. If space is short, the last ones are dropped first.
const BY_IMPORTANCE: [Column; 10] = [
    Column::Name,
    Column::State,
    Column::LastJob,
    Column::Link,
    Column::Cpu,
    Column::Memory,
    Column::Labels,
    Column::Load,
    Column::Uptime,
    Column::Version,
];

/// The columns in the order in which they are shown.
const BY_POSITION: [Column; 10] = [
    Column::Name,
    Column::State,
    Column::Link,
    Column::Cpu,
    Column::Memory,
    Column::Load,
    Column::Uptime,
    Column::Version,
    Column::Labels,
    Column::LastJob,
];

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Link => "LINK",
            Self::Cpu => " CPU",
            Self::Memory => " MEM",
            Self::Load => " LOAD",
            Self::Uptime => "  UP",
            Self::Version => "VERSION",
            Self::Labels => "LABELS",
            Self::LastJob => "LAST JOB",
        }
    }

    fn is_sorted_by(self, sort: SortBy) -> bool {
        matches!(
            (self, sort),
            (Self::Name, SortBy::Name)
                | (Self::Cpu, SortBy::Cpu)
                | (Self::Memory, SortBy::Memory)
                | (Self::Load, SortBy::Load)
                | (Self::Uptime, SortBy::Uptime)
                | (Self::LastJob, SortBy::LastJob)
        )
    }

    fn width(self, names: usize, labels: usize) -> usize {
        match self {
            Self::Name => names,
            Self::State => 10,
            Self::Link | Self::Version => 7,
            Self::Cpu | Self::Memory | Self::Uptime => 4,
            Self::Load => 5,
            Self::Labels => labels,
            Self::LastJob => 17,
        }
    }

    fn cell(self, agent: &AgentView, now_ms: UnixMs) -> Piece {
        let figure = |text: Option<String>| {
            piece(format!("{:>4}", text.unwrap_or_else(|| "-".to_owned())), Tone::Plain)
        };
        let facts = agent.facts.as_ref();
        match self {
            Self::Name => piece(agent.name.as_str(), Tone::Plain),
            Self::State => {
                let sign = agent.state.sign();
                piece(format!("{sign} {}", agent.state.word()), sign.into())
            }
            Self::Link => {
                let word = agent.link_word();
                piece(word, if word == "tunnel!" { Tone::Waiting } else { Tone::Plain })
            }
            Self::Cpu => figure(facts.map(|facts| format!("{:.0}%", facts.cpu_percent))),
            Self::Memory => figure(facts.map(|facts| format!("{}%", memory_percent(facts)))),
            Self::Load => {
                let load = facts.map(|facts| format!("{:.1}", facts.load1));
                piece(format!("{:>5}", load.unwrap_or_else(|| "-".to_owned())), Tone::Plain)
            }
            Self::Uptime => figure(facts.map(|facts| short_age(Duration::from_secs(facts.uptime_s)))),
            Self::Version => piece(agent.version.as_str(), Tone::Plain),
            Self::Labels => {
                let label = |(key, value): (&_, &_)| {
                    let (key, value): (&crate::domain::name::LabelWord, &crate::domain::name::LabelWord) =
                        (key, value);
                    format!("{}={}", key.as_str(), value.as_str())
                };
                piece(agent.labels.iter().map(label).collect::<Vec<_>>().join(" "), Tone::Dim)
            }
            Self::LastJob => last_job(agent, now_ms),
        }
    }
}

fn last_job(agent: &AgentView, now_ms: UnixMs) -> Piece {
    if agent.state == AgentState::Pending {
        let waits = short_age(agent.last_seen.map_or(Duration::ZERO, |seen| now_ms.since(seen.at_ms)));
        let text = if agent.key_changed { "another key".to_owned() } else { format!("asked {waits} ago") };
        return piece(text, Tone::Waiting);
    }
    let Some(last) = &agent.last_job else { return piece("", Tone::Plain) };
    let words = match last.state.outcome() {
        Some(outcome) => outcome.brief(),
        None if last.no_contact => "no contact".to_owned(),
        None => last.state.word().to_owned(),
    };
    let sign = last.sign();
    let tone = if sign == Sign::SUCCESS { Tone::Plain } else { sign.into() };
    piece(format!("{} {sign} {words}", last.number), tone)
}

/// Returns what stands in place of a name in a row that stands for several pending keys.
fn folded_name(count: usize) -> String {
    format!("{count} keys")
}

/// Returns the columns that fit, and their widths.
fn columns(model: &Model, rows: &[RowKey], room: usize) -> Vec<(Column, usize)> {
    let shown = || rows.iter().filter_map(|row| model.fleet.row(row));
    let name = |row: &RowKey| match model.fleet.folded_at(row) {
        Some(count) => width(&folded_name(count)),
        None => width(row.name.as_str()),
    };
    let names = rows.iter().map(name).max().unwrap_or(4).clamp(4, 32);
    let labels =
        shown().map(|agent| width(&Column::Labels.cell(agent, UnixMs(0)).0)).max().unwrap_or(0).clamp(6, 32);
    let mut left = room;
    let mut chosen = Vec::new();
    for column in BY_IMPORTANCE {
        let wide = column.width(names, labels) + 2;
        let has_labels = column != Column::Labels || shown().any(|agent| !agent.labels.is_empty());
        if wide <= left + 2 && has_labels {
            left = left.saturating_sub(wide);
            chosen.push(column);
        }
    }
    let ordered = BY_POSITION.into_iter().filter(|column| chosen.contains(column));
    let mut columns: Vec<(Column, usize)> =
        ordered.map(|column| (column, column.width(names, labels))).collect();
    // The last column gets the remaining width.
    if let Some((_, wide)) = columns.last_mut() {
        *wide += left;
    }
    columns
}

/// Draws the table below its rule.
pub(super) fn draw(painter: &mut Painter<'_>, model: &Model, area: Area, layout: &mut Layout) {
    let is_focused = model.focus == Focus::Fleet && model.overlays.is_empty();
    let body = Area { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if model.fleet.is_empty() {
        title(painter, model, area, is_focused, (0, 0));
        empty(painter, model, body);
        layout.fleet = Area { height: 0, ..body };
        return;
    }
    let heading = u16::from(body.height > 2);
    let rows = Area { y: body.y + heading, height: body.height - heading.min(body.height), ..body };
    let top = top_of(model, rows.rows());
    (layout.fleet, layout.fleet_top) = (rows, top);
    let shown = model.fleet.shown();
    let visible = &shown[top.min(shown.len())..(top + rows.rows()).min(shown.len())];
    let columns = columns(model, visible, usize::from(area.width).saturating_sub(4));
    if heading == 1 {
        let mut x = body.x + 3;
        for (column, wide) in &columns {
            let tone = if column.is_sorted_by(model.fleet.sort) { Tone::Strong } else { Tone::Dim };
            painter.text(x, body.y, room(*wide, x, area), column.heading(), tone);
            x = x.saturating_add(room(wide + 2, x, area));
        }
    }
    if shown.is_empty() {
        let text = format!("nothing matches {:?}; Esc shows all", model.fleet.filter);
        painter.text(rows.x + 3, rows.y, rows.width.saturating_sub(3), &text, Tone::Dim);
    }
    for (y, row) in (rows.y..).zip(visible) {
        let Some(agent) = model.fleet.row(row) else { continue };
        let is_cursor = model.fleet.cursor.as_ref() == Some(row);
        let mark = if model.fleet.is_picked(row) { "+" } else { " " };
        painter.text(area.x + 1, y, 1, mark, Tone::Key);
        if is_cursor {
            painter.text(area.x, y, 1, "▌", Tone::Key);
        }
        let mut x = area.x + 3;
        for (column, wide) in &columns {
            let (text, tone) = match (model.fleet.folded_at(row), column) {
                (None, _) | (_, Column::State) => column.cell(agent, model.now.unix_ms),
                (Some(count), Column::Name) => piece(folded_name(count), Tone::Plain),
                (Some(_), Column::LastJob) => piece("Enter shows them", Tone::Waiting),
                (Some(_), _) => piece("", Tone::Plain),
            };
            // Long names mostly differ at their end.
            let text = if *column == Column::Name {
                middle_clipped(&text, *wide, painter.theme.mark())
            } else {
                text
            };
            painter.text(x, y, room(*wide, x, area), &text, tone);
            x = x.saturating_add(room(wide + 2, x, area));
        }
        if is_cursor && is_focused {
            painter.highlight(area.x + 1, y, area.width.saturating_sub(1));
            layout.point = Some((area.x + 3, y));
        }
    }
    title(painter, model, area, is_focused, (top, shown.len().saturating_sub(top + visible.len())));
}

fn room(wide: usize, x: u16, area: Area) -> u16 {
    let end = area.x.saturating_add(area.width);
    u16::try_from(wide).unwrap_or(u16::MAX).min(end.saturating_sub(x))
}

/// Returns the index of the first visible row, so that the cursor is visible.
fn top_of(model: &Model, rows: usize) -> usize {
    first_visible(model.fleet.top, model.fleet.cursor_place().unwrap_or(0), rows, model.fleet.shown().len())
}

fn title(
    painter: &mut Painter<'_>,
    model: &Model,
    area: Area,
    is_focused: bool,
    (above, below): (usize, usize),
) {
    let fleet = &model.fleet;
    let (shown, all) = (fleet.matched(), fleet.len());
    let tone = if is_focused { Tone::Strong } else { Tone::Plain };
    let mut left = vec![piece("Fleet", tone)];
    if shown == all {
        left.push(piece(format!("  {all}"), Tone::Plain));
    } else {
        left.push(piece(format!("  {shown} of {all}"), Tone::Plain));
    }
    let picked = fleet.picks.agents.len();
    if picked > 0 {
        left.push(piece(format!(" · {picked} picked"), Tone::Key));
        let hidden = fleet.hidden_picks();
        if hidden > 0 {
            left.push(piece(format!(", {hidden} of them hidden"), Tone::Waiting));
        }
    }
    let mut right = Vec::new();
    if !fleet.filter.is_empty() {
        right.push(piece(format!("filter {}", fleet.filter), Tone::Waiting));
    }
    if fleet.sort != SortBy::Attention {
        let gap = if right.is_empty() { "" } else { "  " };
        right.push(piece(format!("{gap}by {}", fleet.sort.word()), Tone::Dim));
    }
    let urgent = fleet.urgent_above(above);
    for (count, word, tone) in [
        (urgent, "urgent above", Tone::Waiting),
        (above - urgent, "above", Tone::Dim),
        (below, "below", Tone::Dim),
    ] {
        if count > 0 {
            let gap = if right.is_empty() { "" } else { "  " };
            right.push(piece(format!("{gap}{count} {word}"), tone));
        }
    }
    painter.rule(area, &left, &right, is_focused);
}

fn empty(painter: &mut Painter<'_>, model: &Model, area: Area) {
    let lines: &[&str] = if !model.fleet.is_complete {
        &["loading the agents …"]
    } else if model.settings.read_only {
        &["no agents yet"]
    } else {
        &[
            "No agents yet.",
            "",
            "Enter makes a join token and shows the line that starts an agent on another machine.",
            "On this machine no token is needed: sloth-runner agent start --daemon",
        ]
    };
    let room = area.width.saturating_sub(4);
    let lines = lines.iter().flat_map(|line| wrapped(line, usize::from(room)));
    for (y, line) in (area.y + 1..area.y + area.height).zip(lines) {
        painter.text(area.x + 3, y, room, &line, Tone::Plain);
    }
}
