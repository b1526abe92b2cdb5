//! Draws the layers over the panes: help, details of an agent, the history of jobs, notices.

use std::time::Duration;

use super::paint::{Painter, Piece, first_visible, piece};
use crate::{
    domain::{
        agent::{AgentState, AgentView, LastSeen},
        job::Job,
        name::Labels,
        text::{clipped, pad_to_width, spoken_bytes, strip_control, width, wrapped},
        time::{UnixMs, local_time, short_age, short_duration},
    },
    tui::{
        keymap::{BINDINGS, Context},
        model::{
            Area, Layout, Model,
            fleet::{RowKey, memory_percent},
        },
        theme::Tone,
    },
};

/// The width of the name of a field.
const FIELD_NAME_WIDTH: usize = 14;

/// Draws scrolled lines of pieces.
fn lines(painter: &mut Painter<'_>, area: Area, all: &[Vec<Piece>], top: usize, layout: &mut Layout) {
    let room = usize::from(area.width.saturating_sub(2));
    let all: Vec<Vec<Piece>> = all.iter().flat_map(|line| wrapped_pieces(line, room)).collect();
    layout.overlay = area;
    layout.point = Some((area.x + 1, area.y));
    let top = top.min(all.len().saturating_sub(area.rows()));
    layout.overlay_top = top;
    for (y, line) in (area.y..area.y + area.height).zip(all.iter().skip(top)) {
        painter.pieces(area.x + 1, y, area.width.saturating_sub(2), line);
    }
    let below = all.len().saturating_sub(top + area.rows());
    if below > 0 && area.height > 1 {
        let text = format!(" {below} more below ");
        let wide = u16::try_from(text.len()).unwrap_or(0);
        painter.text(
            (area.x + area.width).saturating_sub(wide + 1),
            area.y + area.height - 1,
            wide,
            &text,
            Tone::Dim,
        );
    }
}

/// Breaks a line that is too long. What follows a name of a field is aligned with its value.
fn wrapped_pieces(line: &[Piece], room: usize) -> Vec<Vec<Piece>> {
    let (before, text, tone) = match line {
        [(text, tone)] => (None, text, *tone),
        [name, (text, tone)] if width(&name.0) == FIELD_NAME_WIDTH => (Some(name), text, *tone),
        _ => return vec![line.to_vec()],
    };
    let indent = before.map_or(0, |name| width(&name.0));
    if indent + width(text) <= room {
        return vec![line.to_vec()];
    }
    let lines = wrapped(text, room.saturating_sub(indent));
    let first = |at: usize| match before {
        Some(name) if at == 0 => vec![name.clone()],
        Some(_) => vec![piece(" ".repeat(indent), Tone::Plain)],
        None => Vec::new(),
    };
    let with = |(at, line): (usize, String)| {
        let mut pieces = first(at);
        pieces.push(piece(line, tone));
        pieces
    };
    lines.into_iter().enumerate().map(with).collect()
}

fn below(area: Area) -> Area {
    Area { y: area.y + 1, height: area.height.saturating_sub(1), ..area }
}

/// Draws the keymap, starting with the current context.
pub(super) fn help(painter: &mut Painter<'_>, model: &Model, area: Area, top: usize, layout: &mut Layout) {
    painter.rule(area, &[piece("Help", Tone::Strong)], &[piece("j k scroll  q closes", Tone::Dim)], true);
    let mut all: Vec<Vec<Piece>> = Vec::new();
    let here = base_context(model);
    let order =
        here.chain().iter().chain(Context::ALL.iter().filter(|context| !here.chain().contains(context)));
    for context in order {
        if !all.is_empty() {
            all.push(Vec::new());
        }
        all.push(vec![piece(context.title(), Tone::Strong)]);
        for binding in BINDINGS.iter().filter(|binding| binding.context == *context) {
            let keys = pad_to_width(&painter.theme.text(&binding.keys.join(" ")), 14, "");
            all.push(vec![piece(format!("  {keys}"), Tone::Key), piece(binding.action.name(), Tone::Plain)]);
        }
    }
    let column = 56;
    let columns = usize::from((area.width / column).clamp(1, 3));
    let body = below(area);
    if columns == 1 {
        return lines(painter, body, &all, top, layout);
    }
    layout.overlay = body;
    let tall = body.rows().max(1);
    let top = top.min(all.len().saturating_sub(tall * columns));
    layout.overlay_top = top;
    for (at, line) in all.iter().skip(top).take(tall * columns).enumerate() {
        let x = body.x + 1 + u16::try_from(at / tall).unwrap_or(0) * column;
        let y = body.y + u16::try_from(at % tall).unwrap_or(0);
        painter.pieces(x, y, column - 2, line);
    }
}

/// Returns the context of the keys below the layers.
fn base_context(model: &Model) -> Context {
    use crate::tui::model::Focus;
    match model.focus {
        Focus::Fleet => Context::Fleet,
        Focus::Job if model.open.as_ref().is_some_and(|open| open.output.is_some()) => Context::Output,
        Focus::Job => Context::Job,
        Focus::Command => Context::Command,
    }
}

/// Draws the details of an agent or of a pending key.
pub(super) fn details(
    painter: &mut Painter<'_>,
    model: &Model,
    area: Area,
    row: &RowKey,
    top: usize,
    layout: &mut Layout,
) {
    let Some(agent) = model.fleet.row(row) else {
        painter.rule(area, &[piece(row.name.as_str(), Tone::Strong)], &[], true);
        painter.text(area.x + 1, area.y + 1, area.width, "It no longer exists.", Tone::Dim);
        return;
    };
    let sign = agent.state.sign();
    let title = [
        piece(agent.name.as_str(), Tone::Strong),
        piece(format!("  {sign} {}", agent.state.word()), sign.into()),
    ];
    painter.rule(area, &title, &[piece("q closes", Tone::Dim)], true);
    let all = if agent.state == AgentState::Pending { waiting(agent, model) } else { facts(agent, model) };
    lines(painter, below(area), &all, top, layout);
}

fn field(name: &str, value: impl Into<String>, tone: Tone) -> Vec<Piece> {
    vec![
        piece(pad_to_width(name, FIELD_NAME_WIDTH, ""), Tone::Dim),
        piece(strip_control(&value.into()), tone),
    ]
}

/// Formats a fingerprint in groups of four digits on two lines, for comparison by a person.
fn fingerprint(name: &str, digits: &str, tone: Tone) -> impl Iterator<Item = Vec<Piece>> {
    /// The number of groups in a line.
    const HALF: usize = 8;
    let digits: Vec<char> = digits.chars().collect();
    let fours: Vec<String> = digits.chunks(4).map(|four| four.iter().collect()).collect();
    let name = name.to_owned();
    fours
        .chunks(HALF)
        .map(|half| half.join(" "))
        .enumerate()
        .map(move |(at, half)| field(if at == 0 { &name } else { "" }, half, tone))
        .collect::<Vec<_>>()
        .into_iter()
}

fn waiting(agent: &AgentView, model: &Model) -> Vec<Vec<Piece>> {
    let seen_ms = agent.last_seen.map_or(UnixMs(0), |seen| seen.at_ms);
    let since = local_time(seen_ms, model.now.unix_ms, &model.now.zone);
    let mut all = Vec::new();
    if agent.key_changed {
        all.push(vec![piece(
            "Another key is known under this name. Approving this one REPLACES it: right after a reinstall, wrong for a second \
             machine, which needs its own --name.",
            Tone::Bad,
        )]);
        all.push(Vec::new());
    }
    all.extend([
        vec![piece("A machine asks to be enrolled under this name.", Tone::Plain)],
        Vec::new(),
        field("from", agent.address.as_str(), Tone::Plain),
        field("asked", format!("{since}, version {}", agent.version), Tone::Plain),
    ]);
    if !agent.proposed.is_empty() {
        all.push(field("proposes", agent.proposed.to_string(), Tone::Strong));
    }
    all.extend(fingerprint("fingerprint", &agent.fingerprint.to_string(), Tone::Strong));
    all.push(Vec::new());
    let (what, asks) = if agent.has_code {
        ("It printed a one-time code when it started, on its own machine.", " enrolls it, with that code; ")
    } else {
        ("Compare the key with what the agent printed when it started, on its own machine.", " enrolls it; ")
    };
    all.push(vec![piece(what, Tone::Plain)]);
    if !agent.proposed.is_empty() {
        all.push(vec![piece("Its proposed labels take effect once it is approved.", Tone::Plain)]);
    }
    if !model.settings.read_only {
        all.push(vec![
            piece("A", Tone::Key),
            piece(asks, Tone::Plain),
            piece("D", Tone::Key),
            piece(" rejects it.", Tone::Plain),
        ]);
    }
    all
}

fn labels_text(labels: &Labels) -> String {
    let shown = labels.iter().map(|(key, value)| format!("{}={}", key.as_str(), value.as_str()));
    shown.collect::<Vec<_>>().join(" ")
}

fn facts(agent: &AgentView, model: &Model) -> Vec<Vec<Piece>> {
    let now = model.now;
    let mut all = Vec::new();
    if !agent.hint.is_empty() {
        all.push(vec![piece(strip_control(&agent.hint), Tone::Waiting)]);
        all.push(Vec::new());
    }
    let link = match agent.link {
        Some(_) => format!("{}: {}", agent.link_word(), agent.link_reason),
        None => "none; it is not connected".to_owned(),
    };
    let link_tone = if agent.link_word() == "tunnel!" { Tone::Waiting } else { Tone::Plain };
    all.push(field("link", link, link_tone));
    all.push(field("address", agent.address.as_str(), Tone::Plain));
    if let Some(direct) = &agent.direct_address {
        all.push(field("reported", direct.to_string(), Tone::Plain));
    }
    let seen = match agent.last_seen {
        None => "never".to_owned(),
        Some(LastSeen { at_ms, .. }) => format!(
            "{} ({} ago)",
            local_time(at_ms, now.unix_ms, &now.zone),
            short_age(now.unix_ms.since(at_ms))
        ),
    };
    all.push(field("last seen", seen, Tone::Plain));
    all.push(field("version", agent.version.as_str(), Tone::Plain));
    all.push(field("labels", labels_text(&agent.labels), Tone::Plain));
    if !agent.set_labels.is_empty() {
        all.push(field("of them set", labels_text(&agent.set_labels), Tone::Plain));
    }
    if !agent.proposed.is_empty() {
        all.push(field("proposed", agent.proposed.to_string(), Tone::Waiting));
        let how = if model.settings.read_only { "" } else { "; A accepts it" };
        all.push(field("", format!("has no effect until it is accepted{how}"), Tone::Dim));
    }
    if let Some(facts) = &agent.facts {
        all.push(Vec::new());
        all.push(field(
            "machine",
            format!("{}, {} {}", facts.hostname, facts.os, facts.architecture),
            Tone::Plain,
        ));
        all.push(field("kernel", facts.kernel.as_str(), Tone::Plain));
        let cpu = format!("{:.0}% of {}, load {:.2}", facts.cpu_percent, facts.cpus, facts.load1);
        all.push(field("cpu", cpu, Tone::Plain));
        let memory = format!("{}% of {}", memory_percent(facts), spoken_bytes(facts.memory_total));
        all.push(field("memory", memory, Tone::Plain));
        all.push(field("up", short_age(Duration::from_secs(facts.uptime_s)), Tone::Plain));
        all.push(field("tasks", facts.running_tasks.to_string(), Tone::Plain));
    }
    all.push(Vec::new());
    all.extend(fingerprint("key", &agent.fingerprint.to_string(), Tone::Dim));
    all.push(field("trusts", agent.trust.as_str(), Tone::Dim));
    all.push(Vec::new());
    all.push(vec![piece("Recent jobs", Tone::Strong)]);
    if model.recent.0 == agent.name.as_str() {
        if model.recent.1.is_empty() {
            all.push(vec![piece("none yet", Tone::Dim)]);
        } else {
            let jobs: Vec<&Job> = model.recent.1.iter().collect();
            all.extend(job_lines(&jobs, model, usize::from(model.layout.size.0).saturating_sub(2)));
        }
    } else {
        all.push(vec![piece("loading …", Tone::Dim)]);
    }
    all
}

/// Returns the cells of a job (number, outcomes, start, duration, operator, target, command) and the tone of
/// its outcomes.
fn job_cells(job: &Job, model: &Model) -> ([String; 7], Tone) {
    let failed = job.task_count.saturating_sub(job.succeeded + job.unfinished);
    let counted = [('✗', failed), ('▸', job.unfinished), ('✓', job.succeeded)];
    let shown = counted.iter().filter(|(_, count)| *count > 0).map(|(sign, count)| format!("{sign} {count}"));
    let tone = if failed > 0 {
        Tone::Bad
    } else if job.unfinished > 0 {
        Tone::Running
    } else {
        Tone::Good
    };
    let took = job
        .ended_ms
        .map_or_else(|| "running".to_owned(), |ended| short_duration(ended.since(job.created_ms)));
    let cells = [
        job.number.to_string(),
        shown.collect::<Vec<_>>().join("  "),
        local_time(job.created_ms, model.now.unix_ms, &model.now.zone),
        took,
        strip_control(&job.operator),
        strip_control(&job.target),
        strip_control(&job.shown_command()),
    ];
    (cells, tone)
}

/// The headings of the cells.
const HEADING: [&str; 7] = ["JOB", "OUTCOMES", "STARTED", "DURATION", "OPERATOR", "TARGET", "COMMAND"];
/// The maximum widths of the columns. The last column gets the remaining width.
const MAX_WIDTHS: [usize; 7] = [6, 20, 16, 8, 10, 20, usize::MAX];

/// Formats jobs as lines of aligned columns, below a heading.
fn job_lines(jobs: &[&Job], model: &Model, room: usize) -> Vec<Vec<Piece>> {
    let rows: Vec<([String; 7], Tone)> = jobs.iter().map(|job| job_cells(job, model)).collect();
    let wide = |column: usize| {
        let widest = rows.iter().map(|(cells, _)| width(&cells[column])).max().unwrap_or(0);
        widest.max(HEADING[column].len()).min(MAX_WIDTHS[column])
    };
    let widths: Vec<usize> = (0..6).map(wide).collect();
    let left = room.saturating_sub(widths.iter().map(|wide| wide + 2).sum());
    let line = |cells: [String; 7], tones: [Tone; 7]| {
        let mut line = Vec::new();
        for (column, (text, tone)) in cells.into_iter().zip(tones).enumerate() {
            let text = match widths.get(column) {
                Some(wide) if column == 0 => format!("{text:>wide$}  "),
                Some(wide) => format!("{}  ", pad_to_width(&text, *wide, "…")),
                None => clipped(&text, left, "…"),
            };
            line.push(piece(text, tone));
        }
        line
    };
    let mut lines = vec![line(HEADING.map(str::to_owned), [Tone::Dim; 7])];
    for (cells, tone) in rows {
        let tones = [Tone::Strong, tone, Tone::Dim, Tone::Dim, Tone::Plain, Tone::Plain, Tone::Plain];
        lines.push(line(cells, tones));
    }
    lines
}

/// Draws the history: the jobs of all operators, newest first.
pub(super) fn history(
    painter: &mut Painter<'_>,
    model: &Model,
    area: Area,
    cursor: usize,
    filter: &str,
    layout: &mut Layout,
) {
    let rows = model.history_rows(filter);
    let right =
        if filter.is_empty() { Vec::new() } else { vec![piece(format!("filter {filter}"), Tone::Waiting)] };
    painter.rule(
        area,
        &[piece("History", Tone::Strong), piece(format!("  {}", rows.len()), Tone::Plain)],
        &right,
        true,
    );
    let heading = below(area);
    let body = below(heading);
    layout.overlay = body;
    if rows.is_empty() {
        let text = if filter.is_empty() {
            "There is no job yet: i goes to the command line."
        } else {
            "nothing matches"
        };
        painter.text(body.x + 1, body.y, body.width, text, Tone::Dim);
        return;
    }
    let top = first_visible(cursor.saturating_sub(body.rows() / 2), cursor, body.rows(), rows.len());
    let visible = &rows[top..(top + body.rows()).min(rows.len())];
    let room = body.width.saturating_sub(2);
    for (y, (at, line)) in (heading.y..).zip(job_lines(visible, model, usize::from(room)).iter().enumerate())
    {
        painter.pieces(body.x + 1, y, room, line);
        if at > 0 && top + at - 1 == cursor {
            painter.text(body.x, y, 1, "▌", Tone::Key);
            painter.highlight(body.x + 1, y, body.width.saturating_sub(1));
            layout.point = Some((body.x + 1, y));
        }
    }
}

/// Draws a notice.
pub(super) fn notice(
    painter: &mut Painter<'_>,
    area: Area,
    title: &str,
    (text, top): (&[String], usize),
    layout: &mut Layout,
) {
    painter.rule(area, &[piece(title, Tone::Strong)], &[piece("q closes", Tone::Dim)], true);
    let all: Vec<Vec<Piece>> =
        text.iter().map(|line| vec![piece(strip_control(line), Tone::Plain)]).collect();
    lines(painter, below(area), &all, top, layout);
}
