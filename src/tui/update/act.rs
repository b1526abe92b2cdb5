//! Performs the action of a key or of the palette.

use super::{
    super::{
        keymap::Action,
        model::{
            Focus, Message, Model, Overlay, PromptKind,
            job::{Output, View},
        },
        msg::Cmd,
    },
    agents, answers, asking, editing, focusing, loading, looking, moving, picking, prompts, scrolling,
    searching, starting,
};
use crate::domain::{groups::mask::Masks, offset::OutputOffset, time::local_time};

/// Performs an action, or says why it is not possible.
pub(super) fn try_to(model: &mut Model, action: Action, cmds: &mut Vec<Cmd>) {
    match model.may(action) {
        Ok(()) => perform(model, action, cmds),
        Err(why) => model.complain(why),
    }
}

/// Performs an action that is possible.
fn perform(model: &mut Model, action: Action, cmds: &mut Vec<Cmd>) {
    use Action as A;
    match action {
        A::NextPane => focusing::next_pane(model, true),
        A::PreviousPane => focusing::next_pane(model, false),
        A::GoFleet => focusing::focus(model, Focus::Fleet),
        A::GoJob => focusing::focus(model, Focus::Job),
        A::GoCommand => focusing::enter_command(model),
        A::Shell => asking::shell(model),
        A::Down
        | A::Up
        | A::First
        | A::Last
        | A::HalfDown
        | A::HalfUp
        | A::PageDown
        | A::PageUp
        | A::Left
        | A::Right => moving::go(model, action, cmds),
        A::ScrollUp => scrolling::job(model, false, cmds),
        A::ScrollDown => scrolling::job(model, true, cmds),
        A::Pick => picking::pick(model),
        A::PickRange => picking::range(model),
        A::PickShown | A::Invert => asking::pick_shown(model, action == A::Invert),
        A::Unpick => picking::unpick(model),
        A::PickTarget => prompts::open(model, PromptKind::Target),
        A::Filter if matches!(model.overlays.last(), Some(Overlay::History { .. })) => {
            prompts::open(model, PromptKind::HistoryFilter);
        }
        A::Filter => prompts::open(model, PromptKind::Filter),
        A::Search => prompts::open(model, PromptKind::Search),
        A::SearchNext => searching::next(model, true, cmds),
        A::SearchPrevious => searching::next(model, false, cmds),
        A::Close => close(model),
        A::Quit => close_or_quit(model),
        A::Open => open(model, cmds),
        A::NextView => next_view(model),
        A::NextAttention => moving::attention(model, true),
        A::PreviousAttention => moving::attention(model, false),
        A::Zoom => model.is_zoomed = !model.is_zoomed,
        A::Sort => looking::sort(model),
        A::PreviousJob => loading::other_job(model, false),
        A::NextJob => loading::other_job(model, true),
        A::Follow => scrolling::follow(model),
        A::Wrap => model.look.wraps = !model.look.wraps,
        A::Times => model.look.has_times = !model.look.has_times,
        A::Streams => looking::streams(model),
        A::Masks => next_masks(model),
        A::Unfold => looking::unfold(model),
        A::CancelRow | A::CancelJob => asking::cancel(model, action == A::CancelJob),
        A::LoadAgain | A::LoadFailed => asking::load(model, action == A::LoadFailed),
        A::Difference => looking::difference(model),
        A::Save => asking::save(model),
        A::Pager => asking::pager(model),
        A::CopyRow => copy(model, cmds),
        A::CopyReport => copy_report(model, cmds),
        A::Promote | A::StopJob => asking::leave_gate(model, action == A::Promote),
        A::Messages => show_messages(model),
        A::Acknowledge => looking::acknowledge(model),
        A::Theme => looking::next_theme(model),
        A::History => model.overlays.push(Overlay::History { cursor: 0, filter: String::new() }),
        A::Palette => prompts::open(model, PromptKind::Palette),
        A::Help => model.overlays.push(Overlay::Help(0)),
        A::Redraw => cmds.push(Cmd::Redraw),
        A::Suspend => cmds.push(Cmd::Suspend),
        A::Interrupt => interrupt(model),
        A::Approve | A::Reject => agents::ask_about_key(model, action == A::Approve),
        A::Execute if model.command.is_blank() => focusing::focus(model, Focus::Job),
        A::Execute => starting::execute(model, cmds),
        A::NewLine => model.command.text.insert_newline(),
        A::Complete => editing::complete(model),
        A::Past => prompts::open(model, PromptKind::Past),
        A::Options => prompts::open(model, PromptKind::Options),
        A::Editor => cmds.push(Cmd::Edit(model.command.value())),
        A::Prefix => model.command.has_prefix = true,
        A::ClearOrLeave if !model.command.value().is_empty() => model.command.clear(),
        A::DeleteOrLeave if !model.command.value().is_empty() => {
            model.command.text.delete_next_char();
        }
        A::ClearOrLeave | A::DeleteOrLeave | A::Leave => focusing::leave_command(model),
        A::Older | A::Newer => browse(model, action == A::Older),
        A::Undo => undo(model),
        A::Accept => {
            if let Some(action) = prompts::accept(model, cmds) {
                try_to(model, action, cmds);
            }
        }
        A::Abandon => prompts::abandon(model),
        A::ChoiceDown => prompts::choose(model, 1),
        A::ChoiceUp => prompts::choose(model, -1),
        A::AddAgent => cmds.push(Cmd::MakeJoinLine),
        A::Label => prompts::open(model, PromptKind::Label),
        A::DrainAgents => prompts::open(model, PromptKind::DrainReason),
        A::ResumeAgents => cmds.push(Cmd::DrainAgents(agents::recipients_by_name(model), None)),
        A::StopAgents => agents::ask_about_agents(model, true),
        A::DeleteAgents => agents::ask_about_agents(model, false),
        A::ShowLog => {
            let master = &model.status.version;
            model.say(format!("this program's log: {}; the master is version {master}", model.settings.log));
        }
    }
}

/// Shows what was said, the newest first.
fn show_messages(model: &mut Model) {
    let line = |message: &Message| {
        let at = local_time(message.at_ms, model.now.unix_ms, &model.now.zone);
        format!("{at}  {}", message.text)
    };
    let mut lines: Vec<String> = model.messages.iter().rev().map(line).collect();
    if lines.is_empty() {
        lines.push("Nothing has been said yet.".to_owned());
    }
    model.overlays.push(Overlay::Notice { title: "Messages".to_owned(), lines, copy: None, top: 0 });
}

/// Copies a report of the open job.
fn copy_report(model: &Model, cmds: &mut Vec<Cmd>) {
    if let Some(open) = &model.open {
        let text = loading::report(open, model.now.zone, model.now.unix_ms);
        cmds.push(Cmd::Copy(text, format!("a report of job {}", open.job.number)));
    }
}

/// Shows the keys that quit and cancel.
fn interrupt(model: &mut Model) {
    let job = model.open.as_ref().filter(|open| open.job.ended_ms.is_none()).map(|open| open.job.number);
    let close = if model.has_layer() { "q closes; the last q quits" } else { "q quits" };
    let cancel = match (job, model.focus == Focus::Job && model.overlays.is_empty()) {
        (Some(number), true) => format!(" · X cancels job {number}"),
        (Some(number), false) => format!(" · 2 goes to job {number}, where X cancels it"),
        (None, _) => String::new(),
    };
    model.say(format!("{close}{cancel}"));
}

/// Moves the cursor within the command line, or selects another command at its first or last row.
fn browse(model: &mut Model, older: bool) {
    let row = model.command.text.cursor().0;
    let is_edge = if older { row == 0 } else { row + 1 >= model.command.rows() };
    if is_edge {
        model.command.browse(older);
    } else {
        let to = if older { tui_textarea::CursorMove::Up } else { tui_textarea::CursorMove::Down };
        model.command.text.move_cursor(to);
    }
}

/// Undoes what was typed last.
fn undo(model: &mut Model) {
    match model.overlays.last_mut() {
        Some(Overlay::Prompt(prompt)) => {
            prompt.text.undo();
            prompts::changed(model);
        }
        _ => model.command.undo(),
    }
}

fn next_view(model: &mut Model) {
    let shows_both = model.layout.shows_both;
    let Some(open) = &mut model.open else { return };
    open.output = None;
    let at = View::ALL.iter().position(|view| *view == open.view).unwrap_or(0);
    open.view = View::ALL[(at + 1) % View::ALL.len()];
    open.has_moved = false;
    open.assign_panes();
    if open.view == View::Grid && !shows_both {
        let current = open.rows.current().map(|row| row.example);
        open.pane = current.and_then(|task| open.places.iter().position(|place| *place == task)).unwrap_or(0);
    }
    focusing::focus(model, Focus::Job);
}

fn next_masks(model: &mut Model) {
    let Some(open) = &mut model.open else { return };
    let all = ["", "times", "names", "numbers", "names,times", "names,times,numbers"];
    let now = open.masks.to_string();
    let at = all.iter().position(|masks| masks.parse::<Masks>().is_ok_and(|masks| masks.to_string() == now));
    open.masks = all[at.map_or(1, |at| (at + 1) % all.len())].parse().unwrap_or_default();
    let text = if open.masks.any() {
        format!("compared without {}", open.masks)
    } else {
        "compared without masks".to_owned()
    };
    // Watch again with the new masks, even if the job has ended.
    open.is_over = false;
    model.watching = None;
    model.say(text);
}

/// Closes the topmost layer. Returns false if there was none.
fn close_layer(model: &mut Model) -> bool {
    if model.overlays.pop().is_some() {
        return true;
    }
    if let Some(open) = &mut model.open
        && model.focus == Focus::Job
    {
        if open.output.take().is_some() {
            return true;
        }
        if open.comparison.take().is_some() {
            return true;
        }
    }
    if model.is_zoomed {
        model.is_zoomed = false;
        return true;
    }
    if model.focus == Focus::Fleet && std::mem::take(&mut model.fleet.unfolds_pending) {
        model.fleet.is_stale = true;
        return true;
    }
    if model.focus == Focus::Fleet && !model.fleet.filter.is_empty() {
        model.fleet.filter.clear();
        model.fleet.is_stale = true;
        return true;
    }
    if model.focus == Focus::Job {
        focusing::focus(model, Focus::Fleet);
        return true;
    }
    false
}

fn close(model: &mut Model) {
    model.fleet.range_from = None;
    // What was said is kept in the list of messages.
    let had_toasts = !std::mem::take(&mut model.toasts).is_empty();
    if !close_layer(model) && !had_toasts {
        model.say("q quits");
    }
}

fn close_or_quit(model: &mut Model) {
    if !close_layer(model) {
        asking::quit(model, answers::own_active(model).len());
    }
}

/// Opens the item under the cursor.
fn open(model: &mut Model, cmds: &mut Vec<Cmd>) {
    if let Some(job) = model.history_cursor() {
        let number = job.number;
        model.overlays.clear();
        return loading::open_job(model, number, cmds);
    }
    if model.focus == Focus::Fleet {
        if model.creates_join_line() {
            cmds.push(Cmd::MakeJoinLine);
        }
        let Some(row) = model.fleet.cursor.clone() else { return };
        if model.fleet.folded_at(&row).is_some() {
            (model.fleet.unfolds_pending, model.fleet.is_stale) = (true, true);
            return;
        }
        if row.waiting.is_none() && model.is_up() {
            cmds.push(Cmd::Recent(row.name.clone()));
        }
        model.overlays.push(Overlay::Details { row, top: 0 });
        return;
    }
    let Some(open) = &mut model.open else { return };
    if open.output.is_some() {
        // If an output is open already, Enter opens the details of its agent.
        let agent = open.current_task().and_then(|task| open.agent(task).cloned());
        if let Some(name) = agent {
            if model.is_up() {
                cmds.push(Cmd::Recent(name.clone()));
            }
            let row = super::super::model::fleet::RowKey { name, waiting: None };
            model.overlays.push(Overlay::Details { row, top: 0 });
        }
        return;
    }
    if let Some(task) = open.current_task() {
        let end = open.job.task(task).map_or(OutputOffset::START, |task| task.end_offset);
        open.output = Some(Output::new(task, loading::tail_offset(end)));
    }
}

fn copy(model: &mut Model, cmds: &mut Vec<Cmd>) {
    match model.overlays.last() {
        Some(Overlay::Notice { copy: Some(copy), .. }) => {
            return cmds.push(Cmd::Copy(copy.clone(), "the line".to_owned()));
        }
        Some(Overlay::Details { row, .. }) => {
            let name = row.name.to_string();
            return cmds.push(Cmd::Copy(name.clone(), name));
        }
        Some(_) => return,
        None => {}
    }
    if model.focus == Focus::Fleet {
        let name = model.fleet.under_cursor().map(|agent| agent.name.to_string());
        return cmds.extend(name.map(|name| Cmd::Copy(name.clone(), name)));
    }
    let Some(open) = &model.open else { return };
    if let Some(agent) = open.current_task().and_then(|task| open.agent(task).cloned()) {
        cmds.push(Cmd::CopyOutput(open.job.id, agent));
    }
}
