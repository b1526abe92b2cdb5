//! Draws everything around the panes: header, command line, questions, prompts and footer.

use std::time::Duration;

use super::paint::{Painter, Piece, first_visible, piece};
use crate::{
    domain::{
        agent::AgentState,
        text::{form, middle_clipped, plural, strip_control, visible, width, wrapped},
        time::short_age,
    },
    tui::{
        keymap::{Action, BINDINGS, Context, keys_of},
        model::{
            Area, Choice, Confirmation, Connection, Focus, Layout, Model, Overlay, Prompt, PromptKind,
            Question, fleet::Counts,
        },
        theme::Tone,
    },
};

/// The maximum number of rows of the command line.
pub(super) const COMMAND_ROWS: usize = 5;

/// Draws the first row: the master, its state, and the state of the fleet.
pub(super) fn header(painter: &mut Painter<'_>, model: &Model, area: Area) {
    let mut left = vec![piece(" ", Tone::Plain)];
    if area.width >= 100 {
        left.push(piece("sloth-runner  ", Tone::Dim));
    }
    left.push(piece(strip_control(model.master_name()), Tone::Strong));
    match &model.connection {
        Connection::Connecting => left.push(piece("  connecting", Tone::Waiting)),
        Connection::Up => left.push(piece("  connected", Tone::Good)),
        Connection::Down { since, next_try, .. } => {
            let now = model.now.monotonic;
            let for_s = now.saturating_sub(*since).as_secs();
            let next_s = next_try.saturating_sub(now).as_secs() + 1;
            left.push(piece(format!("  no answer for {for_s} s, next try in {next_s} s"), Tone::Bad));
        }
    }
    if model.settings.read_only {
        left.push(piece("  read-only", Tone::Waiting));
    }
    if model.status.enroll_any {
        left.push(piece("  open enrollment!", Tone::Bad));
    }
    let counts = model.fleet.counts();
    let mut right: Vec<Piece> = Vec::new();
    for (state, count) in Counts::STATES.into_iter().zip(counts.states) {
        if count > 0 || state == AgentState::Active {
            let sign = state.sign();
            right.push(piece(format!("{sign} {count} {}  ", state.word()), sign.into()));
        }
    }
    let jobs = model.active_jobs().count();
    if jobs > 0 {
        right.push(piece(format!("{jobs} {} ", plural("job", jobs)), Tone::Running));
    }
    let wide = painter.width_of(&right);
    let used = painter.pieces(area.x, area.y, area.width, &left);
    if used + wide < area.width {
        painter.pieces(area.x + area.width - wide, area.y, wide, &right);
    }
}

/// Returns the lines that say that the master does not answer. What matters most comes first.
pub(super) fn banner_lines(model: &Model, width: u16) -> Vec<String> {
    let Connection::Down { since, next_try, reason } = &model.connection else { return Vec::new() };
    let now = model.now.monotonic;
    let text = format!(
        "{}: no answer for {} s, next try in {} s. Your line is kept; nothing was sent. ({})",
        strip_control(model.master_name()),
        now.saturating_sub(*since).as_secs(),
        next_try.saturating_sub(now).as_secs() + 1,
        strip_control(reason),
    );
    wrapped(&text, usize::from(width.saturating_sub(2)))
}

/// Draws the lines that say that the master does not answer. They are not dimmed with the data that may be out of date.
pub(super) fn banner(painter: &mut Painter<'_>, lines: &[String], area: Area) {
    let theme = std::mem::replace(&mut painter.theme.is_stale, false);
    for (y, line) in (area.y..area.y + area.height).zip(lines) {
        painter.text(area.x + 1, y, area.width.saturating_sub(2), line, Tone::Bad);
    }
    painter.theme.is_stale = theme;
}

/// Draws the title and the text of the command line.
pub(super) fn command(painter: &mut Painter<'_>, model: &Model, area: Area, layout: &mut Layout) {
    let is_focused = model.focus == Focus::Command && model.overlays.is_empty();
    let recipients = model.recipients();
    let strong = if is_focused { Tone::Strong } else { Tone::Plain };
    let mut left = vec![piece("Command → ", strong)];
    let mut right: Vec<Piece> = Vec::new();
    match recipients.agents.as_slice() {
        [] => left.push(piece("no agent", Tone::Dim)),
        [(name, _)] => {
            left.push(piece(name.as_str(), Tone::Strong));
            if recipients.is_cursor {
                left.push(piece(" (cursor)", Tone::Dim));
            }
        }
        all => {
            left.push(piece(format!("{} agents", all.len()), Tone::Strong));
            // The options decide what runs, so they have room before the names.
            let taken = usize::from(painter.width_of(&left)) + width(&model.command.options) + 10;
            let room = usize::from(area.width / 3).max(12).min(usize::from(area.width).saturating_sub(taken));
            if room >= 8 {
                let target = middle_clipped(&recipients.target, room, painter.theme.mark());
                left.push(piece(format!("  {target}"), Tone::Plain));
            }
        }
    }
    let hidden = model.fleet.hidden_picks();
    if hidden > 0 {
        left.push(piece(format!("  {hidden} hidden"), Tone::Waiting));
    }
    let agents = || recipients.agents.iter().filter_map(|(name, _)| model.fleet.agent(name));
    let mut notes: Vec<(String, Tone)> = Vec::new();
    for (state, word) in [(AgentState::Offline, "offline"), (AgentState::Late, "late")] {
        let count = agents().filter(|agent| agent.state == state).count();
        if count > 0 {
            notes.push((format!("{count} {word}"), Tone::Waiting));
        }
    }
    let busy: Vec<_> = agents().filter(|agent| agent.is_busy()).collect();
    if let Some(last) = busy.first().and_then(|agent| agent.last_job.as_ref()) {
        notes.push((
            format!("{} busy: {}, job {}", busy.len(), strip_control(&last.operator), last.number),
            Tone::Waiting,
        ));
    }
    if !recipients.is_cursor && !recipients.agents.is_empty() {
        let age = model.now.unix_ms.since(recipients.picked_ms);
        if age >= Duration::from_mins(10) {
            notes.push((format!("picked {} ago", short_age(age)), Tone::Waiting));
        }
        let target = model.fleet.picks.target.as_ref();
        let new = target.map_or(0, |target| {
            let matched = model.fleet.evaluate(target).agents;
            matched.iter().filter(|name| !model.fleet.picks.agents.contains_key(*name)).count()
        });
        if new > 0 {
            notes.push((
                format!("{new} more {} now, not included", form(new, "matches", "match")),
                Tone::Waiting,
            ));
        }
    }
    // Options that were given decide what runs, so they come first; notes are dropped before them where space is short.
    if model.command.options.is_empty() {
        notes.push(("all at once, no timeout".to_owned(), Tone::Dim));
    } else {
        right.push(piece(model.command.options.clone(), Tone::Key));
    }
    for (text, tone) in notes {
        right.push(piece(format!("{}{text}", if right.is_empty() { "" } else { ", " }), tone));
    }
    painter.rule(area, &left, &right, is_focused);
    let body = Area { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    layout.command = body;
    let (row, column) = {
        let cursor = model.command.text.cursor();
        (cursor.0, cursor.1)
    };
    let lines = model.command.text.lines();
    let top = first_visible(0, row, body.rows(), lines.len());
    for (y, (at, line)) in (body.y..body.y + body.height).zip(lines.iter().enumerate().skip(top)) {
        let sign = if at == 0 { " $ " } else { " > " };
        painter.text(body.x, y, 3, sign, Tone::Dim);
        let room = usize::from(body.width.saturating_sub(4));
        let before: String = line.chars().take(if at == row { column } else { 0 }).collect();
        let (line, before) = (visible(line), visible(&before));
        let (line, before) = (painter.theme.text(&line), painter.theme.text(&before));
        // A long line scrolls with the cursor.
        let skip = width(&before).saturating_sub(room.saturating_sub(1));
        let shown: String = skip_cells(&line, skip);
        painter.text(body.x + 3, y, body.width.saturating_sub(3), &shown, Tone::Plain);
        if is_focused && at == row {
            let x = body.x + 3 + u16::try_from(width(&before) - skip).unwrap_or(0);
            layout.cursor = Some((x.min(body.x + body.width.saturating_sub(1)), y));
        }
    }
}

fn skip_cells(text: &str, cells: usize) -> String {
    let (start, _) = crate::domain::text::beginning(text, cells);
    text[start.len()..].to_owned()
}

/// Returns the number of rows of a question, which takes the place of the footer too.
pub(super) fn question_rows(question: &Question, width: u16) -> u16 {
    let lines = wrapped(&question.text, usize::from(width.saturating_sub(2))).len();
    u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2)
}

/// Draws a question in place of the footer.
pub(super) fn question(painter: &mut Painter<'_>, question: &Question, area: Area, layout: &mut Layout) {
    painter.rule(area, &[piece("Question", Tone::Strong)], &[], true);
    let room = area.width.saturating_sub(2);
    let last = area.y + area.height.saturating_sub(1);
    for y in area.y + 1..=last {
        painter.text(area.x, y, area.width, &" ".repeat(usize::from(area.width)), Tone::Plain);
    }
    for (y, line) in (area.y + 1..last).zip(wrapped(&question.text, usize::from(room))) {
        painter.text(area.x + 1, y, room, &line, Tone::Waiting);
    }
    let how = match &question.expects {
        Confirmation::Yes => "y is yes; any other key is no ".to_owned(),
        Confirmation::Text(text) => {
            format!("Type {text} and Enter; anything else is no: {}", question.typed)
        }
    };
    painter.text(area.x + 1, last, room, &how, Tone::Plain);
    let x = area.x + 1 + u16::try_from(width(&how)).unwrap_or(0);
    layout.cursor = Some((x.min(area.x + area.width.saturating_sub(1)), last));
}

/// Returns the number of rows of a prompt, including its choices.
pub(super) fn prompt_rows(model: &Model, prompt: &Prompt) -> u16 {
    let choices = model.choices(prompt).len().min(12);
    let rows = 2 + choices + problem_lines(prompt, model.layout.size.0).len();
    u16::try_from(rows).unwrap_or(u16::MAX)
}

/// Returns the lines about the problem with the text of a prompt.
fn problem_lines(prompt: &Prompt, width: u16) -> Vec<String> {
    if prompt.problem.is_empty() {
        return Vec::new();
    }
    wrapped(&prompt.problem, usize::from(width.saturating_sub(2)))
}

/// Draws a prompt with its choices above it.
pub(super) fn prompt(
    painter: &mut Painter<'_>,
    model: &Model,
    prompt: &Prompt,
    area: Area,
    layout: &mut Layout,
) {
    let (title, sign) = match prompt.kind {
        PromptKind::Filter => ("Filter the fleet: text, @role:web, state:late", "/"),
        PromptKind::Target => ("Pick by target: web-[1-5], @role:web!web-3, @all", ""),
        PromptKind::Search => ("Search", "/"),
        PromptKind::Options => {
            ("Options: --batch 10 --canary 1 --timeout 30s --fanout 50 --stop-if 'fail>0'", "")
        }
        PromptKind::Palette => ("Run an action", ":"),
        PromptKind::Past => ("Command history", ""),
        PromptKind::HistoryFilter => ("Filter the history: command, target, operator, number", "/"),
        PromptKind::DrainReason => ("Drain the picked agents; why?", ""),
        PromptKind::Code => ("The code that the agent printed on its machine", ""),
        PromptKind::Label => ("Labels: role=web dc=ams old-", ""),
    };
    let mut right = Vec::new();
    if prompt.problem.is_empty() && prompt.kind == PromptKind::Target {
        let text = prompt.value();
        if let Ok(target) = text.trim().parse::<crate::domain::target::Target>() {
            let matched = model.fleet.evaluate(&target).agents;
            let names =
                crate::domain::target::fold::fold(matched.iter().map(crate::domain::name::AgentName::as_str));
            let names = middle_clipped(&names, 30, painter.theme.mark());
            right.push(piece(format!("{}: {names}", matched.len()), Tone::Good));
        }
    }
    painter.rule(area, &[piece(title, Tone::Strong)], &right, true);
    for (y, line) in (area.y + 1..area.y + area.height).zip(problem_lines(prompt, area.width)) {
        painter.text(area.x + 1, y, area.width.saturating_sub(2), &line, Tone::Bad);
    }
    let choices = model.choices(prompt);
    let room = area.rows().saturating_sub(2);
    let top = first_visible(0, prompt.choice, room, choices.len());
    for (at, choice) in choices.iter().enumerate().skip(top).take(room) {
        let y = area.y + 1 + u16::try_from(at - top).unwrap_or(0);
        let is_chosen = at == prompt.choice;
        let (text, keys) = match choice {
            Choice::Action(action) => (action.name().to_owned(), known_keys(*action)),
            Choice::Past(past) => (past.replace('\n', " ⏎ "), String::new()),
        };
        painter.text(area.x, y, 1, if is_chosen { "▌" } else { " " }, Tone::Key);
        let tone = if is_chosen { Tone::Strong } else { Tone::Plain };
        painter.text(area.x + 2, y, area.width.saturating_sub(2), &text, tone);
        let wide = u16::try_from(width(&keys)).unwrap_or(0);
        if wide + 4 < area.width {
            painter.text(area.x + area.width - wide - 2, y, wide, &keys, Tone::Key);
        }
    }
    let y = area.y + area.height.saturating_sub(1);
    let before = format!(" {sign}");
    painter.text(area.x, y, area.width, &before, Tone::Key);
    let x = area.x + u16::try_from(width(&before)).unwrap_or(0);
    let value = prompt.value();
    painter.text(x, y, area.width.saturating_sub(x - area.x), &value, Tone::Plain);
    let column = prompt.text.cursor().1;
    let typed: String = value.chars().take(column).collect();
    let x = x + u16::try_from(width(&typed)).unwrap_or(0);
    layout.cursor = Some((x.min(area.x + area.width.saturating_sub(1)), y));
}

/// Returns the keys of an action in any context that binds it.
fn known_keys(action: Action) -> String {
    let keys = Context::ALL.iter().find_map(|context| keys_of(*context, action));
    keys.map(|keys| keys.join(" ")).unwrap_or_default()
}

/// Draws the last row: the last message, or else the hints.
pub(super) fn footer(painter: &mut Painter<'_>, model: &Model, area: Area) {
    if let Some(toast) = model.toasts.back() {
        let tone = if toast.is_bad { Tone::Bad } else { Tone::Good };
        let older = model.toasts.len() - 1;
        let more = if older > 0 { format!("  (+{older})") } else { String::new() };
        painter.text(area.x, area.y, area.width, &format!(" {}{more}", toast.text), tone);
        return;
    }
    let shown = |(keys, hint): (&str, &str)| [piece(keys, Tone::Key), piece(format!(" {hint}"), Tone::Plain)];
    let mut all = hints(model);
    // The hint for help is always shown, even if the row is full.
    let help = all.iter().position(|(key, _)| *key == "?").map(|at| shown(all.remove(at)));
    let reserved = help.as_ref().map_or(0, |help| painter.width_of(help) + 2);
    let mut x = area.x + 1;
    for pieces in all.into_iter().map(shown) {
        let wide = painter.width_of(&pieces);
        if x + wide + 1 + reserved > area.x + area.width {
            break;
        }
        x = painter.pieces(x, area.y, wide, &pieces) + 2;
    }
    if let Some(help) = help {
        painter.pieces(x, area.y, reserved, &help);
    }
}

/// Returns the keys of the current context and their hints, only for actions that are possible now.
pub(in crate::tui) fn hints(model: &Model) -> Vec<(&'static str, &'static str)> {
    if let Some(Overlay::Question(_)) = model.overlays.last() {
        return Vec::new();
    }
    let context = model.context();
    let mut hints: Vec<(&str, &str)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for context in context.chain() {
        for binding in BINDINGS.iter().filter(|binding| binding.context == *context) {
            let key = binding.keys[0];
            if seen.contains(&key) {
                continue;
            }
            seen.extend(binding.keys);
            let is_useful = match binding.action {
                Action::NextJob => model.jobs.len() > 1,
                Action::GoJob => model.open.is_some(),
                Action::CopyRow => !matches!(
                    model.overlays.last(),
                    Some(Overlay::Help(_) | Overlay::Notice { copy: None, .. })
                ),
                _ => true,
            };
            let hint = match binding.action {
                Action::Quit if model.has_layer() => "close",
                Action::Close if model.has_layer() => "",
                Action::Open if model.creates_join_line() => "add an agent",
                _ => binding.hint,
            };
            if !hint.is_empty() && is_useful && model.may(binding.action).is_ok() {
                hints.push((key, hint));
            }
        }
    }
    hints
}
